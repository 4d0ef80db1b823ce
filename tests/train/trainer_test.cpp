#include "reft/train/trainer.hpp"

#include <torch/optim/adamw.h>

#include <array>
#include <barrier>
#include <thread>

#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/examples.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using Losses = std::vector<double>;
using reft::test::largest_difference;
using reft::test::some_examples;

Model tiny_reft(const reft::CausalLM& base, double dropout = 0.0) {
  torch::manual_seed(5);
  Model model(base);
  for (int layer = 0; layer < 2; ++layer) model.attach<reft::LoReFT>({.layer = layer, .positions = "f1+l1"}, {.rank = 4, .dropout = dropout});
  return model;
}

/// Two threads of this process that train together.
struct Meeting {
  std::barrier<> both{2};
  std::array<torch::Tensor, 2> parts;
};

class ThreadRank : public reft::Communicator {
 public:
  ThreadRank(Meeting& meeting, int64_t rank) : meeting_(meeting), rank_(rank) {}
  int64_t rank() const override { return rank_; }
  int64_t size() const override { return 2; }

  void all_reduce_sum(torch::Tensor& values) override {
    meeting_.parts[rank_] = values.clone();
    meeting_.both.arrive_and_wait();
    values.copy_(meeting_.parts[0] + meeting_.parts[1]);
    meeting_.both.arrive_and_wait();
    messages.push_back(values.clone());
  }

  std::vector<torch::Tensor> messages;

 private:
  Meeting& meeting_;
  int64_t rank_;
};

class Recorder : public reft::test::LossRecorder {
 public:
  void on_evaluation(const reft::EvaluationReport& report) override { evaluations.push_back(report.step); }
  std::vector<int64_t> evaluations;
};

Losses train(Model& model, const std::vector<reft::Example>& examples, reft::TrainerOptions options) {
  Recorder recorder;
  reft::Trainer<reft::CausalLM> trainer(model, std::move(options));
  trainer.add(recorder).fit(examples);
  return recorder.losses;
}

