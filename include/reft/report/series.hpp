#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

namespace reft {

struct ChartPoint {
  double x = 0.0, y = 0.0;

  bool operator==(const ChartPoint&) const = default;
};

/// A curve of bounded size, however long the run: with every `kMostPoints` points, neighbours become their mean.
class ThinnedSeries {
 public:
  static constexpr std::size_t kMostPoints = 2048;

  void add(double x, double y) {
    sum_ = {sum_.x + x, sum_.y + y};
    if (++count_ < stride_) return;
    const auto size = static_cast<double>(stride_);
    points_.push_back({sum_.x / size, sum_.y / size});
    sum_ = {};
    count_ = 0;
    if (points_.size() < kMostPoints) return;
    for (std::size_t i = 0; i < kMostPoints / 2; ++i) {
      const ChartPoint a = points_[2 * i], b = points_[2 * i + 1];
      points_[i] = {(a.x + b.x) / 2.0, (a.y + b.y) / 2.0};
    }
    points_.resize(kMostPoints / 2);
    stride_ *= 2;
  }

  /// In the order of `add`; the last few values may be missing while they wait for their mean.
  const std::vector<ChartPoint>& points() const { return points_; }

  friend void to_json(nlohmann::json& json, const ThinnedSeries& series) {
    json = {
        {"stride", series.stride_}, {"count", series.count_}, {"sum", {series.sum_.x, series.sum_.y}}, {"points", nlohmann::json::array()}};
    for (const ChartPoint& point : series.points_) json["points"].push_back({point.x, point.y});
  }

  friend void from_json(const nlohmann::json& json, ThinnedSeries& series) {
    const auto point = [](const nlohmann::json& pair) {
      const auto number = [](const nlohmann::json& value) {
        return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
      };
      return ChartPoint{number(pair.at(0)), number(pair.at(1))};  // JSON has no NaN
    };
    series = {};
    series.stride_ = json.at("stride");
    series.count_ = json.at("count");
    series.sum_ = point(json.at("sum"));
    for (const auto& pair : json.at("points")) series.points_.push_back(point(pair));
  }

 private:
  std::vector<ChartPoint> points_;
  int64_t stride_ = 1, count_ = 0;  // values in one point; those waiting
  ChartPoint sum_;
};

/// The exponential running mean that TensorBoard draws, unbiased at its start.
///   s_i = w s_{i-1} + (1 − w) y_i,   drawn is s_i / (1 − w^(i+1))
inline std::vector<ChartPoint> smoothed(const std::vector<ChartPoint>& points, double weight) {
  std::vector<ChartPoint> result;
  double mean = 0.0, bias = 1.0;
  for (const ChartPoint& point : points) {
    if (!std::isfinite(point.y)) continue;
    mean = weight * mean + (1.0 - weight) * point.y;
    bias *= weight;
    result.push_back({point.x, mean / (1.0 - bias)});
  }
  return result;
}

}  // namespace reft
