#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "reft/generate/beam_search.hpp"
#include "reft/generate/options.hpp"
#include "reft/generate/request_batch.hpp"
#include "reft/generate/stop.hpp"
#include "reft/reft_model.hpp"

namespace reft {

namespace detail {

/// One continuation while it grows.
class GrowingSequence {
 public:
  GrowingSequence(int64_t index, const std::vector<int64_t>& prompt, const GenerateOptions& options)
      : index_(index), options_(&options), tokens_(prompt), sampler_(sampling_of(index, options)) {
    if (options.tokenizer) text_.emplace(*options.tokenizer, options.stop_strings);
  }

  bool is_finished() const { return finished_; }
  int64_t last_token() const { return tokens_.back(); }

  /// @param logits  (V).
  int64_t choose(const torch::Tensor& logits) { return sampler_.next(logits, tokens_); }

  void append(int64_t token, double log_probability) {
    tokens_.push_back(token);
    result_.tokens.push_back(token);
    if (options_->log_probabilities) result_.log_probabilities.push_back(log_probability);
    if (options_->on_token) options_->on_token(index_, token);
    if (text_) tell(text_->add(token));
    if (text_ && text_->stopped()) return finish(FinishReason::stop);
    if (std::ssize(result_.tokens) >= options_->max_new_tokens) finish(FinishReason::length);
  }

  void finish(FinishReason reason) {
    finished_ = true;
    result_.finish_reason = reason;
    if (!text_) return;
    tell(text_->finish());
    if (text_->stopped()) {  // perhaps by what was kept back until now
      result_.finish_reason = FinishReason::stop;
      result_.tokens.resize(static_cast<size_t>(text_->tokens_within(result_.tokens)));
      if (options_->log_probabilities) result_.log_probabilities.resize(result_.tokens.size());
    }
    result_.text = text_->text();
  }

  Continuation result() && { return std::move(result_); }

 private:
  static SamplingOptions sampling_of(int64_t index, const GenerateOptions& options) {
    SamplingOptions sampling = options.sampling;
    sampling.seed += static_cast<uint64_t>(index % options.num_samples);  // the same beside other prompts
    return sampling;
  }

  void tell(const std::string& text) const {
    if (options_->on_text && !text.empty()) options_->on_text(index_, text);
  }

