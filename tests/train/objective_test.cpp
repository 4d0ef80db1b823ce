// Objectives beside language modelling: classification and regression with a trained head, DPO, reward models, a user's own.
#include "reft/train/preference_loss.hpp"

#include <fstream>

#include "reft/checkpoint/adapter.hpp"
#include "reft/data/tokenize_preferences.hpp"
#include "reft/intervention/loreft.hpp"
#include "reft/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/examples.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

namespace {

using reft::BatchLoss;
using reft::Example;
using reft::RaggedBatch;
using reft::test::contains;
using reft::test::error_text;
using Classifier = reft::ReftModel<reft::SequenceClassifier>;
using Model = reft::ReftModel<reft::CausalLM>;

reft::SequenceClassifier tiny_classifier(int64_t num_labels, torch::Dtype dtype = torch::kFloat32) {
  torch::manual_seed(3);
  auto config = reft::test::tiny_config();
  config.num_labels = num_labels;
  reft::SequenceClassifier base(config, dtype);
  torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : base->parameters()) parameter.normal_(0.0, 0.2);
  return base;
}

/// The class, or the number, is told by the first token.
std::vector<Example> labelled_examples(int64_t count, int64_t num_labels) {
  std::vector<Example> examples = reft::test::some_examples(count);
  for (int64_t i = 0; i < count; ++i) {
    Example& example = examples[static_cast<size_t>(i)];
    example.input_ids[0] = i % num_labels;
    example.labels.assign(example.input_ids.size(), reft::kIgnoredLabel);
    example.prompt_length = std::ssize(example.input_ids);
    example.sequence_label = static_cast<double>(i % num_labels);
  }
  return examples;
}

