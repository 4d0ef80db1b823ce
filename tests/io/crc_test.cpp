#include "reft/io/crc.hpp"

#include <string>

#include "support/catch.hpp"
#include "support/string_sink.hpp"

using reft::detail::crc32;
using reft::detail::crc32c;
using reft::test::bytes_of;

TEST_CASE("CRC-32 of the reference text, at every split into groups of eight") {
  CHECK(crc32(bytes_of("123456789")) == 0xCBF43926);
  CHECK(crc32(bytes_of("")) == 0);
  CHECK(crc32(bytes_of("The quick brown fox jumps over the lazy dog")) == 0x414FA339);
}

TEST_CASE("CRC-32C of RFC 3720's vectors") {
  CHECK(crc32c(bytes_of("123456789")) == 0xE3069283);
  CHECK(crc32c(bytes_of("")) == 0);
  CHECK(crc32c(bytes_of(std::string(32, '\0'))) == 0x8A9136AA);
  CHECK(crc32c(bytes_of(std::string(32, '\xff'))) == 0x62A8AB43);
  std::string counting;
  for (char byte = 0; byte < 32; ++byte) counting += byte;
  CHECK(crc32c(bytes_of(counting)) == 0x46DD794E);
}
