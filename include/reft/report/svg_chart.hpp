#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/report/html.hpp"
#include "reft/report/series.hpp"

namespace reft {

// Note [Charts]
// Charts are inline SVG without scripts. Their colours are CSS variables, so that one drawing serves light and dark;
// `kChartStyle` sets them for a page, and `svg_file` puts it into a drawing that stands alone. Sizes are those of a view
// box that scales with its column. Numbers under the pointer are <title> elements, which browsers show by themselves.

/// The colours and text of charts, light and dark.
inline constexpr std::string_view kChartStyle =
    ":root{--text:#1c2128;--muted:#5b6572;--grid:#e4e7eb;--card:#ffffff;--series-0:#2563eb;--series-1:#c2570c;--series-2:#0f8a5f}"
    "@media(prefers-color-scheme:dark){:root{--text:#e7eaee;--muted:#9aa5b1;--grid:#2d343c;--card:#1a1f25;--series-0:#74a7ff;"
    "--series-1:#f2a65a;--series-2:#5fcf9f}}"
    "svg.chart{display:block;width:100%;height:auto;font:11px system-ui,sans-serif;fill:var(--muted)}"
    "svg.chart .title{font-size:13px;font-weight:600;fill:var(--text)}"
    "svg.chart .grid{stroke:var(--grid);fill:none}"
    "svg.chart .line{fill:none;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}"
    "svg.chart .faint{stroke-width:1;opacity:.35}"
    "svg.chart .hover{fill:transparent}svg.chart .hover:hover{fill:var(--muted);fill-opacity:.12}"
    "svg.chart .cell{fill:var(--series-0)}svg.chart .cell-text{font-size:12px;text-anchor:middle;fill:var(--text)}"
    "svg.chart .cell-text.strong{fill:var(--card)}svg.chart .end{text-anchor:end}svg.chart .middle{text-anchor:middle}";

/// How a series is drawn: as a line, as a thin pale one behind it, or as a line with its points marked.
enum class SeriesStyle { line, faint, dots };

struct ChartSeries {
  std::string name;  ///< in the legend; empty = not there
  std::vector<ChartPoint> points;
  SeriesStyle style = SeriesStyle::line;
  int color = 0;  ///< 0 to 2
};

struct LineChart {
  std::string title, x_label = "step";
  std::vector<ChartSeries> series;
  bool from_zero = false;  ///< the vertical axis begins at 0
};

namespace detail {

/// Round numbers (1, 2 or 5 times a power of ten apart), about `count` of them, from below `low` to above `high`.
inline std::vector<double> round_ticks(double low, double high, int count, double smallest_step = 0.0) {
  if (!(high > low)) {
    const double margin = std::max(std::abs(low) * 0.1, 1e-12);
    low -= margin;
    high += margin;
  }
  const double rough = std::max((high - low) / count, smallest_step), power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10.0 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1.0 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9);
  for (double i = first;; ++i) {
    ticks.push_back(i == 0.0 ? 0.0 : i * step);
    if (i * step >= high - 1e-9 * step) return ticks;
  }
}

/// The plane inside the axes: values to coordinates of the view box.
struct ChartPlane {
  static constexpr double kWidth = 480, kHeight = 250, kLeft = 46, kRight = 12, kTop = 44, kBottom = 36;
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;