std::vector<reft::PreferencePair> some_pairs(int64_t count) {
  std::vector<reft::PreferencePair> pairs;
  const auto prompts = reft::test::some_examples(count);
  for (int64_t i = 0; i < count; ++i) {
    reft::PreferencePair pair{prompts[static_cast<size_t>(i)], prompts[static_cast<size_t>(i)]};
    const auto answer = [&](Example& example, int64_t token) {
      example.input_ids.resize(3);
      example.labels.resize(3);
      for (const int64_t id : {token, (token + i) % 50, int64_t{2}}) example.input_ids.push_back(id), example.labels.push_back(id);
    };
    answer(pair.chosen, 40);
    answer(pair.rejected, 30);
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

RaggedBatch batch_of(const std::vector<Example>& examples) { return reft::detail::collate(examples, torch::kCPU); }

RaggedBatch batch_of(const std::vector<reft::PreferencePair>& pairs) {
  const reft::PreferencePairs source(pairs);
  return batch_of(reft::detail::examples_from(source, 0, source.size()));
}

class Reports : public reft::Callback {
 public:
  void on_step(const reft::StepReport& report) override { steps.push_back(report); }
  void on_evaluation(const reft::EvaluationReport& report) override { evaluations.push_back(report); }
  std::vector<reft::StepReport> steps;
  std::vector<reft::EvaluationReport> evaluations;
};

std::map<std::string, torch::Tensor> copied_head(const Classifier& model) {
  std::map<std::string, torch::Tensor> copies;
  for (const auto& [name, tensor] : reft::head_tensors(model.base())) copies[name] = tensor.clone();
  return copies;
}

}  // namespace

TEST_CASE("classification is the cross-entropy of the scores, and counts hits") {
  Classifier model(tiny_classifier(3));
  torch::manual_seed(5);
  model.attach<reft::LoReFT>({.layer = 0, .positions = "f1+l1"}, {.rank = 2});
  model.train_head();
  const auto examples = labelled_examples(7, 3);
  const RaggedBatch batch = batch_of(examples);
  const BatchLoss loss = reft::classification_loss(model, batch);
  CHECK(loss.num_terms == 7);
  double expected = 0.0, hits = 0.0;
  for (const Example& example : examples) {  // each alone
    const std::vector<int64_t> lengths{std::ssize(example.input_ids)};
    const torch::Tensor scores = model.forward(reft::Layout::ragged(lengths), lengths, torch::tensor(example.input_ids)).squeeze(0);
    const auto wanted = static_cast<int64_t>(*example.sequence_label);
    expected -= scores.log_softmax(0)[wanted].item<double>();
    hits += scores.argmax(0).item<int64_t>() == wanted ? 1.0 : 0.0;
  }
  CHECK(loss.sum.item<double>() == Approx(expected).epsilon(1e-5));
  CHECK(loss.metrics.at("accuracy").item<double>() == hits);
  loss.sum.backward();
  for (const torch::Tensor& parameter : model.parameters()) CHECK(parameter.grad().abs().max().item<double>() > 0.0);

  auto wrong = examples;
  wrong[2].sequence_label = 3.0;
  CHECK(error_text([&] { reft::classification_loss(model, batch_of(wrong)); }) ==
        "[reft::classification_loss] expected classes in 0..2, got 0 to 3");
  wrong[2].sequence_label.reset();
  CHECK(error_text([&] { batch_of(wrong); }) == "[reft::collate] expected a label for each of 7 sequences, got 6");
  CHECK(contains(error_text([&] { reft::classification_loss(model, batch_of(reft::test::some_examples(2))); }), "with a sequence_label, got none"));
}

TEST_CASE("regression is the squared distance to the numbers") {
  Classifier model(tiny_classifier(1));
  auto examples = labelled_examples(4, 2);
  examples[1].sequence_label = -2.5;
  const RaggedBatch batch = batch_of(examples);
  const torch::Tensor scores = model.forward(batch.layout, batch.prompt_lengths, batch.input_ids).squeeze(1);
  const BatchLoss loss = reft::regression_loss(model, batch);
  CHECK(loss.sum.item<double>() == Approx((scores - torch::tensor({0.0, -2.5, 0.0, 1.0})).square().sum().item<double>()).epsilon(1e-6));
  CHECK(loss.num_terms == 4);
  Classifier wide(tiny_classifier(2));
  CHECK(error_text([&] { reft::regression_loss(wide, batch); }) == "[reft::regression_loss] expected a base with one score, got 2");
}

TEST_CASE("a head is trained with the interventions, at its own learning rate, and nothing else of the base") {
  const reft::SequenceClassifier base = tiny_classifier(2);
  std::map<std::string, torch::Tensor> before;
  for (const auto& item : base->named_parameters()) before[item.key()] = item.value().detach().clone();
  const auto examples = labelled_examples(12, 2);
  Classifier model(base);
  model.attach<reft::LoReFT>({.layer = 1, .positions = "f1+l1"}, {.rank = 2});
  SECTION("both") {
    model.train_head(0.5);
    Reports reports;
    reft::Trainer<reft::SequenceClassifier> trainer(model, {.epochs = 30, .batch_size = 4, .learning_rate = 1e-2}, &reft::classification_loss<reft::SequenceClassifier>);
    const auto result = trainer.add(reports).fit(examples, examples);
    CHECK(result.eval_metrics.at("accuracy") == 1.0);
    CHECK(reports.steps.back().loss < 0.4 * reports.steps.front().loss);
    CHECK(reports.steps.back().metrics.at("accuracy") == 1.0);
    for (const auto& item : base->named_parameters()) CHECK(item.value().equal(before.at(item.key())) == (item.key() != "head"));
    CHECK(model.num_head_parameters() == 64);
    CHECK(model.num_trainable_parameters() == 64 + 2 * (2 * 2 * 32 + 2));  // f1 and l1 apart
    CHECK(contains(model.trainable_summary(), "head  score_weight (2, 32)  64 parameters"));
  }
  SECTION("its rate is its own") {
    model.train_head(0.25);
    reft::Trainer<reft::SequenceClassifier>(model, {.max_steps = 1, .batch_size = 12, .learning_rate = 1e-2, .max_gradient_norm = 0.0},
                                            &reft::classification_loss<reft::SequenceClassifier>).fit(examples);
    // AdamW's first step is the rate in every coordinate.
    const torch::Tensor step = (base->named_parameters()["head"].detach() - before.at("head")).abs();
    CHECK(step.max().item<double>() == Approx(0.0025).epsilon(1e-3));
  }
  SECTION("the head alone") {
    Classifier alone(base);
    alone.train_head();
    reft::Trainer<reft::SequenceClassifier> trainer(alone, {.epochs = 1, .batch_size = 4, .learning_rate = 1e-2}, &reft::classification_loss<reft::SequenceClassifier>);
    CHECK(trainer.fit(examples).steps == 3);
    CHECK(!base->named_parameters()["head"].equal(before.at("head")));
  }
  Model headless(reft::test::tiny_model());
  CHECK(error_text([&] { headless.train_head(); }) == "[reft::train_head] the base has no head of its task");
}

TEST_CASE("a stopped run with a head goes on bit for bit, and the best head is the result") {
  const auto examples = labelled_examples(10, 2);
  const reft::test::TemporaryFolder folder;
  reft::TrainerOptions options{.epochs = 4, .batch_size = 3, .learning_rate = 3e-2, .evaluate_every = 2, .metric_for_best = "accuracy"};
  const auto fit = [&](Classifier& model) {
    torch::manual_seed(5);
    model.attach<reft::LoReFT>({.layer = 0, .positions = "f1+l1"}, {.rank = 2});
    model.train_head(2.0);
    return reft::Trainer<reft::SequenceClassifier>(model, options, &reft::classification_loss<reft::SequenceClassifier>).fit(examples, examples);
  };
  Classifier whole(tiny_classifier(2)), part(tiny_classifier(2)), rest(tiny_classifier(2));
  const auto expected = fit(whole);
  options.checkpoint = folder / "checkpoint.safetensors";
  options.resume = true;
  int64_t steps = 0;
  options.should_stop = [&] { return ++steps == 7; };
  CHECK(fit(part).stopped);
  options.should_stop = nullptr;
  const auto result = fit(rest);
  CHECK(result.best_step == expected.best_step);
  CHECK(result.eval_metrics == expected.eval_metrics);
  const auto left = copied_head(whole), right = copied_head(rest);
  for (const auto& [name, tensor] : left) CHECK(tensor.equal(right.at(name)));
  CHECK(reft::evaluate_objective<reft::SequenceClassifier>(rest, reft::ListedExamples(examples), 4, &reft::classification_loss<reft::SequenceClassifier>)
            .at("accuracy") == result.eval_metrics.at("accuracy"));

  options = {.epochs = 1, .metric_for_best = "rouge"};
  Classifier other(tiny_classifier(2));
  CHECK(error_text([&] { fit(other); }) == "[reft::Trainer] metric_for_best \"rouge\": expected loss or one of [accuracy]");
}

TEST_CASE("a trained head is kept in float32 and saved with the adapter") {
  const auto examples = labelled_examples(6, 2);
  const reft::test::TemporaryFolder folder;
  Classifier model(tiny_classifier(2, torch::kBFloat16));
  model.attach<reft::LoReFT>({.layer = 1, .positions = "f1+l1"}, {.rank = 2});
  model.train_head();
  reft::Trainer<reft::SequenceClassifier>(model, {.epochs = 2, .batch_size = 3, .learning_rate = 1e-2}, &reft::classification_loss<reft::SequenceClassifier>).fit(examples);
  CHECK(reft::head_tensors(model.base()).at("score.weight").scalar_type() == torch::kFloat32);
  reft::save_adapter(model, folder / "adapter", {.base_model = "tiny", .labels = {"bad", "good"}});
  Classifier loaded(tiny_classifier(2, torch::kBFloat16));
  const reft::AdapterInfo info = reft::load_adapter(loaded, folder / "adapter");
  CHECK(info.has_head);
  CHECK(info.labels == std::vector<std::string>{"bad", "good"});
  const RaggedBatch batch = batch_of(examples);
  const auto scores = [&](Classifier& of) { return of.forward(batch.layout, batch.prompt_lengths, batch.input_ids); };
  CHECK(scores(loaded).equal(scores(model)));
  Classifier other(tiny_classifier(3));
  CHECK(contains(error_text([&] { reft::load_adapter(other, folder / "adapter"); }), "score.weight: expected shape [3, 32], got [2, 32]"));
}

TEST_CASE("DPO gives the values of transformers and TRL's formula") {
  const std::filesystem::path golden = std::filesystem::path(REFT_SOURCE_DIR) / "tests/golden";
  std::ifstream stream(golden / "dpo.json");
  const auto json = nlohmann::json::parse(stream);
  Model model(reft::load_causal_lm(golden / "pyreft/base"));
  // h + b0 e5 + b1 e11
  torch::Tensor R = torch::zeros({2, 24});
  for (int i = 0; i < 2; ++i) R[i][json["columns"][static_cast<size_t>(i)].get<int64_t>()] = 1.0;
  const auto edit = std::make_shared<reft::LobiReFT>(24, reft::LowRankOptions{.rank = 2});
  edit->load_state({{"R", R}, {"b", torch::tensor(json["b"].get<std::vector<double>>(), torch::kFloat32)}});
  model.attach({edit, {{.layer = 0}}, reft::Positions::parse("f1+l1")});
  std::vector<reft::PreferencePair> pairs;
  for (const auto& row : json["pairs"]) {
    const auto example = [&](const char* key) {
      Example made{row["prompt"], {}, std::ssize(row["prompt"])};
      made.labels.assign(made.input_ids.size(), reft::kIgnoredLabel);
      for (const int64_t id : row[key]) made.input_ids.push_back(id), made.labels.push_back(id);
      return made;
    };
    pairs.push_back({example("chosen"), example("rejected")});
  }
  const RaggedBatch batch = batch_of(pairs);
  const reft::DpoLoss<reft::CausalLM> dpo(json["beta"].get<double>());
  const BatchLoss loss = dpo(model, batch);
  CHECK(loss.num_terms == 3);
  CHECK(loss.sum.item<double>() == Approx(json["loss"].get<double>()).margin(1e-5));
  const auto references = json["references"].get<std::vector<double>>();
  CHECK((dpo.reference(model.base(), batch).to(torch::kFloat64) - torch::tensor(references, torch::kFloat64)).abs().max().item<double>() < 1e-5);
  const auto sum = [&](const char* key) {
    const auto values = json[key].get<std::vector<double>>();
    return std::accumulate(values.begin(), values.end(), 0.0);
  };
  CHECK(loss.metrics.at("chosen_reward").item<double>() == Approx(sum("chosen_rewards")).margin(1e-5));
  CHECK(loss.metrics.at("rejected_reward").item<double>() == Approx(sum("rejected_rewards")).margin(1e-5));
  CHECK(loss.metrics.at("margin").item<double>() == Approx(sum("chosen_rewards") - sum("rejected_rewards")).margin(1e-5));
  loss.sum.backward();
  const torch::Tensor gradient = edit->named_parameters()["b"].grad();
  for (int i = 0; i < 2; ++i) CHECK(gradient[i].item<double>() == Approx(json["gradient"][static_cast<size_t>(i)].get<double>()).margin(1e-5));
}

TEST_CASE("DPO raises the margins against a reference that stays, computed once") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  for (int layer = 0; layer < 2; ++layer) model.attach<reft::LoReFT>({.layer = layer, .positions = "f1+l1"}, {.rank = 4, .identity_start = true});
  const auto pairs = some_pairs(8);
  const RaggedBatch batch = batch_of(pairs);
  const reft::DpoLoss<reft::CausalLM> dpo(0.5);
  // At the start policy and reference are one.
  const BatchLoss start = dpo(model, batch);
  CHECK(start.sum.item<double>() == Approx(8 * std::log(2.0)).epsilon(1e-5));
  CHECK(std::abs(start.metrics.at("margin").item<double>()) < 1e-4);
  const torch::Tensor before = dpo.reference(base, batch);
  // Sequence by sequence it is what a plain language model says.
  Model plain(base);
  const auto& chosen = pairs[3].chosen;
  CHECK(before[6].item<double>() == Approx(-reft::language_modelling_loss(plain, batch_of(std::vector<Example>{chosen})).item<double>()).epsilon(1e-5));

  Reports reports;
  reft::Trainer<reft::CausalLM> trainer(model, {.epochs = 10, .batch_size = 2, .accumulate = 2, .learning_rate = 2e-2}, dpo);
  const reft::PreferencePairs source(pairs);
  trainer.add(reports).fit(source, source);
  CHECK(reports.steps.size() == 20);  // batches of two pairs, two a step
  CHECK(reports.steps.back().loss < 0.5 * reports.steps.front().loss);
  CHECK(reports.evaluations.front().metrics.at("margin") < reports.evaluations.back().metrics.at("margin"));
  CHECK(reports.evaluations.back().metrics.at("accuracy") == 1.0);
  CHECK(reports.evaluations.back().metrics.at("margin") ==
        Approx(reports.evaluations.back().metrics.at("chosen_reward") - reports.evaluations.back().metrics.at("rejected_reward")).epsilon(1e-5));
  CHECK(dpo.num_computed() == 16);
  CHECK(reft::DpoLoss<reft::CausalLM>().reference(base, batch).equal(before));  // computed anew, with a trained model beside it

  CHECK(error_text([&] { dpo(model, batch_of(std::vector<Example>{chosen})); }) ==
        "[reft::DpoLoss] expected pairs of sequences, chosen and rejected in turn, got 1 sequences");
  CHECK(error_text([] { reft::DpoLoss<reft::CausalLM>(0.0); }) == "[reft::DpoLoss] expected a positive beta, got 0");
}

