#pragma once

#include <ATen/ops/cat.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "reft/data/batch.hpp"
#include "reft/reft_model.hpp"
#include "reft/train/objective.hpp"

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

/// Where states are kept. Those for which there is room in neither place are computed each time.
struct TrunkCacheOptions {
  int64_t memory_bytes = int64_t{1} << 30;
  int64_t file_bytes = int64_t{16} << 30;  ///< of a temporary file without a name
};

namespace detail {

/// Tensors by key: in memory up to a limit, others up to a second one in a nameless file that ends with the store.
class TensorStore {
 public:
  explicit TensorStore(const TrunkCacheOptions& options) : options_(options) {}

  bool contains(const std::string& key) const { return entries_.contains(key); }
  int64_t bytes_in_memory() const { return used_bytes_; }

  /// Keeps it where there is room.   @param value  on the CPU, contiguous.   @throws Error if the disk is full.
  void put(const std::string& key, const torch::Tensor& value) {
    const auto bytes = static_cast<int64_t>(value.nbytes());
    if (used_bytes_ + bytes <= options_.memory_bytes) {
      used_bytes_ += bytes;
      entries_[key] = {value, 0};
      return;
    }
    if (filed_bytes_ + bytes > options_.file_bytes) return;
    filed_bytes_ += bytes;
    if (!file_) file_.reset(std::tmpfile());
    if (!file_ || std::fseek(file_.get(), 0, SEEK_END) != 0) refuse();
    const int64_t offset = std::ftell(file_.get());
    if (std::fwrite(value.const_data_ptr(), 1, value.nbytes(), file_.get()) != value.nbytes() || std::fflush(file_.get()) != 0) refuse();
    entries_[key] = {torch::empty({0}, value.options()), offset, value.sizes().vec()};
  }

  /// A tensor that nobody else writes to.
  torch::Tensor get(const std::string& key) const {
    const Entry& entry = entries_.at(key);
    if (entry.shape.empty()) return entry.value;
    torch::Tensor value = torch::empty(entry.shape, entry.value.options());
    if (std::fseek(file_.get(), entry.offset, SEEK_SET) != 0 ||
        std::fread(value.mutable_data_ptr(), 1, value.nbytes(), file_.get()) != value.nbytes()) refuse();
    return value;
  }

 private:
  struct Entry {
    torch::Tensor value;         // or, of one in the file, nothing but its dtype
    int64_t offset = 0;
    std::vector<int64_t> shape;  // of one in the file
  };
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  [[noreturn]] static void refuse() { fail<Error>("TrunkCache", "the temporary file cannot be written or read; give the cache more memory"); }

  TrunkCacheOptions options_;
  int64_t used_bytes_ = 0, filed_bytes_ = 0;
  std::unordered_map<std::string, Entry> entries_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace detail

/// Language modelling that computes the untouched part of the base once for each example; see Note [Cached trunk].
///   TrunkCache cache(model);   Trainer(model, options, cache.objective()).fit(examples);
/// The model's attachments must be complete, and the cache must outlive the training. With edits from the first block on,
/// or a user's hook in the skipped part, the objective is the plain one.
template <HasTrunk Base>
class TrunkCache {
 public:
  explicit TrunkCache(const ReftModel<Base>& model, const TrunkCacheOptions& options = {})
      : num_blocks_(num_untouched_blocks(model.interventions().attachments(), model.base()->num_layers())), store_(options) {}

  int64_t num_blocks() const { return num_blocks_; }
  int64_t num_computed() const { return num_computed_; }
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
      const std::string key(reinterpret_cast<const char*>(ids.const_data_ptr<int64_t>() + first), static_cast<size_t>(length) * sizeof(int64_t));
      if (store_.contains(key)) {
        parts.push_back(store_.get(key));
        continue;
      }
      const Layout alone = Layout::ragged({length}, batch.layout.device());
      parts.push_back(base.trunk(batch.input_ids.narrow(0, first, length), alone, num_blocks_).to(torch::kCPU).contiguous());
      store_.put(key, parts.back());
      ++num_computed_;
    }
    return at::cat(parts).to(batch.input_ids.device());
  }

  int64_t num_blocks_;
  int64_t num_computed_ = 0;
  detail::TensorStore store_;
};

}  // namespace reft
