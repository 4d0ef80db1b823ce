#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reft/tokenizer/unicode.hpp"

/// Python's `str` on well-formed UTF-8: positions and lengths count characters.
namespace reft::detail::jinja {

/// str.isspace of one character.
inline bool is_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

inline std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

inline std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  for_each_character(text, [&](char32_t, std::string_view bytes) { result.push_back(bytes); });
  return result;
}

/// Without the characters at its ends that are in `set` (white space if there is none).
inline std::string_view stripped(std::string_view text, bool left, bool right,
                                 std::optional<std::string_view> set = std::nullopt) {
  const auto goes = [&](std::string_view character) {
    return set ? set->find(character) != std::string_view::npos : is_space(first_code_point(character));
  };
  while (left && !text.empty()) {
    const std::string_view first = text.substr(0, utf8_length(text[0]));
    if (!goes(first)) break;
    text.remove_prefix(first.size());
  }
  while (right && !text.empty()) {
    const std::size_t last = last_character_begin(text);
    if (!goes(text.substr(last))) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

/// str.upper, but for a few characters that Unicode turns into several (ß is done).
inline std::string uppercased(std::string_view text) {
  std::string result;
  for_each_character(text, [&](char32_t c, std::string_view) {
    if (c == 0xDF) result += "SS";
    else append_code_point(result, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  });
  return result;
}

/// First character in upper case, the others in lower case.
inline std::string capitalized(std::string_view text) {
  if (text.empty()) return {};
  const std::size_t first = utf8_length(text[0]);
  return uppercased(text.substr(0, first)) + lowercased(text.substr(first));
}

/// str.title: letters after anything but a letter are in upper case, all others in lower case.
inline std::string titled(std::string_view text) {
  std::string result;
  bool in_word = false;
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    result += in_word ? lowercased(bytes) : uppercased(bytes);
    const auto kind = category(c);
    in_word = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LT;
  });
  return result;
}

/// The filter's: words begin the text and follow white space or one of -({[<.
inline std::string words_titled(std::string_view text) {
  std::string result;
  bool in_word = false;
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    const bool between = is_space(c) || std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos;
    result += in_word ? lowercased(bytes) : uppercased(bytes);
    in_word = !between;
  });
  return result;
}

/// str.splitlines.
inline std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text[at]);
    const char32_t c = first_code_point(text.substr(at));
    const bool ends = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    const std::size_t next = text.substr(at, 2) == "\r\n" ? at + 2 : at + length;
    if (ends) lines.push_back(text.substr(begin, at - begin)), begin = next;
    at = ends ? next : at + length;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

/// repr of a float: the fewest digits that give it back.
inline std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, std::abs(value), std::chars_format::scientific).ptr;
  const std::string_view scientific(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t mark = scientific.find('e');
  std::string digits(scientific.substr(0, mark));
  if (digits.size() > 1) digits.erase(1, 1);
  const int exponent = std::atoi(std::string(scientific.substr(mark + 1)).c_str());
  const std::string sign = std::signbit(value) ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = digits.size() > 1 ? "." + digits.substr(1) : "";
    return fmt::format("{}{}{}e{}{:02}", sign, digits[0], fraction, exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

/// repr of a str.
inline std::string repr_of(std::string_view text) {
  const bool doubled = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  std::string result(1, quote);
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    const auto kind = category(c);
    const bool printable = c == ' ' || (kind != UTF8PROC_CATEGORY_CN && kind < UTF8PROC_CATEGORY_ZS);
    if (c == static_cast<unsigned char>(quote) || c == '\\') result.append("\\").append(bytes);
    else if (c == '\n') result += "\\n";
    else if (c == '\r') result += "\\r";
    else if (c == '\t') result += "\\t";
    else if (printable) result += bytes;
    else if (c < 0x100) result += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
    else if (c < 0x10000) result += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    else result += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
  });
  return result + quote;
}

}  // namespace reft::detail::jinja
