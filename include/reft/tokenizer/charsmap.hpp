#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/unicode.hpp"

namespace reft::detail {

/// Note [Precompiled charsmap]
/// SentencePiece stores the replacements of a normalization as
///   u32 bytes of the trie | the trie, u32 units, little-endian | replacements, each ended by a zero byte.
/// The trie is a double array: the unit of a node holds an offset; the child by byte c is at (node ^ offset) ^ c if that
/// unit's label is c; bit 8 says that a key ends here, and then the unit at node ^ offset holds, in 31 bits, where its
/// replacement begins.
/// Ref: sentencepiece src/normalizer.cc; darts-clone.
class Charsmap {
 public:
  /// @param bytes  the map itself, not in base64.   @throws TokenizerError if it is cut off or no UTF-8.
  explicit Charsmap(std::string_view bytes) {
    if (bytes.size() < 4 || read_unit(bytes, 0) > bytes.size() - 4) {
      fail<TokenizerError>("load_tokenizer", "expected a charsmap with a trie of the length it names, got {} bytes", bytes.size());
    }
    const std::size_t units = read_unit(bytes, 0) / 4;
    units_.reserve(units);
    for (std::size_t i = 0; i < units; ++i) units_.push_back(read_unit(bytes, 4 + 4 * i));
    replacements_ = bytes.substr(4 + 4 * units);
    if (!is_valid_utf8(replacements_)) fail<TokenizerError>("load_tokenizer", "the charsmap's replacements are not UTF-8");
  }

  /// Replaces each grapheme of fewer than 6 bytes that begins with a key, else each character that does, by what the
  /// shortest such key says.   @param text  well-formed UTF-8.
  std::string operator()(std::string_view text) const {
    std::string result;
    result.reserve(text.size());
    for_each_grapheme(text, [&](std::string_view grapheme) {
      if (grapheme.size() < 6) {
        if (const auto replacement = find(grapheme)) return void(result += *replacement);
      }
      for_each_character(grapheme, [&](char32_t, std::string_view character) {
        result += find(character).value_or(character);
      });
    });
    return result;
  }

 private:
  static uint32_t read_unit(std::string_view bytes, std::size_t at) {
    uint32_t unit = 0;
    for (std::size_t i = 4; i-- > 0;) unit = unit << 8 | static_cast<unsigned char>(bytes[at + i]);
    return unit;
  }

  /// The replacement of the shortest key that `text` begins with.
  std::optional<std::string_view> find(std::string_view text) const {
    std::size_t node = 0;
    const auto enter = [&] {
      const uint32_t unit = units_[node];
      node ^= static_cast<std::size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6);
    };
    if (units_.empty()) return std::nullopt;
    enter();
    for (const char character : text) {
      const auto byte = static_cast<unsigned char>(character);
      node ^= byte;
      if (byte == 0 || node >= units_.size() || (units_[node] & (1u << 31 | 0xFF)) != byte) return std::nullopt;
      const bool ends_key = (units_[node] >> 8 & 1) != 0;
      enter();
      if (ends_key) return node < units_.size() ? replacement_at(units_[node] & ~(1u << 31)) : std::nullopt;
    }
    return std::nullopt;
  }

  std::optional<std::string_view> replacement_at(std::size_t begin) const {
    if (begin > replacements_.size()) return std::nullopt;
    const std::string_view rest = std::string_view(replacements_).substr(begin);
    const std::string_view replacement = rest.substr(0, rest.find('\0'));
    // A place within a character would make ill-formed text of well-formed.
    return is_valid_utf8(replacement) ? std::optional(replacement) : std::nullopt;
  }

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace reft::detail
