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
  int64_t vocabulary_size = 0;               ///< tokens from here on are an error; 0 = any will do
  std::function<Example(const nlohmann::ordered_json& messages)> tokenize_chat = {};  ///< without it chats are an error
};

/// What became of a row: all of it, what stands within max_length, or nothing from which something could be learned.
enum class RowStatus : uint8_t { whole, cut, unusable };

struct TokenizedRow {
  Example example;
  RowStatus status = RowStatus::whole;
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

/// All of it is the prompt over which positions are laid, and all of it is learned.
inline Example tokenize_plain(std::string_view text, const EncodeFunction& encode, std::optional<int64_t> eos_token_id) {
  Example example;
  example.input_ids = encode(text);
  if (eos_token_id && (example.input_ids.empty() || example.input_ids.back() != *eos_token_id)) example.input_ids.push_back(*eos_token_id);
  example.labels = example.input_ids;
  example.prompt_length = std::ssize(example.input_ids);
  return example;
}

inline Example tokenize(const RawExample& raw, const EncodeFunction& encode, const TokenizeOptions& options) {
  if (const auto* example = std::get_if<Example>(&raw)) return *example;
  if (const auto* text = std::get_if<PromptExample>(&raw)) {
    return tokenize_text(text->prompt, text->completion, encode, options.eos_token_id);
  }
  if (const auto* text = std::get_if<PlainText>(&raw)) return tokenize_plain(text->text, encode, options.eos_token_id);
  const auto tokenize_chat = [&](const nlohmann::ordered_json& messages) {
    if (!options.tokenize_chat) fail<DataError>("tokenize_examples", "chat messages need a tokenizer that has a chat template");
    return options.tokenize_chat(messages);
  };
  if (const auto* chat = std::get_if<ChatExample>(&raw)) return tokenize_chat(chat->messages);
  const auto& text = std::get<TextExample>(raw);
  const std::string prompt = render_prompt(options.prompt_template, text.instruction, text.input);
  if (options.prompt_template != PromptTemplate::chat) return tokenize_text(prompt, text.output, encode, options.eos_token_id);
  return tokenize_chat({{{"role", "user"}, {"content", prompt}}, {{"role", "assistant"}, {"content", text.output}}});
}

inline void check_vocabulary(const Example& example, int64_t vocabulary_size) {
  for (const auto* tokens : {&example.input_ids, &example.labels}) {
    for (const int64_t token : *tokens) {
      if (token < vocabulary_size || vocabulary_size == 0) continue;
      fail<DataError>("tokenize_examples", "token {}, but the model's vocabulary has {} (0..{})", token, vocabulary_size, vocabulary_size - 1);
    }
  }
}

[[noreturn]] inline void fail_none_usable(std::size_t count, int64_t max_length) {
  fail<DataError>("tokenize_examples", "none of {} examples is usable: within {} tokens, no answer is left to learn; raise max_length",
                  count, max_length);
}

}  // namespace detail

/// One row as a token sequence: prompt unsupervised, answer and end token supervised, at most max_length tokens. A row
/// that is tokenized already is only cut.
/// @throws ConfigError for a max_length below 1; DataError for a token outside the vocabulary, or a chat without a template.
inline TokenizedRow tokenize_row(const RawExample& raw, const EncodeFunction& encode, const TokenizeOptions& options) {
  if (options.max_length < 1) {
    fail<ConfigError>("tokenize_examples", "expected max_length of at least 1, got {}", options.max_length);
  }
  TokenizedRow row{detail::tokenize(raw, encode, options)};
  Example& example = row.example;
  detail::check_vocabulary(example, options.vocabulary_size);
  if (std::ssize(example.input_ids) > options.max_length) {
    row.status = RowStatus::cut;
    example.input_ids.resize(static_cast<std::size_t>(options.max_length));
    example.labels.resize(static_cast<std::size_t>(options.max_length));
    example.prompt_length = std::min(example.prompt_length, options.max_length);
  }
  // The first token is predicted from nothing, so its label teaches nothing either.
  const bool supervised = std::any_of(example.labels.begin() + !example.labels.empty(), example.labels.end(),
                                      [](int64_t label) { return label != kIgnoredLabel; });
  if (!supervised) row.status = RowStatus::unusable;
  return row;
}

/// Turns rows into token sequences, as `tokenize_row`, and leaves out those from which nothing can be learned.
/// @throws as `tokenize_row`; DataError if no example is left.
inline TokenizedExamples tokenize_examples(const std::vector<RawExample>& rows, const EncodeFunction& encode,
                                           const TokenizeOptions& options) {
  TokenizedExamples result;
  for (const auto& raw : rows) {
    TokenizedRow row = tokenize_row(raw, encode, options);
    result.num_skipped += row.status == RowStatus::unusable;
    result.num_cut += row.status == RowStatus::cut;
    if (row.status != RowStatus::unusable) result.examples.push_back(std::move(row.example));
  }
  if (result.examples.empty()) detail::fail_none_usable(rows.size(), options.max_length);
  return result;
}

}  // namespace reft
