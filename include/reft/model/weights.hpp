#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "reft/model/weight_names.hpp"

namespace reft {

// Note [Merged weights]
// Hugging Face files hold query, key, value and gate, up apart, together, transposed or interleaved by head. Because the
// base is frozen they are laid side by side in one matrix when they are loaded: fewer and larger products, one block for
// all families. A WeightSlot is a view of that matrix in the order of a file's tensor; loading copies through it, saving
// reads through it.

/// One tensor of a Hugging Face file and the values of ours that it holds, in the file's order.
struct WeightSlot {
  std::string name;            // "model.layers.0.self_attn.k_proj.weight"
  torch::Tensor values;        // a view of a parameter; it may have more dimensions than the file's tensor
  std::vector<int64_t> shape;  // of the file's tensor

  WeightSlot(std::string name, torch::Tensor values) : WeightSlot(std::move(name), values, values.sizes().vec()) {}
  WeightSlot(std::string name, torch::Tensor values, std::vector<int64_t> shape)
      : name(std::move(name)), values(std::move(values)), shape(std::move(shape)) {}
};

/// Slots for tensors stacked along the rows of one parameter, in order.
inline void add_slots(std::vector<WeightSlot>& slots, const torch::Tensor& parameter,
                      const std::vector<std::pair<std::string, int64_t>>& names_and_rows, bool transposed = false) {
  int64_t first_row = 0;
  for (const auto& [name, rows] : names_and_rows) {
    const torch::Tensor part = parameter.narrow(0, first_row, rows);
    slots.emplace_back(name, transposed && part.dim() == 2 ? part.t() : part);
    first_row += rows;
  }
}

inline void append(std::vector<WeightSlot>& slots, const std::vector<WeightSlot>& more) {
  slots.insert(slots.end(), more.begin(), more.end());
}

}  // namespace reft
