#pragma once

#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// 0 … count-1 in an order that depends on seed and epoch only, the same with every standard library:
/// Fisher-Yates with std::mt19937_64 and rejection (std::shuffle and the distributions are not specified).
inline std::vector<int64_t> shuffled_order(int64_t count, uint64_t seed, int64_t epoch = 0) {
  const auto epoch_bits = static_cast<uint64_t>(epoch);
  std::seed_seq mixed{seed & 0xffffffff, seed >> 32, epoch_bits & 0xffffffff, epoch_bits >> 32};
  std::mt19937_64 engine(mixed);
  const auto below = [&](uint64_t bound) {
    constexpr uint64_t kLargest = std::numeric_limits<uint64_t>::max();
    // Draws at or above the largest multiple of `bound` would favour small remainders.
    const uint64_t limit = kLargest - kLargest % bound;
    uint64_t draw = engine();
    while (draw >= limit) draw = engine();
    return draw % bound;
  };
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t i = count - 1; i > 0; --i) std::swap(order[i], order[below(i + 1)]);
  return order;
}

}  // namespace reft
