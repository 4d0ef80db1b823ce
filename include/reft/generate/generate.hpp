#pragma once

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/generate/token_sampler.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/model/kv_cache.hpp"
#include "reft/reft_model.hpp"

namespace reft {

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling = {};
  std::vector<int64_t> end_tokens = {};  ///< a continuation ends before one of these; empty = the model's own
  bool use_end_tokens = true;            ///< false: always `max_new_tokens` of them
  torch::Tensor row_scales = {};         ///< (r) or (B, r): what the rows of the subspaces are multiplied with; undefined = 1
  /// Told of every new token as it is chosen.
  std::function<void(int64_t sequence, int64_t token)> on_token = {};
};

enum class FinishReason { stop, length };

inline std::string_view to_string(FinishReason reason) { return reason == FinishReason::stop ? "stop" : "length"; }

/// The continuation of one prompt.
struct Continuation {
  std::vector<int64_t> tokens;  ///< new ones, without the end token
  FinishReason finish_reason = FinishReason::length;
};

namespace detail {

/// The sequences of a batch while they grow.
class Decoding {
 public:
  Decoding(const std::vector<std::vector<int64_t>>& prompts, std::vector<int64_t> end_tokens, const GenerateOptions& options)
      : options_(options), end_tokens_(std::move(end_tokens)), sampler_(options.sampling), tokens_(prompts),
        results_(prompts.size()), finished_(prompts.size(), false), last_(prompts.size(), 0) {}

  bool all_finished() const { return std::all_of(finished_.begin(), finished_.end(), [](bool done) { return done; }); }
  const std::vector<int64_t>& last_tokens() const { return last_; }
  std::vector<Continuation> results() && { return std::move(results_); }

  /// Chooses one token for every sequence that goes on.   @param logits  (B, V).
  void choose(const torch::Tensor& logits) {
    torch::Tensor greedy;
    if (sampler_.is_plain_greedy()) greedy = logits.argmax(1).to(torch::kCPU);  // one transfer for the batch
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (finished_[i]) continue;
      const auto row = static_cast<int64_t>(i);
      append(i, greedy.defined() ? greedy.const_data_ptr<int64_t>()[row] : sampler_.next(logits[row], tokens_[i]));
    }
  }

 private:
  void append(size_t i, int64_t token) {
    last_[i] = token;
    if (std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) {
      finished_[i] = true;
      results_[i].finish_reason = FinishReason::stop;
      return;
    }
    tokens_[i].push_back(token);
    results_[i].tokens.push_back(token);
    finished_[i] = std::ssize(results_[i].tokens) >= options_.max_new_tokens;
    if (options_.on_token) options_.on_token(static_cast<int64_t>(i), token);
  }

  const GenerateOptions& options_;
  std::vector<int64_t> end_tokens_;
  TokenSampler sampler_;
  std::vector<std::vector<int64_t>> tokens_;  // prompt and continuation
  std::vector<Continuation> results_;
  std::vector<bool> finished_;
  std::vector<int64_t> last_;                 // (B) the token each sequence feeds next
};

inline void check_prompts(const std::vector<std::vector<int64_t>>& prompts, int64_t vocabulary_size) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) fail<DataError>("generate", "prompt {}: expected at least one token, got none", i);
    for (const int64_t token : prompts[i]) {
      if (token >= 0 && token < vocabulary_size) continue;
      fail<DataError>("generate", "prompt {}: token {}, but the model's vocabulary has {} (0..{})", i, token, vocabulary_size,
                      vocabulary_size - 1);
    }
  }
}

}  // namespace detail

/// Continues prompts of any lengths, together: one pass over the prompts with the interventions on, then one pass a token
/// over a KV cache. Interventions of phase `prompt` live on in the cached keys and values and cost nothing there.
/// @param prompts  token ids, at least one each.   @return one continuation per prompt, in order.
/// @throws DataError for an empty prompt or a token the model does not have; ConfigError for options out of range.
inline std::vector<Continuation> generate(ReftModel<CausalLM>& model, const std::vector<std::vector<int64_t>>& prompts,
                                          const GenerateOptions& options = {}) {
  torch::NoGradGuard no_grad;
  const CausalLM& base = model.base();
  detail::check_prompts(prompts, base->config().vocab_size);
  if (options.max_new_tokens < 0) fail<ConfigError>("generate", "expected max_new_tokens >= 0, got {}", options.max_new_tokens);
  std::vector<int64_t> end_tokens = options.end_tokens.empty() ? base->config().eos_token_ids : options.end_tokens;
  if (!options.use_end_tokens) end_tokens.clear();
  detail::Decoding decoding(prompts, std::move(end_tokens), options);
  if (prompts.empty() || options.max_new_tokens == 0) return std::move(decoding).results();

  const bool was_training = model.is_training();
  model.eval();
  std::vector<int64_t> lengths, input_ids, last_rows;
  for (const auto& prompt : prompts) {
    lengths.push_back(std::ssize(prompt));
    input_ids.insert(input_ids.end(), prompt.begin(), prompt.end());
    last_rows.push_back(std::ssize(input_ids) - 1);
  }
  const torch::Device device = base->device();
  const auto to_device = [&](const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64).to(device); };
  const auto options_of_cache = torch::TensorOptions(base->dtype()).device(device);
  KvCache cache(base->config(), std::ssize(prompts), *std::max_element(lengths.begin(), lengths.end()) + options.max_new_tokens,
                options_of_cache);
  const ForwardContext prefill = model.interventions().prompt_context(Layout::ragged(lengths, device), lengths, options.row_scales);
  decoding.choose(base->forward(to_device(input_ids), prefill, to_device(last_rows), &cache));
  while (!decoding.all_finished()) {
    const Layout layout = Layout::ragged(std::vector<int64_t>(prompts.size(), 1), device, cache.lengths());
    const ForwardContext step = model.interventions().decode_context(layout, options.row_scales);
    decoding.choose(base->forward(to_device(decoding.last_tokens()), step, {}, &cache));
  }
  model.train(was_training);
  return std::move(decoding).results();
}

}  // namespace reft
