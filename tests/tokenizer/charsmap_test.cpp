// Texts by the `Precompiled` normalizer of Hugging Face's `tokenizers` 0.22.2 with the same bytes.
#include "reft/tokenizer/charsmap.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::detail::Charsmap;

namespace {

/// A -> a and ﬁ (EF AC 81) -> fi, see Note [Precompiled charsmap].
std::string small_charsmap() {
  std::vector<uint32_t> units(512);
  constexpr uint32_t ends_key = 1 << 8;
  units[0] = 1 << 10;
  units[0x40] = 0x41 | ends_key | 0x100 << 10;
  units[0xEE] = 0xEF | 0x100 << 10;
  units[0x142] = 0xAC | 0x11 << 10;
  units[0x1D2] = 0x81 | ends_key | 1 << 10;
  units[0x1D3] = 2;
  std::string bytes;
  const auto append = [&](uint32_t unit) {
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(unit >> shift & 0xFF);
  };
  append(2048);
  for (const uint32_t unit : units) append(unit);
  return bytes + std::string("a\0fi\0", 5);
}

}  // namespace

TEST_CASE("a charsmap replaces graphemes, or the characters of long ones") {
  const Charsmap map(small_charsmap());
  REQUIRE(map("AB") == "aB");
  REQUIRE(map("ﬁnA") == "fina");
  REQUIRE(map("A\u0301x") == "ax");  // the key is only the beginning of the grapheme
  REQUIRE(map("A\u0301\u0301\u0301") == "a\u0301\u0301\u0301");
  REQUIRE(map("\r\nA") == "\r\na");
  REQUIRE(map("").empty());
}

TEST_CASE("a charsmap that is cut off or changed does no harm") {
  const std::string whole = small_charsmap();
  for (std::size_t length = 0; length < 2052; length += 7) {
    REQUIRE_THROWS_AS(Charsmap(std::string_view(whole).substr(0, length)), reft::TokenizerError);
  }
  REQUIRE(reft::test::error_text([] { Charsmap("\x01"); }) ==
          "[reft::load_tokenizer] expected a charsmap with a trie of the length it names, got 1 bytes");
  REQUIRE_THROWS_AS(Charsmap(whole + "\xFF"), reft::TokenizerError);
  REQUIRE(Charsmap(std::string(4, '\0'))("A") == "A");
  for (std::size_t place = 4; place < 2052; ++place) {
    std::string changed = whole;
    changed[place] = static_cast<char>(changed[place] ^ 0xFF);
    REQUIRE(reft::detail::is_valid_utf8(Charsmap(changed)("Aﬁ")));
  }
}
