#pragma once

#include <ATen/ops/scalar_tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include "reft/tensor/checks.hpp"

namespace reft {

/// x / sqrt(mean(x²) + epsilon) · weight, in float32, rounded as transformers rounds: to x's dtype before the weight.
/// The reference of `rms_norm`: slow and obvious.   @param x  (..., D).   @param weight  (D).
inline torch::Tensor rms_norm_reference(const torch::Tensor& x, const torch::Tensor& weight, double epsilon) {
  const torch::Tensor wide = x.to(torch::promote_types(x.scalar_type(), torch::kFloat32));
  const torch::Tensor inverse = torch::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + epsilon);
  return weight * (wide * inverse).to(x.scalar_type());
}

namespace detail {

// 1/sqrt(mean(x²) + ε), one number per row, with the roundings of the formula as transformers computes it. D and ε are tensors
// of x's dtype: a plain number would be converted in each operator, half the time of a single row's norm.
inline torch::Tensor inverse_rms(const torch::Tensor& x, double epsilon) {
  const auto number = [&](double value) { return at::scalar_tensor(value, x.scalar_type()); };
  return x.square().sum(-1, /*keepdim=*/true).div_(number(static_cast<double>(x.size(-1)))).add_(number(epsilon)).rsqrt_();
}

// With s = 1/sqrt(mean(x²) + ε), n = s·x and u = gradient·weight:   dx = s·(u − n·mean(u·n)),   dweight = Σ gradient·n.
// Only x and s (one number per row) are kept for backward.
class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x, const torch::Tensor& weight,
                               double epsilon) {
    const torch::Tensor wide = x.to(torch::promote_types(x.scalar_type(), torch::kFloat32));
    const torch::Tensor inverse = inverse_rms(wide, epsilon);  // (..., 1)
    ctx->save_for_backward({x, weight, inverse});
    return normed(x, wide, inverse, weight);
  }

  static torch::Tensor normed(const torch::Tensor& x, const torch::Tensor& wide, const torch::Tensor& inverse, const torch::Tensor& weight) {
    return (wide * inverse).to(x.scalar_type()).mul_(weight);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &x = saved[0], &weight = saved[1], &inverse = saved[2];
    const torch::Tensor gradient = gradients[0].to(inverse.scalar_type());
    const torch::Tensor normed = x.to(inverse.scalar_type()) * inverse;
    torch::autograd::variable_list result(3);
    if (ctx->needs_input_grad(1)) result[1] = (gradient * normed).reshape({-1, weight.size(0)}).sum(0).to(weight.scalar_type());
    if (ctx->needs_input_grad(0)) {
      torch::Tensor u = gradient * weight;
      const torch::Tensor projection = (u * normed).mean(-1, /*keepdim=*/true);
      result[0] = u.addcmul_(normed, projection, -1).mul_(inverse).to(x.scalar_type());
    }
    return result;
  }
};

}  // namespace detail

/// Root-mean-square normalization: x / sqrt(mean(x²) + epsilon) · weight.
/// @param x  (..., D), any float dtype.   @param weight  (D), dtype of x.   @return like x.
/// Ref: Zhang and Sennrich 2019, arXiv:1910.07467; rounding as in transformers' LlamaRMSNorm.
inline torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double epsilon) {
  if (needs_graph(x, weight)) return detail::RmsNorm::apply(x, weight, epsilon);
  const torch::Tensor wide = x.to(torch::promote_types(x.scalar_type(), torch::kFloat32));
  return detail::RmsNorm::normed(x, wide, detail::inverse_rms(wide, epsilon), weight);
}

}  // namespace reft
