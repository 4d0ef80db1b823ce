#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "reft/generate/options.hpp"
#include "reft/generate/request_batch.hpp"
#include "reft/generate/stop.hpp"

namespace reft::detail {

/// A candidate for the next step: which running beam takes which token.
struct BeamCandidate {
  int64_t parent, token;
  float total;              // Σ log p with the rules of sampling
  double log_probability;   // of the token, without them
};

/// The beams of one prompt. The rules, the order of the sums and float32 are those of transformers' `generate`.
class BeamGroup {
 public:
  BeamGroup(const GenerateOptions& options, std::vector<int64_t> end_tokens) : options_(options), end_tokens_(std::move(end_tokens)) {
    Beam first;
    if (options.tokenizer && !options.stop_strings.empty()) first.text.emplace(*options.tokenizer, options.stop_strings);
    running_.assign(static_cast<size_t>(options.beams.num_beams), first);
    for (size_t i = 1; i < running_.size(); ++i) running_[i].total = kOut;  // at first all beams are the same
  }

  /// How many candidates are looked at, so that enough go on if the best end.
  static int64_t num_candidates(int64_t num_beams, size_t num_end_tokens) {
    return std::max<int64_t>(2, 1 + static_cast<int64_t>(num_end_tokens)) * num_beams;
  }

  bool is_done() const { return done_; }
  float total(size_t beam) const { return running_[beam].total; }
  std::span<const int64_t> tokens(size_t beam) const { return running_[beam].tokens; }

  /// Goes one token further.   @param candidates  best first.   @return which beam each next one continues.
  std::vector<int64_t> advance(std::span<const BeamCandidate> candidates) {
    std::vector<Beam> extended;
    for (const BeamCandidate& candidate : candidates) extended.push_back(extend(candidate));
    const bool may_finish = may_improve_ && !(is_full() && options_.beams.early_stopping == EarlyStopping::yes);
    for (size_t i = 0; may_finish && i < running_.size() && i < extended.size(); ++i) {
      if (extended[i].ended) finish(extended[i]);
    }
    std::vector<size_t> order(extended.size());
    std::iota(order.begin(), order.end(), size_t{0});
    for (Beam& beam : extended) beam.total += beam.ended ? kOut : 0.0f;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return extended[a].total > extended[b].total; });
    const bool all_ended = std::all_of(extended.begin(), extended.end(), [](const Beam& beam) { return beam.ended; });
    std::vector<int64_t> parents;
    for (size_t i = 0; i < running_.size(); ++i) parents.push_back(candidates[order[i]].parent);
    for (size_t i = 0; i < running_.size(); ++i) running_[i] = extended[order[i]];
    may_improve_ = may_improve_ && can_improve();
    done_ = !may_improve_ || all_ended || (is_full() && options_.beams.early_stopping == EarlyStopping::yes);
    return parents;
  }

  /// The best finished sequences, best first.
  std::vector<Continuation> best(int64_t count) const {
    std::vector<Continuation> results;
    for (size_t i = 0; i < finished_.size() && std::ssize(results) < count; ++i) results.push_back(continuation(finished_[i]));
    return results;
  }

 private:
  static constexpr float kOut = -1e9f;

  struct Beam {
    std::vector<int64_t> tokens = {};
    std::vector<double> log_probabilities = {};
    std::optional<StoppingText> text = {};  // where stop strings are looked for
    float total = 0.0f, score = 0.0f;
    bool ended = false, stopped = false;
  };

  bool is_full() const { return finished_.size() == running_.size(); }

  Beam extend(const BeamCandidate& candidate) const {
    Beam beam = running_[static_cast<size_t>(candidate.parent)];
    beam.tokens.push_back(candidate.token);
    beam.log_probabilities.push_back(candidate.log_probability);
    beam.total = candidate.total;
    beam.stopped = std::find(end_tokens_.begin(), end_tokens_.end(), candidate.token) != end_tokens_.end();
    if (beam.text && !beam.stopped) {
      beam.text->add(candidate.token);
      beam.stopped = beam.text->stopped();
    }
    beam.ended = beam.stopped || std::ssize(beam.tokens) >= options_.max_new_tokens;
    return beam;
  }

  float penalized(float total, int64_t length) const {
    return total / static_cast<float>(std::pow(static_cast<double>(length), options_.beams.length_penalty));
  }

  void finish(Beam beam) {
    beam.score = penalized(beam.total, std::ssize(beam.tokens));
    const auto place = std::upper_bound(finished_.begin(), finished_.end(), beam, [](const Beam& a, const Beam& b) { return a.score > b.score; });
    finished_.insert(place, std::move(beam));
    if (finished_.size() > running_.size()) finished_.pop_back();
  }

  bool can_improve() const {
    if (!is_full()) return true;
    const bool at_full_length = options_.beams.early_stopping == EarlyStopping::never && options_.beams.length_penalty > 0.0;
    const int64_t length = at_full_length ? options_.max_new_tokens : std::ssize(running_.front().tokens);
    return penalized(running_.front().total, length) > finished_.back().score;
  }

  Continuation continuation(Beam beam) const {
    Continuation result{.tokens = std::move(beam.tokens), .finish_reason = beam.stopped ? FinishReason::stop : FinishReason::length};
    if (beam.text) {
      beam.text->finish();
      result.text = beam.text->text();
      if (beam.text->stopped()) result.tokens.resize(static_cast<size_t>(beam.text->tokens_within(result.tokens)));
    }
    const bool has_end = !result.tokens.empty() && std::find(end_tokens_.begin(), end_tokens_.end(), result.tokens.back()) != end_tokens_.end();
    if (has_end) result.tokens.pop_back();
    if (options_.tokenizer && !beam.text) result.text = options_.tokenizer->decode(result.tokens);
    beam.log_probabilities.resize(result.tokens.size());
    if (options_.log_probabilities) result.log_probabilities = std::move(beam.log_probabilities);
    result.beam_score = beam.score;
    return result;
  }

  const GenerateOptions& options_;
  std::vector<int64_t> end_tokens_;
  std::vector<Beam> running_;   // num_beams, best first
  std::vector<Beam> finished_;  // up to num_beams, best first
  bool may_improve_ = true, done_ = false;
};

