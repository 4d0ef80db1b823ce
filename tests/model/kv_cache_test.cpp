#include "reft/model/kv_cache.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

namespace {

using reft::Layout;

/// A cache of three sequences with 2, 3 and 1 random tokens, and what it then answers to one more token each.
struct Filled {
  explicit Filled(int64_t capacity = 6) : cache(reft::test::tiny_config(), 3, capacity, torch::kFloat32) {
    torch::manual_seed(2);
    feed(Layout::ragged({2, 3, 1}), torch::randn({6, 4, 8}), torch::randn({6, 2, 8}));
  }
  torch::Tensor feed(const Layout& layout, const torch::Tensor& q, const torch::Tensor& kv) {
    cache.check_room(layout);
    torch::Tensor mixed;
    for (int64_t layer = 0; layer < 2; ++layer) mixed = cache.attend(layer, q, kv, kv * 0.5, layout);
    cache.advance(layout);
    return mixed;
  }
  torch::Tensor next(const std::vector<int64_t>& rows) {
    torch::manual_seed(3);
    const torch::Tensor q = torch::randn({4, 8}), kv = torch::randn({2, 8});
    const auto count = static_cast<int64_t>(rows.size());
    return feed(Layout::ragged(std::vector<int64_t>(rows.size(), 1), torch::kCPU, cache.lengths()), q.expand({count, 4, 8}).contiguous(),
                kv.expand({count, 2, 8}).contiguous());
  }

  reft::KvCache cache;
};

}  // namespace

TEST_CASE("sequences that are selected from a cache keep their past, in any order and number") {
  const torch::Tensor expected = Filled().next({0, 1, 2});
  Filled some;
  some.cache.select({2, 1, 1, 0});
  CHECK(some.cache.lengths() == std::vector<int64_t>{1, 3, 3, 2});
  const torch::Tensor found = some.next({2, 1, 1, 0});
  const std::vector<int64_t> rows{2, 1, 1, 0};
  for (int64_t i = 0; i < 4; ++i) CHECK((found[i] - expected[rows[i]]).abs().max().item<double>() < 1e-6);
  CHECK((expected[0] - expected[1]).abs().max().item<double>() > 1e-3);
}

TEST_CASE("a sequence may begin with what another cache holds") {
  const torch::Tensor expected = Filled().next({0, 1, 2});
  Filled from, to;
  to.cache = reft::KvCache(reft::test::tiny_config(), 2, 4, torch::kFloat32);
  to.cache.begin_with(0, from.cache, 1);
  to.cache.begin_with(1, from.cache, 0);
  CHECK(to.cache.lengths() == std::vector<int64_t>{3, 2});
  const torch::Tensor found = to.next({1, 0});
  CHECK((found[0] - expected[1]).abs().max().item<double>() < 1e-6);
  CHECK((found[1] - expected[0]).abs().max().item<double>() < 1e-6);
  reft::KvCache small(reft::test::tiny_config(), 1, 2, torch::kFloat32);
  CHECK(reft::test::error_text([&] { small.begin_with(0, from.cache, 1); }) == "[reft::KvCache] sequence 0: 3 tokens do not fit in a capacity of 2");
}
