#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <optional>
#include <string_view>

#include "reft/tensor/checks.hpp"

namespace reft {

// Note [Products by oneDNN]
// LibTorch multiplies float32 matrices on a CPU with MKL, which on an AMD processor was 10 to 15 % slower than oneDNN, and
// 30 % with few rows. But oneDNN makes a kernel for every new shape: half a millisecond, and some 0.3 MB in a cache of (by
// default) 1024 kernels. So products go there that are large enough to win in any case, and of the others those with shapes
// that come again: a row count that is a multiple of 8 is taken for the sign of one, as batches of equal lengths and
// chunks of logits have it. Nothing but the shape decides, so that the same run has the same bits.

namespace detail {

using LinearPointwise = torch::Tensor(const torch::Tensor&, const torch::Tensor&, const std::optional<torch::Tensor>&, std::string_view,
                                      c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

/// LibTorch's operator for a product by oneDNN, where this build has it and it is the faster one.
inline const std::optional<c10::TypedOperatorHandle<LinearPointwise>>& onednn_linear() {
  static const auto found = []() -> std::optional<c10::TypedOperatorHandle<LinearPointwise>> {
#ifdef __x86_64__
    if (__builtin_cpu_is("intel")) return std::nullopt;
#endif
    const auto schema = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
    if (!schema || !at::globalContext().userEnabledMkldnn()) return std::nullopt;
    return schema->typed<LinearPointwise>();
  }();
  return found;
}

inline torch::Tensor call_onednn(const torch::Tensor& x, const torch::Tensor& weight, const std::optional<torch::Tensor>& bias) {
  return onednn_linear()->call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// The weight is frozen: nothing but the weight is kept for backward.
class OneDnnLinear : public torch::autograd::Function<OneDnnLinear> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x, const torch::Tensor& weight,
                               const std::optional<torch::Tensor>& bias) {
    ctx->saved_data["weight"] = weight;
    return call_onednn(x, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& gradients) {
    return {call_onednn(gradients[0].contiguous(), ctx->saved_data["weight"].toTensor().t(), std::nullopt), {}, {}};
  }
};

inline bool is_for_onednn(const torch::Tensor& x, const torch::Tensor& weight) {
  constexpr int64_t kWorthAKernel = int64_t{1} << 29, kWorthACall = int64_t{1} << 26;  // multiply-adds: some 10 and 1 ms of one core
  if (!x.is_cpu() || x.scalar_type() != torch::kFloat32 || x.dim() != 2 || !x.is_contiguous()) return false;
  const int64_t work = x.numel() * weight.size(0);
  return work >= (x.size(0) % 8 == 0 ? kWorthACall : kWorthAKernel) && onednn_linear().has_value();
}

}  // namespace detail

/// x Wᵀ + b by the fastest way at hand; see Note [Products by oneDNN]. `at::linear` is the reference.
/// @param x  (N, C).   @param weight  (O, C), dtype of x.   @param bias  (O) or undefined.   @return (N, O).
inline torch::Tensor frozen_linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias = {}) {
  const bool trained = weight.requires_grad() || (bias.defined() && bias.requires_grad());
  if (trained || !detail::is_for_onednn(x, weight)) return at::linear(x, weight, bias);
  const std::optional<torch::Tensor> optional_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  if (!needs_graph(x)) return detail::call_onednn(x, weight, optional_bias);
  return detail::OneDnnLinear::apply(x, weight, optional_bias);
}

}  // namespace reft