  double x(double value) const { return kLeft + (value - x_low) / (x_high - x_low) * (kWidth - kLeft - kRight); }
  double y(double value) const { return kHeight - kBottom - (value - y_low) / (y_high - y_low) * (kHeight - kTop - kBottom); }
};

inline bool is_finite(const ChartPoint& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

inline std::string drawn_series(const ChartSeries& series, const ChartPlane& plane) {
  std::string path, dots;
  bool pen_down = false;  // a value that is not finite is a gap
  for (const ChartPoint& point : series.points) {
    if (is_finite(point)) {
      path += fmt::format("{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', plane.x(point.x), plane.y(point.y));
      if (series.style == SeriesStyle::dots) {
        dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"var(--series-{})\"><title>{} {}: {:.5g}</title></circle>",
                            plane.x(point.x), plane.y(point.y), series.color, html_escape(series.name), short_number(point.x), point.y);
      }
    }
    pen_down = is_finite(point);
  }
  return fmt::format("<path class=\"line{}\" stroke=\"var(--series-{})\" d=\"{}\"/>{}", series.style == SeriesStyle::faint ? " faint" : "",
                     series.color, path, dots);
}

/// Columns over the plane that name their values; about a hundred, whatever the number of points.
inline std::string hover_columns(const LineChart& chart, const ChartPlane& plane) {
  const auto longest = std::max_element(chart.series.begin(), chart.series.end(),
                                        [](const auto& a, const auto& b) { return a.points.size() < b.points.size(); });
  std::string columns;
  const std::size_t count = longest->points.size(), stride = count / 100 + 1;
  const double width = (ChartPlane::kWidth - ChartPlane::kLeft - ChartPlane::kRight) / static_cast<double>((count + stride - 1) / stride);
  for (std::size_t i = 0; i < count; i += stride) {
    const double x = longest->points[i].x;
    std::string text = fmt::format("{} {:.0f}", chart.x_label, x);
    for (const ChartSeries& series : chart.series) {
      if (series.points.size() != count) continue;
      text += fmt::format("\n{}{}{:.5g}", series.name, series.name.empty() ? "" : ": ", series.points[i].y);
    }
    columns += fmt::format("<rect class=\"hover\" x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\"><title>{}</title></rect>",
                           plane.x(x) - width / 2.0, ChartPlane::kTop, width, ChartPlane::kHeight - ChartPlane::kTop - ChartPlane::kBottom,
                           html_escape(text));
  }
  return columns;
}

inline std::string drawn_legend(const LineChart& chart) {
  std::string legend;
  double right = ChartPlane::kWidth - ChartPlane::kRight;
  for (auto series = chart.series.rbegin(); series != chart.series.rend(); ++series) {
    if (series->name.empty()) continue;
    legend += fmt::format("<text class=\"end\" x=\"{:.1f}\" y=\"18\">{}</text>", right, html_escape(series->name));
    right -= 6.6 * static_cast<double>(series->name.size()) + 6.0;
    legend += fmt::format("<path class=\"line{}\" style=\"stroke-width:3\" stroke=\"var(--series-{})\" d=\"M{:.1f} 14h14\"/>",
                          series->style == SeriesStyle::faint ? " faint" : "", series->color, right - 14.0);
    right -= 30.0;
  }
  return legend;
}

}  // namespace detail

/// A line chart as an inline SVG element. Points whose values are not finite are gaps; without any point it says so.
inline std::string to_svg(const LineChart& chart) {
  using detail::ChartPlane;
  std::string svg = fmt::format(
      "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">"
      "<text class=\"title\" x=\"0\" y=\"18\">{}</text>",
      ChartPlane::kWidth, ChartPlane::kHeight, html_escape(chart.title), html_escape(chart.title));
  std::vector<ChartPoint> all;
  for (const ChartSeries& series : chart.series)
    std::copy_if(series.points.begin(), series.points.end(), std::back_inserter(all), detail::is_finite);
  if (all.empty()) {
    return svg + fmt::format("<text class=\"middle\" x=\"{}\" y=\"{}\">nothing was measured</text></svg>", ChartPlane::kWidth / 2,
                             ChartPlane::kHeight / 2);
  }
  const auto by_x = [](const auto& a, const auto& b) { return a.x < b.x; };
  const auto by_y = [](const auto& a, const auto& b) { return a.y < b.y; };
  const auto [left, right] = std::minmax_element(all.begin(), all.end(), by_x);
  const auto [lowest, highest] = std::minmax_element(all.begin(), all.end(), by_y);
  const auto rows = detail::round_ticks(chart.from_zero ? std::min(0.0, lowest->y) : lowest->y, highest->y, 4);
  ChartPlane plane{left->x, right->x > left->x ? right->x : left->x + 1.0, rows.front(), rows.back()};
  for (const double row : rows) {
    svg += fmt::format("<path class=\"grid\" d=\"M{} {:.1f}H{}\"/><text class=\"end\" x=\"{}\" y=\"{:.1f}\">{}</text>", ChartPlane::kLeft,
                       plane.y(row), ChartPlane::kWidth - ChartPlane::kRight, ChartPlane::kLeft - 6, plane.y(row) + 4.0, short_number(row));
  }
  for (const double tick : detail::round_ticks(plane.x_low, plane.x_high, 6, 1.0)) {
    if (tick < plane.x_low || tick > plane.x_high) continue;
    svg += fmt::format("<text class=\"middle\" x=\"{:.1f}\" y=\"{}\">{}</text>", plane.x(tick),
                       ChartPlane::kHeight - ChartPlane::kBottom + 16, short_number(tick));
  }
  svg += fmt::format("<text class=\"end\" x=\"{}\" y=\"{}\">{}</text>", ChartPlane::kWidth - ChartPlane::kRight, ChartPlane::kHeight - 5,
                     html_escape(chart.x_label));
  for (const ChartSeries& series : chart.series) svg += detail::drawn_series(series, plane);
  return svg + detail::drawn_legend(chart) + detail::hover_columns(chart, plane) + "</svg>";
}

/// A drawing as a file of its own.
inline std::string svg_file(std::string svg) {
  constexpr std::string_view kBegin = "<svg ";
  svg.insert(kBegin.size(), "xmlns=\"http://www.w3.org/2000/svg\" ");
  svg.insert(svg.find('>') + 1, fmt::format("<style>{}svg{{background:var(--card)}}</style>", kChartStyle));
  return svg + "\n";
}

}  // namespace reft
