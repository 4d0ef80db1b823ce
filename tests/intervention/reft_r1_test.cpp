#include "reft/intervention/reft_r1.hpp"

#include "reft/reft_model.hpp"
#include "reft/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/formula.hpp"
#include "support/tiny_model.hpp"

namespace {

using reft::ReFTr1;
using reft::RowContext;
using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;
using Model = reft::ReftModel<reft::CausalLM>;

/// The largest k of each sequence and all others, one sequence after the other.
struct Split {
  std::vector<Tensor> strengths;                       // per row: the mean of its sequence's largest
  Tensor rest = torch::zeros({}, torch::kFloat64);     // the sum of all others
};

Split split(const Tensor& h, const Tensor& w, const std::vector<int64_t>& sequences, int64_t k) {
  Split found;
  for (size_t first = 0; first < sequences.size();) {
    std::vector<Tensor> activations;
    size_t end = first;
    for (; end < sequences.size() && sequences[end] == sequences[first]; ++end) activations.push_back(torch::relu(h[end].dot(w)));
    std::sort(activations.begin(), activations.end(), [](const Tensor& a, const Tensor& b) { return a.item<double>() > b.item<double>(); });
    const size_t largest = std::min<size_t>(k, activations.size());
    Tensor sum = torch::zeros({}, h.dtype());
    for (size_t i = 0; i < activations.size(); ++i) {
      if (i < largest) sum = sum + activations[i];
      else found.rest = found.rest + activations[i];
    }
    for (; first < end; ++first) found.strengths.push_back(sum / static_cast<double>(largest));
  }
  return found;
}

Tensor unit(const Tensor& w) { return w / w.square().sum().sqrt(); }

Tensor trained_formula(const Tensor& h, const Tensor& w, const std::vector<int64_t>& sequences, int64_t k) {
  return h + torch::stack(split(h, w, sequences, k).strengths).unsqueeze(1) * w;
}

const std::vector<std::vector<int64_t>> kPrompts{{1, 5, 9, 40, 7}, {3, 10, 22}};

reft::RaggedBatch some_batch() {
  std::vector<reft::Example> examples;
  for (const auto& prompt : kPrompts) examples.push_back({prompt, prompt, std::ssize(prompt)});
  const std::vector<const reft::Example*> chosen{&examples[0], &examples[1]};
  return reft::collate(chosen, torch::kCPU);
}

}  // namespace

TEST_CASE("ReFT-r1 trains h + mean(TopK(ReLU(Hw))) w, sequence by sequence, with the gradients of h and w") {
  const int64_t k = GENERATE(1, 2, 8);
  ReFTr1 r1(12, {.k = k, .dtype = torch::kFloat64});
  reft::test::disturb(r1);
  const RowContext rows = reft::test::some_rows();
  reft::test::check_formula(r1, {"w"}, [&](const Tensor& h, const auto& leaves) {
    return trained_formula(h, unit(leaves.at("w")), rows.sequences, k);
  });
  // A sequence of the batch without any edited row, as an empty prompt has.
  const RowContext gap{.sequences = {1, 1, 1, 4}, .positions = {0, 1, 2, 0}};
  reft::test::check_formula(r1, {"w"}, [&](const Tensor& h, const auto& leaves) {
    return trained_formula(h, unit(leaves.at("w")), gap.sequences, k);
  }, gap);
}

TEST_CASE("ReFT-r1 steers by α w in evaluation, and detects by ReLU(h·w)") {
  ReFTr1 r1(12, {.alpha = 3.5, .dtype = torch::kFloat64});
  reft::test::disturb(r1);
  r1.eval();
  reft::test::check_formula(r1, {"w"}, [](const Tensor& h, const auto& leaves) { return h + 3.5 * unit(leaves.at("w")); });
  r1.set_alpha(-1.0);
  const Tensor h = torch::randn({6, 12}, torch::kFloat64), w = r1.state().at("w");
  CHECK(relative_distance(r1.forward(h), h - w) < 1e-12);
  CHECK(relative_distance(r1.detect(h), torch::relu(h.matmul(w))) < 1e-12);
  CHECK(w.norm().item<double>() == Approx(1.0).epsilon(1e-12));
  CHECK_FALSE(r1.has_auxiliary_loss());
}

TEST_CASE("the penalty of ReFT-r1 is λ times the activations outside the largest k") {
  ReFTr1 r1(12, {.k = 1, .l1 = 0.25, .dtype = torch::kFloat64});
  CHECK(r1.has_auxiliary_loss());
  CHECK_FALSE(ReFTr1(12, {.l1 = 0.0}).has_auxiliary_loss());
  const RowContext rows{.sequences = {0, 0, 0, 1, 1, 1}, .positions = {0, 1, 2, 0, 1, 2}};
  Tensor h = torch::randn({6, 12}, torch::kFloat64).requires_grad_(true), other = h.detach().clone().requires_grad_(true);
  Tensor w = r1.named_parameters()["w"].detach().clone().requires_grad_(true);
  const Tensor loss = r1.auxiliary_loss(h, rows), expected = 0.25 * split(other, unit(w), rows.sequences, 1).rest;
  REQUIRE(expected.item<double>() > 0.01);
  CHECK(relative_distance(loss, expected) < 1e-12);
  const auto gradients = torch::autograd::grad({loss}, {h, r1.named_parameters()["w"]}), reference = torch::autograd::grad({expected}, {other, w});
  for (size_t i = 0; i < 2; ++i) CHECK(relative_distance(gradients[i], reference[i]) < 1e-12);
}

