#pragma once

#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// How the scores q·k become weights.
struct AttentionScores {
  std::optional<double> scale = {};  ///< of q·k; absent: 1/√E
  int64_t window = 0;                ///< keys a query sees, itself included; 0: all before it
  double soft_cap = 0.0;             ///< c·tanh(score/c); 0: none
  bool causal = true;                ///< else every query sees every key of its sequence
};

namespace detail {

// (T, U), true where the query sees the key.
inline torch::Tensor attention_mask(int64_t queries, int64_t keys, int64_t window, const torch::Device& device) {
  torch::Tensor mask = torch::ones({queries, keys}, torch::TensorOptions(torch::kBool).device(device)).tril(keys - queries);
  return window > 0 ? mask.triu(keys - queries - window + 1) : mask;
}

// The computation written out, for scores that no kernel knows.
inline torch::Tensor capped_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, double scale,
                                      double soft_cap, const torch::Tensor& mask) {
  const torch::Tensor grouped = q.unflatten(1, {k.size(1), -1});                                    // (B, K, H/K, T, E)
  torch::Tensor scores = grouped.matmul(k.unsqueeze(2).transpose(-2, -1)) * (scale / soft_cap);     // (B, K, H/K, T, U)
  scores = scores.tanh() * soft_cap;
  if (mask.defined()) scores = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  const auto wide = torch::promote_types(q.scalar_type(), torch::kFloat32);
  return scores.softmax(-1, wide).to(q.scalar_type()).matmul(v.unsqueeze(2)).flatten(1, 2);
}

}  // namespace detail

/// softmax(scores(q kᵀ) + mask) v of one block of sequences of equal length.
/// Query t of T stands at key position U − T + t: queries are the last T of the U tokens.
/// @param q  (B, H, T, E).   @param k, v  (B, K, U, E), K divides H.   @return (B, H, T, E).
inline torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                               const AttentionScores& scores = {}) {
  const int64_t queries = q.size(2), keys = k.size(2);
  const bool windowed = scores.causal && scores.window > 0 && scores.window < keys;
  if (windowed && queries == 1) {
    const int64_t first = keys - scores.window;
    return attention(q, k.narrow(2, first, scores.window), v.narrow(2, first, scores.window), scores);
  }
  torch::Tensor mask;
  const bool grouped = q.size(1) != k.size(1), masked = scores.causal && queries > 1;
  if (masked && (windowed || queries != keys || scores.soft_cap > 0.0)) {
    mask = detail::attention_mask(queries, keys, windowed ? scores.window : 0, q.device());
  }
  if (scores.soft_cap > 0.0) {
    const double scale = scores.scale.value_or(1.0 / std::sqrt(static_cast<double>(q.size(3))));
    return detail::capped_attention(q, k, v, scale, scores.soft_cap, mask);
  }
  const bool is_causal = masked && !mask.defined();
  return at::scaled_dot_product_attention(q, k, v, mask.defined() ? std::optional(mask) : std::nullopt, 0.0, is_causal, scores.scale, grouped);
}

namespace detail {

// (T, H, E) of B equal sequences -> (B, H, T, E), a view.
inline torch::Tensor by_head(const torch::Tensor& x, int64_t batch_size) {
  return x.view({batch_size, -1, x.size(1), x.size(2)}).transpose(1, 2);
}

// (B, H, T, E) -> (B*T, H, E)
inline torch::Tensor by_token(const torch::Tensor& x) { return x.transpose(1, 2).flatten(0, 1); }

}  // namespace detail

/// Attention within every sequence of a flat batch, none across sequences.
/// @param q        (N, H, E).   @param k, v  (N, K, E).
/// @param lengths  (B) rows of each sequence, N in sum.
/// @return (N, H, E). Sequences of equal length share one kernel call, else each has its own, so that a sequence's
///         result does not depend on its neighbours.
inline torch::Tensor ragged_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                      const std::vector<int64_t>& lengths, const AttentionScores& scores = {}) {
  const auto batch_size = static_cast<int64_t>(lengths.size());
  if (q.size(0) == lengths.front() * batch_size &&
      std::all_of(lengths.begin(), lengths.end(), [&](int64_t length) { return length == lengths.front(); })) {
    return detail::by_token(attention(detail::by_head(q, batch_size), detail::by_head(k, batch_size),
                                      detail::by_head(v, batch_size), scores));
  }
  // One split each, not a slice per sequence: the backward of a slice fills a gradient of N rows.
  const auto queries = q.split_with_sizes(lengths), keys = k.split_with_sizes(lengths), values = v.split_with_sizes(lengths);
  std::vector<torch::Tensor> outputs;
  for (size_t i = 0; i < lengths.size(); ++i) {
    outputs.push_back(detail::by_token(
        attention(detail::by_head(queries[i], 1), detail::by_head(keys[i], 1), detail::by_head(values[i], 1), scores)));
  }
  return torch::cat(outputs);
}

/// The same where each sequence goes on from keys and values that are there already.
/// @param past  (B) each (2, K, U, E), the sequence's U keys before its values.
inline torch::Tensor continued_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                         const std::vector<int64_t>& lengths, const std::vector<torch::Tensor>& past,
                                         const AttentionScores& scores = {}) {
  const auto queries = q.split_with_sizes(lengths), keys = k.split_with_sizes(lengths), values = v.split_with_sizes(lengths);
  std::vector<torch::Tensor> outputs;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto behind = [&](int64_t which, const torch::Tensor& own) {
      return torch::cat({past[i].select(0, which).unsqueeze(0), detail::by_head(own, 1)}, 2);  // (1, K, U + T, E)
    };
    outputs.push_back(detail::by_token(attention(detail::by_head(queries[i], 1), behind(0, keys[i]), behind(1, values[i]), scores)));
  }
  return torch::cat(outputs);
}

}  // namespace reft
