#include "reft/intervention/interchange.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/formula.hpp"

using reft::Interchange;
using reft::test::error_text;

TEST_CASE("interchange writes the source's rows, and h gets no gradient through them") {
  Interchange interchange(12);
  auto rows = reft::test::some_rows();
  rows.source = torch::arange(48, torch::kFloat64).view({4, 12});
  reft::test::check_formula(interchange, {}, [&](const auto& h, const auto&) { return h * 0 + rows.source; }, rows);
  CHECK(interchange.num_parameters() == 0);
  CHECK(interchange.needs_source());
}

TEST_CASE("interchange keeps the source's bits, whatever dtype the base has") {
  Interchange interchange(3);
  const auto dtype = GENERATE(torch::kFloat64, torch::kFloat32, torch::kBFloat16);
  const torch::Tensor source = torch::tensor({{0.1, 0.2, 0.3}}, dtype), indices = torch::tensor({1}, torch::kInt64);
  const torch::Tensor edited = reft::edit_rows(
      torch::ones({2, 3}, dtype), indices, {0, 3},
      {[&](const torch::Tensor& x) { return interchange.edit(x, {.sequences = {0}, .positions = {1}, .source = source}); }, {}, interchange.dtype()});
  CHECK(torch::equal(edited[1], source[0]));
  CHECK(torch::equal(edited[0], torch::ones({3}, dtype)));
}

TEST_CASE("interchange without a source run is refused, and says how to give one") {
  Interchange interchange(3);
  CHECK(error_text([&] { interchange.forward(torch::ones({1, 3})); }) ==
        "[reft::interchange] no source run was given; call interchange(model, base, source), or make the context with a SourceRun");
  CHECK(error_text([] { Interchange::parse_options({{"rank", 1}}); }) == "[reft::interchange] unknown option \"rank\"");
  CHECK(error_text([&] { interchange.load_state({{"v", torch::ones({3})}}); }) == "[reft::interchange] unexpected tensor \"v\"");
}
