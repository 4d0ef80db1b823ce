#include "reft/train/optimizer.hpp"

#include <torch/optim/adamw.h>

#include "reft/intervention/ablation.hpp"
#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"

namespace {

using reft::InterventionBase;
using Interventions = std::vector<std::shared_ptr<InterventionBase>>;

/// Two LoReFT of one shape, one of another, and a form without R, each with values of its own from `seed`.
Interventions some_interventions(int64_t seed) {
  torch::manual_seed(seed);
  return {std::make_shared<reft::LoReFT>(24, reft::LowRankOptions{.rank = 4}), std::make_shared<reft::LoReFT>(24, reft::LowRankOptions{.rank = 4}),
          std::make_shared<reft::OrthoDiReFT>(16, reft::LowRankOptions{.rank = 2}), std::make_shared<reft::NoReFT>(24, reft::LowRankOptions{.rank = 3})};
}

/// A loss that depends on every parameter, different at every step.
torch::Tensor loss_of(const Interventions& interventions, int64_t step) {
  torch::Tensor sum = torch::zeros({});
  for (size_t i = 0; i < interventions.size(); ++i) {
    torch::manual_seed(100 * step + static_cast<int64_t>(i));
    const torch::Tensor h = torch::randn({5, interventions[i]->hidden_size()}), target = torch::randn_like(h);
    (void)interventions[i]->forward_tensors();  // begins a forward
    sum = sum + (interventions[i]->forward(h) - target).square().sum();
  }
  return sum;
}

double distance(const Interventions& a, const Interventions& b) {
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const auto other = b[i]->state();
    for (const auto& [name, tensor] : a[i]->state()) {
      largest = std::max(largest, (tensor - other.at(name)).abs().max().item<double>());
    }
  }
  return largest;
}

/// b and c apart from the rest, which decays.
torch::optim::AdamW torch_adamw(const Interventions& interventions, double weight_decay) {
  std::vector<torch::Tensor> decayed, plain;
  for (const auto& intervention : interventions) {
    for (const auto& item : intervention->named_parameters()) (intervention->decays(item.key()) ? decayed : plain).push_back(item.value());
  }
  const auto options = [](double decay) { return std::make_unique<torch::optim::AdamWOptions>(torch::optim::AdamWOptions(1e-2).weight_decay(decay)); };
  return torch::optim::AdamW({{decayed, options(weight_decay)}, {plain, options(0.0)}});
}

}  // namespace

TEST_CASE("the flat optimizer goes where torch's AdamW through autograd goes") {
  const double weight_decay = GENERATE(0.0, 0.1);
  const Interventions ours = some_interventions(3), reference = some_interventions(3);
  REQUIRE(distance(ours, reference) == 0.0);
  auto adamw = torch_adamw(reference, weight_decay);
  reft::Optimizer optimizer(ours, {.learning_rate = 1e-2, .weight_decay = weight_decay, .max_gradient_norm = 0.0});
  for (int64_t step = 0; step < 20; ++step) {
    optimizer.zero_grad();
    loss_of(ours, step).backward();
    optimizer.step();
    adamw.zero_grad();
    loss_of(reference, step).backward();
    adamw.step();
  }
  // Adam divides by the root of the second moment: rounding of small gradients is amplified to the size of a step.
  CHECK(distance(ours, reference) < 1e-4);
}

TEST_CASE("the norm is that of X, W, b before clipping, and clipping bounds the gradient") {
  const Interventions ours = some_interventions(5), reference = some_interventions(5);
  loss_of(reference, 0).backward();
  double square = 0.0;
  for (const auto& intervention : reference) {
    for (const torch::Tensor& parameter : intervention->parameters()) square += parameter.grad().square().sum().item<double>();
  }
  reft::Optimizer optimizer(ours, {.max_gradient_norm = 0.5});
  optimizer.zero_grad();
  loss_of(ours, 0).backward();
  CHECK(optimizer.step(4.0) == Approx(std::sqrt(square) / 4.0).epsilon(1e-5));
  // After one step from zero the first moment is (1 − β₁) times the clipped gradient.
  double moment = 0.0;
  for (const char* name : {"first_moment.decayed", "first_moment.plain"}) moment += optimizer.state().at(name).square().sum().item<double>();
  CHECK(std::sqrt(moment) / 0.1 == Approx(0.5).epsilon(1e-4));
}

TEST_CASE("gradients of several backward passes add up, and a divisor divides them") {
  const Interventions twice = some_interventions(6), once = some_interventions(6);
  reft::Optimizer a(twice, {.max_gradient_norm = 0.0}), b(once, {.max_gradient_norm = 0.0});
  a.zero_grad();
  for (int i = 0; i < 2; ++i) loss_of(twice, 0).backward();
  b.zero_grad();
  loss_of(once, 0).backward();
  CHECK(a.step(2.0) == Approx(b.step(1.0)).epsilon(1e-6));
}

TEST_CASE("a gradient that is not finite changes nothing") {
  const Interventions ours = some_interventions(7), before = some_interventions(7);
  reft::Optimizer optimizer(ours);
  optimizer.zero_grad();
  (loss_of(ours, 0) * std::numeric_limits<double>::infinity()).backward();
  CHECK(!std::isfinite(optimizer.step()));
  CHECK(distance(ours, before) < 1e-6);
}