/// log p of every next token of every beam, with the penalties of sampling where there are any.
/// @param log_probabilities  (B, V).   @return the same shape.
inline torch::Tensor penalized_beams(const torch::Tensor& log_probabilities, std::span<const GenerationRequest> requests,
                                     const std::vector<BeamGroup>& groups, std::span<const int64_t> active, const GenerateOptions& options) {
  const TokenSampler rules(options.sampling);
  if (!rules.has_penalties()) return log_probabilities;
  const auto num_beams = static_cast<size_t>(options.beams.num_beams);
  std::vector<torch::Tensor> rows;
  for (const int64_t g : active) {
    for (size_t beam = 0; beam < num_beams; ++beam) {
      std::vector<int64_t> tokens = requests[g].prompt;
      tokens.insert(tokens.end(), groups[g].tokens(beam).begin(), groups[g].tokens(beam).end());
      rows.push_back(rules.penalized(log_probabilities[std::ssize(rows)], tokens));
    }
  }
  return torch::stack(rows).to(log_probabilities.device());
}

/// Continues every request of a batch by beam search.   @return `num_samples` continuations each, best first.
inline std::vector<Continuation> beam_search(RequestBatch& batch, std::span<const GenerationRequest> requests,
                                             const std::vector<int64_t>& end_tokens, const GenerateOptions& options) {
  const int64_t num_beams = options.beams.num_beams;
  std::vector<BeamGroup> groups(requests.size(), BeamGroup(options, end_tokens));
  std::vector<int64_t> active(requests.size()), rows;
  std::iota(active.begin(), active.end(), int64_t{0});
  torch::Tensor logits = batch.prefill().repeat_interleave(num_beams, 0);
  for (const int64_t g : active) rows.insert(rows.end(), static_cast<size_t>(num_beams), g);
  while (true) {
    batch.select(rows);
    if (!logits.defined()) {
      std::vector<int64_t> last;
      for (const int64_t g : active) {
        for (int64_t beam = 0; beam < num_beams; ++beam) last.push_back(groups[g].tokens(beam).back());
      }
      logits = batch.step(last);  // (active · beams, V)
    }
    const torch::Tensor log_probabilities = logits.to(torch::kFloat32).log_softmax(1);
    std::vector<float> totals;
    for (const int64_t g : active) {
      for (int64_t beam = 0; beam < num_beams; ++beam) totals.push_back(groups[g].total(beam));
    }
    const int64_t V = logits.size(1), count = std::min(BeamGroup::num_candidates(num_beams, end_tokens.size()), num_beams * V);
    const torch::Tensor scores = penalized_beams(log_probabilities, requests, groups, active, options) +
                                 torch::tensor(totals).unsqueeze(1).to(logits.device());
    const auto [best, places] = scores.view({-1, num_beams * V}).topk(count);  // (active, count)
    const torch::Tensor own = log_probabilities.view({-1, num_beams * V}).gather(1, places).to(torch::kCPU);
    const torch::Tensor best_here = best.to(torch::kCPU), places_here = places.to(torch::kCPU);

    std::vector<int64_t> still_active;
    rows.clear();
    for (int64_t i = 0; i < std::ssize(active); ++i) {
      std::vector<BeamCandidate> candidates;
      for (int64_t j = 0; j < count; ++j) {
        const int64_t place = places_here[i].const_data_ptr<int64_t>()[j];
        candidates.push_back({place / V, place % V, best_here[i].const_data_ptr<float>()[j], own[i].const_data_ptr<float>()[j]});
      }
      const std::vector<int64_t> parents = groups[active[i]].advance(candidates);
      if (groups[active[i]].is_done()) continue;
      for (const int64_t parent : parents) rows.push_back(i * num_beams + parent);
      still_active.push_back(active[i]);
    }
    active = std::move(still_active);
    if (active.empty()) break;
    logits = torch::Tensor();
  }
  std::vector<Continuation> results;
  for (const BeamGroup& group : groups) {
    for (Continuation& each : group.best(options.num_samples)) results.push_back(std::move(each));
  }
  return results;
}

}  // namespace reft::detail
