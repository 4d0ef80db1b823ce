#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace reft::test {

/// Where writers of file formats write when a test wants the bytes.
struct StringSink {
  std::string content;

  void write(std::string_view text) { content += text; }
  void write(std::span<const std::byte> bytes) { content.append(reinterpret_cast<const char*>(bytes.data()), bytes.size()); }
};

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace reft::test