bool same_state(const Model& a, const Model& b) {
  const auto left = a.interventions().interventions(), right = b.interventions().interventions();
  for (size_t i = 0; i < left.size(); ++i) {
    const auto other = right[i]->state();
    for (const auto& [name, tensor] : left[i]->state()) {
      if (!tensor.equal(other.at(name))) return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("the trainer lowers the loss and leaves the base as it was") {
  const reft::CausalLM base = reft::test::tiny_model();
  std::vector<torch::Tensor> before;
  for (const torch::Tensor& parameter : base->parameters()) before.push_back(parameter.clone());
  Model model = tiny_reft(base);
  const auto examples = some_examples(16);
  const Losses losses = train(model, examples, {.epochs = 20, .batch_size = 4, .learning_rate = 2e-2});
  CHECK(losses.size() == 80);
  CHECK(losses.back() < 0.8 * losses.front());
  const auto after = base->parameters();
  for (size_t i = 0; i < before.size(); ++i) CHECK(after[i].equal(before[i]));
}

TEST_CASE("a hand-written loop with torch's AdamW gives the trainer's losses") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(12);
  Model trained = tiny_reft(base), by_hand = tiny_reft(base);
  const Losses losses = train(trained, examples, {.epochs = 5, .batch_size = 4, .learning_rate = 1e-2, .schedule = reft::ScheduleKind::constant,
                                                  .max_gradient_norm = 0.0, .shuffle = false});
  Losses expected;
  torch::optim::AdamW optimizer(by_hand.parameters(), torch::optim::AdamWOptions(1e-2).weight_decay(0.0));
  for (int epoch = 0; epoch < 5; ++epoch) {
    for (int64_t first = 0; first < 12; first += 4) {
      std::vector<const reft::Example*> chosen;
      for (int64_t i = first; i < first + 4; ++i) chosen.push_back(&examples[i]);
      const reft::RaggedBatch batch = reft::collate(chosen, torch::kCPU);
      optimizer.zero_grad();
      const torch::Tensor loss = reft::language_modelling_loss(by_hand, batch) / static_cast<double>(batch.num_supervised());
      loss.backward();
      optimizer.step();
      expected.push_back(loss.item<double>());
    }
  }
  CHECK(largest_difference(losses, expected) < 1e-5);
  for (const auto& intervention : by_hand.interventions().interventions()) {
    CHECK(reft::orthonormality_error(intervention->state().at("R")) < 1e-5);
  }
}

TEST_CASE("accumulated batches give the step of one large batch") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(16);
  Model parts = tiny_reft(base), whole = tiny_reft(base);
  const Losses a = train(parts, examples, {.epochs = 3, .batch_size = 2, .accumulate = 4});
  const Losses b = train(whole, examples, {.epochs = 3, .batch_size = 8});
  CHECK(largest_difference(a, b) < 1e-5);
}

TEST_CASE("two ranks train as one with the same batches: gradients, losses, parameters, and one message a step") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(9);  // batches of 4, 4 and 1: the second rank has nothing of the last
  const reft::TrainerOptions options{.epochs = 7, .batch_size = 4, .learning_rate = 1e-2, .weight_decay = 0.1};
  Model alone = tiny_reft(base), first = tiny_reft(base), second = tiny_reft(base), by_hand = tiny_reft(base);
  const Losses expected = train(alone, examples, options);

  Meeting meeting;
  std::array<std::shared_ptr<ThreadRank>, 2> ranks;
  for (int64_t i : {0, 1}) ranks[i] = std::make_shared<ThreadRank>(meeting, i);
  const auto run = [&](Model& model, int64_t rank) {
    reft::TrainerOptions own = options;
    own.communicator = ranks[rank];
    return train(model, examples, own);
  };
  Losses other;
  std::thread thread([&] { other = run(second, 1); });
  const Losses found = run(first, 0);
  thread.join();
  CHECK(expected.size() == 21);
  CHECK(largest_difference(found, expected) < 1e-5);
  CHECK(found == other);
  CHECK(same_state(first, second));
  CHECK(ranks[0]->messages.size() == 22);  // one to agree, then one a step

  reft::Sampler sampler(9, 4, options.seed, true);
  std::vector<const reft::Example*> chosen;
  for (const int64_t index : sampler.next()) chosen.push_back(&examples[index]);
  by_hand.train();
  reft::Optimizer optimizer(by_hand.interventions().interventions());
  optimizer.zero_grad();
  reft::language_modelling_loss(by_hand, reft::collate(chosen, torch::kCPU)).backward();
  const torch::Tensor gradients = torch::cat(optimizer.gradients()).to(torch::kFloat64);
  const torch::Tensor& message = ranks[0]->messages[1];
  CHECK(reft::test::relative_distance(message.narrow(0, message.numel() - gradients.numel(), gradients.numel()), gradients) < 1e-6);
}

TEST_CASE("one rank that is asked to stop stops both after the same step") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(8);
  Meeting meeting;
  Model first = tiny_reft(base), second = tiny_reft(base);
  const auto run = [&](Model& model, int64_t rank) {
    int asked = 0;
    reft::TrainerOptions options{.epochs = 10, .batch_size = 4};
    options.communicator = std::make_shared<ThreadRank>(meeting, rank);
    options.should_stop = [&asked, rank] { return rank == 1 && ++asked == 3; };
    return reft::Trainer<reft::CausalLM>(model, options).fit(examples);
  };
  reft::TrainingResult other;
  std::thread thread([&] { other = run(second, 1); });
  const reft::TrainingResult result = run(first, 0);
  thread.join();
  CHECK((result.stopped && other.stopped));
  CHECK(result.steps == 3);
  CHECK(other.steps == 3);
}

TEST_CASE("a step never mixes two epochs, and the last small batch is kept") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model = tiny_reft(base);
  // 7 examples in batches of 2 are 4 batches; two a step make 2 steps an epoch.
  CHECK(train(model, some_examples(7), {.epochs = 3, .batch_size = 2, .accumulate = 2}).size() == 6);
  Model limited = tiny_reft(base);
  CHECK(train(limited, some_examples(7), {.epochs = 3, .max_steps = 5, .batch_size = 2, .accumulate = 2}).size() == 5);
  Model untouched = tiny_reft(base);
  CHECK(train(untouched, some_examples(7), {.max_steps = 0}).empty());
  CHECK(same_state(untouched, tiny_reft(base)));
}

