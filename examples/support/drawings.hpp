#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "reft/io/atomic_file.hpp"
#include "reft/report/svg_chart.hpp"

namespace reft::program {

/// Drawings of `to_svg` side by side as one SVG file, each in its own size.
inline std::string side_by_side(const std::vector<std::string>& drawings) {
  constexpr double kGap = 20;
  constexpr std::string_view kBegin = "<svg class=\"chart\" viewBox=\"0 0 ";
  double x = kGap, tallest = 0;
  std::string inner;
  for (std::string drawing : drawings) {
    char* end = nullptr;
    const double width = std::strtod(drawing.c_str() + kBegin.size(), &end), height = std::strtod(end, nullptr);
    drawing.insert(kBegin.find("class"), fmt::format("x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" style=\"width:{2}px;height:{3}px\" ", x, kGap, width, height));
    inner += drawing + "\n";
    x += width + kGap;
    tallest = std::max(tallest, height);
  }
  return svg_file(fmt::format("<svg width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\">\n{2}</svg>", x, tallest + 2 * kGap, inner));
}

/// Leaves `name`.json and `name`.svg in a folder, made where it is not there, and prints the JSON object on one line.
inline void write_results(const std::filesystem::path& folder, const std::string& name, const nlohmann::ordered_json& result, const std::string& svg) {
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / (name + ".json"), result.dump(1) + "\n");
  write_file_atomically(folder / (name + ".svg"), svg);
  fmt::print("{}\n", result.dump());
}

}  // namespace reft::program
