#pragma once

#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "reft/tensor/checks.hpp"
#include "reft/tensor/frozen_linear.hpp"

namespace reft {

namespace detail {

inline constexpr int64_t kLogitBytesPerChunk = int64_t{64} << 20;

// Rows whose logits are held at once. On a CPU they stay in the cache, but for rows so wide that reading the head's weights
// would not pay for fewer.
inline int64_t rows_per_chunk(int64_t row_bytes, const torch::Device& device) {
  const int64_t most = kLogitBytesPerChunk / row_bytes, cached = (int64_t{4} << 20) / row_bytes;
  return std::max<int64_t>(1, device.is_cpu() ? std::min(most, std::max<int64_t>(64, cached)) : most);
}

// The gradient of the loss in the hidden states is computed in forward, chunk by chunk, so that no more than one chunk
// of logits exists at a time:   d loss / d logits = softmax(logits) − onehot(target).
class LinearCrossEntropy : public torch::autograd::Function<LinearCrossEntropy> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& hidden,
                               const torch::Tensor& weight, const torch::Tensor& targets, bool hidden_gradient,
                               bool weight_gradient) {
    const auto wide = torch::promote_types(hidden.scalar_type(), torch::kFloat32);
    const int64_t rows = hidden.size(0);
    const int64_t chunk_rows = rows_per_chunk(weight.size(0) * static_cast<int64_t>(c10::elementSize(wide)), hidden.device());
    torch::Tensor loss = torch::zeros({}, hidden.options().dtype(wide));
    torch::Tensor d_hidden, d_weight;
    if (hidden_gradient) d_hidden = torch::empty_like(hidden);
    if (weight_gradient) d_weight = torch::zeros_like(weight);
    for (int64_t first = 0; first < rows; first += chunk_rows) {
      const int64_t count = std::min(chunk_rows, rows - first);
      const torch::Tensor part = hidden.narrow(0, first, count);                            // (C, D)
      const torch::Tensor target = targets.narrow(0, first, count).unsqueeze(1);            // (C, 1)
      torch::Tensor logits = frozen_linear(part, weight).to(wide);                             // (C, V)
      const torch::Tensor chosen = logits.gather(1, target), largest = logits.amax(1, /*keepdim=*/true);
      at::softmax_out(logits, logits, 1);
      // The largest probability is 1 / Σ exp(logit − largest), at least 1/V: its logarithm is exact where that of a target's
      // may have underflowed.
      loss += (largest - chosen - logits.amax(1, /*keepdim=*/true).log()).sum();
      if (!hidden_gradient && !weight_gradient) continue;
      torch::Tensor d_logits = std::move(logits);
      d_logits.scatter_add_(1, target, torch::full_like(target, -1, d_logits.options()));
      d_logits = d_logits.to(weight.scalar_type());
      if (hidden_gradient) d_hidden.narrow(0, first, count).copy_(frozen_linear(d_logits, weight.t()));
      if (weight_gradient) d_weight.addmm_(d_logits.t(), part);
    }
    ctx->save_for_backward({d_hidden, d_weight});
    return loss;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    torch::autograd::variable_list result(5);
    for (size_t i = 0; i < 2; ++i) {
      // A scalar keeps its own precision in a product; rounded first, 1/count would bias the whole gradient.
      if (saved[i].defined()) result[i] = saved[i] * gradients[0];
    }
    return result;
  }
};

}  // namespace detail

/// Σ −log softmax(hidden · weightᵀ)[target] over the rows, without ever holding all (S, V) logits.
/// @param hidden   (S, D).   @param weight  (V, D), dtype of hidden.   @param targets  (S) int64 in 0..V-1.
/// @return the sum in float32, a scalar; divide by the number of supervised tokens of the whole step.
/// @throws ShapeError for shapes that do not fit.   Cost: 2·S·D·V multiply-adds forward with gradient, none backward.
inline torch::Tensor linear_cross_entropy(const torch::Tensor& hidden, const torch::Tensor& weight,
                                          const torch::Tensor& targets) {
  check_shape("linear_cross_entropy", "hidden", hidden, {-1, weight.size(1)});
  check_shape("linear_cross_entropy", "targets", targets, {hidden.size(0)});
  const bool grad = at::GradMode::is_enabled();
  return detail::LinearCrossEntropy::apply(hidden, weight, targets, grad && hidden.requires_grad(),
                                           grad && weight.requires_grad());
}

}  // namespace reft
