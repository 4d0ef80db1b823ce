#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace reft {

// Note [Merged weights]
// Hugging Face files hold query, key, value and gate, up apart. Because the base is frozen they are laid side by side
// in one matrix when they are loaded: fewer and larger products. A WeightSlot says which rows of which parameter a
// file's tensor is; loading copies along the table, saving reads along it.

/// One tensor of a Hugging Face file: rows [first_row, first_row + shape[0]) of a parameter of ours.
struct WeightSlot {
  std::string name;            // "model.layers.0.self_attn.k_proj.weight"
  torch::Tensor parameter;     // the whole merged parameter
  int64_t first_row = 0;
  std::vector<int64_t> shape;  // of the file's tensor

  torch::Tensor view() const { return parameter.narrow(0, first_row, shape.front()); }
};

/// Slots for tensors stacked along the rows of one parameter, in order.
inline void add_slots(std::vector<WeightSlot>& slots, const torch::Tensor& parameter,
                      const std::vector<std::pair<std::string, int64_t>>& names_and_rows) {
  int64_t first_row = 0;
  for (const auto& [name, rows] : names_and_rows) {
    std::vector<int64_t> shape = parameter.sizes().vec();
    shape[0] = rows;
    slots.push_back({name, parameter, first_row, std::move(shape)});
    first_row += rows;
  }
}

}  // namespace reft
