#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "reft/data/example.hpp"
#include "reft/hook/layout.hpp"

namespace reft {

/// Examples laid end to end; nothing is padded.
struct RaggedBatch {
  Layout layout;                        // B sequences in N rows
  torch::Tensor input_ids;              // (N) int64
  std::vector<int64_t> prompt_lengths;  // (B) tokens over which positions are laid
  torch::Tensor target_rows;            // (S) rows whose next token is supervised
  torch::Tensor targets;                // (S) those tokens
  torch::Tensor row_scales = {};        // (B, r) of the subspaces' rows, or undefined: all 1
  std::vector<int64_t> target_counts = {};  // (B) how many of the supervised rows are each sequence's
  torch::Tensor token_types = {};           // (N) int64 segments, or undefined: all 0
  torch::Tensor sequence_labels = {};       // (B) float64 classes or numbers, or undefined

  int64_t num_tokens() const { return layout.num_tokens(); }
  int64_t num_supervised() const { return targets.size(0); }
};

namespace detail {

/// (B, r), or undefined if no example has any.   @throws DataError if some differ in length.
inline torch::Tensor collate_row_scales(std::span<const Example* const> examples, torch::Device device) {
  size_t rank = 0;
  for (const Example* example : examples) rank = std::max(rank, example->row_scales.size());
  if (rank == 0) return {};
  std::vector<float> scales;
  for (const Example* example : examples) {
    const std::vector<float>& own = example->row_scales;
    if (!own.empty() && own.size() != rank) fail<DataError>("collate", "expected row scales of one length, got {} and {}", own.size(), rank);
    scales.insert(scales.end(), own.begin(), own.end());
    if (own.empty()) scales.resize(scales.size() + rank, 1.0f);
  }
  return torch::tensor(scales, torch::kFloat32).view({std::ssize(examples), static_cast<int64_t>(rank)}).to(device);
}

/// (N), or undefined if no example has any.   @throws DataError for more or fewer than its tokens.
inline torch::Tensor collate_token_types(std::span<const Example* const> examples, torch::Device device) {
  std::vector<int64_t> types;
  bool any = false;
  for (const Example* example : examples) {
    const std::vector<int64_t>& own = example->token_types;
    if (!own.empty() && own.size() != example->input_ids.size()) {
      fail<DataError>("collate", "expected as many token types as tokens, got {} and {}", own.size(), example->input_ids.size());
    }
    any |= !own.empty();
    types.insert(types.end(), own.begin(), own.end());
    if (own.empty()) types.resize(types.size() + example->input_ids.size(), 0);
  }
  return any ? torch::tensor(types, torch::kInt64).to(device) : torch::Tensor();
}

/// (B), or undefined if no example has one.   @throws DataError if only some have.
inline torch::Tensor collate_sequence_labels(std::span<const Example* const> examples, torch::Device device) {
  std::vector<double> labels;
  for (const Example* example : examples) {
    if (example->sequence_label) labels.push_back(*example->sequence_label);
  }
  if (labels.empty()) return {};
  if (labels.size() != examples.size()) fail<DataError>("collate", "expected a label for each of {} sequences, got {}", examples.size(), labels.size());
  return torch::tensor(labels, torch::kFloat64).to(device);
}

}  // namespace detail

/// Row i - 1 of a sequence predicts its token i, so it is supervised where labels[i] is not -100.
/// @throws DataError for no examples, an empty one, labels or token types of another length, row scales that differ in length, or
/// a sequence label of some examples only.
inline RaggedBatch collate(std::span<const Example* const> examples, torch::Device device) {
  if (examples.empty()) fail<DataError>("collate", "expected at least one example, got none");
  std::vector<int64_t> lengths, prompt_lengths, input_ids, rows, targets, counts;
  for (const Example* example : examples) {
    const auto start = static_cast<int64_t>(input_ids.size()), length = static_cast<int64_t>(example->input_ids.size());
    if (length == 0 || example->labels.size() != example->input_ids.size()) {
      fail<DataError>("collate", "expected as many labels as tokens and at least one, got {} and {}", example->labels.size(), length);
    }
    lengths.push_back(length);
    prompt_lengths.push_back(example->prompt_length);
    input_ids.insert(input_ids.end(), example->input_ids.begin(), example->input_ids.end());
    const std::size_t before = rows.size();
    for (int64_t i = 1; i < length; ++i) {
      if (example->labels[i] < 0) continue;
      rows.push_back(start + i - 1);
      targets.push_back(example->labels[i]);
    }
    counts.push_back(static_cast<int64_t>(rows.size() - before));
  }
  const auto to_device = [&](const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64).to(device); };
  return {Layout::ragged(std::move(lengths), device), to_device(input_ids), std::move(prompt_lengths), to_device(rows),
          to_device(targets), detail::collate_row_scales(examples, device), std::move(counts), detail::collate_token_types(examples, device),
          detail::collate_sequence_labels(examples, device)};
}

/// Whole prompts, with positions laid over all their tokens and nothing supervised.   @throws DataError for an empty one.
inline RaggedBatch collate_prompts(std::span<const std::vector<int64_t>> prompts, torch::Device device) {
  std::vector<Example> examples;
  for (const auto& prompt : prompts) {
    examples.push_back({prompt, std::vector<int64_t>(prompt.size(), kIgnoredLabel), static_cast<int64_t>(prompt.size())});
  }
  std::vector<const Example*> chosen;
  for (const Example& example : examples) chosen.push_back(&example);
  return collate(chosen, device);
}

}  // namespace reft
