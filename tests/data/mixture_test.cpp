#include "reft/data/mixture.hpp"

#include <map>

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::mixed_order;
using reft::Mixture;
using reft::mixture_shares;

TEST_CASE("shares follow the weights and add up") {
  CHECK(mixture_shares({{90, 10}, {1, 1}}, 100) == std::vector<int64_t>{50, 50});
  CHECK(mixture_shares({{5, 5, 5}, {2, 1, 0}}, 15) == std::vector<int64_t>{10, 5, 0});
  for (int64_t count : {1, 7, 100}) {
    const auto shares = mixture_shares({{1, 1, 1}, {1, 1, 1}}, count);
    CHECK(shares[0] + shares[1] + shares[2] == count);
  }
  CHECK(reft::test::error_text([] { mixture_shares({{1, 1}, {1}}, 2); }) ==
        "[reft::Mixture] expected 2 weights of at least 0, not all of them 0, got [1]");
  CHECK_THROWS_AS(mixture_shares({{1, 1}, {1, -1}}, 2), reft::ConfigError);
  CHECK_THROWS_AS(mixture_shares({{1, 1}, {0, 0}}, 2), reft::ConfigError);
}

TEST_CASE("a large source is gone through over the epochs, a small one is repeated evenly") {
  const Mixture mixture{{80, 20}, {1, 1}};
  std::map<int64_t, int> times;
  for (int64_t epoch = 0; epoch < 8; ++epoch) {
    const auto order = mixed_order(mixture, 3, epoch, true);
    REQUIRE(order.size() == 100);
    CHECK(std::count_if(order.begin(), order.end(), [](int64_t index) { return index < 80; }) == 50);
    for (const int64_t index : order) ++times[index];
  }
  // 400 draws of each source: 5 of each of 80 examples, 20 of each of 20.
  for (int64_t index = 0; index < 100; ++index) CHECK(times[index] == (index < 80 ? 5 : 20));
}

TEST_CASE("a mixed order depends on seed and epoch alone, and mixes the sources") {
  const Mixture mixture{{50, 50}, {2, 1}};
  CHECK(mixed_order(mixture, 1, 0, true) == mixed_order(mixture, 1, 0, true));
  CHECK(mixed_order(mixture, 1, 0, true) != mixed_order(mixture, 2, 0, true));
  CHECK(mixed_order(mixture, 1, 0, true) != mixed_order(mixture, 1, 1, true));
  const auto order = mixed_order(mixture, 1, 0, true);
  const auto early = std::count_if(order.begin(), order.begin() + 50, [](int64_t index) { return index < 50; });
  CHECK(early > 20);
  CHECK(early < 46);
}

TEST_CASE("without shuffling sources follow each other in the order of their files") {
  CHECK(mixed_order({{2, 4}, {1, 1}}, 9, 0, false) == std::vector<int64_t>{0, 1, 0, 2, 3, 4});
  CHECK(mixed_order({{2, 4}, {1, 1}}, 9, 1, false) == std::vector<int64_t>{1, 0, 1, 5, 2, 3});
}
