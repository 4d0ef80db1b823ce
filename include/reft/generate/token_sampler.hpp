#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <cstdint>
#include <span>

#include "reft/error.hpp"
#include "reft/generate/logits_processors.hpp"

namespace reft {

/// How the next token is chosen from its logits. With the defaults: the most likely one.
struct SamplingOptions {
  double temperature = 0.0;         ///< 0 = greedy; else logits are divided by it and a token is drawn
  int64_t top_k = 0;                ///< draw among the k most likely; 0 = all
  double top_p = 1.0;               ///< draw among the fewest whose probabilities reach p
  double min_p = 0.0;               ///< draw among those at least so many times as likely as the likeliest; 0 = all
  double repetition_penalty = 1.0;  ///< logits of tokens seen are divided by it if positive, else multiplied
  int64_t no_repeat_ngram = 0;      ///< no sequence of so many tokens comes twice; 0 = no rule
  uint64_t seed = 42;               ///< of the first sample of a prompt; that of sample j is seed + j
};

/// @throws ConfigError naming the first option that cannot be meant.
inline void validate(const SamplingOptions& options) {
  const auto require = [](bool good, const char* expected, double got) {
    if (!good) fail<ConfigError>("SamplingOptions", "expected {}, got {}", expected, got);
  };
  require(options.temperature >= 0.0, "a temperature of 0 or more", options.temperature);
  require(options.top_k >= 0, "a top_k of 0 or more", static_cast<double>(options.top_k));
  require(options.top_p > 0.0 && options.top_p <= 1.0, "a top_p above 0 and up to 1", options.top_p);
  require(options.min_p >= 0.0 && options.min_p <= 1.0, "a min_p in 0..1", options.min_p);
  require(options.repetition_penalty > 0.0, "a repetition penalty above 0", options.repetition_penalty);
  require(options.no_repeat_ngram >= 0, "a no_repeat_ngram of 0 or more", static_cast<double>(options.no_repeat_ngram));
}

/// Chooses the next tokens of one sequence. The rules are applied in the order of transformers: repetition, n-grams,
/// temperature, top-k, top-p, min-p. On the CPU its draws are those of transformers after `torch.manual_seed(seed)`.
class TokenSampler {
 public:
  /// @throws ConfigError as `validate`.
  explicit TokenSampler(const SamplingOptions& options)
      : options_(options), generator_(at::detail::createCPUGenerator(options.seed)) {
    validate(options);
  }

  /// Whether the choice depends on the logits' largest value alone, so that it can be made for a batch on the device.
  bool is_plain_greedy() const { return options_.temperature == 0.0 && !has_penalties(); }

  /// Whether the scores depend on the tokens so far.
  bool has_penalties() const { return options_.repetition_penalty != 1.0 || options_.no_repeat_ngram != 0; }

  /// The rules that hold without drawing too.
  /// @param logits  (V), also on a device.   @param tokens  prompt and continuation so far.   @return (V) float32 on the CPU.
  torch::Tensor penalized(const torch::Tensor& logits, std::span<const int64_t> tokens) const {
    torch::Tensor scores = logits.to(torch::kCPU, torch::kFloat32, /*non_blocking=*/false, /*copy=*/true).contiguous();
    if (options_.repetition_penalty != 1.0) penalize_repetition(scores, tokens, options_.repetition_penalty);
    if (options_.no_repeat_ngram > 0) forbid_repeated_ngrams(scores, tokens, options_.no_repeat_ngram);
    return scores;
  }

  /// All rules.   @param logits, tokens  as above.   @return (V) what the next token is drawn from, or the best of.
  torch::Tensor processed(const torch::Tensor& logits, std::span<const int64_t> tokens) const {
    torch::Tensor scores = penalized(logits, tokens);
    if (options_.temperature == 0.0) return scores;
    if (options_.temperature != 1.0) scores = scores / options_.temperature;
    if (options_.top_k > 0) scores = keep_top_k(scores, options_.top_k);
    if (options_.top_p < 1.0) scores = keep_top_p(scores, options_.top_p);
    if (options_.min_p > 0.0) scores = keep_min_p(scores, options_.min_p);
    return scores;
  }

  /// The next token.   @param logits, tokens  as above.
  int64_t next(const torch::Tensor& logits, std::span<const int64_t> tokens) {
    const torch::Tensor scores = processed(logits, tokens);
    if (options_.temperature == 0.0) return scores.argmax().item<int64_t>();
    return scores.softmax(0).multinomial(1, /*replacement=*/false, generator_).item<int64_t>();
  }

 private:
  SamplingOptions options_;
  at::Generator generator_;
};

}  // namespace reft
