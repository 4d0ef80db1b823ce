#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// How the next token is chosen from its logits. With the defaults: the most likely one.
struct SamplingOptions {
  double temperature = 0.0;         ///< 0 = greedy; else logits are divided by it and a token is drawn
  int64_t top_k = 0;                ///< draw among the k most likely; 0 = all
  double top_p = 1.0;               ///< draw among the fewest whose probabilities reach p
  double repetition_penalty = 1.0;  ///< logits of tokens seen are divided by it if positive, else multiplied
  int64_t no_repeat_ngram = 0;      ///< no sequence of so many tokens comes twice; 0 = no rule
  uint64_t seed = 42;
};

/// @throws ConfigError naming the first option that cannot be meant.
inline void validate(const SamplingOptions& options) {
  const auto require = [](bool good, const char* expected, double got) {
    if (!good) fail<ConfigError>("SamplingOptions", "expected {}, got {}", expected, got);
  };
  require(options.temperature >= 0.0, "a temperature of 0 or more", options.temperature);
  require(options.top_k >= 0, "a top_k of 0 or more", static_cast<double>(options.top_k));
  require(options.top_p > 0.0 && options.top_p <= 1.0, "a top_p above 0 and up to 1", options.top_p);
  require(options.repetition_penalty > 0.0, "a repetition penalty above 0", options.repetition_penalty);
  require(options.no_repeat_ngram >= 0, "a no_repeat_ngram of 0 or more", static_cast<double>(options.no_repeat_ngram));
}

/// Chooses next tokens; the rules are applied in the order of transformers: repetition, n-grams, temperature, top-k,
/// top-p.
class TokenSampler {
 public:
  /// @throws ConfigError as `validate`.
  explicit TokenSampler(const SamplingOptions& options)
      : options_(options), generator_(at::detail::createCPUGenerator(options.seed)) {
    validate(options);
  }

  /// Whether the choice depends on the logits' largest value alone, so that it can be made for a batch on the device.
  bool is_plain_greedy() const {
    return options_.temperature == 0.0 && options_.repetition_penalty == 1.0 && options_.no_repeat_ngram == 0;
  }

  /// @param logits  (V).   @param tokens  prompt and continuation so far.
  int64_t next(const torch::Tensor& logits, std::span<const int64_t> tokens) {
    torch::Tensor scores = logits.to(torch::kCPU, torch::kFloat32).clone();
    penalize_repetition(scores, tokens);
    ban_repeated_ngrams(scores, tokens);
    if (options_.temperature == 0.0) return scores.argmax().item<int64_t>();
    return draw(scores.div_(options_.temperature));
  }

 private:
  void penalize_repetition(torch::Tensor& scores, std::span<const int64_t> tokens) const {
    if (options_.repetition_penalty == 1.0) return;
    float* values = scores.mutable_data_ptr<float>();
    const auto penalty = static_cast<float>(options_.repetition_penalty);
    for (const int64_t token : std::unordered_set<int64_t>(tokens.begin(), tokens.end())) {
      values[token] = values[token] > 0 ? values[token] / penalty : values[token] * penalty;
    }
  }

  void ban_repeated_ngrams(torch::Tensor& scores, std::span<const int64_t> tokens) const {
    const int64_t n = options_.no_repeat_ngram, count = std::ssize(tokens);
    if (n == 0 || count < n) return;
    const auto tail = tokens.last(static_cast<size_t>(n - 1));
    for (int64_t first = 0; first + n <= count; ++first) {
      const auto begin = tokens.begin() + first;
      if (std::equal(tail.begin(), tail.end(), begin)) {
        scores.mutable_data_ptr<float>()[*(begin + n - 1)] = -std::numeric_limits<float>::infinity();
      }
    }
  }

  int64_t draw(const torch::Tensor& scores) {
    const int64_t kept = options_.top_k > 0 ? std::min(options_.top_k, scores.size(0)) : scores.size(0);
    const auto [sorted, tokens] = scores.topk(kept);  // descending
    torch::Tensor probabilities = sorted.softmax(0);
    if (options_.top_p < 1.0) {
      const torch::Tensor before = probabilities.cumsum(0) - probabilities;  // of the more likely ones
      probabilities = probabilities.masked_fill(before >= options_.top_p, 0.0);
    }
    return tokens[probabilities.multinomial(1, false, generator_)[0].item<int64_t>()].item<int64_t>();
  }

  SamplingOptions options_;
  at::Generator generator_;
};

}  // namespace reft
