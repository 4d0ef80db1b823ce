#pragma once

#include <ATen/ops/cat.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "reft/data/batch.hpp"
#include "reft/reft_model.hpp"
#include "reft/train/objective.hpp"
#include "reft/train/tensor_store.hpp"

namespace reft {

// Note [Cached trunk]
// Below the lowest edit nothing is trained, so what those blocks give for an example is the same in every epoch. It is
// computed once for each example, alone and at its exact length, so that it depends neither on its batch nor on where a
// run was resumed; later epochs begin above it. A causal base of N tokens in L blocks, edited from block k on, then costs
// (L − k)/L of a step's forward, and the memory of k blocks is never held.

/// A language model that can begin a forward after some of its blocks.
template <class Base>
concept HasTrunk = LanguageModel<Base> && requires(Base base, const torch::Tensor& ids, const Layout& layout) {
  { base->trunk(ids, layout, int64_t{1}) } -> std::same_as<torch::Tensor>;
  { base->has_hooks_below(int64_t{1}) } -> std::convertible_to<bool>;
};

/// How many blocks from the first on lie wholly below everything that is edited.
inline int64_t num_untouched_blocks(const std::vector<Attachment>& attachments, int64_t num_layers) {
  int64_t lowest = num_layers;
  for (const Attachment& attachment : attachments) {
    for (const Site& site : attachment.sites) {
      if (site.component == Component::embedding_output) lowest = 0;
      if (site.layer) lowest = std::min<int64_t>(lowest, *site.layer + (site.component == Component::block_output ? 1 : 0));
    }
  }
  return lowest;
}

/// Language modelling that computes the untouched part of the base once for each example; see Note [Cached trunk].
///   TrunkCache cache(model);   Trainer(model, options, cache.objective()).fit(examples);
/// The model's attachments must be complete, and the cache must outlive the training. With edits from the first block on,
/// or a user's hook in the skipped part, the objective is the plain one.
template <HasTrunk Base>
class TrunkCache {
 public:
  explicit TrunkCache(const ReftModel<Base>& model, const CacheOptions& options = {})
      : num_blocks_(num_untouched_blocks(model.interventions().attachments(), model.base()->num_layers())), store_(options) {}

  int64_t num_blocks() const { return num_blocks_; }
  int64_t num_computed() const { return store_.num_computed(); }
  int64_t bytes_in_memory() const { return store_.bytes_in_memory(); }

  Objective<Base> objective() {
    return [this](ReftModel<Base>& model, const RaggedBatch& batch) { return loss(model, batch); };
  }

  /// As `language_modelling_loss`, within the rounding of other row counts.
  torch::Tensor loss(ReftModel<Base>& model, const RaggedBatch& batch) {
    if (num_blocks_ == 0 || model.base()->has_hooks_below(num_blocks_)) return language_modelling_loss(model, batch);
    ForwardContext context = model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
    context.begin_after(num_blocks_, states(*model.base(), batch));
    return loss_in_context(model.base(), batch, context);
  }

 private:
  // (N, D) the states of a batch, those of new examples computed.
  template <class Model>
  torch::Tensor states(const Model& base, const RaggedBatch& batch) {
    const torch::Tensor ids = batch.input_ids.to(torch::kCPU);
    std::vector<torch::Tensor> parts;
    for (int64_t i = 0; i < batch.layout.num_sequences(); ++i) {
      const int64_t first = batch.layout.start(i), length = batch.layout.length(i);
      parts.push_back(store_.get({ids.const_data_ptr<int64_t>() + first, static_cast<size_t>(length)}, [&] {
        return base.trunk(batch.input_ids.narrow(0, first, length), Layout::ragged({length}, batch.layout.device()), num_blocks_);
      }));
    }
    return at::cat(parts).to(batch.input_ids.device());
  }

  int64_t num_blocks_;
  detail::TensorStore store_;
};

}  // namespace reft