TEST_CASE("a reward model is Bradley and Terry's likelihood of the choices") {
  Classifier model(tiny_classifier(1));
  model.attach<reft::LoReFT>({.layer = 1, .positions = "l1"}, {.rank = 2});
  model.train_head();
  const auto pairs = some_pairs(6);
  const RaggedBatch batch = batch_of(pairs);
  const torch::Tensor rewards = model.forward(batch.layout, batch.prompt_lengths, batch.input_ids).view({6, 2});
  const torch::Tensor margins = rewards.select(1, 0) - rewards.select(1, 1);
  const BatchLoss loss = reft::reward_loss(model, batch);
  CHECK(loss.sum.item<double>() == Approx((1.0 + (-margins).exp()).log().sum().item<double>()).epsilon(1e-5));
  CHECK(loss.metrics.at("margin").item<double>() == Approx(margins.sum().item<double>()).epsilon(1e-5));
  CHECK(loss.metrics.at("accuracy").item<double>() == margins.gt(0).sum().item<double>());
  reft::Trainer<reft::SequenceClassifier> trainer(model, {.epochs = 20, .batch_size = 3, .learning_rate = 1e-2}, &reft::reward_loss<reft::SequenceClassifier>);
  const reft::PreferencePairs source(pairs);
  CHECK(trainer.fit(source, source).eval_metrics.at("accuracy") == 1.0);
  Classifier wide(tiny_classifier(2));
  CHECK(error_text([&] { reft::reward_loss(wide, batch); }) == "[reft::reward_loss] expected a base with one score, got 2");
}

