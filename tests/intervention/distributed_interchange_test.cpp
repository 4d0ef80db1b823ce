#include "reft/intervention/distributed_interchange.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/formula.hpp"

using reft::DAS;
using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;

namespace {

reft::RowContext with_source(torch::Dtype dtype = torch::kFloat64) {
  auto rows = reft::test::some_rows();
  torch::manual_seed(6);
  rows.source = torch::randn({4, 12}, torch::kFloat64).to(dtype);
  return rows;
}

}  // namespace

TEST_CASE("das is h + Rᵀ(R s − R h), with the gradients of h and R") {
  DAS das(12, {.rank = 3, .dtype = torch::kFloat64});
  reft::test::disturb(das);
  const auto rows = with_source();
  const auto formula = [&](const Tensor& h, const reft::test::Leaves& leaves) {
    const Tensor& R = leaves.at("R");
    return h + (rows.source.matmul(R.t()) - h.matmul(R.t())).matmul(R);
  };
  reft::test::check_formula(das, {"R"}, formula, rows);
  CHECK(reft::orthonormality_error(das.state().at("R")) < 1e-12);
}

TEST_CASE("das gives the subspace the source's content and leaves the rest; a full rotation is the plain interchange") {
  DAS part(12, {.rank = 3, .dtype = torch::kFloat64}), whole(12, {.rank = 12, .dtype = torch::kFloat64});
  const auto rows = with_source();
  const Tensor h = torch::randn({4, 12}, torch::kFloat64), edited = part.edit(h, rows), R = part.state().at("R");
  CHECK(relative_distance(edited.matmul(R.t()), rows.source.matmul(R.t())) < 1e-6);
  const Tensor rest = torch::eye(12, torch::kFloat64) - R.t().matmul(R);
  CHECK(relative_distance(edited.matmul(rest), h.matmul(rest)) < 1e-6);
  CHECK(relative_distance(whole.edit(h, rows), rows.source) < 1e-6);

  auto chosen = rows;
  chosen.scales = torch::tensor({{1, 0, 1}, {1, 0, 1}, {0, 0, 0}, {-1, 0, 2}}).to(torch::kFloat64);
  const Tensor change = (rows.source - h).matmul(R.t()) * chosen.scales;
  CHECK(relative_distance(part.edit(h, chosen), h + change.matmul(R)) < 1e-6);
  CHECK(part.rank() == 3);
}

TEST_CASE("das computes in float32 beside a source in bfloat16") {
  DAS das(12, {.rank = 2});
  const auto rows = with_source(torch::kBFloat16);
  const Tensor h = torch::randn({4, 12}), R = das.state().at("R");
  const Tensor edited = das.edit(h, rows);
  CHECK(edited.scalar_type() == torch::kFloat32);
  CHECK(relative_distance(edited, h + (rows.source.to(torch::kFloat32) - h).matmul(R.t()).matmul(R)) < 1e-5);
}

TEST_CASE("das is read as it was written, and refuses what is no rotation") {
  DAS trained(12, {.rank = 3}), loaded(12, DAS::parse_options(trained.options()));
  reft::test::disturb(trained);
  loaded.load_state(trained.state());
  CHECK(torch::equal(loaded.state().at("R"), trained.state().at("R")));
  CHECK(trained.orthonormal() != nullptr);
  const Tensor R = trained.state().at("R");
  CHECK(error_text([&] { loaded.load_state({{"R", 2 * R}}); }) == "[reft::das] the rows of R are not orthonormal: |R Rᵀ - I| is up to 3");
  CHECK(error_text([&] { loaded.load_state({{"R", R.t()}}); }) == "[reft::das] tensor \"R\": expected shape [3, 12], got [12, 3]");
  CHECK(error_text([] { DAS(4, {.rank = 5}); }) == "[reft::Orthonormal] expected a rank in 1..4 (the hidden size), got 5");
  CHECK(error_text([&] { trained.forward(torch::zeros({1, 12})); }) ==
        "[reft::das] no source run was given; call interchange(model, base, source), or make the context with a SourceRun");
}
