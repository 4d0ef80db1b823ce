#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "reft/data/batch.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/reft_model.hpp"
#include "reft/train/objective.hpp"
#include "reft/train/tensor_store.hpp"

namespace reft {

// Note [Constant prefix]
// What stands before the first edited token of a sequence cannot see an edit: its keys and values are the base's, in every
// block and every epoch. They are computed once for each example, alone, so that they depend neither on its batch nor on
// where a run was resumed. A step computes the other rows: with edits of the last token of a prompt, the answer's and one.

/// Language modelling that computes the tokens before the first edit once for each example; see Note [Constant prefix].
///   ConstantPrefix prefix;   Trainer(model, options, prefix.objective()).fit(examples);
/// It must outlive the training, and serves one base and one set of attachments. Where a user's hook waits somewhere, the
/// objective is the plain one.
class ConstantPrefix {
 public:
  explicit ConstantPrefix(const CacheOptions& options = {}) : store_(options) {}

  int64_t num_computed() const { return store_.num_computed(); }
  int64_t bytes_in_memory() const { return store_.bytes_in_memory(); }

  Objective<CausalLM> objective() {
    return [this](ReftModel<CausalLM>& model, const RaggedBatch& batch) { return loss(model, batch); };
  }

  /// As `language_modelling_loss`, within the rounding of other row counts.
  torch::Tensor loss(ReftModel<CausalLM>& model, const RaggedBatch& batch) {
    const std::vector<int64_t> lengths = prefix_lengths(model.interventions(), batch);
    const bool none = std::all_of(lengths.begin(), lengths.end(), [](int64_t length) { return length == 0; });
    if (none || model.base()->has_hooks()) return language_modelling_loss(model, batch);
    const RaggedBatch rest = without_prefixes(batch, lengths);
    ForwardContext context = model.interventions().prompt_context(rest.layout, rest.prompt_lengths, rest.row_scales, rest.input_ids);
    context.continue_from(prefixes(model.base(), batch, lengths));
    return loss_in_context(model.base(), rest, context);
  }

  /// (B) how many tokens of each sequence stand before its first edited or supervised row; one at least is left.
  static std::vector<int64_t> prefix_lengths(const AttachedInterventions& interventions, const RaggedBatch& batch) {
    const Layout& layout = batch.layout;
    std::vector<int64_t> lengths;
    for (int64_t i = 0; i < layout.num_sequences(); ++i) lengths.push_back(layout.length(i) - 1);
    const auto end_at = [&](int64_t row) {
      const int64_t i = layout.sequence_of(row);
      lengths[i] = std::min(lengths[i], row - layout.start(i));
    };
    for (const PlannedEdit& edit : interventions.plan_prompts(layout, batch.prompt_lengths, batch.row_scales, batch.input_ids)) {
      std::for_each(edit.rows.begin(), edit.rows.end(), end_at);
    }
    const torch::Tensor rows = batch.target_rows.to(torch::kCPU);
    std::for_each(rows.const_data_ptr<int64_t>(), rows.const_data_ptr<int64_t>() + rows.numel(), end_at);
    return lengths;
  }

 private:
  /// The rows after the prefixes, which become their past.
  static RaggedBatch without_prefixes(const RaggedBatch& batch, const std::vector<int64_t>& prefix_lengths) {
    const Layout& layout = batch.layout;
    const torch::Device device = layout.device();
    RaggedBatch rest = batch;
    std::vector<int64_t> lengths;
    std::vector<torch::Tensor> kept, shifts;  // (rows kept), (targets of the sequence) by how much their rows move up
    int64_t removed = 0;
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const int64_t first = layout.start(i) + prefix_lengths[i];
      removed += prefix_lengths[i];
      lengths.push_back(layout.length(i) - prefix_lengths[i]);
      kept.push_back(torch::arange(first, layout.start(i) + layout.length(i)));
      shifts.push_back(torch::full({batch.target_counts[i]}, removed, torch::kInt64));
    }
    const torch::Tensor rows = torch::cat(kept).to(device);
    rest.layout = Layout::ragged(std::move(lengths), device, prefix_lengths);
    rest.input_ids = batch.input_ids.index_select(0, rows);
    rest.target_rows = batch.target_rows - torch::cat(shifts).to(device);
    return rest;
  }

  // (B) each (L, 2, K, U, E), those of new examples computed.
  std::vector<torch::Tensor> prefixes(const CausalLM& base, const RaggedBatch& batch, const std::vector<int64_t>& lengths) {
    const torch::Tensor ids = batch.input_ids.to(torch::kCPU);
    std::vector<torch::Tensor> found;
    for (int64_t i = 0; i < batch.layout.num_sequences(); ++i) {
      const int64_t first = batch.layout.start(i), length = lengths[i];
      const torch::Tensor keys = store_.get({ids.const_data_ptr<int64_t>() + first, static_cast<size_t>(length)}, [&] {
        return keys_and_values(base, batch.input_ids.narrow(0, first, length));
      });
      found.push_back(keys.to(base->device()));
    }
    return found;
  }

  static torch::Tensor keys_and_values(const CausalLM& base, const torch::Tensor& input_ids) {
    torch::NoGradGuard no_grad;
    const int64_t length = input_ids.size(0);
    KvCache cache(base->config(), 1, length, torch::TensorOptions(base->dtype()).device(base->device()));
    if (length > 0) (void)base->hidden_states(input_ids, ForwardContext(Layout::ragged({length}, base->device())), &cache);
    return cache.sequence(0);
  }

  detail::TensorStore store_;
};

}  // namespace reft
