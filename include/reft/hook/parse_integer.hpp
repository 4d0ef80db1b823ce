#pragma once

#include <charconv>
#include <optional>
#include <string_view>

namespace reft::detail {

/// The whole text as one decimal integer, "-" allowed; nothing if it is anything else or out of range.
template <class Integer>
std::optional<Integer> parse_integer(std::string_view text) {
  Integer value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace reft::detail