TEST_CASE("a stopped run goes on bit for bit") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(10);
  const reft::test::TemporaryFolder folder;
  // With dropout, so that the random generator matters too.
  reft::TrainerOptions options{.epochs = 6, .batch_size = 3, .learning_rate = 1e-2, .weight_decay = 0.1};
  Model whole = tiny_reft(base, 0.2);
  torch::manual_seed(9);
  const Losses expected = train(whole, examples, options);

  options.checkpoint = folder / "checkpoint.safetensors";
  options.resume = true;
  Losses losses;
  for (const int64_t stop_after : {5, 7, 100}) {
    Model model = tiny_reft(base, 0.2);
    torch::manual_seed(losses.empty() ? 9 : 1234);  // a new process starts with another generator
    int64_t steps = 0;
    options.should_stop = [&] { return ++steps == stop_after; };
    const Losses part = train(model, examples, options);
    losses.insert(losses.end(), part.begin(), part.end());
    if (stop_after == 100) CHECK(same_state(model, whole));
  }
  CHECK(losses == expected);
}

TEST_CASE("a checkpoint of another run is refused") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  reft::TrainerOptions options{.epochs = 2, .batch_size = 4, .checkpoint = folder / "checkpoint.safetensors", .should_stop = [] { return true; }};
  Model model = tiny_reft(base);
  train(model, some_examples(8), options);
  options.resume = true;
  options.learning_rate = 1.0;
  CHECK(reft::test::error_text([&] { train(model, some_examples(8), options); }) ==
        "[reft::Trainer] cannot resume: learning_rate was 0.0009, now it is 1.0");
  options.learning_rate = 9e-4;
  Model other(base);
  other.attach<reft::LoReFT>({.layer = 0}, {.rank = 2});
  CHECK(reft::test::contains(reft::test::error_text([&] { train(other, some_examples(8), options); }), "cannot resume: interventions was"));
  options.seed = 7;
  CHECK(reft::test::contains(reft::test::error_text([&] { train(model, some_examples(8), options); }), "cannot resume: seed was 42, now it is 7"));
  options.seed = 42;
  auto changed = some_examples(8);
  changed[0].input_ids[1] += 1;
  CHECK(reft::test::contains(reft::test::error_text([&] { train(model, changed, options); }), "cannot resume: first_examples was"));
}

TEST_CASE("evaluation is the mean over supervised tokens, without dropout, at the end of every epoch") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model = tiny_reft(base, 0.5);
  const auto examples = some_examples(9);
  const reft::Objective<reft::CausalLM> objective = &reft::language_modelling_loss<reft::CausalLM>;
  model.train();
  const double in_threes = reft::evaluate_loss(model, examples, 3, objective), at_once = reft::evaluate_loss(model, examples, 9, objective);
  CHECK(in_threes == Approx(at_once).epsilon(1e-6));
  CHECK(model.is_training());
  /// Evaluates once more, with the parameters and the R that the trainer evaluated.
  struct Again : reft::Callback {
    std::function<double()> evaluate;
    Losses reported, found;
    void on_evaluation(const reft::EvaluationReport& report) override {
      reported.push_back(report.metrics.at("loss"));
      found.push_back(evaluate());
    }
  } again;
  again.evaluate = [&] { return reft::evaluate_loss(model, examples, 3, objective); };
  Recorder recorder;
  reft::Trainer<reft::CausalLM> trainer(model, {.epochs = 3, .batch_size = 3});
  const auto result = trainer.add(recorder).add(again).fit(examples, examples);
  CHECK(recorder.evaluations == std::vector<int64_t>{3, 6, 9});
  CHECK(again.found == again.reported);
  CHECK(*result.eval_loss == again.reported.back());
  // Afterwards each intervention rebuilds its own R, where the optimizer rebuilt a stack of them: another kernel, other last bits.
  CHECK(again.evaluate() == Approx(*result.eval_loss).epsilon(1e-6));
}

