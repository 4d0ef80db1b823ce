#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace reft::detail {

static_assert(std::endian::native == std::endian::little, "groups of eight bytes are taken in the order of memory");

/// kCrcTables<p>[k][b]: what byte b contributes when k more bytes follow it in a group of eight; p is the polynomial, reflected.
template <uint32_t Polynomial>
inline constexpr auto kCrcTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? Polynomial : 0U);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}();

template <uint32_t Polynomial>
uint32_t reflected_crc(std::span<const std::byte> bytes) {
  constexpr const auto& tables = kCrcTables<Polynomial>;
  uint32_t crc = 0xFFFFFFFFU;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    std::array<uint8_t, 8> group;
    std::memcpy(group.data(), bytes.data(), 8);
    for (std::size_t i = 0; i < 4; ++i) group[i] ^= static_cast<uint8_t>(crc >> (8 * i));
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= tables[7 - i][group[i]];
  }
  for (const std::byte byte : bytes) crc = (crc >> 8) ^ tables[0][(crc ^ static_cast<uint32_t>(byte)) & 0xFF];
  return ~crc;
}

/// CRC-32 as in zip, gzip and PNG.
inline uint32_t crc32(std::span<const std::byte> bytes) { return reflected_crc<0xEDB88320U>(bytes); }

/// CRC-32C, of Castagnoli, as in iSCSI (RFC 3720, B.4) and TFRecord.
inline uint32_t crc32c(std::span<const std::byte> bytes) { return reflected_crc<0x82F63B78U>(bytes); }

}  // namespace reft::detail
