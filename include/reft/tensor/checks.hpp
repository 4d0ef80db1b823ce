#pragma once

#include <torch/types.h>

#include <string_view>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// @throws ShapeError unless `tensor` has exactly `expected` sizes; -1 stands for any size.
inline void check_shape(std::string_view function, std::string_view name, const torch::Tensor& tensor,
                        const std::vector<int64_t>& expected) {
  bool equal = tensor.defined() && tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; equal && i < expected.size(); ++i) {
    equal = expected[i] < 0 || tensor.size(static_cast<int64_t>(i)) == expected[i];
  }
  if (!equal) {
    fail<ShapeError>(function, "{}: expected shape {}, got {}", name, c10::str(torch::IntArrayRef(expected)),
                     tensor.defined() ? c10::str(tensor.sizes()) : std::string("none"));
  }
}

/// Whether autograd must be told of an operator with these inputs. Where not, a hand-written Function need not be entered:
/// it costs more than a small operator itself.
template <class... Tensors>
bool needs_graph(const Tensors&... inputs) {
  return at::GradMode::is_enabled() && (inputs.requires_grad() || ...);
}

}  // namespace reft
