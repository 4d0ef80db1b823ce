#include "reft/tensor/edit_rows.hpp"

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"

namespace {

using reft::Columns;
using reft::RowEdit;
using reft::test::relative_distance;
using torch::Tensor;

constexpr int64_t kRows = 7, kColumns = 12;

/// The same as `reft::edit_rows`, out of place and with plain autograd: slow and obvious.
Tensor slow_edit_rows(const Tensor& h, const Tensor& rows, Columns columns, const RowEdit& edit) {
  const Tensor own = h.narrow(1, columns.first, columns.width);
  const Tensor y = edit.apply(own.index_select(0, rows).to(edit.dtype)).to(h.scalar_type());
  return h.slice_scatter(own.index_copy(0, rows, y), 1, columns.first, columns.first + columns.width);
}

enum class Form { low_rank, constant, identity, without_parameters };

/// Leaves and the edit that reads them, the same for the same arguments.
RowEdit make_edit(Form form, int64_t width, torch::Dtype dtype) {
  torch::manual_seed(5);
  const auto leaf = [&](std::vector<int64_t> shape) { return torch::randn(shape, dtype).requires_grad_(true); };
  const Tensor R = leaf({3, width}), W = leaf({3, width}), b = leaf({3}), c = leaf({width});
  switch (form) {
    case Form::low_rank:
      return {[=](const Tensor& x) { return x + (x.matmul(W.t()) + b - x.matmul(R.t())).matmul(R); }, {R, W, b}, dtype};
    case Form::constant:
      return {[=](const Tensor& x) { return c.expand_as(x); }, {c}, dtype};
    case Form::identity:
      return {[](const Tensor& x) { return x; }, {}, dtype};
    default:
      return {[](const Tensor& x) { return x * x; }, {}, dtype};
  }
}

/// A way in which h reaches the edit. `make` turns a leaf into h, perhaps leaving `kept` behind, a second sight of it.
struct Origin {
  std::string name;
  Tensor (*make)(const Tensor& leaf, Tensor& kept);
  bool in_place;
};

const std::vector<Origin> kOrigins{
    {"unshared", [](const Tensor& leaf, Tensor&) { return leaf * 2; }, true},
    {"shared handle", [](const Tensor& leaf, Tensor& kept) { return kept = leaf * 2; }, false},
    {"shared storage", [](const Tensor& leaf, Tensor& kept) { Tensor h = leaf * 2; kept = h.detach(); return h; }, false},
    {"leaf", [](const Tensor& leaf, Tensor& kept) { return kept = leaf; }, false},
    {"view of a whole", [](const Tensor& leaf, Tensor&) { return (leaf * 2).view({kRows, kColumns}); }, false},
    {"view of a part",
     [](const Tensor& leaf, Tensor& kept) { kept = torch::cat({leaf, leaf}) * 2; return kept.narrow(0, 2, kRows); }, false},
    {"other strides", [](const Tensor& leaf, Tensor&) { return leaf.t().contiguous().t() * 2; }, false},
};

/// Value, and the gradients of h's leaf and of all parameters.
std::vector<Tensor> value_and_gradients(const Tensor& value, const Tensor& leaf, const RowEdit& edit) {
  torch::manual_seed(11);
  (value * torch::randn(value.sizes()).to(value.scalar_type())).sum().backward();
  std::vector<Tensor> all{value, leaf.grad().clone()};
  leaf.mutable_grad().reset();
  for (const Tensor& parameter : edit.parameters) {
    all.push_back(parameter.grad().clone());
    parameter.mutable_grad().reset();
  }
  return all;
}

Tensor random_leaf(torch::Dtype dtype) {
  torch::manual_seed(3);
  return torch::randn({kRows, kColumns}).to(dtype).requires_grad_(true);
}

const Tensor kSomeRows = torch::tensor({5, 0, 3}, torch::kInt64);

}  // namespace

