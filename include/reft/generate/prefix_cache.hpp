#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "reft/generate/request.hpp"
#include "reft/model/causal_lm.hpp"

namespace reft {

/// The keys and values of tokens that many prompts begin with, such as a system prompt, computed once and copied into
/// every batch.
///
/// An edit inside these tokens changes their keys, and positions such as l4 of a short prompt may reach into them. So there
/// is one set of keys for each different plan of edits there: one for all requests, of any adapter, that edit nothing.
/// Adapters that are trained on while their keys are held must be followed by `clear`. Threads may share a PrefixCache.
class PrefixCache {
 public:
  /// @throws DataError for no tokens, or one the model does not have.
  PrefixCache(CausalLM base, std::vector<int64_t> tokens) : base_(std::move(base)), tokens_(std::move(tokens)) {
    detail::check_tokens("PrefixCache", "prefix", 0, tokens_, base_->config().vocab_size);
  }

  const CausalLM& base() const { return base_; }
  const std::vector<int64_t>& tokens() const { return tokens_; }

  /// Whether a prompt begins so and goes on: its last token must be computed, as its logits are wanted.
  bool begins(std::span<const int64_t> prompt) const {
    return prompt.size() > tokens_.size() && std::equal(tokens_.begin(), tokens_.end(), prompt.begin());
  }

  /// The keys and values as they are for a request that begins so: a cache of one sequence.
  std::shared_ptr<const KvCache> keys_for(const GenerationRequest& request) {
    const std::lock_guard lock(mutex_);
    const Layout layout = Layout::ragged({std::ssize(tokens_)}, base_->device());
    const std::vector<detail::RequestRow> rows{{&request, std::ssize(request.prompt)}};
    std::vector<PlannedEdit> plan = detail::plan_edits(layout, rows, tokens_);
    for (const auto& [known, keys] : entries_) {
      if (std::equal(known.begin(), known.end(), plan.begin(), plan.end(), &is_same_edit)) return keys;
    }
    torch::NoGradGuard no_grad;
    auto keys = std::make_shared<KvCache>(base_->config(), 1, std::ssize(tokens_), torch::TensorOptions(base_->dtype()).device(base_->device()));
    ForwardContext context(layout);
    add_edits(context, plan);
    (void)base_->hidden_states(torch::tensor(tokens_, torch::kInt64).to(base_->device()), context, keys.get());
    entries_.emplace_back(std::move(plan), keys);
    return keys;
  }

  /// How many different sets of keys are held.
  int64_t num_computed() const {
    const std::lock_guard lock(mutex_);
    return std::ssize(entries_);
  }

  void clear() {
    const std::lock_guard lock(mutex_);
    entries_.clear();
  }

 private:
  static bool is_same_edit(const PlannedEdit& a, const PlannedEdit& b) {
    const bool same_row_scales = a.row_scales.defined() && b.row_scales.defined() ? torch::equal(a.row_scales, b.row_scales)
                                                                                  : a.row_scales.defined() == b.row_scales.defined();
    return a.site == b.site && a.intervention == b.intervention && a.rows == b.rows && a.scales == b.scales && same_row_scales;
  }

  CausalLM base_;
  std::vector<int64_t> tokens_;
  mutable std::mutex mutex_;
  std::vector<std::pair<std::vector<PlannedEdit>, std::shared_ptr<const KvCache>>> entries_;
};

}  // namespace reft
