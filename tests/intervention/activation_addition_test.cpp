#include "reft/intervention/activation_addition.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/formula.hpp"

using reft::ActivationAddition;
using reft::test::error_text;

TEST_CASE("activation addition is h + α v with nothing to train") {
  torch::manual_seed(1);
  const torch::Tensor v = torch::randn({12}, torch::kFloat64);
  ActivationAddition addition(12, {.vector = v, .alpha = -2.5, .dtype = torch::kFloat64});
  CHECK(addition.num_parameters() == 0);
  CHECK(addition.dtype() == torch::kFloat64);
  reft::test::check_formula(addition, {}, [&](const auto& h, const auto&) { return h - 2.5 * v; });
  addition.set_alpha(3.0);
  reft::test::check_formula(addition, {}, [&](const auto& h, const auto&) { return h + 3.0 * v; });
  CHECK(addition.options().at("alpha") == 3.0);
}

TEST_CASE("the vector of an activation addition is given with the options or read, and never taken for zero") {
  const torch::Tensor v = torch::arange(4, torch::kFloat32), h = torch::ones({2, 4});
  const ActivationAddition given(4, {.vector = v, .alpha = 2.0});
  ActivationAddition loaded(4, ActivationAddition::parse_options(given.options()));
  CHECK(error_text([&] { loaded.forward(h); }) == "[reft::activation_addition] no vector was given; pass one in the options");
  loaded.load_state(given.state());
  CHECK(torch::equal(loaded.forward(h), h + 2 * v));
  CHECK(error_text([&] { ActivationAddition(5, {.vector = v}); }) == "[reft::activation_addition] vector: expected shape [5], got [4]");
  CHECK(error_text([&] { loaded.load_state({{"vector", torch::zeros({3})}}); }) ==
        "[reft::activation_addition] tensor \"vector\": expected shape [4], got [3]");
  CHECK(error_text([&] { loaded.load_state({}); }) == "[reft::activation_addition] missing tensor \"vector\"");
  torch::Tensor changed = v.clone();
  const ActivationAddition own(4, {.vector = changed});
  changed.zero_();
  CHECK(torch::equal(own.state().at("vector"), v));  // a copy: what the caller does with theirs does not reach it
}
