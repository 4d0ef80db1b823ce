#pragma once

#include <ATen/ops/silu_backward.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "reft/tensor/checks.hpp"

namespace reft {

namespace detail {

// Keeps the merged input alone; silu(gate) is computed again in backward.
class SwiGlu : public torch::autograd::Function<SwiGlu> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& gate_up) {
    ctx->save_for_backward({gate_up});
    return product(gate_up);
  }

  static torch::Tensor product(const torch::Tensor& gate_up) {
    const auto parts = gate_up.chunk(2, -1);
    return torch::silu(parts[0]).mul_(parts[1]);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const torch::Tensor gate_up = ctx->get_saved_variables()[0];
    const int64_t width = gate_up.size(-1) / 2;
    const auto parts = gate_up.chunk(2, -1);
    torch::Tensor result = torch::empty_like(gate_up);
    result.narrow(-1, 0, width).copy_(at::silu_backward(gradients[0] * parts[1], parts[0]));
    result.narrow(-1, width, width).copy_(torch::silu(parts[0]).mul_(gradients[0]));
    return {result};
  }
};

}  // namespace detail

/// silu(gate) · up of the merged projection [gate | up].
/// @param gate_up  (N, 2F), any float dtype.   @return (N, F).   Ref: Shazeer 2020, arXiv:2002.05202.
inline torch::Tensor swiglu(const torch::Tensor& gate_up) {
  return needs_graph(gate_up) ? detail::SwiGlu::apply(gate_up) : detail::SwiGlu::product(gate_up);
}

}  // namespace reft
