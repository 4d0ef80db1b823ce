#include "reft/report/series.hpp"

#include <cmath>

#include "support/catch.hpp"

using reft::ChartPoint;
using reft::ThinnedSeries;

TEST_CASE("a short series is kept as it is") {
  ThinnedSeries series;
  for (int i = 0; i < 100; ++i) series.add(i, i * i);
  REQUIRE(series.points().size() == 100);
  CHECK(series.points()[7] == ChartPoint{7.0, 49.0});
}

TEST_CASE("a long series keeps its course in a bounded number of means") {
  ThinnedSeries series;
  for (int i = 0; i < 100'000; ++i) series.add(i, 2.0 * i + 1.0);
  CHECK(series.points().size() >= ThinnedSeries::kMostPoints / 2);
  CHECK(series.points().size() < ThinnedSeries::kMostPoints);
  for (const ChartPoint& point : series.points()) CHECK(point.y == Approx(2.0 * point.x + 1.0));
  CHECK(series.points().front().x == Approx(31.5));  // the mean of 0 to 63
  CHECK(series.points().back().x > 99'900.0);
}

TEST_CASE("a series comes back from its JSON and goes on") {
  ThinnedSeries whole, part;
  for (int i = 0; i < 5000; ++i) {
    whole.add(i, std::sin(i));
    part.add(i, std::sin(i));
    if (i == 2501) part = nlohmann::json::parse(nlohmann::json(part).dump()).get<ThinnedSeries>();
  }
  CHECK(whole.points() == part.points());
  ThinnedSeries broken;
  broken.add(1, std::nan(""));
  CHECK(std::isnan(nlohmann::json::parse(nlohmann::json(broken).dump()).get<ThinnedSeries>().points().front().y));
}

TEST_CASE("the running mean is unbiased at its start and skips what is not finite") {
  const auto means = reft::smoothed({{0, 4.0}, {1, std::nan("")}, {2, 2.0}, {3, 2.0}}, 0.5);
  REQUIRE(means.size() == 3);
  CHECK(means[0] == ChartPoint{0.0, 4.0});
  CHECK(means[1].y == Approx((0.25 * 4.0 + 0.5 * 2.0) / 0.75));
  CHECK(means[2].x == 3.0);
  CHECK(reft::smoothed({{0, 1.0}, {1, 3.0}}, 0.0)[1].y == 3.0);
}