TEST_CASE("edit_rows equals a slow out-of-place edit, for every kind of h, dtype, width and form") {
  const auto& origin = kOrigins[GENERATE(range(0, 7))];
  const auto columns = GENERATE(Columns{0, kColumns}, Columns{4, 5}, Columns{kColumns - 1, 1});
  const auto dtype = GENERATE(torch::kFloat32, torch::kBFloat16, torch::kFloat64);
  const auto parameter_dtype = GENERATE(torch::kFloat32, torch::kFloat64);
  const auto form = GENERATE(Form::low_rank, Form::constant, Form::identity, Form::without_parameters);
  INFO(origin.name << ", columns " << columns.first << "+" << columns.width << ", " << c10::toString(dtype) << ", form "
                   << static_cast<int>(form));

  const Tensor leaf = random_leaf(dtype);
  const RowEdit edit = make_edit(form, columns.width, parameter_dtype);
  Tensor kept, unused;
  Tensor h = origin.make(leaf, kept);
  const Tensor kept_before = kept.defined() ? kept.detach().clone() : kept;
  const void* memory = h.data_ptr();
  const Tensor edited = reft::edit_rows(std::move(h), kSomeRows, columns, edit);

  CHECK((edited.data_ptr() == memory) == origin.in_place);
  CHECK(edited.scalar_type() == dtype);
  if (kept.defined()) CHECK(torch::equal(kept, kept_before));

  const auto ours = value_and_gradients(edited, leaf, edit);
  const auto expected = value_and_gradients(slow_edit_rows(origin.make(leaf, unused), kSomeRows, columns, edit), leaf, edit);
  for (size_t i = 0; i < ours.size(); ++i) {
    INFO("tensor " << i);
    // The same operators on the same rows; only the order of sums over rows may differ.
    CHECK(relative_distance(ours[i], expected[i]) < reft::test::tolerance(dtype) * 0.1);
  }
}

TEST_CASE("edit_rows: gradients agree with central differences in float64") {
  const RowEdit edit = make_edit(Form::low_rank, 5, torch::kFloat64);
  const Columns columns{3, 5};
  const Tensor leaf = random_leaf(torch::kFloat64);
  const Tensor coefficients = torch::randn({kRows, kColumns}, torch::kFloat64);
  // The square makes the loss depend on the edited rows beyond first order.
  const auto loss = [&] { return (reft::edit_rows(leaf * 1, kSomeRows, columns, edit).square() * coefficients).sum(); };
  loss().backward();

  std::vector<Tensor> inputs = edit.parameters;
  inputs.push_back(leaf);
  constexpr double kStep = 1e-5;  // truncation 1e-10, rounding 1e-11 of values near 1
  torch::NoGradGuard no_grad;
  for (const Tensor& input : inputs) {
    Tensor flat = input.detach().view(-1);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      const double value = flat[i].item<double>();
      flat[i] = value + kStep;
      const double above = loss().item<double>();
      flat[i] = value - kStep;
      const double below = loss().item<double>();
      flat[i] = value;
      CHECK(input.grad().view(-1)[i].item<double>() == Approx((above - below) / (2 * kStep)).epsilon(1e-6).margin(1e-7));
    }
  }
}

TEST_CASE("edit_rows: a gradient that an addition hands to two branches is not written to") {
  const bool edited_first = GENERATE(true, false);
  const RowEdit edit = make_edit(Form::low_rank, kColumns, torch::kFloat32);
  const auto run = [&](auto apply) {
    const Tensor leaf = random_leaf(torch::kFloat32), other = random_leaf(torch::kFloat32);
    const Tensor plain = other * 3, edited = apply(leaf * 2);
    auto all = value_and_gradients(edited_first ? edited + plain : plain + edited, leaf, edit);
    all.push_back(other.grad());
    return all;
  };
  const auto ours = run([&](Tensor h) { return reft::edit_rows(std::move(h), kSomeRows, {0, kColumns}, edit); });
  const auto expected = run([&](const Tensor& h) { return slow_edit_rows(h, kSomeRows, {0, kColumns}, edit); });
  for (size_t i = 0; i < ours.size(); ++i) CHECK(relative_distance(ours[i], expected[i]) < 1e-6);
}

TEST_CASE("edit_rows: edits follow one another, and a graph can be run twice") {
  const RowEdit first = make_edit(Form::low_rank, kColumns, torch::kFloat32), second = make_edit(Form::constant, 4, torch::kFloat32);
  const Tensor later_rows = torch::tensor({3, 6}, torch::kInt64);  // one row of the first edit again, one new
  const auto run = [&](auto apply) {
    const Tensor leaf = random_leaf(torch::kFloat32);
    Tensor h = apply(apply(leaf * 2, kSomeRows, Columns{0, kColumns}, first), later_rows, Columns{8, 4}, second);
    auto all = value_and_gradients(h, leaf, first);
    all.push_back(second.parameters[0].grad().clone());
    second.parameters[0].mutable_grad().reset();
    return all;
  };
  const auto ours = run([](Tensor h, auto&&... rest) { return reft::edit_rows(std::move(h), rest...); });
  const auto expected = run([](const Tensor& h, auto&&... rest) { return slow_edit_rows(h, rest...); });
  for (size_t i = 0; i < ours.size(); ++i) CHECK(relative_distance(ours[i], expected[i]) < 1e-6);

  const Tensor leaf = random_leaf(torch::kFloat32);
  const Tensor loss = reft::edit_rows(leaf * 2, kSomeRows, {0, kColumns}, first).square().sum();
  const auto once = torch::autograd::grad({loss}, {leaf}, {}, /*retain_graph=*/true);
  const auto twice = torch::autograd::grad({loss}, {leaf});
  CHECK(torch::equal(once[0], twice[0]));
}

