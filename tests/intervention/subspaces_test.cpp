#include "reft/intervention/subspaces.hpp"

#include "reft/intervention/loreft.hpp"
#include "reft/generate/generate.hpp"
#include "reft/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

namespace {

using reft::LoReFT;
using reft::test::error_text;
using torch::Tensor;
using Model = reft::ReftModel<reft::CausalLM>;

double distance(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

std::shared_ptr<LoReFT> some_loreft(int64_t seed, int64_t rank) {
  torch::manual_seed(seed);
  return std::make_shared<LoReFT>(32, reft::LowRankOptions{.rank = rank});
}

/// Two sequences; the first uses rows 0 and 1 of a subspace of four, the second rows 2 and 3.
std::vector<reft::Example> two_tasks() {
  return {{{1, 5, 9, 4}, {-100, -100, 9, 4}, 2, {1, 1, 0, 0}}, {{7, 3, 10, 22, 8}, {-100, -100, -100, 22, 8}, 3, {0, 0, 1, 1}}};
}

}  // namespace

TEST_CASE("row scales weight what each row of a subspace writes") {
  const auto intervention = some_loreft(1, 4);
  const Tensor h = torch::randn({3, 32}), R = intervention->state().at("R");
  const Tensor scales = torch::tensor({{1.0f, 1.0f, 1.0f, 1.0f}, {1.0f, 0.0f, 0.0f, -1.0f}, {0.0f, 0.0f, 0.0f, 0.0f}});
  const Tensor whole = intervention->forward(h), scaled = intervention->forward_scaled(h, scales);
  CHECK(distance(scaled[0], whole[0]) < 1e-6);
  CHECK(distance(scaled[1], h[1] + (R.matmul(whole[1] - h[1]) * scales[1]).matmul(R)) < 1e-5);
  CHECK(distance(scaled[2], h[2]) == 0.0);
  reft::LobiReFT additive(32, {.rank = 4});
  CHECK(distance(additive.forward_scaled(h, scales)[2], h[2]) == 0.0);
  CHECK(distance(additive.forward_scaled(h, scales)[0], additive.forward(h)[0]) < 1e-6);
}

TEST_CASE("each example of a batch has its own row scales") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  const auto intervention = model.attach<LoReFT>({.layer = 0, .positions = "l1"}, {.rank = 4}).front();
  const auto examples = two_tasks();
  const auto loss_of = [&](std::vector<const reft::Example*> chosen) {
    return reft::language_modelling_loss(model, reft::collate(chosen, torch::kCPU)).item<double>();
  };
  const double together = loss_of({&examples[0], &examples[1]});
  CHECK(std::abs(together - loss_of({&examples[0]}) - loss_of({&examples[1]})) < 1e-4);
  auto plain = examples;
  plain[0].row_scales.clear();
  CHECK(std::abs(together - loss_of({&plain[0], &examples[1]})) > 1e-3);  // the others' rows count

  auto off = examples[0];
  off.row_scales = {0, 0, 0, 0};
  const double edited = loss_of({&off});
  Model unedited(base);
  const double base_loss = reft::language_modelling_loss(unedited, reft::collate(std::vector<const reft::Example*>{&plain[0]}, torch::kCPU)).item<double>();
  CHECK(std::abs(edited - base_loss) < 1e-5);  // the same states; products of other shapes may round otherwise

  auto other = examples[1];
  other.row_scales = {1, 1};
  CHECK(error_text([&] { loss_of({&examples[0], &other}); }) == "[reft::collate] expected row scales of one length, got 2 and 4");
  CHECK(error_text([&] { loss_of({&other}); }) == "[reft::ReftModel] expected row scales (1, 4) or (4) for loreft, got [1, 2]");
}

TEST_CASE("generation takes row scales for all prompts or for each") {
  Model model(reft::test::tiny_model());
  model.attach<LoReFT>({.layer = 0, .positions = "all"}, {.rank = 4});
  Model plain(model.base());
  const std::vector<std::vector<int64_t>> prompts{{1, 5, 9, 40}, {7, 3, 10}};
  const auto tokens = [&](Model& of, const Tensor& scales, const std::vector<std::vector<int64_t>>& asked) {
    std::vector<std::vector<int64_t>> found;
    for (auto& continuation : reft::generate(of, asked, {.max_new_tokens = 6, .use_end_tokens = false, .row_scales = scales})) found.push_back(continuation.tokens);
    return found;
  };
  const auto base = tokens(plain, {}, prompts), whole = tokens(model, {}, prompts);
  REQUIRE(base[0] != whole[0]);
  REQUIRE(base[1] != whole[1]);
  CHECK(tokens(model, torch::zeros({4}), prompts) == base);
  CHECK(tokens(model, torch::tensor({{0.0, 0.0, 0.0, 0.0}, {1.0, 1.0, 1.0, 1.0}}), prompts) == std::vector{base[0], whole[1]});
}

