#include "reft/data/sampler.hpp"

#include <cmath>
#include <iterator>
#include <map>
#include <numeric>
#include <set>

#include "support/catch.hpp"

using reft::ConfigError;
using reft::Sampler;
using reft::SamplerState;
using reft::shuffled_order;
using Order = std::vector<int64_t>;

TEST_CASE("the order is the same everywhere") {
  REQUIRE(shuffled_order(10, 42) == Order{0, 6, 5, 1, 3, 9, 7, 8, 4, 2});
  REQUIRE(shuffled_order(10, 42, 1) == Order{3, 8, 9, 4, 7, 2, 1, 0, 5, 6});
  REQUIRE(shuffled_order(10, 43) != shuffled_order(10, 42));
  REQUIRE(shuffled_order(10, uint64_t{1} << 32 | 42) != shuffled_order(10, 42));
  REQUIRE(shuffled_order(0, 1).empty());
  REQUIRE(shuffled_order(1, 1) == Order{0});
}

TEST_CASE("every order of four is about equally likely") {
  std::map<Order, int> counts;
  for (uint64_t seed = 0; seed < 24'000; ++seed) ++counts[shuffled_order(4, seed)];
  REQUIRE(counts.size() == 24);
  for (const auto& [order, count] : counts) REQUIRE(std::abs(count - 1000) < 150);
}

TEST_CASE("an epoch hands out every example once, in whole batches and a last partial one") {
  Sampler sampler(10, 4, 7);
  REQUIRE(sampler.batches_per_epoch() == 3);
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    REQUIRE(sampler.state() == SamplerState{7, epoch, 0});
    std::multiset<int64_t> seen;
    for (const std::size_t size : {4, 4, 2}) {
      const auto batch = sampler.next();
      REQUIRE(batch.size() == size);
      seen.insert(batch.begin(), batch.end());
    }
    const auto all = shuffled_order(10, 0);
    REQUIRE(seen == std::multiset<int64_t>(all.begin(), all.end()));
  }
  REQUIRE(Sampler(8, 4, 7).batches_per_epoch() == 2);
}

TEST_CASE("without shuffling the order is the file's, epoch after epoch") {
  Sampler sampler(3, 2, 7, /*shuffle=*/false);
  for (int epoch = 0; epoch < 2; ++epoch) {
    REQUIRE(sampler.next() == Order{0, 1});
    REQUIRE(sampler.next() == Order{2});
  }
}

TEST_CASE("epochs differ, seeds repeat") {
  Sampler a(50, 50, 7), b(50, 50, 7);
  const auto first = a.next();
  REQUIRE(first == b.next());
  const auto second = a.next();
  REQUIRE(second != first);
  REQUIRE(second == b.next());
}

TEST_CASE("a restored sampler goes on where the other stood") {
  Sampler sampler(10, 3, 99);
  for (int step = 0; step < 12; ++step) {
    const nlohmann::json saved = sampler.state();
    Sampler resumed(10, 3, 1);
    resumed.restore(nlohmann::json::parse(saved.dump()).get<SamplerState>());
    Sampler original = sampler;
    for (int ahead = 0; ahead < 9; ++ahead) REQUIRE(resumed.next() == original.next());
    sampler.next();
  }
  const SamplerState state{~uint64_t{0}, 3, 4};
  REQUIRE(nlohmann::json(state).get<SamplerState>() == state);
}

TEST_CASE("impossible samplers are refused") {
  REQUIRE_THROWS_WITH(Sampler(0, 4, 1),
                      "[reft::Sampler] expected at least one example and a batch size of at least 1, got 0 and 4");
  REQUIRE_THROWS_AS(Sampler(3, 0, 1), ConfigError);
  Sampler sampler(3, 1, 1);
  REQUIRE_THROWS_WITH(sampler.restore({1, 0, 3}), "[reft::Sampler] epoch 0, position 3 is not within 3 examples");
  REQUIRE_THROWS_AS(sampler.restore({1, -1, 0}), ConfigError);
  REQUIRE_THROWS_AS(sampler.restore({1, 0, -1}), ConfigError);
}

TEST_CASE("a split keeps every example on one side, in order") {
  Order examples(20);
  std::iota(examples.begin(), examples.end(), 0);
  const auto [train, eval] = reft::split_train_eval(examples, 0.25, 5);
  REQUIRE(eval.size() == 5);
  REQUIRE(std::is_sorted(train.begin(), train.end()));
  REQUIRE(std::is_sorted(eval.begin(), eval.end()));
  Order merged;
  std::merge(train.begin(), train.end(), eval.begin(), eval.end(), std::back_inserter(merged));
  REQUIRE(merged == examples);
  REQUIRE(reft::split_train_eval(examples, 0.25, 5).second == eval);
  REQUIRE(reft::split_train_eval(examples, 0.25, 6).second != eval);
  REQUIRE(reft::split_train_eval(examples, 0.001, 5).second.size() == 1);
  REQUIRE(reft::split_train_eval(examples, 0.999, 5).first.size() == 1);
  for (const double fraction : {0.0, 1.0, -0.5, 2.0, std::nan("")}) {
    REQUIRE_THROWS_AS(reft::split_train_eval(examples, fraction, 5), ConfigError);
  }
  REQUIRE_THROWS_WITH(reft::split_train_eval(Order{1}, 0.5, 5),
                      "[reft::split_train_eval] expected a fraction between 0 and 1 of at least 2 examples, got 0.5 "
                      "of 1");
}

TEST_CASE("a mixing sampler hands out each source's share, and goes on where it stood") {
  const reft::Mixture mixture{{6, 2}, {1, 1}};
  reft::Sampler whole(8, 3, 5, true, mixture), first(8, 3, 5, true, mixture), second(8, 3, 5, true, mixture);
  std::vector<int64_t> expected, found;
  for (int i = 0; i < 12; ++i) {
    for (const int64_t index : whole.next()) expected.push_back(index);
  }
  for (int i = 0; i < 4; ++i) {
    for (const int64_t index : first.next()) found.push_back(index);
  }
  second.restore(first.state());
  for (int i = 0; i < 8; ++i) {
    for (const int64_t index : second.next()) found.push_back(index);
  }
  CHECK(found == expected);
  CHECK(std::count_if(expected.begin(), expected.end(), [](int64_t index) { return index >= 6; }) == 16);
  CHECK_THROWS_AS(reft::Sampler(9, 3, 5, true, mixture), reft::ConfigError);
}