TEST_CASE("edit_rows: a leaf whose only handle is moved in can still be edited") {
  const RowEdit edit = make_edit(Form::low_rank, kColumns, torch::kFloat32);
  const Tensor expected = slow_edit_rows(random_leaf(torch::kFloat32), kSomeRows, {0, kColumns}, edit);
  Tensor leaf = random_leaf(torch::kFloat32);
  CHECK(torch::equal(reft::edit_rows(std::move(leaf), kSomeRows, {0, kColumns}, edit), expected));
}

TEST_CASE("edit_rows: without gradients it works in place, on inference tensors on a copy") {
  const RowEdit edit = make_edit(Form::low_rank, kColumns, torch::kFloat32);
  const auto fresh = [] { return random_leaf(torch::kFloat32).detach() * 2; };
  torch::NoGradGuard no_grad;
  const Tensor expected = slow_edit_rows(fresh(), kSomeRows, {0, kColumns}, edit);

  Tensor h = fresh();
  const void* memory = h.data_ptr();
  h = reft::edit_rows(std::move(h), kSomeRows, {0, kColumns}, edit);
  CHECK(h.data_ptr() == memory);
  CHECK(torch::equal(h, expected));
  CHECK_FALSE(h.requires_grad());

  Tensor frozen;
  {
    c10::InferenceMode inference;
    frozen = fresh();
    CHECK(torch::equal(reft::edit_rows(frozen, kSomeRows, {0, kColumns}, edit), expected));
  }
  REQUIRE(frozen.is_inference());
  CHECK(torch::equal(reft::edit_rows(std::move(frozen), kSomeRows, {0, kColumns}, edit), expected));
}

TEST_CASE("edit_rows: a frozen h gets no gradient, its parameters do") {
  const RowEdit edit = make_edit(Form::low_rank, kColumns, torch::kFloat32);
  const Tensor h = random_leaf(torch::kFloat32).detach();
  reft::edit_rows(h.clone(), kSomeRows, {0, kColumns}, edit).square().sum().backward();
  const Tensor ours = edit.parameters[1].grad().clone();
  edit.parameters[1].mutable_grad().reset();
  slow_edit_rows(h, kSomeRows, {0, kColumns}, edit).square().sum().backward();
  CHECK(relative_distance(ours, edit.parameters[1].grad()) < 1e-6);
}

TEST_CASE("edit_rows allocates nothing of h's size, forward or backward") {
  constexpr int64_t kMany = 4096, kWidth = 64;
  const RowEdit edit = make_edit(Form::low_rank, kWidth, torch::kFloat32);
  const auto large_allocations = [&](auto apply) {
    const Tensor leaf = torch::randn({kMany, kWidth}).requires_grad_(true);
    const reft::test::AllocationRecorder recorder;
    (apply(leaf * 2) * 3).sum().backward();
    return recorder.count_at_least(kMany * kWidth * sizeof(float));
  };
  const auto without = large_allocations([](Tensor h) { return h; });
  REQUIRE(without >= 2);  // the recorder sees at least the two products
  CHECK(large_allocations([&](Tensor h) { return reft::edit_rows(std::move(h), kSomeRows, {0, kWidth}, edit); }) == without);
}

TEST_CASE("edit_rows: no rows is no edit; shapes that do not fit are named") {
  const RowEdit edit = make_edit(Form::low_rank, kColumns, torch::kFloat32);
  const Tensor h = random_leaf(torch::kFloat32);
  CHECK(reft::edit_rows(h, torch::empty({0}, torch::kInt64), {0, kColumns}, edit).is_same(h));
  const auto text = [&](const Tensor& tensor, Columns columns) {
    return reft::test::error_text([&] { reft::edit_rows(tensor, kSomeRows, columns, edit); });
  };
  CHECK(text(h, {8, 5}) == "[reft::edit_rows] expected a 2-D tensor with columns 8..13, got [7, 12]");
  CHECK(text(h, {-1, 5}) == "[reft::edit_rows] expected a 2-D tensor with columns -1..4, got [7, 12]");
  CHECK(text(h, {0, 0}) == "[reft::edit_rows] expected a 2-D tensor with columns 0..0, got [7, 12]");
  CHECK(text(h.flatten(), {0, 12}) == "[reft::edit_rows] expected a 2-D tensor with columns 0..12, got [84]");
}