TEST_CASE("a step leaves rows that no example used as they were, moments and decay too") {
  torch::manual_seed(5);
  Model model(reft::test::tiny_model());
  const auto intervention = model.attach<LoReFT>({.layer = 0, .positions = "l1"}, {.rank = 4}).front();
  const auto state = [&] {
    std::map<std::string, Tensor> copy;
    for (const auto& [name, tensor] : intervention->state()) copy[name] = tensor.clone();
    return copy;
  };
  const auto fit = [&](std::vector<reft::Example> examples) {
    reft::Trainer<reft::CausalLM>(model, {.epochs = 5, .batch_size = 1, .learning_rate = 1e-2, .weight_decay = 0.1}).fit(examples);
  };
  const auto before = state();
  fit({two_tasks()[1]});  // rows 2 and 3
  const auto after = state();
  for (const auto& [name, tensor] : after) {
    INFO(name);
    CHECK(distance(tensor.narrow(0, 0, 2), before.at(name).narrow(0, 0, 2)) < (name == "R" ? 1e-6 : 1e-12));
    CHECK(distance(tensor.narrow(0, 2, 2), before.at(name).narrow(0, 2, 2)) > 1e-3);
  }
  CHECK(reft::orthonormality_error(after.at("R")) < 1e-5);
  fit(two_tasks());  // batches of one example each: every row is used in every other step
  CHECK(distance(state().at("b"), after.at("b")) > 1e-3);
}

TEST_CASE("an optimizer step on chosen rows is the step of an optimizer that has only them") {
  const auto make = [](int64_t rank) {
    torch::manual_seed(3);
    auto made = std::make_shared<reft::NoReFT>(8, reft::LowRankOptions{.rank = rank});
    return made;
  };
  const auto whole = make(3), part = make(2);
  auto state = whole->state();
  for (auto& [name, tensor] : state) tensor = tensor.narrow(0, 0, 2).clone();
  part->load_state(state);
  const Tensor third = whole->state().at("W")[2].clone(), h = torch::randn({4, 8});
  const reft::OptimizerOptions options{.learning_rate = 1e-2, .weight_decay = 0.1};
  reft::Optimizer optimizer({whole}, options), reference({part}, options);
  for (int step = 0; step < 3; ++step) {
    optimizer.zero_grad(), reference.zero_grad();
    whole->forward_scaled(h, torch::tensor({{1.0f, 1.0f, 0.0f}}).expand({4, 3})).square().sum().backward();
    part->forward(h).square().sum().backward();
    CHECK(std::abs(optimizer.step(1.0, torch::tensor({true, true, false})) - reference.step(1.0)) < 1e-4);
  }
  CHECK(distance(whole->state().at("W").narrow(0, 0, 2), part->state().at("W")) < 1e-6);
  CHECK(distance(whole->state().at("W")[2], third) == 0.0);
  CHECK(error_text([&] { optimizer.step(1.0, torch::tensor({true, false})); }).find("expected parameters of 2 rows to choose from, got [3, 8]") !=
        std::string::npos);
}

TEST_CASE("principal angles are 0 for shared directions and a right angle for foreign ones") {
  const Tensor I = torch::eye(6);
  const double cosine = 0.6;
  Tensor turned = torch::zeros({2, 6});
  turned[0][0] = cosine, turned[0][4] = 0.8, turned[1][5] = 1.0;
  const Tensor angles = reft::principal_angles(I.narrow(0, 0, 2), turned);
  CHECK(std::abs(angles[0].item<double>() - std::acos(cosine)) < 1e-7);
  CHECK(std::abs(angles[1].item<double>() - std::acos(0.0)) < 1e-7);
  CHECK(distance(reft::principal_angles(I.narrow(0, 0, 2), I.narrow(0, 0, 1)), torch::zeros({1})) < 1e-7);
  CHECK(error_text([&] { reft::principal_angles(I, torch::eye(5)); }) == "[reft::principal_angles] expected (r_A, D) and (r_B, D), got [6, 6] and [5, 5]");
}

TEST_CASE("joined interventions write the coefficients they were trained to write") {
  const auto a = some_loreft(1, 3), b = some_loreft(2, 2);
  const auto joined = reft::join(*a, *b);
  const Tensor h = torch::randn({5, 32}), R = joined->state().at("R");
  CHECK(reft::orthonormality_error(R) < 1e-5);
  const Tensor wanted = torch::cat({(a->forward(h) - h).matmul(a->state().at("R").t()), (b->forward(h) - h).matmul(b->state().at("R").t())}, 1);
  CHECK(distance((joined->forward(h) - h).matmul(R.t()), wanted) < 1e-5);

  // No nearer rows: turning them a little within their span moves them away from where they came from.
  const Tensor S = torch::cat({a->state().at("R"), b->state().at("R")});
  Tensor turn = torch::eye(5);
  turn[0][0] = turn[3][3] = std::cos(0.05), turn[0][3] = std::sin(0.05), turn[3][0] = -std::sin(0.05);
  CHECK((turn.matmul(R) - S).norm().item<double>() > (R - S).norm().item<double>());

  CHECK(error_text([&] { reft::join(*a, *a); }).find("expected 6 independent rows of width 32") != std::string::npos);
  const LoReFT narrow(16, {.rank = 2});
  CHECK(error_text([&] { reft::join(*a, narrow); }) == "[reft::join] expected one width, got 32 and 16");
}

TEST_CASE("clamped rows are constant whatever comes in") {
  const auto intervention = some_loreft(1, 3);
  reft::clamp_rows(*intervention, std::vector<int64_t>{0, 2}, 1.5);
  const Tensor content = intervention->forward(torch::randn({4, 32})).matmul(intervention->state().at("R").t());
  CHECK(distance(content.select(1, 0), torch::full({4}, 1.5)) < 1e-5);
  CHECK(distance(content.select(1, 2), torch::full({4}, 1.5)) < 1e-5);
  CHECK(distance(content.select(1, 1), torch::full({4}, 1.5)) > 1e-2);
  CHECK(error_text([&] { reft::clamp_rows(*intervention, std::vector<int64_t>{3}, 0.0); }) == "[reft::clamp_rows] row 3: expected one of 0..2");
}
