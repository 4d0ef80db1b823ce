#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// On which side of a padded row its unused places are.
enum class PaddingSide { right, left };

/// How B sequences lie in the N rows of flat token tensors: sequence i owns rows start(i) .. start(i + 1).
///
/// Ragged: the rows of one sequence follow those of the other, nothing is padded, N = sum of the lengths.
/// Padded: a (B, T, D) tensor viewed as (B*T, D); sequence i owns T rows, of which `length(i)` are real, from row first(i) on.
/// Lengths live on the host, `cu_seqlens` and `position_ids` on the device; all are made once per batch.
class Layout {
 public:
  Layout() = default;

  /// @param lengths       (B) tokens of each sequence in this forward, each >= 1.
  /// @param past_lengths  (B) tokens already in the KV cache before them; empty means none.
  /// @throws ShapeError for an empty batch, a length < 1, a past < 0 or of another size.
  static Layout ragged(std::vector<int64_t> lengths, torch::Device device = torch::kCPU,
                       std::vector<int64_t> past_lengths = {}) {
    return Layout(std::move(lengths), 0, PaddingSide::right, device, std::move(past_lengths));
  }

  /// @param lengths  (B) real tokens of each row of the (B, T) grid, each in 1..T.
  /// @throws ShapeError as `ragged`, or for a length beyond T.
  static Layout padded(std::vector<int64_t> lengths, int64_t padded_length, torch::Device device = torch::kCPU,
                       PaddingSide side = PaddingSide::right) {
    if (padded_length < 1) fail<ShapeError>("Layout", "expected a padded length >= 1, got {}", padded_length);
    return Layout(std::move(lengths), padded_length, side, device, {});
  }

  /// A full (B, T) grid without padding.
  static Layout padded(int64_t batch_size, int64_t length, torch::Device device = torch::kCPU) {
    return padded(std::vector<int64_t>(static_cast<size_t>(std::max<int64_t>(batch_size, 0)), length), length, device);
  }

  int64_t num_sequences() const { return static_cast<int64_t>(lengths_.size()); }  // B
  int64_t num_tokens() const { return starts_.empty() ? 0 : starts_.back(); }      // N
  int64_t length(int64_t sequence) const { return lengths_[sequence]; }
  int64_t start(int64_t sequence) const { return starts_[sequence]; }
  /// The sequence that owns a row of 0..N-1.
  int64_t sequence_of(int64_t row) const { return std::upper_bound(starts_.begin(), starts_.end(), row) - starts_.begin() - 1; }
  /// The row of a sequence's first token: start, or after the padding on its left.
  int64_t first(int64_t sequence) const { return starts_[sequence] + left_padding(sequence); }
  int64_t past_length(int64_t sequence) const { return past_lengths_.empty() ? 0 : past_lengths_[sequence]; }
  bool has_past() const { return !past_lengths_.empty(); }
  const std::vector<int64_t>& lengths() const { return lengths_; }
  bool is_padded() const { return padded_length_ > 0; }

  /// Whether all sequences have one length, so that rows can be viewed as (B, T).
  bool is_rectangular() const {
    return is_padded() || std::adjacent_find(lengths_.begin(), lengths_.end(), std::not_equal_to<>()) == lengths_.end();
  }

  int64_t max_length() const { return *std::max_element(lengths_.begin(), lengths_.end()); }
  const torch::Tensor& cu_seqlens() const { return cu_seqlens_; }      // (B+1) int32
  const torch::Tensor& position_ids() const { return position_ids_; }  // (N) int64, counted from the past on; 0 on the left of it
  torch::Device device() const { return position_ids_.device(); }

 private:
  Layout(std::vector<int64_t> lengths, int64_t padded_length, PaddingSide side, torch::Device device, std::vector<int64_t> past_lengths)
      : lengths_(std::move(lengths)), past_lengths_(std::move(past_lengths)), padded_length_(padded_length), side_(side) {
    if (lengths_.empty()) fail<ShapeError>("Layout", "expected at least one sequence, got none");
    if (!past_lengths_.empty() && past_lengths_.size() != lengths_.size()) {
      fail<ShapeError>("Layout", "expected {} past lengths, got {}", lengths_.size(), past_lengths_.size());
    }
    starts_.push_back(0);
    std::vector<int64_t> position_ids;
    for (size_t i = 0; i < lengths_.size(); ++i) {
      check_length(i);
      const int64_t rows = padded_length > 0 ? padded_length : lengths_[i];
      const int64_t past = past_lengths_.empty() ? 0 : past_lengths_[i], padding = left_padding(static_cast<int64_t>(i));
      for (int64_t j = 0; j < rows; ++j) position_ids.push_back(past + std::max<int64_t>(j - padding, 0));
      starts_.push_back(starts_.back() + rows);
    }
    cu_seqlens_ = torch::tensor(starts_, torch::kInt64).to(torch::kInt32).to(device);
    position_ids_ = torch::tensor(position_ids, torch::kInt64).to(device);
  }

  int64_t left_padding(int64_t sequence) const { return side_ == PaddingSide::left ? padded_length_ - lengths_[sequence] : 0; }

  void check_length(size_t i) const {
    if (lengths_[i] < 1) fail<ShapeError>("Layout", "sequence {}: expected a length >= 1, got {}", i, lengths_[i]);
    if (past_length(static_cast<int64_t>(i)) < 0) {
      fail<ShapeError>("Layout", "sequence {}: expected a past of >= 0 tokens, got {}", i, past_lengths_[i]);
    }
    if (padded_length_ > 0 && lengths_[i] > padded_length_) {
      fail<ShapeError>("Layout", "sequence {}: expected a length <= {}, got {}", i, padded_length_, lengths_[i]);
    }
  }

  std::vector<int64_t> lengths_;       // (B)
  std::vector<int64_t> past_lengths_;  // (B) or empty
  std::vector<int64_t> starts_;        // (B+1) rows
  int64_t padded_length_ = 0;          // T, or 0 when ragged
  PaddingSide side_ = PaddingSide::right;
  torch::Tensor cu_seqlens_, position_ids_;
};

}  // namespace reft