TEST_CASE("the result counts what was done") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model = tiny_reft(base);
  const auto examples = some_examples(8);
  Recorder recorder;
  reft::Trainer<reft::CausalLM> trainer(model, {.epochs = 2, .batch_size = 4});
  const auto result = trainer.add(recorder).fit(examples);
  int64_t tokens = 0;
  for (const auto& example : examples) tokens += std::ssize(example.input_ids);
  CHECK(result.tokens == 2 * tokens);
  CHECK(result.steps == 4);
  CHECK(result.train_loss == Approx((recorder.losses[2] + recorder.losses[3]) / 2));
  CHECK(!result.eval_loss);
  CHECK(!result.stopped);
}

TEST_CASE("a loss that is not finite stops the run, naming step and site, and nothing is written") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  Model model = tiny_reft(base);
  auto b = model.interventions().interventions()[3]->named_parameters()["b"];  // of layer 1, suffix
  {
    torch::NoGradGuard no_grad;
    b.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  const auto text = reft::test::error_text([&] { train(model, some_examples(4), {.checkpoint = folder / "checkpoint.safetensors"}); });
  CHECK(text == "[reft::Trainer] step 1: the loss is nan and the gradient's norm 0: the first value that is not finite stands at "
                "layers.1.block_output; lower the learning rate, or look at the data");
  CHECK(reft::test::entry_count(folder.path()) == 0);
}

namespace {

/// Falls for three evaluations and rises then.
double valley(int64_t evaluation) { return std::abs(static_cast<double>(evaluation - 3)); }

}  // namespace

TEST_CASE("the parameters of the best evaluation are the result, and patience ends the run") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(8);
  Model model = tiny_reft(base);
  Recorder recorder;
  reft::Trainer<reft::CausalLM> trainer(model, {.epochs = 10, .batch_size = 4, .learning_rate = 1e-2, .schedule = reft::ScheduleKind::constant,
                                                .evaluate_every = 1, .metric_for_best = "valley", .patience = 4});
  std::vector<std::map<std::string, torch::Tensor>> states;
  int64_t evaluations = 0;
  trainer.add_metric("valley", [&](Model& evaluated) {
    CHECK(!evaluated.is_training());
    std::map<std::string, torch::Tensor> state;
    for (const auto& item : evaluated.interventions().named_parameters()) state[item.key()] = item.value().detach().clone();
    states.push_back(state);
    return valley(++evaluations);
  }, /*lower_is_better=*/true);
  const auto result = trainer.add(recorder).fit(examples, examples);
  CHECK(recorder.evaluations == std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7});
  CHECK(result.steps == 7);
  CHECK(result.out_of_patience);
  CHECK(!result.stopped);
  CHECK(result.best_step == 3);
  CHECK(result.eval_metrics.at("valley") == 0.0);
  CHECK(result.eval_loss == result.eval_metrics.at("loss"));
  bool moved_on = false;
  for (const auto& item : model.interventions().named_parameters()) {
    CHECK(item.value().equal(states[2].at(item.key())));
    moved_on |= !states[2].at(item.key()).equal(states[6].at(item.key()));
  }
  CHECK(moved_on);
  // What the model does is what it did then.
  const reft::Objective<reft::CausalLM> objective = &reft::language_modelling_loss<reft::CausalLM>;
  CHECK(reft::evaluate_loss(model, examples, 4, objective) == Approx(*result.eval_loss).epsilon(1e-6));
}

TEST_CASE("a stopped run with patience and a best metric goes on as the whole one") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(8);
  const reft::test::TemporaryFolder folder;
  reft::TrainerOptions options{.epochs = 10, .batch_size = 4, .learning_rate = 1e-2, .evaluate_every = 1, .metric_for_best = "valley", .patience = 4};
  int64_t evaluations = 0;
  const auto fit = [&](Model& model) {
    reft::Trainer<reft::CausalLM> trainer(model, options);
    trainer.add_metric("valley", [&](Model&) { return valley(++evaluations); }, true);
    return trainer.fit(examples, examples);
  };
  Model whole = tiny_reft(base), part = tiny_reft(base), rest = tiny_reft(base);
  const auto expected = fit(whole);
  evaluations = 0;
  options.checkpoint = folder / "checkpoint.safetensors";
  options.resume = true;
  options.should_stop = [&] { return evaluations == 5; };
  CHECK(fit(part).stopped);
  options.should_stop = nullptr;
  const auto found = fit(rest);
  CHECK(found.steps == expected.steps);
  CHECK(found.best_step == 3);
  CHECK(found.eval_metrics == expected.eval_metrics);
  CHECK(same_state(rest, whole));
}