  int64_t index_;
  const GenerateOptions* options_;
  std::vector<int64_t> tokens_;  // prompt and continuation
  TokenSampler sampler_;
  std::optional<StoppingText> text_;
  Continuation result_;
  bool finished_ = false;
};

/// Gives one token to each of the active sequences.   @param logits  (active, V).
inline void append_tokens(std::vector<GrowingSequence>& sequences, std::span<const int64_t> active, const torch::Tensor& logits,
                          std::span<const int64_t> end_tokens, const GenerateOptions& options) {
  torch::Tensor tokens;  // (active) int64 on the CPU
  if (TokenSampler(options.sampling).is_plain_greedy()) {
    tokens = logits.argmax(1).to(torch::kCPU);  // one transfer for the batch
  } else {
    std::vector<int64_t> chosen;
    for (const int64_t i : active) chosen.push_back(sequences[i].choose(logits[std::ssize(chosen)]));
    tokens = torch::tensor(chosen, torch::kInt64);
  }
  torch::Tensor log_probabilities;
  if (options.log_probabilities) {
    log_probabilities = logits.to(torch::kFloat32).log_softmax(1).gather(1, tokens.to(logits.device()).unsqueeze(1)).squeeze(1).to(torch::kCPU);
  }
  for (size_t row = 0; row < active.size(); ++row) {
    GrowingSequence& sequence = sequences[active[row]];
    const int64_t token = tokens.const_data_ptr<int64_t>()[row];
    if (std::find(end_tokens.begin(), end_tokens.end(), token) != end_tokens.end()) {
      sequence.finish(FinishReason::stop);
    } else {
      sequence.append(token, log_probabilities.defined() ? log_probabilities.const_data_ptr<float>()[row] : 0.0);
    }
  }
}

/// @param row_scales  (r) for all requests, or (B, r).   @throws ConfigError as `check_row_scales` of an adapter.
inline std::vector<GenerationRequest> with_row_scales(std::span<const GenerationRequest> requests, const torch::Tensor& row_scales) {
  std::vector<GenerationRequest> scaled(requests.begin(), requests.end());
  for (size_t i = 0; i < scaled.size(); ++i) {
    if (!scaled[i].adapter || scaled[i].adapter->empty()) continue;
    scaled[i].adapter->check_row_scales(row_scales, std::ssize(requests));
    scaled[i].row_scales = AttachedInterventions::row_scales_at(row_scales, static_cast<int64_t>(i));
  }
  return scaled;
}

/// Continues every request of a batch, greedily or by drawing; sequences that end leave it.
inline std::vector<Continuation> sample(RequestBatch& batch, std::span<const GenerationRequest> requests,
                                        std::span<const int64_t> end_tokens, const GenerateOptions& options) {
  std::vector<GrowingSequence> sequences;
  std::vector<int64_t> active, rows;
  for (size_t i = 0; i < requests.size(); ++i) {
    for (int64_t j = 0; j < options.num_samples; ++j) {
      active.push_back(std::ssize(sequences));
      rows.push_back(static_cast<int64_t>(i));
      sequences.emplace_back(active.back(), requests[i].prompt, options);
    }
  }
  torch::Tensor logits = batch.prefill();
  if (options.num_samples > 1) logits = logits.repeat_interleave(options.num_samples, 0);
  batch.select(rows);
  while (true) {
    append_tokens(sequences, active, logits, end_tokens, options);
    std::vector<int64_t> still_active, last;
    rows.clear();
    for (size_t row = 0; row < active.size(); ++row) {
      if (sequences[active[row]].is_finished()) continue;
      still_active.push_back(active[row]);
      rows.push_back(static_cast<int64_t>(row));
      last.push_back(sequences[active[row]].last_token());
    }
    if (rows.empty()) break;
    if (rows.size() < active.size()) batch.select(rows);
    active = std::move(still_active);
    logits = batch.step(last);
  }
  std::vector<Continuation> results;
  for (GrowingSequence& sequence : sequences) results.push_back(std::move(sequence).result());
  return results;
}

}  // namespace detail

/// Continues prompts of any lengths, together: one pass over the prompts with the interventions on, then one pass a token
/// over a KV cache. Each request is answered as if it were alone, with its own adapter and scale. Interventions of phase
/// `prompt` live on in the cached keys and values and cost nothing there.
/// @return `num_samples` continuations of each prompt, in order.
/// @throws DataError for an empty prompt or a token the model does not have; ConfigError for options out of range.
inline std::vector<Continuation> generate(const CausalLM& base, std::span<const GenerationRequest> requests,
                                          const GenerateOptions& options = {}) {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < requests.size(); ++i) detail::check_tokens("generate", "prompt", i, requests[i].prompt, base->config().vocab_size);
  validate(options);
  if (requests.empty() || options.max_new_tokens == 0) {
    return std::vector<Continuation>(requests.size() * static_cast<size_t>(options.num_samples));
  }
  std::vector<int64_t> end_tokens = options.end_tokens.empty() ? base->config().eos_token_ids : options.end_tokens;
  if (!options.use_end_tokens) end_tokens.clear();
  if (options.row_scales.defined()) {
    GenerateOptions others = options;
    others.row_scales = torch::Tensor();
    return generate(base, detail::with_row_scales(requests, options.row_scales), others);
  }
  const detail::EvaluationMode evaluation(requests);
  RequestBatch batch(base, requests, options.max_new_tokens, options.prefix);
  return options.beams.num_beams > 1 ? detail::beam_search(batch, requests, end_tokens, options)
                                     : detail::sample(batch, requests, end_tokens, options);
}

/// The same for prompts that one model answers.
inline std::vector<Continuation> generate(const ReftModel<CausalLM>& model, const std::vector<std::vector<int64_t>>& prompts,
                                          const GenerateOptions& options = {}) {
  std::vector<GenerationRequest> requests;
  for (const auto& prompt : prompts) requests.push_back({prompt, model.adapter()});
  return generate(model.base(), requests, options);
}

}  // namespace reft
