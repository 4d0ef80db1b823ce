#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/byte_level.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/normalizer.hpp"
#include "reft/tokenizer/older_unicode.hpp"
#include "reft/tokenizer/regex.hpp"
#include "reft/tokenizer/text_pieces.hpp"

namespace reft::detail {

/// Cuts a normalized text into the words the model then encodes one by one.
using PreTokenizer = std::function<void(TextPieces&)>;

/// Where GPT-2 cuts: English contractions, then runs of letters, of numbers, of anything else, each with one
/// space before it, and white space that leaves its last character to the next word.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

PreTokenizer make_pre_tokenizer(const JsonNode& node, int depth = 0);

inline SplitBehavior read_split_behavior(const JsonNode& node) {
  static constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {
      {"Isolated", SplitBehavior::isolated},
      {"Removed", SplitBehavior::removed},
      {"MergedWithPrevious", SplitBehavior::merged_with_previous},
      {"MergedWithNext", SplitBehavior::merged_with_next},
      {"Contiguous", SplitBehavior::contiguous},
  };
  const std::string name = node.string();
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  node.reject("expected Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous, got \"{}\"", name);
}

inline PreTokenizer make_splitter(SpanFinder find, SplitBehavior behavior) {
  return [find = std::move(find), behavior](TextPieces& pieces) { pieces.split(find, behavior); };
}

template <class Predicate>
PreTokenizer make_character_splitter(Predicate has_property, SplitBehavior behavior) {
  return make_splitter([has_property](std::string_view text) { return find_character_spans(text, has_property); },
                       behavior);
}

inline PreTokenizer make_pattern_splitter(Regex pattern, SplitBehavior behavior, bool invert = false) {
  return make_splitter(
      [pattern = std::move(pattern), invert](std::string_view text) {
        std::vector<TextSpan> spans = find_spans(text, pattern);
        if (invert) {
          for (TextSpan& span : spans) span.matched = !span.matched;
        }
        return spans;
      },
      behavior);
}

inline PreTokenizer make_pre_tokenizer_sequence(const JsonNode& node, int depth) {
  std::vector<PreTokenizer> steps;
  for (const JsonNode& step : node.at("pretokenizers").elements()) steps.push_back(make_pre_tokenizer(step, depth + 1));
  return [steps = std::move(steps)](TextPieces& pieces) {
    for (const PreTokenizer& step : steps) step(pieces);
  };
}

/// Cuts as GPT-2 does (unless `use_regex` is false) and writes every byte as a character, see Note [Byte-level text].
inline PreTokenizer make_byte_level(const JsonNode& node, int) {
  const bool use_regex = node.boolean("use_regex", true);
  const bool add_prefix_space = node.boolean("add_prefix_space", true);
  const PreTokenizer split = make_pattern_splitter(Regex(kGpt2Pattern), SplitBehavior::isolated);
  return [=](TextPieces& pieces) {
    if (add_prefix_space) {
      pieces.rewrite([](std::string_view text, const TextPieces::Piece&) {
        return text.starts_with(' ') ? std::string(text) : " " + std::string(text);
      });
    }
    if (use_regex) split(pieces);
    pieces.rewrite([](std::string_view text, const TextPieces::Piece&) { return to_byte_level(text); });
  };
}

/// When Metaspace puts its mark before a text that has none.
enum class PrependScheme { always, first, never };

inline PrependScheme read_prepend_scheme(const JsonNode& node) {
  // Files before tokenizers 0.14 say add_prefix_space.
  if (!node.has("prepend_scheme")) {
    return node.boolean("add_prefix_space", true) ? PrependScheme::always : PrependScheme::never;
  }
  const std::string name = node.string("prepend_scheme");
  if (name == "always") return PrependScheme::always;
  if (name == "first") return PrependScheme::first;
  if (name == "never") return PrependScheme::never;
  node.at("prepend_scheme").reject("expected always, first or never, got \"{}\"", name);
}

/// The mark Metaspace writes for a space, one character.
inline std::string read_space_mark(const JsonNode& node) {
  const std::string mark = node.string("replacement", "\xE2\x96\x81");
  if (mark.empty() || utf8_length(mark[0]) != mark.size()) {
    node.at("replacement").reject("expected one character, got \"{}\"", mark);
  }
  return mark;
}

/// Writes ▁ for every space, puts one before the text, and cuts before each.
inline PreTokenizer make_metaspace(const JsonNode& node, int) {
  const std::string mark = read_space_mark(node);
  const PrependScheme scheme = read_prepend_scheme(node);
  const Regex space(" ");
  const bool split = node.boolean("split", true);
  const PreTokenizer cut = make_pattern_splitter(Regex(quoted_pattern(mark)), SplitBehavior::merged_with_next);
  return [=](TextPieces& pieces) {
    pieces.rewrite([&](std::string_view text, const TextPieces::Piece& piece) {
      std::string marked = replace_all(text, space, mark);
      const bool prepend = scheme == PrependScheme::always || (scheme == PrependScheme::first && piece.starts_text);
      return prepend && !marked.starts_with(mark) ? mark + marked : marked;
    });
    if (split) cut(pieces);
  };
}

inline PreTokenizer make_bert_splitter(const JsonNode&, int) {
  const PreTokenizer words = make_character_splitter(&is_white_space, SplitBehavior::removed);
  const PreTokenizer punctuation = make_character_splitter(&is_punctuation, SplitBehavior::isolated);
  return [=](TextPieces& pieces) {
    words(pieces);
    punctuation(pieces);
  };
}

inline PreTokenizer make_delimiter_splitter(const JsonNode& node, int) {
  return make_pattern_splitter(Regex(quoted_pattern(node.string("delimiter"))), SplitBehavior::removed);
}

inline constexpr Construct<PreTokenizer> kPreTokenizers[] = {
    {"Sequence", &make_pre_tokenizer_sequence},
    {"ByteLevel", &make_byte_level},
    {"Metaspace", &make_metaspace},
    {"BertPreTokenizer", &make_bert_splitter},
    {"CharDelimiterSplit", &make_delimiter_splitter},
    {"Split",
     [](const JsonNode& node, int) {
       return make_pattern_splitter(read_pattern(node.at("pattern")), read_split_behavior(node.at("behavior")),
                                    node.boolean("invert", false));
     }},
    {"Digits",
     [](const JsonNode& node, int) {
       const bool each = node.boolean("individual_digits", false);
       return make_character_splitter(&is_numeric, each ? SplitBehavior::isolated : SplitBehavior::contiguous);
     }},
    {"Punctuation",
     [](const JsonNode& node, int) {
       return make_character_splitter(
           &is_punctuation, node.has("behavior") ? read_split_behavior(node.at("behavior")) : SplitBehavior::isolated);
     }},
    {"Whitespace",
     [](const JsonNode&, int) {
       // Words as UTS #18 has them, which is not what \w means in the patterns of files.
       const std::string word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control})";
       return make_pattern_splitter(Regex("[" + word + "]+|[^\\s" + word + "]+"), SplitBehavior::removed, true);
     }},
    {"WhitespaceSplit",
     [](const JsonNode&, int) { return make_character_splitter(&is_white_space, SplitBehavior::removed); }},
};

/// The pre-tokenizer a tokenizer file describes. @throws TokenizerError for a kind that is not supported.
inline PreTokenizer make_pre_tokenizer(const JsonNode& node, int depth) {
  return build_construct(node, kPreTokenizers, depth);
}

}  // namespace reft::detail
