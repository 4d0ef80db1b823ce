#pragma once

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

#include "reft/tokenizer/unicode.hpp"

namespace reft::detail {

/// Note [Older Unicode]
/// Hugging Face's `tokenizers` 0.22 asks tables of Unicode 8 what is a mark without width, punctuation or a control
/// character (crate unicode_categories 0.1), and tables of Unicode 9 what is an accent and how to normalize (crate
/// unicode-normalization-alignments 0.1). Models were trained on what came of that, so characters that are newer have
/// none of these properties here. All else follows the current version.
/// The ranges are the differences between its answers for every code point and those of utf8proc 2.8 (Unicode 15),
/// joined where nothing between them has such a property.
struct CodePointRange {
  char32_t first;
  char32_t last;
};

inline constexpr CodePointRange kWithoutCategory[] = {
    {0x61D, 0x61D}, {0x7FD, 0x7FD}, {0x890, 0x8E2}, {0x9FD, 0x9FE}, {0xA76, 0xA76}, {0xAFA, 0xAFF}, {0xB55, 0xB55},
    {0xC04, 0xC3C}, {0xC77, 0xC77}, {0xC84, 0xC84}, {0xD00, 0xD00}, {0xD3B, 0xD3C}, {0xD81, 0xD81}, {0xEBA, 0xEBA},
    {0xECE, 0xECE}, {0x180F, 0x1886}, {0x1ABF, 0x1ACE}, {0x1B7D, 0x1B7E}, {0x1DF6, 0x1DFB}, {0x2E43, 0x2E5D},
    {0xA82C, 0xA82C}, {0xA8C5, 0xA8C5}, {0xA8FF, 0xA8FF}, {0xA9BD, 0xA9BD}, {0x10D24, 0x10F89}, {0x11070, 0x11074},
    {0x110C2, 0x110CD}, {0x111C9, 0x111C9}, {0x111CF, 0x111CF}, {0x1123E, 0x11241}, {0x1133B, 0x1133B},
    {0x11438, 0x1145E}, {0x11660, 0x1166C}, {0x116B9, 0x116B9}, {0x1182F, 0x11FFF}, {0x12FF1, 0x13455},
    {0x16E97, 0x16F4F}, {0x16FE2, 0x16FE4}, {0x1CF00, 0x1CF46}, {0x1E000, 0x1E4EF}, {0x1E944, 0x1E95F},
};

inline constexpr CodePointRange kWithoutForms[] = {
    {0x7FD, 0x7FD}, {0x898, 0x8D3}, {0x9FE, 0x9FE}, {0xAFA, 0xAFF}, {0xB55, 0xB55}, {0xC04, 0xC3C}, {0xCF3, 0xD00},
    {0xD3B, 0xD3C}, {0xD81, 0xD81}, {0xEBA, 0xEBA}, {0xECE, 0xECE}, {0x1715, 0x1715}, {0x180F, 0x180F},
    {0x1ABF, 0x1ACE}, {0x1CF7, 0x1CF7}, {0x1DF6, 0x1DFA}, {0x32FF, 0x32FF}, {0xA7F2, 0xA7F4}, {0xA82C, 0xA82C},
    {0xA8FF, 0xA8FF}, {0xAB69, 0xAB69}, {0x10781, 0x107BA}, {0x10D24, 0x10F85}, {0x11070, 0x11074},
    {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF}, {0x11241, 0x11241},
    {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x1182C, 0x11A99}, {0x11D31, 0x13455}, {0x16F4F, 0x16F4F},
    {0x16F7F, 0x16F87}, {0x16FE4, 0x16FF1}, {0x1CF00, 0x1CF46}, {0x1E030, 0x1E4EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9},
};

template <std::size_t kSize>
bool is_in(char32_t c, const CodePointRange (&ranges)[kSize]) {
  if (c < ranges[0].first) return false;
  const auto after = std::upper_bound(std::begin(ranges), std::end(ranges), c,
                                      [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return c <= std::prev(after)->last;
}

/// Marks without a width of their own: Mn.
inline bool is_nonspacing_mark(char32_t c) {
  if (c < 0x300) return false;
  return (category(c) == UTF8PROC_CATEGORY_MN && !is_in(c, kWithoutCategory)) || c == 0x1734;
}

/// Control, format and private characters: Cc, Cf, Co.
inline bool is_other(char32_t c) {
  if (c < 0x80) return c < ' ' || c == 0x7F;
  const auto kind = category(c);
  return (kind == UTF8PROC_CATEGORY_CC || kind == UTF8PROC_CATEGORY_CF || kind == UTF8PROC_CATEGORY_CO) &&
         !is_in(c, kWithoutCategory);
}

/// Punctuation: the P categories and every ASCII symbol.
inline bool is_punctuation(char32_t c) {
  if (c < 0x80) return (c > ' ' && c < '0') || (c > '9' && c < 'A') || (c > 'Z' && c < 'a') || (c > 'z' && c < 0x7F);
  const auto kind = category(c);
  return (kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO && !is_in(c, kWithoutCategory)) || c == 0x166D ||
         c == 0x111C9;
}

/// Combining marks of any kind: Mn, Mc, Me.
inline bool is_accent(char32_t c) {
  if (c < 0x300) return false;
  return (is_mark(c) && !is_in(c, kWithoutForms)) || c == 0x1CF2 || c == 0x1CF3;
}

/// A Unicode normalization form of a well-formed text; `form` is UTF8PROC_COMPOSE or UTF8PROC_DECOMPOSE, with
/// UTF8PROC_COMPAT for the compatibility forms. A newer character is left as it is, and nothing moves across it.
inline std::string unicode_normalized(const std::string& text, int form) {
  if (is_ascii(text)) return text;
  std::string result;
  std::size_t begin = 0, end = 0;
  const auto append_stretch = [&] {
    if (begin < end) result += utf8proc_normalized(std::string_view(text).substr(begin, end - begin), form);
  };
  for_each_character(text, [&](char32_t c, std::string_view bytes) {
    if (is_in(c, kWithoutForms)) {
      append_stretch();
      result += bytes;
      begin = end + bytes.size();
    }
    end += bytes.size();
  });
  append_stretch();
  return result;
}

}  // namespace reft::detail
