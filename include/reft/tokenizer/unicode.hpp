#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "reft/error.hpp"

namespace reft::detail {

/// U+FFFD, what an ill-formed byte sequence becomes.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

/// The byte sequence at the start of a text: one well-formed character, or the bytes one U+FFFD stands for.
struct Utf8Sequence {
  std::size_t length;
  bool well_formed;
};

/// Reads the first byte sequence of `text`, which is not empty. An ill-formed one is as long as the longest
/// prefix of a well-formed character, at least one byte: the rule of Python's `errors="replace"`.
/// Ref: The Unicode Standard 15.0, table 3-7 and "U+FFFD Substitution of Maximal Subparts".
inline Utf8Sequence next_utf8_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned char lowest = 0x80, highest = 0xBF;
  if (lead == 0xE0) lowest = 0xA0;   // overlong
  if (lead == 0xED) highest = 0x9F;  // surrogates
  if (lead == 0xF0) lowest = 0x90;   // overlong
  if (lead == 0xF4) highest = 0x8F;  // above U+10FFFF
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size() || byte(i) < lowest || byte(i) > highest) return {i, false};
    lowest = 0x80, highest = 0xBF;
  }
  return {length, true};
}

/// `bytes` with every ill-formed sequence replaced by U+FFFD.
inline std::string to_valid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const auto [length, well_formed] = next_utf8_sequence(bytes);
    text += well_formed ? bytes.substr(0, length) : kReplacementCharacter;
    bytes.remove_prefix(length);
  }
  return text;
}

inline bool is_valid_utf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto [length, well_formed] = next_utf8_sequence(bytes);
    if (!well_formed) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

/// Bytes of the character that starts with `lead`, in a well-formed text.
inline std::size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The first character of a well-formed, non-empty text.
inline char32_t first_code_point(std::string_view text) {
  utf8proc_int32_t code_point = 0;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(utf8_length(text[0])), &code_point);
  return static_cast<char32_t>(code_point);
}

/// Start of the last character of a well-formed, non-empty text.
inline std::size_t last_character_begin(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

inline void append_code_point(std::string& text, char32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(length));
}

/// Calls `visit(code_point, bytes)` for each character of a well-formed text.
template <class Visit>
void for_each_character(std::string_view text, Visit&& visit) {
  while (!text.empty()) {
    const std::string_view bytes = text.substr(0, utf8_length(text[0]));
    visit(first_code_point(bytes), bytes);
    text.remove_prefix(bytes.size());
  }
}

/// Calls `visit(bytes)` for each extended grapheme cluster of a well-formed text.
template <class Visit>
void for_each_grapheme(std::string_view text, Visit&& visit) {
  std::size_t begin = 0, end = 0;
  utf8proc_int32_t previous = 0, state = 0;
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    const auto current = static_cast<utf8proc_int32_t>(c);
    // Two ASCII characters are apart, but for a carriage return and its line feed.
    const bool breaks = (previous < 0x80 && current < 0x80) ? !(previous == '\r' && current == '\n')
                                                            : utf8proc_grapheme_break_stateful(previous, current, &state);
    if (end > 0 && breaks) visit(text.substr(begin, end - begin)), begin = end, state = 0;
    previous = current;
    end += bytes.size();
  });
  if (end > begin) visit(text.substr(begin, end - begin));
}

inline utf8proc_category_t category(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

/// The Unicode property White_Space.
inline bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  const auto kind = category(c);
  return c == 0x85 || kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL || kind == UTF8PROC_CATEGORY_ZP;
}

/// Any kind of number: Nd, Nl, No.
inline bool is_numeric(char32_t c) {
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

/// Combining marks: Mn, Mc, Me.
inline bool is_mark(char32_t c) {
  const auto kind = category(c);
  return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC || kind == UTF8PROC_CATEGORY_ME;
}

/// What \w matches by UTS #18: alphabetic, marks, decimal digits, connectors and joiners.
inline bool is_word_character(char32_t c) {
  const auto kind = category(c);
  const bool letter = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
  const bool circled_letter = (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
                              (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  return letter || is_mark(c) || kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL ||
         kind == UTF8PROC_CATEGORY_PC || c == 0x200C || c == 0x200D || circled_letter;
}

inline bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0x80; });
}

/// A Unicode normalization form of a well-formed text; `form` is UTF8PROC_COMPOSE or UTF8PROC_DECOMPOSE,
/// with UTF8PROC_COMPAT for the compatibility forms.
inline std::string utf8proc_normalized(std::string_view text, int form) {
  utf8proc_uint8_t* result = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | form));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (length < 0) fail<TokenizerError>("encode", "Unicode normalization: {}", utf8proc_errmsg(length));
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(length)};
}

/// Every character in lower case, without regard to its neighbours (a final sigma stays medial).
inline std::string lowercased(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](char32_t c, std::string_view) {
    // U+0130 is the one character whose lower case is two characters.
    if (c == 0x130) result += "i\xCC\x87";
    else append_code_point(result, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  });
  return result;
}

}  // namespace reft::detail
