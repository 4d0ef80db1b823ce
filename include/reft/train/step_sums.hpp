#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "reft/train/data_parallel.hpp"
#include "reft/train/objective.hpp"
#include "reft/train/optimizer.hpp"

namespace reft {

/// What one optimizer step adds up to over all ranks.
struct StepTotals {
  double loss, terms;
  int64_t tokens;
  std::map<std::string, double> metrics;
  bool stops;  ///< whether a rank was asked to stop
};

/// What the batches of one optimizer step add up to on this rank.
class StepSums {
 public:
  /// @param counts  false for a batch that this rank only looks at, so that it knows what the others add up.
  void add(const BatchLoss& loss, const RaggedBatch& batch, bool counts) {
    const auto add = [counts](torch::Tensor& to, const torch::Tensor& part) {
      const torch::Tensor value = counts ? part.detach() : torch::zeros_like(part);
      to = to.defined() ? to + value : value;
    };
    add(loss_, loss.sum);
    for (const auto& [name, part] : loss.metrics) add(metrics_[name], part);
    if (batch.row_scales.defined()) {
      const torch::Tensor in_use = batch.row_scales.ne(0).any(0);
      rows_in_use_ = rows_in_use_.defined() ? rows_in_use_ | in_use : in_use;
    }
    uses_all_rows_ |= !batch.row_scales.defined();
    if (!counts) return;
    terms_ += loss.terms_in(batch);
    tokens_ += batch.num_tokens();
  }

  /// (r) bool, the rows of subspaces that an example used; undefined = all.
  torch::Tensor rows_in_use() const { return uses_all_rows_ ? torch::Tensor() : rows_in_use_; }

  /// The sums of all ranks; the optimizer's gradients are theirs too from then on. See Note [Data-parallel steps].
  /// @param stops  whether this rank was asked to stop.
  /// @throws ConfigError where several ranks train and examples choose rows of subspaces.
  StepTotals total(Communicator& communicator, const Optimizer& optimizer, bool stops) const {
    std::vector<double> values{loss_.item<double>(), static_cast<double>(terms_), static_cast<double>(tokens_), stops ? 1.0 : 0.0};
    for (const auto& [name, part] : metrics_) values.push_back(part.item<double>());
    if (communicator.size() > 1) {
      if (!uses_all_rows_) fail<ConfigError>("Trainer", "rows of subspaces cannot be chosen where several ranks train together");
      all_reduce(communicator, optimizer.gradients(), values);
    }
    StepTotals totals{values[0], values[1], static_cast<int64_t>(values[2]), {}, values[3] > 0.0};
    size_t next = 4;
    for (const auto& [name, part] : metrics_) totals.metrics[name] = values[next++];
    return totals;
  }

 private:
  torch::Tensor loss_;                            // scalar
  std::map<std::string, torch::Tensor> metrics_;  // scalars
  int64_t terms_ = 0, tokens_ = 0;
  torch::Tensor rows_in_use_;  // (r) bool, where examples choose
  bool uses_all_rows_ = false;
};

}  // namespace reft
