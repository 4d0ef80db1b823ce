#include "reft/tokenizer/byte_level.hpp"

#include "support/catch.hpp"

using namespace reft::detail;

TEST_CASE("bytes are written as visible characters and read back") {
  REQUIRE(to_byte_level("a b\n") == "aĠbĊ");
  REQUIRE(to_byte_level("é") == "Ã©");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  REQUIRE(from_byte_level(to_byte_level(all)) == all);
  REQUIRE(from_byte_level("a b") == std::nullopt);  // a space stands for no byte
}