TEST_CASE("R stays orthonormal for 1,000 steps under decay, and after a save, a load and 100 more") {
  Interventions ours{std::make_shared<reft::LoReFT>(48, reft::LowRankOptions{.rank = 8})};
  const auto train = [](const Interventions& interventions, int64_t first, int64_t count) {
    reft::Optimizer optimizer(interventions, {.learning_rate = 5e-3, .weight_decay = 0.01});
    for (int64_t step = first; step < first + count; ++step) {
      optimizer.zero_grad();
      loss_of(interventions, step).backward();
      optimizer.step();
    }
  };
  const torch::Tensor start = ours[0]->state().at("R").clone();
  train(ours, 0, 1000);
  const torch::Tensor R = ours[0]->state().at("R");
  CHECK((R - start).abs().max().item<double>() > 0.05);  // it went somewhere
  CHECK(reft::orthonormality_error(R) < 1e-5);

  Interventions loaded{std::make_shared<reft::LoReFT>(48, reft::LowRankOptions{.rank = 8})};
  loaded[0]->load_state(ours[0]->state());
  CHECK(distance(ours, loaded) == 0.0);
  train(loaded, 1000, 100);
  CHECK(reft::orthonormality_error(loaded[0]->state().at("R")) < 1e-5);
}

TEST_CASE("without the optimizer an intervention is a module as any other") {
  const Interventions ours = some_interventions(9);
  {
    reft::Optimizer optimizer(ours, {.learning_rate = 1e-2});
    optimizer.zero_grad();
    loss_of(ours, 0).backward();
    optimizer.step();
  }
  const torch::Tensor X = ours[0]->named_parameters()["X"];
  X.mutable_grad().zero_();
  loss_of(ours, 1).backward();
  CHECK(X.grad().abs().max().item<double>() > 0.0);  // R(X) is inside autograd again
}

TEST_CASE("moments and steps are restored") {
  const Interventions ours = some_interventions(11), other = some_interventions(11);
  reft::Optimizer a(ours);
  a.zero_grad();
  loss_of(ours, 0).backward();
  a.step();
  reft::Optimizer b(other);
  b.load_state(a.state());
  for (const auto& [name, tensor] : a.state()) CHECK(b.state().at(name).equal(tensor));
  CHECK(reft::test::error_text([&] { b.load_state({}); }).starts_with("[reft::Optimizer] first_moment.decayed: expected "));
}

TEST_CASE("an optimizer needs parameters, of one dtype") {
  CHECK(reft::test::error_text([] { reft::Optimizer({}); }) ==
        "[reft::Optimizer] expected at least one trainable parameter, got none");
  const Interventions mixed{std::make_shared<reft::LoReFT>(8, reft::LowRankOptions{.rank = 1}),
                            std::make_shared<reft::LoReFT>(8, reft::LowRankOptions{.rank = 1, .dtype = torch::kFloat64})};
  CHECK(reft::test::contains(reft::test::error_text([&] { reft::Optimizer optimizer(mixed); }), "expected all interventions in one dtype"));
}

TEST_CASE("an intervention's learning rate can differ from the others', as in torch's parameter groups") {
  const Interventions ours = some_interventions(3), reference = some_interventions(3), start = some_interventions(3);
  const std::vector<double> scales{1.0, 0.25, 3.0, 0.0};
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (size_t i = 0; i < ours.size(); ++i) {
    ours[i]->set_learning_rate_scale(scales[i]);
    for (const bool decays : {true, false}) {
      std::vector<torch::Tensor> parameters;
      for (const auto& item : reference[i]->named_parameters()) {
        if (reference[i]->decays(item.key()) == decays) parameters.push_back(item.value());
      }
      auto options = torch::optim::AdamWOptions(1e-2 * scales[i]);
      options.weight_decay(decays ? 0.1 : 0.0);
      groups.emplace_back(parameters, std::make_unique<torch::optim::AdamWOptions>(options));
    }
  }
  torch::optim::AdamW adamw(groups);
  reft::Optimizer optimizer(ours, {.learning_rate = 1e-2, .weight_decay = 0.1, .max_gradient_norm = 0.0});
  for (int64_t step = 0; step < 20; ++step) {
    optimizer.zero_grad();
    loss_of(ours, step).backward();
    optimizer.step();
    adamw.zero_grad();
    loss_of(reference, step).backward();
    adamw.step();
  }
  CHECK(distance(ours, reference) < 1e-4);
  CHECK(distance({ours[3]}, {start[3]}) == 0.0);
  CHECK(distance({ours[1]}, {start[1]}) > 1e-3);
  CHECK_THROWS_AS(ours[0]->set_learning_rate_scale(-1.0), reft::ConfigError);
}

TEST_CASE("interventions with nothing to train are passed over; alone, they leave nothing to optimize") {
  Interventions mixed = some_interventions(3);
  const Interventions trained = some_interventions(3), untrained{std::make_shared<reft::NoiseAblation>(24), std::make_shared<reft::ZeroAblation>(24)};
  mixed.insert(mixed.begin() + 1, untrained.begin(), untrained.end());
  for (const Interventions& interventions : {mixed, trained}) {
    reft::Optimizer optimizer(interventions);
    optimizer.zero_grad();
    torch::Tensor sum = torch::zeros({});
    for (const auto& intervention : interventions) {
      if (intervention->num_parameters() == 0) continue;
      sum = sum + intervention->forward(torch::ones({2, intervention->hidden_size()})).square().sum();
    }
    sum.backward();
    optimizer.step();
  }
  mixed.erase(mixed.begin() + 1, mixed.begin() + 3);
  CHECK(distance(mixed, trained) == 0.0);
  CHECK(distance(mixed, some_interventions(3)) > 1e-4);
  CHECK(reft::test::error_text([&] { reft::Optimizer{untrained}; }) == "[reft::Optimizer] expected at least one trainable parameter, got none");
}
