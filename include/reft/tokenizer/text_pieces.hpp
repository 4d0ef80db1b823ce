#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/regex.hpp"
#include "reft/tokenizer/unicode.hpp"

namespace reft::detail {

/// A stretch of a text, and whether it is what was looked for.
struct TextSpan {
  std::size_t begin;
  std::size_t end;
  bool matched;
};

/// Cuts a text into neighbouring spans that cover it.
using SpanFinder = std::function<std::vector<TextSpan>(std::string_view)>;

inline std::vector<TextSpan> find_spans(std::string_view text, const Regex& pattern) {
  std::vector<TextSpan> spans;
  std::size_t covered = 0;
  pattern.for_each_match(text, [&](std::size_t begin, std::size_t end) {
    if (covered < begin) spans.push_back({covered, begin, false});
    spans.push_back({begin, end, true});
    covered = end;
  });
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}

/// Each character with the property is a match of its own.
template <class Predicate>
std::vector<TextSpan> find_character_spans(std::string_view text, Predicate&& has_property) {
  std::vector<TextSpan> spans;
  std::size_t begin = 0;
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    const bool matched = has_property(c);
    if (!matched && !spans.empty() && !spans.back().matched) spans.back().end += bytes.size();
    else spans.push_back({begin, begin + bytes.size(), matched});
    begin += bytes.size();
  });
  return spans;
}

/// What becomes of a match: a piece of its own, nothing, or a part of a neighbour.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

/// Joins or drops spans as `behavior` says. @return spans in order; `matched` means nothing any more.
inline std::vector<TextSpan> apply_split_behavior(std::vector<TextSpan> spans, SplitBehavior behavior) {
  if (behavior == SplitBehavior::isolated) return spans;
  if (behavior == SplitBehavior::removed) {
    std::erase_if(spans, [](const TextSpan& span) { return span.matched; });
    return spans;
  }
  const bool backwards = behavior == SplitBehavior::merged_with_next;
  if (backwards) std::reverse(spans.begin(), spans.end());
  std::vector<TextSpan> joined;
  bool previous_matched = false;
  for (const TextSpan& span : spans) {
    const bool joins = behavior == SplitBehavior::contiguous ? span.matched == previous_matched
                                                             : span.matched && !previous_matched;
    previous_matched = span.matched;
    if (!joins || joined.empty()) joined.push_back(span);
    else if (backwards) joined.back().begin = span.begin;
    else joined.back().end = span.end;
  }
  if (backwards) std::reverse(joined.begin(), joined.end());
  return joined;
}

/// A text and the words it is cut into so far.
struct TextPieces {
  struct Piece {
    std::size_t begin;
    std::size_t end;
    bool starts_text;  // nothing of the whole input lies before it
  };

  TextPieces(std::string whole, bool starts_text) : text(std::move(whole)) {
    if (!text.empty()) pieces.push_back({0, text.size(), starts_text});
  }

  std::string_view view(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }

  /// Cuts every piece further; empty ones go.
  void split(const SpanFinder& find, SplitBehavior behavior) {
    std::vector<Piece> finer;
    finer.reserve(pieces.size());
    for (const Piece& piece : pieces) {
      for (const TextSpan& span : apply_split_behavior(find(view(piece)), behavior)) {
        if (span.begin == span.end) continue;
        finer.push_back({piece.begin + span.begin, piece.begin + span.end, piece.starts_text && span.begin == 0});
      }
    }
    pieces = std::move(finer);
  }

  /// Rewrites every piece by `rewrite(text, piece) -> std::string`.
  template <class Rewrite>
  void rewrite(Rewrite&& rewrite_piece) {
    std::string rewritten;
    rewritten.reserve(text.size() * 2);
    for (Piece& piece : pieces) {
      const std::size_t begin = rewritten.size();
      rewritten += rewrite_piece(view(piece), piece);
      piece.begin = begin;
      piece.end = rewritten.size();
    }
    text = std::move(rewritten);
  }

  std::string text;
  std::vector<Piece> pieces;
};

}  // namespace reft::detail
