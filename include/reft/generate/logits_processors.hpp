#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <unordered_set>

namespace reft {

// Each takes the scores (V) of the next token, float32 on the CPU, and changes them in place or returns them changed. What
// may not come has the score −∞. The rules and their ties are those of transformers' logits processors.

namespace detail {
inline constexpr float kNever = -std::numeric_limits<float>::infinity();
}

/// Scores of tokens seen: divided by `penalty` if positive, else multiplied.   @param tokens  prompt and continuation.
/// Ref: Keskar et al. 2019, arXiv:1909.05858.
inline void penalize_repetition(torch::Tensor& scores, std::span<const int64_t> tokens, double penalty) {
  float* values = scores.mutable_data_ptr<float>();
  const auto factor = static_cast<float>(penalty);
  for (const int64_t token : std::unordered_set<int64_t>(tokens.begin(), tokens.end())) {
    values[token] = values[token] < 0 ? values[token] * factor : values[token] / factor;
  }
}

/// Forbids tokens that would make a sequence of n tokens come a second time.
inline void forbid_repeated_ngrams(torch::Tensor& scores, std::span<const int64_t> tokens, int64_t n) {
  const int64_t count = std::ssize(tokens);
  if (count < n) return;
  const auto tail = tokens.last(static_cast<size_t>(n - 1));
  for (int64_t first = 0; first + n <= count; ++first) {
    const auto begin = tokens.begin() + first;
    if (std::equal(tail.begin(), tail.end(), begin)) scores.mutable_data_ptr<float>()[*(begin + n - 1)] = detail::kNever;
  }
}

/// Keeps the k best, and what equals the last of them.
inline torch::Tensor keep_top_k(const torch::Tensor& scores, int64_t k) {
  const torch::Tensor last = std::get<0>(scores.topk(std::min(k, scores.size(0)))).select(0, -1);
  return scores.masked_fill(scores < last, detail::kNever);
}

/// Keeps the fewest whose probabilities reach p.   Ref: Holtzman et al. 2019, arXiv:1904.09751.
inline torch::Tensor keep_top_p(const torch::Tensor& scores, double p) {
  const auto [ascending, tokens] = scores.sort();
  torch::Tensor removed = ascending.softmax(0).cumsum(0) <= 1.0 - p;
  removed[-1].fill_(false);
  return scores.masked_fill(torch::empty_like(removed).scatter_(0, tokens, removed), detail::kNever);
}

/// Keeps tokens at least `share` times as likely as the likeliest.   Ref: Nguyen et al. 2024, arXiv:2407.01082.
inline torch::Tensor keep_min_p(const torch::Tensor& scores, double share) {
  const torch::Tensor probabilities = scores.softmax(0);
  return scores.masked_fill(probabilities < share * probabilities.max(), detail::kNever);
}

}  // namespace reft
