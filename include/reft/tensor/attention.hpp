#pragma once

#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/types.h>

#include <algorithm>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// softmax(q kᵀ / √E + causal mask) v of one block of sequences of equal length.
/// Query t of T stands at key position U − T + t: queries are the last T of the U tokens.
/// @param q  (B, H, T, E).   @param k, v  (B, K, U, E), K divides H.   @return (B, H, T, E).
inline torch::Tensor causal_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  const int64_t queries = q.size(2), keys = k.size(2);
  const bool grouped = q.size(1) != k.size(1);
  if (queries == keys || queries == 1) {
    return at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/queries > 1, {}, grouped);
  }
  const torch::Tensor mask = torch::ones({queries, keys}, q.options().dtype(torch::kBool)).tril(keys - queries);
  return at::scaled_dot_product_attention(q, k, v, mask, 0.0, /*is_causal=*/false, {}, grouped);
}

namespace detail {

// (T, H, E) of B equal sequences -> (B, H, T, E), a view.
inline torch::Tensor by_head(const torch::Tensor& x, int64_t batch_size) {
  return x.view({batch_size, -1, x.size(1), x.size(2)}).transpose(1, 2);
}

// (B, H, T, E) -> (B*T, H, E)
inline torch::Tensor by_token(const torch::Tensor& x) { return x.transpose(1, 2).flatten(0, 1); }

}  // namespace detail

/// Causal attention within every sequence of a flat batch, none across sequences.
/// @param q        (N, H, E).   @param k, v  (N, K, E).
/// @param lengths  (B) rows of each sequence, N in sum.
/// @return (N, H, E). Sequences of equal length share one kernel call, else each has its own, so that a sequence's
///         result does not depend on its neighbours.
inline torch::Tensor ragged_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                      const std::vector<int64_t>& lengths) {
  const auto batch_size = static_cast<int64_t>(lengths.size());
  if (q.size(0) == lengths.front() * batch_size &&
      std::all_of(lengths.begin(), lengths.end(), [&](int64_t length) { return length == lengths.front(); })) {
    return detail::by_token(causal_attention(detail::by_head(q, batch_size), detail::by_head(k, batch_size),
                                             detail::by_head(v, batch_size)));
  }
  // One split each, not a slice per sequence: the backward of a slice fills a gradient of N rows.
  const auto queries = q.split_with_sizes(lengths), keys = k.split_with_sizes(lengths), values = v.split_with_sizes(lengths);
  std::vector<torch::Tensor> outputs;
  for (size_t i = 0; i < lengths.size(); ++i) {
    outputs.push_back(detail::by_token(
        causal_attention(detail::by_head(queries[i], 1), detail::by_head(keys[i], 1), detail::by_head(values[i], 1))));
  }
  return torch::cat(outputs);
}

}  // namespace reft
