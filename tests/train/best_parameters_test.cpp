#include "reft/train/best_parameters.hpp"

#include <torch/nn/modules/linear.h>

#include "support/catch.hpp"

namespace {

void fill(torch::nn::Linear& module, double value) {
  torch::NoGradGuard no_grad;
  for (auto& parameter : module->parameters()) parameter.fill_(value);
}

double value_of(torch::nn::Linear& module) { return module->parameters().front().flatten()[0].item<double>(); }

}  // namespace

TEST_CASE("the best evaluation's parameters are kept, the first of equal ones, never one that is not finite") {
  torch::nn::Linear module(2, 2);
  for (const bool lower : {true, false}) {
    reft::BestParameters best("m", lower);
    CHECK(!best.is_set());
    const double sign = lower ? 1.0 : -1.0;
    int64_t step = 0;
    for (const double value : {std::nan(""), 3.0, 2.0, 2.0, std::nan(""), 2.5}) {
      fill(module, static_cast<double>(++step));
      best.consider(sign * value, step, *module);
    }
    CHECK(best.step() == 3);
    CHECK(best.value() == sign * 2.0);
    CHECK(best.evaluations_since() == 3);
    best.apply(*module);
    CHECK(value_of(module) == 3.0);

    reft::TrainingState state;
    best.capture(state);
    reft::BestParameters again("m", lower), other("n", lower);
    again.restore(state, torch::kCPU);
    other.restore(state, torch::kCPU);  // a state of another metric says nothing
    CHECK(!other.is_set());
    fill(module, 9.0);
    again.apply(*module);
    CHECK(value_of(module) == 3.0);
    CHECK(again.evaluations_since() == 3);
    CHECK(again.value() == best.value());
  }
}
