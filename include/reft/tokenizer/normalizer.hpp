#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/base64.hpp"
#include "reft/tokenizer/bert_normalizer.hpp"
#include "reft/tokenizer/byte_level.hpp"
#include "reft/tokenizer/charsmap.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/older_unicode.hpp"
#include "reft/tokenizer/regex.hpp"
#include "reft/tokenizer/unicode.hpp"

namespace reft::detail {

/// What happens to a stretch of text between added tokens before it is cut into words. UTF-8 in and out.
using Normalizer = std::function<std::string(std::string)>;

/// A `pattern` of a tokenizer file: a literal {"String": …} or a {"Regex": …}, compiled.
inline Regex read_pattern(const JsonNode& node) {
  if (node.has("Regex")) return Regex(node.string("Regex"));
  return Regex(quoted_pattern(node.string("String")));
}

/// `text` with every match of `pattern` replaced by `content`, literally.
inline std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content) {
  std::string result;
  result.reserve(text.size());
  std::size_t copied = 0;
  pattern.for_each_match(text, [&](std::size_t begin, std::size_t end) {
    result.append(text.substr(copied, begin - copied)).append(content);
    copied = end;
  });
  return result.append(text.substr(copied));
}

/// `text` without white space at the chosen ends.
inline std::string_view stripped(std::string_view text, bool left, bool right) {
  while (left && !text.empty() && is_white_space(first_code_point(text))) text.remove_prefix(utf8_length(text[0]));
  while (right && !text.empty()) {
    const std::size_t last = last_character_begin(text);
    if (!is_white_space(first_code_point(text.substr(last)))) break;
    text = text.substr(0, last);
  }
  return text;
}

inline std::string without_marks(std::string_view text) {
  std::string result;
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    if (!is_accent(c)) result += bytes;
  });
  return result;
}

/// The white space and control characters of neural machine translation: the former become a space, the latter go.
/// Ref: `tokenizers` normalizers/unicode.rs, after sentencepiece's nmt rule.
inline std::string nmt_normalized(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    const bool becomes_space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                               c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    const bool goes = (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    if (!goes) result += becomes_space ? " " : bytes;
  });
  return result;
}

Normalizer make_normalizer(const JsonNode& node, int depth = 0);

inline Normalizer make_normalizer_sequence(const JsonNode& node, int depth) {
  std::vector<Normalizer> steps;
  for (const JsonNode& step : node.at("normalizers").elements()) steps.push_back(make_normalizer(step, depth + 1));
  return [steps = std::move(steps)](std::string text) {
    for (const Normalizer& step : steps) text = step(std::move(text));
    return text;
  };
}

template <int kForm>
Normalizer make_unicode_form(const JsonNode&, int) {
  return [](std::string text) { return unicode_normalized(text, kForm); };
}

inline Normalizer make_bert_normalizer(const JsonNode& node, int) {
  BertNormalizerOptions options;
  options.clean_text = node.boolean("clean_text", true);
  options.handle_chinese_chars = node.boolean("handle_chinese_chars", true);
  options.lowercase = node.boolean("lowercase", true);
  options.strip_accents = node.boolean("strip_accents", options.lowercase);  // null: where letter case goes too
  return [options](std::string text) { return bert_normalized(std::move(text), options); };
}

inline Normalizer make_precompiled(const JsonNode& node, int) {
  const auto bytes = from_base64(node.string("precompiled_charsmap"));
  if (!bytes) node.at("precompiled_charsmap").reject("expected base64");
  return [map = Charsmap(*bytes)](std::string text) { return map(text); };
}

inline constexpr Construct<Normalizer> kNormalizers[] = {
    {"Sequence", &make_normalizer_sequence},
    {"Prepend",
     [](const JsonNode& node, int) -> Normalizer {
       return [prefix = node.string("prepend")](std::string text) { return text.empty() ? text : prefix + text; };
     }},
    {"Replace",
     [](const JsonNode& node, int) -> Normalizer {
       return [pattern = read_pattern(node.at("pattern")), content = node.string("content")](std::string text) {
         return replace_all(text, pattern, content);
       };
     }},
    {"Lowercase", [](const JsonNode&, int) -> Normalizer { return [](std::string text) { return lowercased(text); }; }},
    {"Strip",
     [](const JsonNode& node, int) -> Normalizer {
       return [left = node.boolean("strip_left", true), right = node.boolean("strip_right", true)](std::string text) {
         return std::string(stripped(text, left, right));
       };
     }},
    {"StripAccents",
     [](const JsonNode&, int) -> Normalizer { return [](std::string text) { return without_marks(text); }; }},
    {"ByteLevel",
     [](const JsonNode&, int) -> Normalizer { return [](std::string text) { return to_byte_level(text); }; }},
    {"BertNormalizer", &make_bert_normalizer},
    {"Nmt", [](const JsonNode&, int) -> Normalizer { return [](std::string text) { return nmt_normalized(text); }; }},
    {"Precompiled", &make_precompiled},
    {"NFC", &make_unicode_form<UTF8PROC_COMPOSE>},
    {"NFD", &make_unicode_form<UTF8PROC_DECOMPOSE>},
    {"NFKC", &make_unicode_form<UTF8PROC_COMPOSE | UTF8PROC_COMPAT>},
    {"NFKD", &make_unicode_form<UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT>},
};

/// The normalizer a tokenizer file describes. @throws TokenizerError for a kind that is not supported.
inline Normalizer make_normalizer(const JsonNode& node, int depth) { return build_construct(node, kNormalizers, depth); }

}  // namespace reft::detail
