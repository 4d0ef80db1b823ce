#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "reft/data/example_source.hpp"
#include "reft/data/tokenize.hpp"

namespace reft {

/// Two answers to one prompt, tokenized.
struct PreferencePair {
  Example chosen, rejected;
};

/// Pairs as examples of a trainer: each is two sequences of a batch, the chosen one first.
class PreferencePairs : public ExampleSource {
 public:
  explicit PreferencePairs(std::vector<PreferencePair> pairs) : pairs_(std::move(pairs)) {}
  int64_t size() const override { return std::ssize(pairs_); }
  Example get(int64_t index) const override { return pairs_.at(static_cast<std::size_t>(index)).chosen; }
  std::vector<Example> sequences(int64_t index) const override {
    const PreferencePair& pair = pairs_.at(static_cast<std::size_t>(index));
    return {pair.chosen, pair.rejected};
  }

 private:
  std::vector<PreferencePair> pairs_;
};

struct TokenizedPreferences {
  std::vector<PreferencePair> pairs;
  int64_t num_cut = 0;      ///< pairs of which an answer was shortened
  int64_t num_skipped = 0;  ///< pairs left out: within max_length nothing remains of an answer, or both are the same
};

/// Preference pairs as token sequences, each as `tokenize_row`.
/// @throws as `tokenize_row`; DataError if no pair is left.
inline TokenizedPreferences tokenize_preferences(const std::vector<PreferenceExample>& rows, const EncodeFunction& encode,
                                                 const TokenizeOptions& options) {
  TokenizedPreferences result;
  for (const PreferenceExample& row : rows) {
    TokenizedRow chosen = tokenize_row(row.chosen, encode, options), rejected = tokenize_row(row.rejected, encode, options);
    const bool usable = chosen.status != RowStatus::unusable && rejected.status != RowStatus::unusable &&
                        chosen.example.input_ids != rejected.example.input_ids;
    result.num_skipped += !usable;
    if (!usable) continue;
    result.num_cut += chosen.status == RowStatus::cut || rejected.status == RowStatus::cut;
    result.pairs.push_back({std::move(chosen.example), std::move(rejected.example)});
  }
  if (result.pairs.empty()) detail::fail_none_usable(rows.size(), options.max_length);
  return result;
}

}  // namespace reft
