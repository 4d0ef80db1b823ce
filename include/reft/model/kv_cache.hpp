#pragma once

#include <ATen/ops/stack.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "reft/hook/layout.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/tensor/attention.hpp"

namespace reft {

/// Keys and values of the tokens seen so far: per layer (B, K, capacity, E), allocated once.
/// Forwards write behind `length(i)` of sequence i and `advance` moves it, after all layers have written.
class KvCache {
 public:
  /// @param capacity  tokens per sequence, prompt and continuation together.
  KvCache(const TransformerConfig& config, int64_t batch_size, int64_t capacity, torch::TensorOptions options)
      : lengths_(static_cast<size_t>(batch_size), 0), capacity_(capacity) {
    const std::vector<int64_t> shape{batch_size, config.num_key_value_heads, capacity, config.head_dim};
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      keys_.push_back(torch::zeros(shape, options));
      values_.push_back(torch::zeros(shape, options));
    }
  }

  int64_t batch_size() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t capacity() const { return capacity_; }
  int64_t length(int64_t sequence) const { return lengths_[sequence]; }
  const std::vector<int64_t>& lengths() const { return lengths_; }

  /// Stores this forward's keys and values behind the past and attends over past and present.
  /// @param q  (N, H, E).   @param k, v  (N, K, E).   @param layout  the rows of this forward.   @return (N, H, E).
  torch::Tensor attend(int64_t layer, const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                       const Layout& layout, const AttentionScores& scores = {}) {
    write(layer, k, v, layout);
    if (!layout.has_past()) return ragged_attention(q, k, v, layout.lengths(), scores);
    const bool one_shape = std::adjacent_find(lengths_.begin(), lengths_.end(), std::not_equal_to<>()) == lengths_.end();
    if (one_shape && layout.is_rectangular()) {
      return detail::by_token(attend_slice(layer, q, 0, batch_size(), lengths_.front() + layout.length(0), scores));
    }
    std::vector<torch::Tensor> outputs;
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const torch::Tensor rows = q.narrow(0, layout.start(i), layout.length(i));
      outputs.push_back(detail::by_token(attend_slice(layer, rows, i, 1, lengths_[i] + layout.length(i), scores)));
    }
    return torch::cat(outputs);
  }

  /// Keeps the sequences `rows`, in that order: some leave, and one named more than once goes on as so many.
  void select(const std::vector<int64_t>& rows) {
    const int64_t used = *std::max_element(lengths_.begin(), lengths_.end());
    const torch::Tensor index = torch::tensor(rows, torch::kInt64).to(keys_.front().device());
    std::vector<int64_t> lengths;
    for (const int64_t row : rows) lengths.push_back(lengths_.at(row));
    for (std::vector<torch::Tensor>* layers : {&keys_, &values_}) {
      for (torch::Tensor& tensor : *layers) {
        torch::Tensor kept = torch::empty({std::ssize(rows), tensor.size(1), capacity_, tensor.size(3)}, tensor.options());
        kept.narrow(2, 0, used).copy_(tensor.narrow(2, 0, used).index_select(0, index));
        tensor = std::move(kept);
      }
    }
    lengths_ = std::move(lengths);
  }

  /// What is held of sequence i, copied: (L, 2, K, T, E), keys before values.
  torch::Tensor sequence(int64_t i) const {
    std::vector<torch::Tensor> layers;
    for (size_t layer = 0; layer < keys_.size(); ++layer) {
      layers.push_back(at::stack({keys_[layer][i].narrow(1, 0, length(i)), values_[layer][i].narrow(1, 0, length(i))}));
    }
    return at::stack(layers);
  }

  /// Begins sequence i with what sequence j of another cache of the same model holds.
  /// @throws ShapeError if it does not fit.
  void begin_with(int64_t i, const KvCache& other, int64_t j) {
    const int64_t length = other.length(j);
    if (length > capacity_) fail<ShapeError>("KvCache", "sequence {}: {} tokens do not fit in a capacity of {}", i, length, capacity_);
    const auto copy = [&](std::vector<torch::Tensor>& to, const std::vector<torch::Tensor>& from) {
      for (size_t layer = 0; layer < to.size(); ++layer) to[layer][i].narrow(1, 0, length).copy_(from[layer][j].narrow(1, 0, length));
    };
    copy(keys_, other.keys_);
    copy(values_, other.values_);
    lengths_[i] = length;
  }

  /// Counts the tokens of a finished forward as past.
  void advance(const Layout& layout) {
    for (int64_t i = 0; i < batch_size(); ++i) lengths_[i] += layout.length(i);
  }

  /// @throws ShapeError if the layout's sequences do not continue this cache or do not fit in it.
  void check_room(const Layout& layout) const {
    if (layout.num_sequences() != batch_size()) {
      fail<ShapeError>("KvCache", "expected {} sequences, got {}", batch_size(), layout.num_sequences());
    }
    for (int64_t i = 0; i < batch_size(); ++i) {
      if (layout.past_length(i) != lengths_[i]) {
        fail<ShapeError>("KvCache", "sequence {}: expected a past of {} tokens, got {}", i, lengths_[i], layout.past_length(i));
      }
      if (lengths_[i] + layout.length(i) > capacity_) {
        fail<ShapeError>("KvCache", "sequence {}: {} tokens do not fit in a capacity of {}", i,
                         lengths_[i] + layout.length(i), capacity_);
      }
    }
  }

 private:
  void write(int64_t layer, const torch::Tensor& k, const torch::Tensor& v, const Layout& layout) {
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const auto store = [&](torch::Tensor& cache, const torch::Tensor& rows) {
        cache[i].narrow(1, lengths_[i], layout.length(i)).copy_(rows.narrow(0, layout.start(i), layout.length(i)).transpose(0, 1));
      };
      store(keys_[layer], k);
      store(values_[layer], v);
    }
  }

  torch::Tensor attend_slice(int64_t layer, const torch::Tensor& q, int64_t first, int64_t count, int64_t keys,
                             const AttentionScores& scores) const {
    return attention(detail::by_head(q, count), keys_[layer].narrow(0, first, count).narrow(2, 0, keys),
                     values_[layer].narrow(0, first, count).narrow(2, 0, keys), scores);
  }

  std::vector<torch::Tensor> keys_, values_;  // per layer (B, K, capacity, E)
  std::vector<int64_t> lengths_;              // (B)
  int64_t capacity_;
};

}  // namespace reft