TEST_CASE("a user's own objective is one function, of tokens or of whatever it counts") {
  const auto examples = reft::test::some_examples(8);
  const auto losses = [&](const reft::Objective<reft::CausalLM>& objective) {
    Model model(reft::test::tiny_model());
    torch::manual_seed(5);
    model.attach<reft::LoReFT>({.layer = 0}, {.rank = 2});
    Reports reports;
    reft::Trainer<reft::CausalLM>(model, {.epochs = 1, .batch_size = 2, .accumulate = 2}, objective).add(reports).fit(examples);
    return reports;
  };
  const auto by_token = [](Model& model, const RaggedBatch& batch) { return reft::language_modelling_loss(model, batch); };
  const auto by_sequence = [](Model& model, const RaggedBatch& batch) {
    return BatchLoss(reft::language_modelling_loss(model, batch), batch.layout.num_sequences(),
                     {{"tokens", torch::tensor(static_cast<double>(batch.num_tokens()))}});
  };
  const Reports tokens = losses(by_token), sequences = losses(by_sequence);
  REQUIRE(sequences.steps.size() == 2);
  for (const auto& report : sequences.steps) {
    const double length = report.metrics.at("tokens");  // mean of a sequence; all but 3 of them are supervised
    CHECK(length > 5.0);
    const auto& other = tokens.steps[static_cast<size_t>(report.step - 1)];
    CHECK(other.metrics.empty());
    if (report.step == 1) CHECK(report.loss == Approx(other.loss * (length - 3.0)).epsilon(1e-5));
  }
}
