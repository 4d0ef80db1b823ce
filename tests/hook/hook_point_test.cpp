#include "reft/hook/hook_point.hpp"

#include <optional>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/error_text.hpp"

namespace {

using reft::Columns;
using reft::ForwardContext;
using reft::HookHandle;
using reft::HookPoint;
using reft::Layout;
using reft::Site;
using reft::test::error_text;
using torch::Tensor;

const Site kSite{.layer = 1};

ForwardContext context_of(int64_t rows = 3) { return ForwardContext(Layout::ragged({rows})); }

HookPoint::Hook times(double factor) {
  return [factor](Tensor h, const ForwardContext&) { return h * factor; };
}
HookPoint::Hook plus(double term) {
  return [term](Tensor h, const ForwardContext&) { return h + term; };
}

double run(const HookPoint& point, const ForwardContext& context = context_of()) { return point(torch::ones({3, 4}), context)[0][0].item<double>(); }

}  // namespace

TEST_CASE("a hook acts while its handle lives, in the order in which hooks were added") {
  HookPoint point(kSite);
  CHECK(point.site() == kSite);
  CHECK_FALSE(point.is_active(context_of()));
  {
    const HookHandle first = point.add(plus(1)), second = point.add(times(10));
    CHECK(point.is_active(context_of()));
    CHECK(run(point) == 20.0);  // not 11
  }
  CHECK_FALSE(point.is_active(context_of()));
  CHECK(run(point) == 1.0);

  HookHandle first = point.add(plus(1));
  const HookHandle second = point.add(times(10));
  first.remove();
  CHECK(run(point) == 10.0);
  first.remove();  // twice is once
  CHECK(run(point) == 10.0);
}

TEST_CASE("handles move; assigning over one drops the hook it had") {
  HookPoint point(kSite);
  HookHandle a = point.add(plus(1));
  HookHandle b = std::move(a);
  CHECK(run(point) == 2.0);
  a.remove();  // moved from: nothing to do
  CHECK(run(point) == 2.0);
  b = point.add(times(10));
  CHECK(run(point) == 10.0);
  b = HookHandle();
  CHECK_FALSE(point.is_active(context_of()));
  static_assert(!std::is_copy_constructible_v<HookHandle>);
}

TEST_CASE("a handle may outlive its model; a moved point keeps its hooks") {
  HookHandle handle;
  {
    HookPoint point(kSite);
    handle = point.add(plus(1));
    HookPoint moved = std::move(point);
    CHECK(run(moved) == 2.0);
  }
  handle.remove();
}

TEST_CASE("a hook may drop itself while it runs") {
  HookPoint point(kSite);
  HookHandle handle;
  int calls = 0;
  handle = point.add([&](Tensor h, const ForwardContext&) {
    handle.remove();
    ++calls;
    return h + 1;
  });
  const HookHandle other = point.add(times(10));
  CHECK(run(point) == 20.0);
  CHECK(run(point) == 10.0);
  CHECK(calls == 1);
}

TEST_CASE("at one site: interventions, then hooks, then capture") {
  HookPoint point(kSite);
  const HookHandle hook = point.add(times(10));
  ForwardContext context = context_of();
  context.add_action(kSite, [](Tensor h, Columns) { return h + 1; });
  context.add_action(kSite, [](Tensor h, Columns) { return h * 3; });
  context.add_action({.layer = 2}, [](Tensor h, Columns) { return h * 0; });
  context.capture(kSite);
  context.capture({.layer = 7});
  CHECK(run(point, context) == 60.0);
  const Tensor captured = context.activations().at(kSite);
  CHECK(torch::equal(captured, torch::full({3, 4}, 60.0)));
  CHECK_FALSE(captured.requires_grad());
  CHECK_FALSE(context.activations().at({.layer = 7}).defined());  // never reached
  CHECK(context.acts_at({.layer = 2}));
  CHECK_FALSE(context.acts_at({.layer = 3}));  // same component, another layer
  CHECK_FALSE(context.acts_at({1, reft::Component::mlp_output, {}}));
}

TEST_CASE("a capture is a copy of its own") {
  const HookPoint point(kSite);
  ForwardContext context = context_of();
  context.capture(kSite);
  Tensor h = point(torch::ones({3, 4}), context);
  h.mul_(5);
  CHECK(torch::equal(context.activations().at(kSite), torch::ones({3, 4})));
}

TEST_CASE("a site that is some columns of a wider parent sees and changes those alone") {
  HookPoint point(kSite);
  const Tensor parent = torch::arange(12, torch::kFloat32).view({3, 4});
  ForwardContext context = context_of();
  context.capture(kSite);
  std::optional<Tensor> seen;
  const HookHandle hook = point.add([&](Tensor h, const ForwardContext&) {
    seen = h.clone();
    return h * 100;
  });
  const Tensor result = point(parent, context, Columns{1, 2});
  CHECK(torch::equal(*seen, parent.narrow(1, 1, 2)));
  CHECK(torch::equal(result, parent * torch::tensor({1.0f, 100.0f, 100.0f, 1.0f})));
  CHECK(torch::equal(context.activations().at(kSite), 100 * parent.narrow(1, 1, 2)));
  CHECK(parent[0][1].item<float>() == 1.0f);  // out of place
}

