#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "reft/tokenizer/unicode.hpp"

namespace reft::detail {

/// Note [Byte-level text]
/// Byte-level vocabularies write each byte as one visible character: printable Latin-1 bytes stand for
/// themselves, the others take U+0100, U+0101, … in order (a space is Ġ, U+0120).
struct ByteLevelAlphabet {
  std::array<std::string, 256> characters;
  std::array<int, 0x180> bytes;  // code point -> byte, -1 for a character that stands for none

  ByteLevelAlphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
      append_code_point(characters[static_cast<std::size_t>(byte)], character);
      bytes[character] = byte;
    }
  }
};

inline const ByteLevelAlphabet& byte_level_alphabet() {
  static const ByteLevelAlphabet alphabet;
  return alphabet;
}

inline std::string to_byte_level(std::string_view text) {
  const auto& characters = byte_level_alphabet().characters;
  std::string result;
  result.reserve(text.size() * 2);
  for (const char byte : text) result += characters[static_cast<unsigned char>(byte)];
  return result;
}

/// The bytes `text` stands for, or nothing if one of its characters stands for none.
inline std::optional<std::string> from_byte_level(std::string_view text) {
  const auto& bytes = byte_level_alphabet().bytes;
  std::string result;
  bool valid = true;
  for_each_character(text, [&](char32_t c, std::string_view) {
    if (c < bytes.size() && bytes[c] >= 0) result += static_cast<char>(bytes[c]);
    else valid = false;
  });
  return valid ? std::optional(result) : std::nullopt;
}

}  // namespace reft::detail
