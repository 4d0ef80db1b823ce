#pragma once

#include <string>
#include <string_view>

#include "reft/tokenizer/older_unicode.hpp"
#include "reft/tokenizer/unicode.hpp"

namespace reft::detail {

struct BertNormalizerOptions {
  bool clean_text = true;            // control characters go, every white space becomes a space
  bool handle_chinese_chars = true;  // spaces around each ideograph
  bool strip_accents = true;
  bool lowercase = true;
};

/// An ideograph of the CJK blocks, as BERT counts them: no kana, no Hangul.
/// Ref: google-research/bert tokenization.py, `_is_chinese_char`; extension E begins at U+2B920 in `tokenizers`.
inline bool is_cjk_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

inline std::string without_control_characters(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    const bool is_space = is_white_space(c);
    if (c == '\t' || c == '\n' || c == '\r') result += ' ';
    else if (c == 0 || c == 0xFFFD || is_other(c)) return;
    else if (is_space) result += ' ';
    else result += bytes;
  });
  return result;
}

inline std::string with_spaced_ideographs(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    if (is_cjk_ideograph(c)) result.append(" ").append(bytes).append(" ");
    else result += bytes;
  });
  return result;
}

inline std::string without_accents(const std::string& text) {
  const std::string decomposed = unicode_normalized(text, UTF8PROC_DECOMPOSE);
  std::string result;
  result.reserve(decomposed.size());
  for_each_character(decomposed, [&](char32_t c, std::string_view bytes) {
    if (!is_nonspacing_mark(c)) result += bytes;
  });
  return result;
}

/// What BERT does to a text before it is cut into words.   @param text  well-formed UTF-8.
inline std::string bert_normalized(std::string text, const BertNormalizerOptions& options) {
  if (options.clean_text) text = without_control_characters(text);
  if (options.handle_chinese_chars) text = with_spaced_ideographs(text);
  if (options.strip_accents) text = without_accents(text);
  if (options.lowercase) text = lowercased(text);
  return text;
}

}  // namespace reft::detail
