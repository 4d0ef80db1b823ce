#include "reft/hook/parse_integer.hpp"

#include "support/catch.hpp"

using reft::detail::parse_integer;

TEST_CASE("only a whole decimal integer in range parses") {
  REQUIRE(parse_integer<int>("7") == 7);
  REQUIRE(parse_integer<int>("-12") == -12);
  REQUIRE(parse_integer<int>("2147483647") == 2147483647);
  for (auto text : {"", "-", "+1", " 1", "1 ", "1x", "0x1", "1.0", "2147483648"}) {
    CAPTURE(text);
    REQUIRE_FALSE(parse_integer<int>(text).has_value());
  }
}