TEST_CASE("older checkpoints are kept with their step, and any of them can be resumed from") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto examples = some_examples(8);
  const reft::test::TemporaryFolder folder;
  reft::TrainerOptions options{.epochs = 5, .batch_size = 4, .learning_rate = 1e-2, .checkpoint = folder / "checkpoint.safetensors",
                               .checkpoint_every = 2, .keep_checkpoints = 3};
  Model whole = tiny_reft(base);
  train(whole, examples, options);
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  };
  CHECK(names() == std::vector<std::string>{"checkpoint-4.safetensors", "checkpoint-6.safetensors", "checkpoint.safetensors"});
  CHECK(reft::load_training_state(folder / "checkpoint-4.safetensors").progress["step"] == 4);
  std::filesystem::rename(folder / "checkpoint-4.safetensors", folder / "checkpoint.safetensors");
  options.resume = true;
  Model resumed = tiny_reft(base);
  CHECK(train(resumed, examples, options).size() == 6);
  CHECK(same_state(resumed, whole));
  reft::test::write_text(folder / "checkpoint-mine.safetensors", "x");
  reft::remove_checkpoints(options.checkpoint);
  CHECK(names() == std::vector<std::string>{"checkpoint-mine.safetensors"});
}

TEST_CASE("checkpoints are written by the clock too") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::test::TemporaryFolder folder;
  reft::TrainerOptions options{.epochs = 3, .batch_size = 4, .checkpoint = folder / "checkpoint.safetensors", .checkpoint_minutes = 1e-9};
  Model model = tiny_reft(base);
  train(model, some_examples(8), options);
  CHECK(reft::load_training_state(options.checkpoint).progress["step"] == 5);
  options.checkpoint = folder / "other.safetensors";
  options.checkpoint_minutes = 60.0;
  Model other = tiny_reft(base);
  train(other, some_examples(8), options);
  CHECK(!std::filesystem::exists(options.checkpoint));
}

TEST_CASE("a mixture decides how often each part of the examples is trained on") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model = tiny_reft(base);
  auto examples = some_examples(9);
  for (int64_t i = 0; i < 6; ++i) examples[static_cast<size_t>(i)] = {{1, 2}, {-100, 2}, 1};  // 2 tokens each
  for (int64_t i = 6; i < 9; ++i) examples[static_cast<size_t>(i)] = {{1, 2, 3, 4, 5}, {-100, 2, 3, 4, 5}, 1};
  reft::Trainer<reft::CausalLM> trainer(model, {.epochs = 2, .batch_size = 3, .mixture = {{6, 3}, {1, 2}}});
  CHECK(trainer.fit(examples).tokens == 2 * (3 * 2 + 6 * 5));
}

TEST_CASE("trainer options that cannot be meant are refused") {
  Model model = tiny_reft(reft::test::tiny_model());
  CHECK(reft::test::error_text([&] { train(model, {}, {}); }) == "[reft::Trainer] expected at least one example, got none");
  CHECK(reft::test::error_text([&] { train(model, some_examples(2), {.accumulate = 0}); }) ==
        "[reft::Trainer] expected epochs >= 0 and accumulate >= 1, got 3 and 0");
  Model bare(reft::test::tiny_model());
  CHECK(reft::test::error_text([&] { train(bare, some_examples(2), {}); }) ==
        "[reft::Optimizer] expected at least one trainable parameter, got none");
  Model fine = tiny_reft(reft::test::tiny_model());
  CHECK(reft::test::error_text([&] { train(fine, some_examples(2), {.metric_for_best = "loss"}); }) ==
        "[reft::Trainer] metric_for_best is \"loss\", but there is nothing to evaluate");
  CHECK(reft::test::error_text([&] { train(fine, some_examples(2), {.metric_for_best = "rouge"}); }) ==
        "[reft::Trainer] metric_for_best \"rouge\": expected loss or one of []");
  CHECK(reft::test::error_text([&] { train(fine, some_examples(2), {.patience = 2}); }) == "[reft::Trainer] patience needs a metric_for_best");
}
