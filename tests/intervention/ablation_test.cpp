#include "reft/intervention/ablation.hpp"

#include <torch/nn/init.h>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/formula.hpp"

using reft::MeanAblation;
using reft::NoiseAblation;
using reft::ZeroAblation;
using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;

namespace {

Tensor some_subspace(int64_t rank, int64_t width) {
  torch::manual_seed(3);
  return reft::Orthonormal::random_orthonormal_rows(rank, width).to(torch::kFloat64);
}

Tensor noise_of(NoiseAblation& noise, std::vector<int64_t> positions) {
  return noise.edit(torch::zeros({std::ssize(positions), noise.hidden_size()}), {.positions = positions});
}

}  // namespace

TEST_CASE("zero ablation writes zeros, or empties a subspace alone") {
  ZeroAblation zero(12, {.dtype = torch::kFloat64});
  reft::test::check_formula(zero, {}, [](const auto& h, const auto&) { return h * 0; });

  const Tensor R = some_subspace(3, 12);
  ZeroAblation part(12, {.R = R, .dtype = torch::kFloat64});
  reft::test::check_formula(part, {}, [&](const auto& h, const auto&) { return h - h.matmul(R.t()).matmul(R); });
  const Tensor h = torch::randn({5, 12}, torch::kFloat64), left = part.forward(h);
  CHECK(left.matmul(R.t()).abs().max().item<double>() < 1e-6);
  CHECK(relative_distance(part.forward(left), left) < 1e-6);
  CHECK(part.num_parameters() + zero.num_parameters() == 0);
}

TEST_CASE("a zero ablation is read as it was written, and refuses what is no subspace") {
  const Tensor R = some_subspace(2, 6), h = torch::randn({3, 6}, torch::kFloat64);
  ZeroAblation given(6, {.R = R, .dtype = torch::kFloat64}), loaded(6, ZeroAblation::parse_options(given.options()));
  CHECK(error_text([&] { loaded.forward(h); }) == "[reft::zero_ablation] no R was given; pass one in the options");
  loaded.load_state(given.state());
  CHECK(torch::equal(loaded.forward(h), given.forward(h)));
  CHECK(ZeroAblation(6).state().empty());
  CHECK(error_text([] { ZeroAblation(6).load_state({{"R", torch::zeros({2, 6})}}); }) == "[reft::zero_ablation] unexpected tensor \"R\"");
  CHECK(error_text([&] { ZeroAblation(6, {.R = 2 * R}); }) ==
        "[reft::zero_ablation] the rows of R are not orthonormal: |R Rᵀ - I| is up to 3");
  CHECK(error_text([&] { loaded.load_state({{"R", 2 * R}}); }) ==
        "[reft::zero_ablation] the rows of R are not orthonormal: |R Rᵀ - I| is up to 3");
  CHECK(error_text([&] { ZeroAblation(7, {.R = R}); }) == "[reft::zero_ablation] R: expected shape [2, 7], got [2, 6]");
  CHECK(error_text([] { ZeroAblation(6, {.rank = 7}); }) == "[reft::zero_ablation] expected a rank in 0..6 (the hidden size), got 7");
}

TEST_CASE("mean ablation writes the mean, and refuses to run without one") {
  torch::manual_seed(1);
  const Tensor mean = torch::randn({12}, torch::kFloat64);
  MeanAblation given(12, {.mean = mean, .dtype = torch::kFloat64}), loaded(12, MeanAblation::parse_options(given.options()));
  reft::test::check_formula(given, {}, [&](const auto& h, const auto&) { return h * 0 + mean; });
  CHECK(error_text([&] { loaded.forward(torch::zeros({1, 12})); }) == "[reft::mean_ablation] no mean was given; pass one in the options");
  CHECK(error_text([&] { loaded.state(); }) == "[reft::mean_ablation] no mean was given; pass one in the options");
  loaded.load_state(given.state());
  CHECK(torch::equal(loaded.state().at("mean"), mean));
  CHECK(loaded.dtype() == torch::kFloat64);
}

TEST_CASE("the noise of a token depends on the seed and its place alone") {
  NoiseAblation noise(64, {.sigma = 0.5, .seed = 7}), same(64, {.sigma = 0.5, .seed = 7}), other(64, {.sigma = 0.5, .seed = 8});
  const Tensor four = noise_of(noise, {0, 1, 2, 3});
  CHECK(torch::equal(noise_of(noise, {0, 1, 2, 3}), four));
  CHECK(torch::equal(noise_of(same, {3, 0, 3}), four.index_select(0, torch::tensor({3, 0, 3}))));
  CHECK(torch::equal(noise.forward(torch::zeros({4, 64})), four));
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = 0; j < 4; ++j) CHECK((i == j || (four[i] - four[j]).abs().max().item<double>() > 0.1));
    CHECK((noise_of(other, {i})[0] - four[i]).abs().max().item<double>() > 0.1);
  }
}

TEST_CASE("noise is added to h, normal with standard deviation sigma, and lets gradients through") {
  NoiseAblation noise(1000, {.sigma = 0.25});
  std::vector<int64_t> positions(100);
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int64_t>(i);
  const Tensor drawn = noise_of(noise, positions).to(torch::kFloat64);  // 100,000 numbers
  CHECK(drawn.mean().item<double>() == Approx(0.0).margin(0.004));      // five standard errors
  CHECK(drawn.std().item<double>() == Approx(0.25).margin(0.003));
  CHECK((drawn.abs() > 2 * 0.25).to(torch::kFloat64).mean().item<double>() == Approx(0.0455).margin(0.0035));

  NoiseAblation narrow(12, {.sigma = 0.25});
  const reft::RowContext rows = reft::test::some_rows();
  const Tensor epsilon = noise_of(narrow, rows.positions);
  reft::test::check_formula(narrow, {}, [&](const auto& h, const auto&) { return h + epsilon.to(h.scalar_type()); });
}

TEST_CASE("noise ablation's options are read as they are written") {
  const NoiseAblation noise(8, {.sigma = 0.1, .seed = 18446744073709551615u});
  const auto options = NoiseAblation::parse_options(noise.options());
  CHECK(options.sigma == 0.1);
  CHECK(options.seed == 18446744073709551615u);
  CHECK(noise.state().empty());
  CHECK(error_text([] { NoiseAblation(8, {.sigma = -1.0}); }) == "[reft::noise_ablation] expected sigma >= 0, got -1");
  CHECK(error_text([] { NoiseAblation::parse_options({{"sigmo", 1}}); }) == "[reft::noise_ablation] unknown option \"sigmo\"");
}
