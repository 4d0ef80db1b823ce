#include "reft/report/heat_map.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::HeatMap;
using reft::test::contains;
using reft::test::error_text;

TEST_CASE("a heat map has a cell with its number for every value, fuller for larger ones") {
  const std::string svg = to_svg(HeatMap{.title = "Recovery",
                                         .x_label = "length",
                                         .y_label = "layer",
                                         .columns = {"16", "64"},
                                         .rows = {"0", "<1>"},
                                         .values = {{0.0, 1.0}, {0.5, std::nan("")}}});
  CHECK(contains(svg, "fill-opacity=\"0.06\"><title>layer 0, length 16: 0</title>"));
  CHECK(contains(svg, "fill-opacity=\"1.00\"><title>layer 0, length 64: 1</title>"));
  CHECK(contains(svg, "fill-opacity=\"0.53\"><title>layer &lt;1&gt;, length 16: 0.5</title>"));
  CHECK(contains(svg, ">0.50</text>"));
  CHECK(!contains(svg, "nan"));
  CHECK(contains(svg, ">&lt;1&gt;</text>"));
}

TEST_CASE("values beyond the ends take the colour of the end") {
  const std::string svg =
      to_svg(HeatMap{.columns = {"a", "b"}, .rows = {"r"}, .values = {{-5.0, 900.0}}, .low = 0.0, .high = 100.0, .decimals = 0});
  CHECK(contains(svg, "fill-opacity=\"0.06\""));
  CHECK(contains(svg, "fill-opacity=\"1.00\""));
  CHECK(contains(svg, ">900</text>"));
}

TEST_CASE("a heat map whose values do not fill its table is refused") {
  HeatMap map{.columns = {"a", "b"}, .rows = {"r"}, .values = {{1.0}}};
  CHECK(error_text([&] { to_svg(map); }) == "[reft::HeatMap] expected 2 values in row 0, got 1");
  map.values.clear();
  CHECK(error_text([&] { to_svg(map); }) == "[reft::HeatMap] expected 1 rows of values, got 0");
  map.high = map.low;
  CHECK(error_text([&] { to_svg(map); }) == "[reft::HeatMap] expected low < high, got 0 and 0");
}