TEST_CASE("the objective adds the penalties of all layers, and their gradients reach the layers before") {
  reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  torch::manual_seed(2);
  std::vector<std::shared_ptr<ReFTr1>> r1;
  for (int layer = 0; layer < 2; ++layer) {
    r1.push_back(model.attach<ReFTr1>({.layer = layer, .positions = "all"}, {.k = 2, .l1 = 0.5}).front());
  }
  const reft::RaggedBatch batch = some_batch();
  const auto gradients_of = [&](const Tensor& loss) {
    std::vector<Tensor> found;
    for (const auto& gradient : torch::autograd::grad({loss}, model.parameters(), {}, /*retain_graph=*/true)) found.push_back(gradient);
    return found;
  };
  const Tensor loss = reft::language_modelling_loss(model, batch);
  const auto gradients = gradients_of(loss);

  // The same out of place, by a user's hooks on the plain base.
  const std::vector<int64_t> sequences{0, 0, 0, 0, 0, 1, 1, 1};
  std::vector<reft::HookHandle> handles;
  Tensor penalty = torch::zeros({}, torch::kFloat64);
  for (int layer = 0; layer < 2; ++layer) {
    handles.push_back(base->hook_point({.layer = layer}).add([&, layer](Tensor h, const reft::ForwardContext&) {
      const Tensor w = unit(model.parameters()[layer]);
      penalty = penalty + 0.5 * split(h, w, sequences, 2).rest;
      return trained_formula(h, w, sequences, 2);
    }));
  }
  const Tensor plain = base->loss(batch.input_ids, reft::ForwardContext(batch.layout), batch.target_rows, batch.targets);
  REQUIRE(penalty.item<double>() > 0.1);
  const Tensor expected = plain + penalty;
  CHECK(loss.item<double>() == Approx(expected.item<double>()).epsilon(1e-5));
  const auto reference = gradients_of(expected);
  for (size_t i = 0; i < 2; ++i) CHECK(relative_distance(gradients[i], reference[i]) < 1e-4);
  // What the second layer's penalty alone sends to the first.
  CHECK(relative_distance(gradients_of(plain + 0.5 * penalty)[0], reference[0]) > 1e-3);
}

TEST_CASE("a context used again holds the penalty of its last forward, and none in evaluation") {
  Model model(reft::test::tiny_model());
  model.attach<ReFTr1>({.layer = 0, .positions = "all"}, {.k = 1});
  const reft::RaggedBatch batch = some_batch();
  const auto context = model.interventions().prompt_context(batch.layout, batch.prompt_lengths);
  CHECK_FALSE(context.auxiliary_loss().defined());
  const double first = (reft::loss_in_context(model.base(), batch, context), context.auxiliary_loss().item<double>());
  const double second = (reft::loss_in_context(model.base(), batch, context), context.auxiliary_loss().item<double>());
  CHECK(first > 0.0);
  CHECK(first == second);
  model.eval();
  (void)reft::loss_in_context(model.base(), batch, context);
  CHECK_FALSE(context.auxiliary_loss().defined());
}

TEST_CASE("a trainer trains ReFT-r1, and its direction keeps length 1") {
  Model model(reft::test::tiny_model());
  torch::manual_seed(2);
  const auto r1 = model.attach<ReFTr1>({.layer = 0, .positions = "all"}, {.k = 2}).front();
  const Tensor start = r1->state().at("w").clone();
  const std::vector<reft::Example> examples{{kPrompts[0], kPrompts[0], 5}, {kPrompts[1], kPrompts[1], 3}};
  const double before = reft::evaluate_loss<reft::CausalLM>(model, examples, 2, [](auto& m, const auto& batch) {
    m.train();  // the strength of training
    return reft::language_modelling_loss(m, batch);
  });
  const auto result = reft::Trainer(model, {.epochs = 60, .batch_size = 2, .learning_rate = 0.02, .weight_decay = 0.1}).fit(examples);
  CHECK(result.train_loss < 0.9 * before);
  CHECK(r1->state().at("w").norm().item<double>() == Approx(1.0).epsilon(1e-5));
  CHECK(relative_distance(r1->state().at("w"), start) > 0.1);
}

TEST_CASE("ReFT-r1 is read as it was written, and refuses what is no direction") {
  const ReFTr1 trained(6, {.k = 3, .l1 = 0.5, .alpha = 2.0});
  ReFTr1 loaded(6, ReFTr1::parse_options(trained.options()));
  loaded.load_state(trained.state());
  CHECK(loaded.options() == trained.options());
  CHECK(relative_distance(loaded.state().at("w"), trained.state().at("w")) < 1e-6);
  loaded.load_state({{"w", 5 * trained.state().at("w")}});
  CHECK(relative_distance(loaded.state().at("w"), trained.state().at("w")) < 1e-6);
  CHECK(error_text([&] { loaded.load_state({{"w", torch::zeros({6})}}); }) == "[reft::reft_r1] tensor \"w\": expected a direction, got length 0");
  CHECK(error_text([] { ReFTr1(6, {.k = 0}); }) == "[reft::reft_r1] expected k >= 1, got 0");
  CHECK(error_text([] { ReFTr1(6, {.l1 = -1.0}); }) == "[reft::reft_r1] expected l1 >= 0, got -1");
  CHECK(error_text([] { ReFTr1::parse_options({{"rank", 1}}); }) == "[reft::reft_r1] unknown option \"rank\"");
  CHECK_FALSE(trained.decays("w"));
}