TEST_CASE("a hook that returns another shape, or nothing, is named by its site") {
  HookPoint point(kSite);
  const std::string expected = "[reft::HookPoint] layers.1.block_output: expected the hook to return a tensor of 4 values per row and 3 rows, got ";
  {
    const HookHandle hook = point.add([](Tensor h, const ForwardContext&) { return h.narrow(1, 0, 2); });
    CHECK(error_text([&] { run(point); }) == expected + "[3, 2]");
  }
  const HookHandle hook = point.add([](Tensor, const ForwardContext&) { return Tensor(); });
  CHECK(error_text([&] { run(point); }) == expected + "none");
}

TEST_CASE("with nothing attached the tensor passes through untouched") {
  const HookPoint point(kSite);
  const Tensor h = torch::ones({3, 4});
  CHECK(point(h, context_of()).is_same(h));
  CHECK(point(h, context_of(), Columns{1, 2}).is_same(h));
}

TEST_CASE("a ragged layout lays sequences end to end") {
  const Layout layout = Layout::ragged({2, 3, 1});
  CHECK(layout.num_sequences() == 3);
  CHECK(layout.num_tokens() == 6);
  CHECK(layout.start(1) == 2);
  CHECK(layout.start(3) == 6);
  CHECK(layout.length(1) == 3);
  CHECK(layout.max_length() == 3);
  CHECK_FALSE(layout.is_padded());
  CHECK_FALSE(layout.is_rectangular());
  CHECK(Layout::ragged({2, 2}).is_rectangular());
  CHECK_FALSE(layout.has_past());
  CHECK(layout.past_length(1) == 0);
  CHECK(torch::equal(layout.cu_seqlens(), torch::tensor({0, 2, 5, 6}, torch::kInt32)));
  CHECK(torch::equal(layout.position_ids(), torch::tensor({0, 1, 0, 1, 2, 0}, torch::kInt64)));
  CHECK(layout.device() == torch::kCPU);

  const Layout later = Layout::ragged({1, 2}, torch::kCPU, {5, 0});
  CHECK(later.has_past());
  CHECK(later.past_length(0) == 5);
  CHECK(torch::equal(later.position_ids(), torch::tensor({5, 0, 1}, torch::kInt64)));
}

TEST_CASE("a padded layout is a (B, T) grid of which the first rows of each sequence are real") {
  const Layout layout = Layout::padded({2, 3}, 4);
  CHECK(layout.is_padded());
  CHECK(layout.is_rectangular());
  CHECK(layout.num_tokens() == 8);
  CHECK(layout.start(1) == 4);
  CHECK(layout.length(0) == 2);
  CHECK(torch::equal(layout.position_ids(), torch::tensor({0, 1, 2, 3, 0, 1, 2, 3}, torch::kInt64)));
  CHECK(Layout::padded(2, 3).lengths() == std::vector<int64_t>{3, 3});
  CHECK(Layout().num_tokens() == 0);
}

TEST_CASE("with padding on the left, a sequence ends where its row ends") {
  const Layout layout = Layout::padded({2, 4}, 4, torch::kCPU, reft::PaddingSide::left);
  CHECK(layout.start(0) == 0);
  CHECK(layout.first(0) == 2);
  CHECK(layout.first(1) == 4);
  CHECK(torch::equal(layout.position_ids(), torch::tensor({0, 0, 0, 1, 0, 1, 2, 3}, torch::kInt64)));
  CHECK(Layout::ragged({3, 2}).first(1) == 3);
}

TEST_CASE("layouts that cannot be are refused") {
  CHECK(error_text([] { Layout::ragged({}); }) == "[reft::Layout] expected at least one sequence, got none");
  CHECK(error_text([] { Layout::ragged({3, 0}); }) == "[reft::Layout] sequence 1: expected a length >= 1, got 0");
  CHECK(error_text([] { Layout::ragged({3, 2}, torch::kCPU, {1}); }) == "[reft::Layout] expected 2 past lengths, got 1");
  CHECK(error_text([] { Layout::ragged({3}, torch::kCPU, {-1}); }) == "[reft::Layout] sequence 0: expected a past of >= 0 tokens, got -1");
  CHECK(error_text([] { Layout::padded({3, 5}, 4); }) == "[reft::Layout] sequence 1: expected a length <= 4, got 5");
  CHECK(error_text([] { Layout::padded({1}, 0); }) == "[reft::Layout] expected a padded length >= 1, got 0");
  CHECK(error_text([] { Layout::padded(0, 4); }) == "[reft::Layout] expected at least one sequence, got none");
}
