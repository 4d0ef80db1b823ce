#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "reft/data/example.hpp"
#include "reft/data/prompt_template.hpp"
#include "reft/error.hpp"

namespace reft {

/// Text to ids, with the special tokens the tokenizer adds by itself.
using EncodeFunction = std::function<std::vector<int64_t>(std::string_view)>;

struct TokenizeOptions {
  PromptTemplate prompt_template = PromptTemplate::alpaca;
  std::optional<int64_t> eos_token_id = {};  ///< appended to every answer, and supervised
  int64_t max_length = 512;                  ///< tokens of a sequence; longer ones are cut
};

struct TokenizedExamples {
  std::vector<Example> examples;
  int64_t num_cut = 0;      ///< kept, but shortened to max_length
  int64_t num_skipped = 0;  ///< left out: nothing to learn remains within max_length
};

namespace detail {

/// The prompt is encoded alone for its length, prompt and answer together for the ids.
inline Example tokenize_text(std::string_view prompt, std::string_view answer, const EncodeFunction& encode,
                             std::optional<int64_t> eos_token_id) {
  const auto encode_without_end = [&](const std::string& text) {
    auto ids = encode(text);
    // Some tokenizers end every text with the token that here ends the answer only.
    if (eos_token_id && !ids.empty() && ids.back() == *eos_token_id) ids.pop_back();
    return ids;
  };
  Example example;
  const auto prompt_tokens = std::ssize(encode_without_end(std::string(prompt)));
  example.input_ids = encode_without_end(std::string(prompt).append(answer));
  if (eos_token_id) example.input_ids.push_back(*eos_token_id);
  example.prompt_length = std::min(prompt_tokens, std::ssize(example.input_ids));
  example.labels = example.input_ids;
  std::fill_n(example.labels.begin(), example.prompt_length, kIgnoredLabel);
  return example;
}

inline Example tokenize(const RawExample& raw, const EncodeFunction& encode, const TokenizeOptions& options) {
  if (const auto* example = std::get_if<Example>(&raw)) return *example;
  if (const auto* text = std::get_if<PromptExample>(&raw)) {
    return tokenize_text(text->prompt, text->completion, encode, options.eos_token_id);
  }
  const auto& text = std::get<TextExample>(raw);
  return tokenize_text(render_prompt(options.prompt_template, text.instruction, text.input), text.output, encode,
                       options.eos_token_id);
}

}  // namespace detail

/// Turns rows into token sequences: prompt unsupervised, answer and end token supervised, at most max_length tokens.
/// Rows that are tokenized already are only cut.
/// @throws ConfigError for a max_length below 1; DataError if no example is left.
inline TokenizedExamples tokenize_examples(const std::vector<RawExample>& rows, const EncodeFunction& encode,
                                           const TokenizeOptions& options) {
  if (options.max_length < 1) {
    fail<ConfigError>("tokenize_examples", "expected max_length of at least 1, got {}", options.max_length);
  }
  TokenizedExamples result;
  for (const auto& row : rows) {
    Example example = detail::tokenize(row, encode, options);
    const bool too_long = std::ssize(example.input_ids) > options.max_length;
    if (too_long) {
      example.input_ids.resize(options.max_length);
      example.labels.resize(options.max_length);
      example.prompt_length = std::min(example.prompt_length, options.max_length);
    }
    // The first token is predicted from nothing, so its label teaches nothing either.
    const bool supervised = std::any_of(example.labels.begin() + !example.labels.empty(), example.labels.end(),
                                        [](int64_t label) { return label != kIgnoredLabel; });
    result.num_skipped += !supervised;
    result.num_cut += supervised && too_long;
    if (supervised) result.examples.push_back(std::move(example));
  }
  if (result.examples.empty()) {
    fail<DataError>("tokenize_examples",
                    "none of {} examples is usable: within {} tokens, no answer is left to learn; raise max_length",
                    rows.size(), options.max_length);
  }
  return result;
}

}  // namespace reft
