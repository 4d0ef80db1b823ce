#include "reft/tokenizer/base64.hpp"

#include "support/catch.hpp"

using reft::detail::from_base64;

TEST_CASE("base64 with every length of the last group") {
  REQUIRE(from_base64("") == "");
  REQUIRE(from_base64("YQ==") == "a");
  REQUIRE(from_base64("YWI=") == "ab");
  REQUIRE(from_base64("YWJj") == "abc");
  REQUIRE(from_base64("AP+/+g==") == std::string("\x00\xFF\xBF\xFA", 4));
}

TEST_CASE("what is no base64 is nothing") {
  for (const char* text : {"YQ", "YQ=", "Y===", "Y Q=", "=YQ=", "YQ==YQ==", "Y-Q="}) REQUIRE_FALSE(from_base64(text));
}
