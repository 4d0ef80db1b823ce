#include "reft/report/svg_chart.hpp"

#include <limits>

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::LineChart;
using reft::SeriesStyle;
using reft::test::contains;

TEST_CASE("ticks are round and reach around the values") {
  using reft::detail::round_ticks;
  CHECK(round_ticks(0.0, 9.0, 4) == std::vector<double>{0.0, 5.0, 10.0});
  CHECK(round_ticks(1.3, 2.9, 4).front() == 1.0);
  CHECK(round_ticks(1.3, 2.9, 4).back() == Approx(3.0));
  CHECK(round_ticks(-3.0, 3.0, 3) == std::vector<double>{-4.0, -2.0, 0.0, 2.0, 4.0});
  CHECK(round_ticks(1.0, 4.0, 6, 1.0) == std::vector<double>{1.0, 2.0, 3.0, 4.0});  // no half steps
  for (const double value : {0.0, 5.0, -1e-9, 1e12}) {
    const auto ticks = round_ticks(value, value, 4);
    CAPTURE(value);
    CHECK(ticks.front() < value);
    CHECK(ticks.back() > value);
    CHECK(ticks.size() < 12);
  }
}

TEST_CASE("a line runs from the first value to the last, in the coordinates of the axes") {
  const std::string svg = to_svg(LineChart{.title = "Loss", .series = {{"train", {{1, 0.0}, {3, 10.0}}}}});
  // The plane is from (46, 214) to (468, 44).
  CHECK(contains(svg, "d=\"M46.0 214.0L468.0 44.0\""));
  CHECK(contains(svg, ">Loss</text>"));
  CHECK(contains(svg, ">train</text>"));
  CHECK(contains(svg, "step 3\ntrain: 10</title>"));
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>"));
}

TEST_CASE("values that are not finite are gaps, and a chart without values says so") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const std::string svg = to_svg(LineChart{.title = "t", .series = {{"", {{0, 0.0}, {1, nan}, {2, infinity}, {3, 5.0}, {4, 10.0}}}}});
  CHECK(contains(svg, "d=\"M46.0 214.0M362.5 129.0L468.0 44.0\""));
  CHECK(!contains(svg, "inf\""));
  CHECK(!contains(svg, "d=\"Mnan"));
  CHECK(contains(to_svg(LineChart{.title = "t", .series = {{"", {}}}}), "nothing was measured"));
  CHECK(contains(to_svg(LineChart{.title = "t", .series = {{"", {{2, 7.0}}, SeriesStyle::dots, 1}}}), "<circle "));
}

TEST_CASE("names of a chart are escaped, and long series have few hover columns") {
  LineChart chart{.title = "<b>", .x_label = "a&b", .series = {{"<i>", {}, SeriesStyle::dots}}};
  for (int i = 0; i < 1500; ++i) chart.series[0].points.push_back({double(i), double(i % 7)});
  const std::string svg = to_svg(chart);
  CHECK(!contains(svg, "<b>"));
  CHECK(!contains(svg, "<i>"));
  CHECK(contains(svg, "a&amp;b"));
  int columns = 0;
  for (auto at = svg.find("class=\"hover\""); at != std::string::npos; at = svg.find("class=\"hover\"", at + 1)) ++columns;
  CHECK(columns > 50);
  CHECK(columns <= 101);
}

TEST_CASE("a drawing as a file names its namespace and brings its colours") {
  const std::string file = reft::svg_file(to_svg(LineChart{.title = "t", .series = {{"", {{1, 1.0}}}}}));
  CHECK(file.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\""));
  CHECK(contains(file, "prefers-color-scheme:dark"));
}
