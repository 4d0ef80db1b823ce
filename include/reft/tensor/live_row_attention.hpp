#pragma once

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "reft/tensor/attention.hpp"

namespace reft {

// Note [Live rows]
// Below the lowest edit nothing is trained, so what comes out of that edit is constant but for its P rows: the live ones.
// In the attention above it only their queries, keys and values have a gradient, and that needs no more than their rows
// and columns of the scores: O(P·T) work in backward instead of O(T²), and no backward through the projections of the
// other rows. The numbers of forward are those of `ragged_attention`.

namespace detail {

/// One sequence's part of the backward, everything (H, ·, E), the live rows' places in it ascending.
struct LiveRowGradients {
  torch::Tensor q, k, v;        // (H, T, E)
  torch::Tensor gradient;       // (H, T, E) of the output
  torch::Tensor log_normalizer; // (H, T)
  torch::Tensor delta;          // (H, T) output · its gradient
  torch::Tensor places;         // (P) in 0..T-1
  double scale;
  bool causal;

  /// As queries: dq = scale · dS k of their rows of   dS = p ∘ (gradient vᵀ − delta),   p = softmax of the scores.   (H, P, E)
  torch::Tensor queries() const {
    const auto at_places = [&](const torch::Tensor& x) { return x.index_select(1, places); };
    const torch::Tensor p = weights(at_places(q), k, at_places(log_normalizer).unsqueeze(2), places.unsqueeze(1) >= all_places());
    return scores_gradient(p, at_places(gradient), v, at_places(delta).unsqueeze(2)).matmul(k);
  }

  /// As keys and values: dk = scale · dSᵀ q, dv = pᵀ gradient of their columns.   (H, P, E) each.
  std::pair<torch::Tensor, torch::Tensor> keys_and_values() const {
    const torch::Tensor p = weights(q, k.index_select(1, places), log_normalizer.unsqueeze(2), all_places().unsqueeze(1) >= places);
    const torch::Tensor dS = scores_gradient(p, gradient, v.index_select(1, places), delta.unsqueeze(2));
    return {dS.transpose(1, 2).matmul(q), p.transpose(1, 2).matmul(gradient)};
  }

 private:
  torch::Tensor all_places() const { return torch::arange(q.size(1)); }

  torch::Tensor weights(const torch::Tensor& queries, const torch::Tensor& keys, const torch::Tensor& normalizer,
                        const torch::Tensor& sees) const {
    const torch::Tensor p = (queries.matmul(keys.transpose(1, 2)) * scale - normalizer).exp_();
    return causal ? p.masked_fill(sees.logical_not(), 0.0) : p;
  }

  torch::Tensor scores_gradient(const torch::Tensor& p, const torch::Tensor& gradients, const torch::Tensor& values,
                                const torch::Tensor& deltas) const {
    return gradients.matmul(values.transpose(1, 2)).sub_(deltas).mul_(p).mul_(scale);
  }
};

class LiveRowAttention : public torch::autograd::Function<LiveRowAttention> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                               const torch::Tensor& live_q, const torch::Tensor& live_k, const torch::Tensor& live_v,
                               const torch::Tensor& rows, const std::vector<int64_t>& lengths, const AttentionScores& scores) {
    const double scale = scores.scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(2))));
    std::vector<torch::Tensor> outputs, normalizers;
    int64_t start = 0;
    for (const int64_t length : lengths) {
      const auto own = [&](const torch::Tensor& x) { return by_head(x.narrow(0, start, length), 1); };
      const auto found = at::_scaled_dot_product_flash_attention_for_cpu(own(q), own(k), own(v), 0.0, scores.causal, {}, scale);
      outputs.push_back(by_token(std::get<0>(found)));
      normalizers.push_back(std::get<1>(found).squeeze(0).t());  // (T, H)
      start += length;
    }
    const torch::Tensor output = torch::cat(outputs);
    ctx->save_for_backward({q, k, v, output, torch::cat(normalizers), rows});
    ctx->saved_data["lengths"] = lengths;
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["causal"] = scores.causal;
    (void)live_q, (void)live_k, (void)live_v;  // the same numbers as their rows of q, k and v: here for their gradients
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &q = saved[0], &output = saved[3], &rows = saved[5];
    const auto wide = torch::promote_types(q.scalar_type(), torch::kFloat32);
    const torch::Tensor gradient = gradients[0].to(wide), delta = (output.to(wide) * gradient).sum(2);  // (N, H, E), (N, H)
    std::vector<torch::Tensor> dq, dk, dv;
    int64_t start = 0, first = 0;
    const std::vector<int64_t> live(rows.data_ptr<int64_t>(), rows.data_ptr<int64_t>() + rows.numel());
    for (const int64_t length : ctx->saved_data["lengths"].toIntVector()) {
      const int64_t end = std::lower_bound(live.begin(), live.end(), start + length) - live.begin();
      if (end > first) {
        const auto own = [&](const torch::Tensor& x) { return x.narrow(0, start, length).transpose(0, 1).to(wide); };
        const LiveRowGradients of{own(q), own(saved[1]), own(saved[2]), own(gradient), own(saved[4]), own(delta),
                                  rows.narrow(0, first, end - first) - start, ctx->saved_data["scale"].toDouble(),
                                  ctx->saved_data["causal"].toBool()};
        const auto [key, value] = of.keys_and_values();
        dq.push_back(of.queries().transpose(0, 1));
        dk.push_back(key.transpose(0, 1));
        dv.push_back(value.transpose(0, 1));
      }
      start += length;
      first = end;
    }
    torch::autograd::variable_list result(9);
    result[3] = torch::cat(dq).to(q.scalar_type());
    result[4] = torch::cat(dk).to(q.scalar_type());
    result[5] = torch::cat(dv).to(q.scalar_type());
    return result;
  }
};

}  // namespace detail

/// Attention within every sequence of a flat batch of which all but some rows are constant; see Note [Live rows]. On a CPU,
/// without windows and soft caps.
/// @param q, k, v                 (N, H, E), without a graph.
/// @param live_q, live_k, live_v  (P, H, E) the same of the live rows, with theirs.
/// @param rows                    (P) int64, ascending and distinct: the live ones.
/// @param lengths                 (B) rows of each sequence, N in sum.
/// @return (N, H, E).
inline torch::Tensor live_row_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& live_q,
                                        const torch::Tensor& live_k, const torch::Tensor& live_v, const torch::Tensor& rows,
                                        const std::vector<int64_t>& lengths, const AttentionScores& scores = {}) {
  return detail::LiveRowAttention::apply(q, k, v, live_q, live_k, live_v, rows, lengths, scores);
}

}  // namespace reft
