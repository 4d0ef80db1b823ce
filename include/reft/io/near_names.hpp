#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reft::detail {

/// Least number of inserted, removed and replaced characters that turn one text into the other.
inline std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < to.size(); ++j) {
      const std::size_t replaced = diagonal + (from[i] != to[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

/// "; did you mean a, b or c?": up to three keys of `map` that differ from `name` in at most a third of its length.
template <class Map>
std::string did_you_mean(std::string_view name, const Map& map) {
  constexpr std::size_t kMostSuggestions = 3, kLongestName = 200;
  std::vector<std::pair<std::size_t, std::string_view>> near;
  for (const auto& [key, value] : map) {
    if (std::max(key.size(), name.size()) > kLongestName) continue;
    if (const auto distance = edit_distance(name, key); distance <= name.size() / 3) near.emplace_back(distance, key);
  }
  std::sort(near.begin(), near.end());
  if (near.size() > kMostSuggestions) near.resize(kMostSuggestions);
  std::string text;
  for (std::size_t i = 0; i < near.size(); ++i) {
    text += i == 0 ? "" : i + 1 == near.size() ? " or " : ", ";
    text += near[i].second;
  }
  return text.empty() ? "" : fmt::format("; did you mean {}?", text);
}

}  // namespace reft::detail
