#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "reft/error.hpp"

namespace reft {

/// Text as it may stand in HTML, SVG and their quoted attributes. Control characters that HTML does not allow are left out.
inline std::string html_escape(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      case '\t':
      case '\n':
      case '\r':
        escaped += c;
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) escaped += c;
    }
  }
  return escaped;
}

/// "1,591,632".
inline std::string grouped_number(int64_t value) {
  std::string digits = fmt::format("{}", value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (auto at = digits.size(); at > first + 3;) digits.insert(at -= 3, ",");
  return digits;
}

/// Three significant digits and a letter: 12345 is "12.3k", 0.0009 is "0.0009", 9e-05 is "9e-05".
inline std::string short_number(double value) {
  if (!std::isfinite(value)) return "–";
  const double size = std::abs(value);
  for (const auto& [scale, letter] : {std::pair(1e12, "T"), {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}) {
    if (size >= 0.9995 * scale) return fmt::format("{:.3g}{}", value / scale, letter);
  }
  return fmt::format("{:.3g}", value);
}

/// "512 B", "1.5 GB", in powers of 1000.
inline std::string bytes_text(int64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  const std::string number = short_number(static_cast<double>(bytes));
  return fmt::format("{} {}B", std::string_view(number).substr(0, number.size() - 1), number.back());
}

}  // namespace reft
