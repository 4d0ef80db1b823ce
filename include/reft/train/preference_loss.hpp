#pragma once

#include <ATen/ops/log_sigmoid.h>
#include <torch/types.h>

#include <concepts>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "reft/train/classification_loss.hpp"
#include "reft/train/objective.hpp"

namespace reft {

/// A language model that gives each sequence its own log-probability.
template <class Base>
concept SequenceLanguageModel = LanguageModel<Base> && requires(Base base, const torch::Tensor& t, const ForwardContext& context) {
  { base->log_probabilities(t, context, t, t, std::vector<int64_t>()) } -> std::same_as<torch::Tensor>;
};

namespace detail {

/// (B) of pairs, chosen and rejected in turn, as (B/2, 2).   @throws DataError for an odd number.
inline torch::Tensor as_pairs(const char* function, const torch::Tensor& values) {
  if (values.size(0) % 2 != 0) fail<DataError>(function, "expected pairs of sequences, chosen and rejected in turn, got {} sequences", values.size(0));
  return values.view({-1, 2});
}

/// Σ −log σ(chosen − rejected) over pairs of rewards (P, 2), with the sums a report shows.
inline BatchLoss bradley_terry(const torch::Tensor& rewards, const ForwardContext& context) {
  const torch::Tensor margins = rewards.select(1, 0) - rewards.select(1, 1);
  return {with_auxiliary_loss(-at::log_sigmoid(margins).sum(), context), rewards.size(0),
          {{"accuracy", margins.detach().gt(0).sum()},
           {"margin", margins.detach().sum()},
           {"chosen_reward", rewards.select(1, 0).detach().sum()},
           {"rejected_reward", rewards.select(1, 1).detach().sum()}}};
}

}  // namespace detail

/// Direct preference optimization, the base without interventions being its own reference: one model in memory.
///   L = Σ −log σ(r(chosen) − r(rejected)),   r(y) = β (log π(y | x) − log p(y | x))
/// π with the interventions, p without them. A batch holds pairs, chosen and rejected in turn (`PreferencePairs`).
///   Trainer(model, options, DpoLoss<CausalLM>(0.1)).fit(pairs);
/// log p is computed once for each sequence, alone and at its exact length, so that it depends neither on its batch nor on
/// where a run was resumed; copies of this object share what they know. Metrics: accuracy (the share of pairs with
/// r(chosen) > r(rejected)), margin (r(chosen) − r(rejected)), chosen_reward, rejected_reward.
/// Ref: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
template <SequenceLanguageModel Base>
class DpoLoss {
 public:
  /// @param beta  β.   @throws ConfigError unless it is positive.
  explicit DpoLoss(double beta = 0.1) : beta_(beta) {
    if (!(beta > 0.0)) fail<ConfigError>("DpoLoss", "expected a positive beta, got {}", beta);
  }

  /// @throws DataError for an odd number of sequences.
  BatchLoss operator()(ReftModel<Base>& model, const RaggedBatch& batch) const {
    const ForwardContext context =
        model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
    const torch::Tensor policy =
        model.base()->log_probabilities(batch.input_ids, context, batch.target_rows, batch.targets, batch.target_counts);
    const torch::Tensor rewards = beta_ * (policy - reference(model.base(), batch));
    return detail::bradley_terry(detail::as_pairs("DpoLoss", rewards), context);
  }

  /// log p of the sequences of a batch, (B), those of new sequences computed.
  torch::Tensor reference(const Base& base, const RaggedBatch& batch) const {
    torch::NoGradGuard no_grad;
    const torch::Tensor ids = batch.input_ids.to(torch::kCPU), rows = batch.target_rows.to(torch::kCPU);
    std::vector<float> values;
    int64_t first_target = 0;
    for (int64_t i = 0; i < batch.layout.num_sequences(); ++i) {
      const int64_t first = batch.layout.start(i), length = batch.layout.length(i), count = batch.target_counts[static_cast<size_t>(i)];
      const auto own = [&](const torch::Tensor& all) { return all.narrow(0, first_target, count); };
      const auto [entry, is_new] = known_->try_emplace(bytes(ids.narrow(0, first, length)) + '|' + bytes(own(rows) - first), 0.0F);
      if (is_new) {
        const ForwardContext plain(Layout::ragged({length}, batch.layout.device()));
        entry->second = base->log_probabilities(batch.input_ids.narrow(0, first, length), plain, own(batch.target_rows) - first,
                                                own(batch.targets), {count}).template item<float>();
      }
      values.push_back(entry->second);
      first_target += count;
    }
    return torch::tensor(values).to(batch.input_ids.device());
  }

  /// Sequences whose reference is known.
  int64_t num_computed() const { return std::ssize(*known_); }

 private:
  static std::string bytes(const torch::Tensor& values) {
    const torch::Tensor flat = values.contiguous();
    return {reinterpret_cast<const char*>(flat.const_data_ptr<int64_t>()), flat.nbytes()};
  }

  double beta_;
  std::shared_ptr<std::unordered_map<std::string, float>> known_ = std::make_shared<std::unordered_map<std::string, float>>();
};

/// A reward model after Bradley and Terry: Σ −log σ(r(chosen) − r(rejected)), r the one score of a base with a trained head.
/// A batch holds pairs, chosen and rejected in turn. Metrics as of `DpoLoss`.
///   model.train_head();   Trainer(model, options, &reward_loss<SequenceClassifier>).fit(pairs);
/// @throws DataError for an odd number of sequences; ConfigError for a base with more than one score.
template <SequenceScorer Base>
BatchLoss reward_loss(ReftModel<Base>& model, const RaggedBatch& batch) {
  if (model.base()->num_labels() != 1) fail<ConfigError>("reward_loss", "expected a base with one score, got {}", model.base()->num_labels());
  const ForwardContext context =
      model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
  return detail::bradley_terry(detail::as_pairs("reward_loss", scores_in_context(model.base(), batch, context).squeeze(1)), context);
}

}  // namespace reft
