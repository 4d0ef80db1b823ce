#include "reft/tokenizer/jinja/text.hpp"

#include <limits>

#include "support/catch.hpp"

using namespace reft::detail::jinja;

TEST_CASE("floats are written with the fewest digits, as Python writes them") {
  REQUIRE(float_text(0.1) == "0.1");
  REQUIRE(float_text(-2.0) == "-2.0");
  REQUIRE(float_text(1e15) == "1000000000000000.0");
  REQUIRE(float_text(1e16) == "1e+16");
  REQUIRE(float_text(1.25e-7) == "1.25e-07");
  REQUIRE(float_text(0.0001) == "0.0001");
  REQUIRE(float_text(0.00001) == "1e-05");
  REQUIRE(float_text(123.456) == "123.456");
  REQUIRE(float_text(-0.0) == "-0.0");
  REQUIRE(float_text(std::numeric_limits<double>::max()) == "1.7976931348623157e+308");
  REQUIRE(float_text(-std::numeric_limits<double>::infinity()) == "-inf");
}

TEST_CASE("repr prefers single quotes and escapes what cannot be seen") {
  REQUIRE(repr_of("a") == "'a'");
  REQUIRE(repr_of("it's") == "\"it's\"");
  REQUIRE(repr_of("it's \"so\"") == "'it\\'s \"so\"'");
  REQUIRE(repr_of("\n\t\\\x01\u00a0\u200b\U000e0001é🙂") == "'\\n\\t\\\\\\x01\\xa0\\u200b\\U000e0001é🙂'");
}

TEST_CASE("texts are counted, stripped and cut by characters") {
  REQUIRE(character_count("é🙂a") == 3);
  REQUIRE(stripped(" \u3000a \x1f", true, true) == "a");
  REQUIRE(stripped("ééaé", true, false, "é") == "aé");
  REQUIRE(stripped("", true, true).empty());
  REQUIRE(lines_of("a\r\nb\u2028c\n\nd") == std::vector<std::string_view>{"a", "b", "c", "", "d"});
}

TEST_CASE("the title method and the title filter differ at apostrophes") {
  REQUIRE(titled("it's a dOG-house") == "It'S A Dog-House");
  REQUIRE(words_titled("it's a dOG-house (x") == "It's A Dog-House (X");
  REQUIRE(capitalized("éCOLE") == "École");
  REQUIRE(uppercased("straße") == "STRASSE");
}
