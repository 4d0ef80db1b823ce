#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "reft/generate/prefix_cache.hpp"
#include "reft/generate/request.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/model/kv_cache.hpp"

namespace reft {

/// The forwards of requests that are answered together: one over the prompts, then one a token over a KV cache. Each
/// request's interventions edit its own rows. Nothing here chooses tokens.
class RequestBatch {
 public:
  /// @param requests  at least one; they must outlive the batch.   @param prefix  computed once, or none.
  /// @throws ConfigError if the prefix is of another base.
  RequestBatch(CausalLM base, std::span<const GenerationRequest> requests, int64_t max_new_tokens, PrefixCache* prefix = nullptr)
      : base_(std::move(base)) {
    if (prefix != nullptr && prefix->base().get() != base_.get()) fail<ConfigError>("generate", "the prefix was made for another base");
    int64_t longest = 0;
    for (const GenerationRequest& request : requests) {
      rows_.push_back({&request, std::ssize(request.prompt)});
      longest = std::max(longest, std::ssize(request.prompt));
    }
    cache_.emplace(base_->config(), size(), longest + max_new_tokens, torch::TensorOptions(base_->dtype()).device(base_->device()));
    for (int64_t i = 0; prefix != nullptr && i < size(); ++i) {
      if (prefix->begins(requests[i].prompt)) cache_->begin_with(i, *prefix->keys_for(requests[i]), 0);
    }
  }

  int64_t size() const { return std::ssize(rows_); }

  /// Runs the prompts.   @return (B, V) logits of the first new tokens.
  torch::Tensor prefill() {
    std::vector<int64_t> lengths, input_ids, last_rows;
    for (int64_t i = 0; i < size(); ++i) {
      const std::vector<int64_t>& prompt = rows_[i].request->prompt;
      lengths.push_back(std::ssize(prompt) - cache_->length(i));
      input_ids.insert(input_ids.end(), prompt.begin() + cache_->length(i), prompt.end());
      last_rows.push_back(std::ssize(input_ids) - 1);
    }
    const bool has_past = std::any_of(rows_.begin(), rows_.end(), [&, i = int64_t{0}](const auto&) mutable { return cache_->length(i++) > 0; });
    return forward(Layout::ragged(lengths, base_->device(), has_past ? cache_->lengths() : std::vector<int64_t>()), input_ids, last_rows);
  }

  /// Takes one token of each sequence.   @param tokens  (B).   @return (B, V) logits of the next ones.
  torch::Tensor step(std::span<const int64_t> tokens) {
    const Layout layout = Layout::ragged(std::vector<int64_t>(rows_.size(), 1), base_->device(), cache_->lengths());
    return forward(layout, {tokens.begin(), tokens.end()}, {});
  }

  /// Goes on with these rows, in this order: others leave, and one named more than once goes on as so many.
  void select(const std::vector<int64_t>& rows) {
    if (std::ssize(rows) == size() && std::is_sorted(rows.begin(), rows.end()) &&
        std::adjacent_find(rows.begin(), rows.end()) == rows.end()) return;  // all, as they are
    std::vector<detail::RequestRow> selected;
    for (const int64_t row : rows) selected.push_back(rows_.at(row));
    rows_ = std::move(selected);
    if (!rows.empty()) cache_->select(rows);
  }

 private:
  torch::Tensor forward(const Layout& layout, const std::vector<int64_t>& input_ids, const std::vector<int64_t>& rows) {
    const auto to_device = [&](const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64).to(base_->device()); };
    ForwardContext context(layout);
    add_edits(context, detail::plan_edits(layout, rows_, input_ids));
    return base_->forward(to_device(input_ids), context, rows.empty() ? torch::Tensor() : to_device(rows), &*cache_);
  }

  CausalLM base_;
  std::vector<detail::RequestRow> rows_;
  std::optional<KvCache> cache_;
};

}  // namespace reft
