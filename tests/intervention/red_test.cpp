#include "reft/intervention/red.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/formula.hpp"

using reft::RED;
using reft::test::error_text;

TEST_CASE("RED is s ⊙ h + b, with its gradients, and starts as the identity") {
  RED red(12, {.dtype = torch::kFloat64});
  const torch::Tensor h = torch::randn({5, 12}, torch::kFloat64);
  CHECK(torch::equal(red.forward(h), h));
  CHECK(red.num_parameters() == 24);
  reft::test::disturb(red);
  reft::test::check_formula(red, {"s", "b"}, [](const auto& x, const auto& leaves) { return leaves.at("s") * x + leaves.at("b"); });
}

TEST_CASE("no parameter of RED decays, since s = 0 would erase the state") {
  const RED red(4);
  for (const auto& item : red.named_parameters()) CHECK_FALSE(red.decays(item.key()));
}

TEST_CASE("RED's options and state are read as they are written, and refused when they are not its own") {
  RED trained(6), loaded(6, RED::parse_options(trained.options()));
  reft::test::disturb(trained);
  loaded.load_state(trained.state());
  const torch::Tensor h = torch::randn({2, 6});
  CHECK(torch::equal(loaded.forward(h), trained.forward(h)));
  CHECK(error_text([] { RED::parse_options({{"rank", 4}}); }) == "[reft::red] unknown option \"rank\"");
  CHECK(error_text([] { RED::parse_options({{"dtype", 4}}); }) == "[reft::red] option \"dtype\": unexpected value 4");
  CHECK(error_text([] { RED(4, {.dtype = torch::kBFloat16}); }) == "[reft::red] expected parameters in float32 or float64, got BFloat16");
  CHECK(error_text([&] { loaded.forward(torch::zeros({2, 5})); }) == "[reft::red] expected hidden states of width 6, got [2, 5]");
  auto state = trained.state();
  state.erase("b");
  CHECK(error_text([&] { loaded.load_state(state); }) == "[reft::red] missing tensor \"b\"");
}
