#pragma once

#include <ATen/ops/mul.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "reft/tensor/checks.hpp"

namespace reft {

/// Cosines and sines of every token's rotation angles, (N, rotary_dim/2) each, in the dtype of the hidden states.
struct RotaryTable {
  torch::Tensor cosine;
  torch::Tensor sine;

  /// Of some tokens.   @param rows  (P) int64.
  RotaryTable rows(const torch::Tensor& rows) const {
    if (!cosine.defined()) return {};
    return {cosine.index_select(0, rows), sine.index_select(0, rows)};
  }
};

namespace detail {

// [a, b, rest] -> [a·cos − b·sin, b·cos + a·sin, rest], a and b as wide as the table; mostly there is no rest.
inline torch::Tensor rotate(const torch::Tensor& x, const torch::Tensor& cosine, const torch::Tensor& sine) {
  const int64_t half = cosine.size(-1), rest = x.size(-1) - 2 * half;
  const torch::Tensor a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
  torch::Tensor result = torch::empty(x.sizes(), x.options());
  torch::Tensor first = result.narrow(-1, 0, half), second = result.narrow(-1, half, half);
  at::mul_out(first, a, cosine).addcmul_(b, sine, -1);
  at::mul_out(second, b, cosine).addcmul_(a, sine);
  if (rest > 0) result.narrow(-1, 2 * half, rest).copy_(x.narrow(-1, 2 * half, rest));
  return result;
}

// A rotation's transpose is the rotation by the opposite angle: nothing of size N·H·E is kept.
class Rotary : public torch::autograd::Function<Rotary> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x, const torch::Tensor& cosine,
                               const torch::Tensor& sine) {
    ctx->save_for_backward({cosine, sine});
    return rotate(x, cosine, sine);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    return {rotate(gradients[0], saved[0], -saved[1]), {}, {}};
  }
};

}  // namespace detail

/// Rotates every head by its token's angles: the two halves of its first rotary_dim values; the rest stays.
/// @param x  (N, H, E), any strides.   @return (N, H, E), contiguous.   Ref: Su et al. 2021, arXiv:2104.09864.
inline torch::Tensor rotary(const torch::Tensor& x, const RotaryTable& table) {
  const torch::Tensor cosine = table.cosine.unsqueeze(1), sine = table.sine.unsqueeze(1);
  return needs_graph(x) ? detail::Rotary::apply(x, cosine, sine) : detail::rotate(x, cosine, sine);
}

}  // namespace reft
