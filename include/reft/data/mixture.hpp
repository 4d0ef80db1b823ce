#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "reft/data/sampler_order.hpp"

namespace reft {

/// Sources laid end to end, and how often each is drawn from in relation to the others. Empty = all examples alike.
struct Mixture {
  std::vector<int64_t> sizes;
  std::vector<double> weights;

  bool operator==(const Mixture&) const = default;
};

/// How many of `count` draws each source gets: count · w_i / Σ w, rounded so that they add up.
/// @throws ConfigError unless there is a weight for every source, none of them negative and one positive.
inline std::vector<int64_t> mixture_shares(const Mixture& mixture, int64_t count) {
  const double sum = std::accumulate(mixture.weights.begin(), mixture.weights.end(), 0.0);
  const bool good = std::all_of(mixture.weights.begin(), mixture.weights.end(), [](double weight) { return weight >= 0.0; });
  if (mixture.weights.size() != mixture.sizes.size() || !good || !(sum > 0.0) || !std::isfinite(sum)) {
    fail<ConfigError>("Mixture", "expected {} weights of at least 0, not all of them 0, got [{}]", mixture.sizes.size(),
                      fmt::join(mixture.weights, ", "));
  }
  std::vector<int64_t> shares;
  double drawn = 0.0;
  int64_t given = 0;
  for (const double weight : mixture.weights) {
    drawn += static_cast<double>(count) * weight / sum;
    shares.push_back(std::llround(drawn) - given);
    given += shares.back();
  }
  return shares;
}

/// The order of one epoch: as many draws as there are examples, from each source its share. A source goes through all of
/// its examples before any comes again, over the epochs if its share is smaller than its size.
inline std::vector<int64_t> mixed_order(const Mixture& mixture, uint64_t seed, int64_t epoch, bool shuffle) {
  const int64_t count = std::accumulate(mixture.sizes.begin(), mixture.sizes.end(), int64_t{0});
  const auto shares = mixture_shares(mixture, count);
  std::vector<int64_t> order;
  int64_t first = 0;
  for (std::size_t source = 0; source < shares.size(); ++source) {
    const int64_t size = mixture.sizes[source];
    int64_t pass = -1;
    std::vector<int64_t> own;
    for (int64_t draw = epoch * shares[source]; draw < (epoch + 1) * shares[source]; ++draw) {
      if (draw / size != pass && shuffle) own = shuffled_order(size, seed + 0x9E3779B97F4A7C15U * (source + 1), draw / size);
      pass = draw / size;
      order.push_back(first + (shuffle ? own[static_cast<std::size_t>(draw % size)] : draw % size));
    }
    first += size;
  }
  if (!shuffle) return order;
  std::vector<int64_t> mixed;
  for (const int64_t index : shuffled_order(count, seed, epoch)) mixed.push_back(order[static_cast<std::size_t>(index)]);
  return mixed;
}

}  // namespace reft
