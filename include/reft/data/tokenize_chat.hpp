#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>

#include "reft/data/tokenize.hpp"

namespace reft {

/// A conversation in its final wording as one example: what the assistant says is learned, turn by turn, and positions are
/// laid over all that comes before its first turn. Nothing is appended: the end of a turn is part of the wording.
/// @param assistant  pairs of bytes [begin, end) of `text`, in order.
/// @param encode     text to ids, without special tokens of the tokenizer's own: those of the chat are in the text.
/// @throws DataError where the assistant says nothing, or a range lies outside the text.
template <class Ranges>
Example tokenize_chat(std::string_view text, const Ranges& assistant, const EncodeFunction& encode) {
  Example example;
  example.input_ids = encode(text);
  example.labels.assign(example.input_ids.size(), kIgnoredLabel);
  // As for prompts: what comes before a byte is encoded alone for its number of tokens.
  const auto tokens_before = [&](std::size_t byte) {
    if (byte > text.size()) fail<DataError>("tokenize_chat", "a turn ends at byte {} of {}", byte, text.size());
    return std::min(encode(text.substr(0, byte)).size(), example.input_ids.size());
  };
  bool first = true;
  for (const auto& [begin, end] : assistant) {
    const std::size_t from = tokens_before(begin), to = tokens_before(end);
    if (std::exchange(first, false)) example.prompt_length = static_cast<int64_t>(from);
    for (std::size_t i = from; i < to; ++i) example.labels[i] = example.input_ids[i];
  }
  if (first) fail<DataError>("tokenize_chat", "the assistant says nothing, so there is nothing to learn");
  return example;
}

}  // namespace reft
