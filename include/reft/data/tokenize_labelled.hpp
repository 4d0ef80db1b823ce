#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reft/data/labelled.hpp"
#include "reft/tokenizer/tokenizer.hpp"

namespace reft {

struct LabelledTokens {
  std::vector<Example> examples;
  int64_t num_cut = 0;  ///< shortened to max_length
};

namespace detail {

/// The token that ends every text for this tokenizer, [SEP] for one: what stands at the end of an empty text behind the
/// token that begins it.
inline std::optional<int64_t> closing_token(const Tokenizer& tokenizer) {
  const std::vector<int64_t> nothing = tokenizer.encode("");
  return nothing.size() > 1 ? std::optional(nothing.back()) : std::nullopt;
}

/// At most max_length tokens, the closing one kept.   @return whether some were cut.
inline bool cut_tokens(Example& example, int64_t max_length, std::optional<int64_t> closing) {
  if (std::ssize(example.input_ids) <= max_length) return false;
  example.input_ids.resize(static_cast<std::size_t>(max_length));
  if (closing) example.input_ids.back() = *closing;
  if (!example.token_types.empty()) example.token_types.resize(static_cast<std::size_t>(max_length));
  return true;
}

}  // namespace detail

/// Labelled text as sequences for a classifier, with the special tokens the tokenizer adds. Positions are laid over all of
/// it; nothing is supervised but the `sequence_label`.
/// @param classes  names in the order of their ids; empty: labels are numbers, for regression.
/// @param max_length  tokens; longer texts lose their ends, but not the token that closes them.
/// @throws DataError for a label that is no class or no number, or a text without any token; ConfigError for a max_length
///   below 1; TokenizerError for two texts where the tokenizer cannot join them.
inline LabelledTokens tokenize_labelled(const std::vector<LabelledExample>& rows, const std::vector<std::string>& classes,
                                        const Tokenizer& tokenizer, int64_t max_length) {
  if (max_length < 1) fail<ConfigError>("tokenize_labelled", "expected max_length of at least 1, got {}", max_length);
  const std::optional<int64_t> closing = detail::closing_token(tokenizer);
  const LabelCheck check = classes.empty() ? is_number() : one_of(classes);
  LabelledTokens result;
  for (const LabelledExample& row : rows) {
    if (const std::string problem = check(row.label); !problem.empty()) fail<DataError>("tokenize_labelled", "{}", problem);
    Example example;
    if (row.second_text.empty()) {
      example.input_ids = tokenizer.encode(row.text);
    } else {
      EncodedPair pair = tokenizer.encode_pair(row.text, row.second_text);
      example.input_ids = std::move(pair.ids);
      example.token_types = std::move(pair.type_ids);
    }
    if (example.input_ids.empty()) fail<DataError>("tokenize_labelled", "row {}: the text has no tokens", result.examples.size() + 1);
    result.num_cut += detail::cut_tokens(example, max_length, closing);
    example.labels.assign(example.input_ids.size(), kIgnoredLabel);
    example.prompt_length = std::ssize(example.input_ids);
    example.sequence_label = classes.empty() ? *label_value(row.label)
                                             : static_cast<double>(std::find(classes.begin(), classes.end(), row.label) - classes.begin());
    result.examples.push_back(std::move(example));
  }
  return result;
}

}  // namespace reft
