#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "reft/report/svg_chart.hpp"

namespace reft {

/// A table of numbers, each cell as dark as its number is large.
struct HeatMap {
  std::string title, x_label, y_label;
  std::vector<std::string> columns, rows;
  std::vector<std::vector<double>> values;  ///< one list a row; NaN = not measured, drawn empty
  double low = 0.0, high = 1.0;             ///< the numbers of the palest and of the fullest colour
  int decimals = 2;
};

/// A heat map as an inline SVG element.   @throws ConfigError unless there is one value a cell and low < high.
inline std::string to_svg(const HeatMap& map) {
  constexpr double kCell = 46, kCellHeight = 28, kTop = 34, kBottom = 40;
  if (!(map.low < map.high)) fail<ConfigError>("HeatMap", "expected low < high, got {} and {}", map.low, map.high);
  if (map.values.size() != map.rows.size())
    fail<ConfigError>("HeatMap", "expected {} rows of values, got {}", map.rows.size(), map.values.size());
  std::size_t longest = 0;
  for (const std::string& row : map.rows) longest = std::max(longest, row.size());
  const double left = 30.0 + 6.5 * static_cast<double>(longest);
  const double plane = kCell * static_cast<double>(map.columns.size()), tall = kCellHeight * static_cast<double>(map.rows.size());
  const double width = std::max(left + plane + 8.0, 8.0 * static_cast<double>(map.title.size())), height = kTop + tall + kBottom;
  std::string svg = fmt::format(
      "<svg class=\"chart\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\"><text class=\"title\" x=\"0\" y=\"18\">{}</text>",
      width, height, html_escape(map.title), html_escape(map.title));
  for (std::size_t i = 0; i < map.rows.size(); ++i) {
    if (map.values[i].size() != map.columns.size()) {
      fail<ConfigError>("HeatMap", "expected {} values in row {}, got {}", map.columns.size(), i, map.values[i].size());
    }
    const double y = kTop + kCellHeight * static_cast<double>(i);
    svg += fmt::format("<text class=\"end\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", left - 6.0, y + kCellHeight / 2.0 + 4.0,
                       html_escape(map.rows[i]));
    for (std::size_t j = 0; j < map.columns.size(); ++j) {
      const double value = map.values[i][j], x = left + kCell * static_cast<double>(j);
      if (!std::isfinite(value)) continue;
      const double share = std::clamp((value - map.low) / (map.high - map.low), 0.0, 1.0);
      svg += fmt::format(
          "<rect class=\"cell\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"3\" fill-opacity=\"{:.2f}\">"
          "<title>{} {}, {} {}: {}</title></rect><text class=\"cell-text{}\" x=\"{:.1f}\" y=\"{:.1f}\">{:.{}f}</text>",
          x + 1.0, y + 1.0, kCell - 2.0, kCellHeight - 2.0, 0.06 + 0.94 * share, html_escape(map.y_label), html_escape(map.rows[i]),
          html_escape(map.x_label), html_escape(map.columns[j]), value, share > 0.55 ? " strong" : "", x + kCell / 2.0,
          y + kCellHeight / 2.0 + 4.0, value, map.decimals);
    }
  }
  for (std::size_t j = 0; j < map.columns.size(); ++j) {
    svg += fmt::format("<text class=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", left + kCell * (static_cast<double>(j) + 0.5),
                       kTop + tall + 15.0, html_escape(map.columns[j]));
  }
  svg += fmt::format("<text class=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", left + plane / 2.0, kTop + tall + 33.0,
                     html_escape(map.x_label));
  svg += fmt::format("<text class=\"middle\" transform=\"translate(12 {:.1f}) rotate(-90)\">{}</text>", kTop + tall / 2.0,
                     html_escape(map.y_label));
  return svg + "</svg>";
}

}  // namespace reft
