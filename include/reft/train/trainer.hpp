#pragma once

#include <torch/types.h>

#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reft/data/sampler.hpp"
#include "reft/train/callback.hpp"
#include "reft/train/objective.hpp"
#include "reft/train/optimizer.hpp"
#include "reft/train/schedule.hpp"
#include "reft/train/training_state.hpp"

namespace reft {

struct TrainerOptions {
  int64_t epochs = 3;
  std::optional<int64_t> max_steps = {};  ///< optimizer steps at most; 0 trains nothing
  int64_t batch_size = 8;                 ///< sequences of one forward
  int64_t accumulate = 1;                 ///< forwards of one optimizer step
  double learning_rate = 9e-4;
  ScheduleKind schedule = ScheduleKind::linear;
  double warmup_ratio = 0.0;
  double weight_decay = 0.0;
  double max_gradient_norm = 1.0;
  uint64_t seed = 42;  ///< of the order of examples
  bool shuffle = true;
  std::filesystem::path checkpoint = {};  ///< file of the training state; empty = none is written
  int64_t checkpoint_every = 0;           ///< steps between two; 0 = only when stopped
  bool resume = false;                    ///< go on from `checkpoint` if it is there
  std::function<bool()> should_stop = {}; ///< asked after every step
};

struct TrainingResult {
  double train_loss = 0.0;          ///< mean over the last epoch's steps, of all steps if there were fewer
  std::optional<double> eval_loss;  ///< mean over the supervised tokens of the evaluation examples
  int64_t steps = 0;
  int64_t tokens = 0;               ///< of all trained sequences
  double seconds = 0.0;             ///< the training loop
  bool stopped = false;             ///< `should_stop` said so before the last step

  double tokens_per_second() const { return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0; }
};

/// Mean loss over the supervised tokens of `examples`, in evaluation mode and without gradients.
/// @throws DataError for no examples.
template <class Base>
double evaluate_loss(ReftModel<Base>& model, const std::vector<Example>& examples, int64_t batch_size,
                     const Objective<Base>& objective) {
  torch::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.eval();
  double sum = 0.0;
  int64_t count = 0;
  for (int64_t first = 0; first < std::ssize(examples); first += batch_size) {
    std::vector<const Example*> chosen;
    for (int64_t i = first; i < std::min(first + batch_size, std::ssize(examples)); ++i) chosen.push_back(&examples[i]);
    const RaggedBatch batch = collate(chosen, model.device());
    sum += objective(model, batch).template item<double>();
    count += batch.num_supervised();
  }
  model.train(was_training);
  if (count == 0) fail<DataError>("evaluate_loss", "expected at least one supervised token, got none");
  return sum / static_cast<double>(count);
}

/// Trains the interventions of a model by AdamW; the base stays as it is.
///   Trainer(model, {.epochs = 9}).fit(examples);
/// A step takes `accumulate` batches of one epoch; its loss is the sum over their supervised tokens, divided once.
template <HookedTransformer Base>
class Trainer {
 public:
  Trainer(ReftModel<Base>& model, TrainerOptions options, Objective<Base> objective)
      : model_(model), options_(std::move(options)), objective_(std::move(objective)) {}

  /// Language modelling.
  Trainer(ReftModel<Base>& model, TrainerOptions options = {})
    requires LanguageModel<Base>
      : Trainer(model, std::move(options), &language_modelling_loss<Base>) {}

  /// The callback must outlive `fit`.
  Trainer& add(Callback& callback) {
    callbacks_.push_back(&callback);
    return *this;
  }

  /// @param evaluation  its loss is measured after every epoch.
  /// @throws DataError for no examples; ConfigError for no interventions or options that cannot be meant; Error, naming
  ///   step and site, when the loss is no longer finite.
  TrainingResult fit(const std::vector<Example>& examples, const std::vector<Example>& evaluation = {});

 private:
  using Clock = std::chrono::steady_clock;

  /// Where a run stands; with the tensors of a TrainingState, all of it.
  struct Run {
    Sampler sampler;
    int64_t step = 0, total_steps = 0, steps_per_epoch = 0;
    int64_t tokens = 0;
    double seconds = 0.0;       // of earlier parts of the run
    std::deque<double> losses;  // of the last epoch's steps
    Clock::time_point begin = Clock::now();

    double elapsed() const { return seconds + std::chrono::duration<double>(Clock::now() - begin).count(); }
    bool ends_epoch() const { return step % steps_per_epoch == 0; }
  };

  Run begin_run(int64_t num_examples) const;
  void resume(Run& run, const TrainingState& state) const;
  StepReport train_step(Run& run, Optimizer& optimizer, const std::vector<Example>& examples, double learning_rate);
  void save_checkpoint(const Run& run, const Optimizer& optimizer) const;
  nlohmann::json fingerprint(int64_t num_examples) const;
  [[noreturn]] void fail_not_finite(const RaggedBatch& batch, int64_t step, double loss, double norm);

  ReftModel<Base>& model_;
  TrainerOptions options_;
  Objective<Base> objective_;
  std::vector<Callback*> callbacks_;
  int64_t num_examples_ = 0;
};

template <HookedTransformer Base>
TrainingResult Trainer<Base>::fit(const std::vector<Example>& examples, const std::vector<Example>& evaluation) {
  if (examples.empty()) fail<DataError>("Trainer", "expected at least one example, got none");
  num_examples_ = std::ssize(examples);
  Run run = begin_run(num_examples_);
  std::optional<TrainingState> state;
  if (options_.resume && std::filesystem::exists(options_.checkpoint)) {
    state = load_training_state(options_.checkpoint);
    resume(run, *state);
  }
  Optimizer optimizer(model_.interventions().interventions(),
                      {.learning_rate = options_.learning_rate, .weight_decay = options_.weight_decay,
                       .max_gradient_norm = options_.max_gradient_norm});
  if (state) optimizer.load_state(state->tensors);
  const LearningRateSchedule schedule(options_.schedule, run.total_steps, options_.warmup_ratio);

  TrainingResult result;
  model_.train();
  for (Callback* callback : callbacks_) callback->on_begin(run.step, run.total_steps);
  const auto evaluate = [&] {
    result.eval_loss = evaluate_loss(model_, evaluation, options_.batch_size, objective_);
    for (Callback* callback : callbacks_) callback->on_evaluation({run.step, {{"loss", *result.eval_loss}}});
  };
  run.begin = Clock::now();
  while (run.step < run.total_steps) {
    const StepReport report = train_step(run, optimizer, examples, options_.learning_rate * schedule.factor(run.step));
    for (Callback* callback : callbacks_) callback->on_step(report);
    const bool last = run.step == run.total_steps;
    if (!evaluation.empty() && run.ends_epoch() && !last) evaluate();
    if (!last && options_.should_stop && options_.should_stop()) {
      result.stopped = true;
      break;
    }
    const bool due = options_.checkpoint_every > 0 && run.step % options_.checkpoint_every == 0;
    if (due && !last) save_checkpoint(run, optimizer);
  }
  result.seconds = run.elapsed();
  if (result.stopped) save_checkpoint(run, optimizer);
  if (!evaluation.empty() && !result.stopped) evaluate();
  for (Callback* callback : callbacks_) callback->on_end();
  model_.eval();
  result.steps = run.step;
  result.tokens = run.tokens;
  const auto count = static_cast<double>(std::max<size_t>(1, run.losses.size()));
  result.train_loss = std::accumulate(run.losses.begin(), run.losses.end(), 0.0) / count;
  return result;
}

template <HookedTransformer Base>
typename Trainer<Base>::Run Trainer<Base>::begin_run(int64_t num_examples) const {
  if (options_.epochs < 0 || options_.accumulate < 1) {
    fail<ConfigError>("Trainer", "expected epochs >= 0 and accumulate >= 1, got {} and {}", options_.epochs, options_.accumulate);
  }
  Run run{Sampler(num_examples, options_.batch_size, options_.seed, options_.shuffle)};
  run.steps_per_epoch = (run.sampler.batches_per_epoch() + options_.accumulate - 1) / options_.accumulate;
  run.total_steps = options_.epochs * run.steps_per_epoch;
  if (options_.max_steps) run.total_steps = std::min(run.total_steps, *options_.max_steps);
  return run;
}

template <HookedTransformer Base>
StepReport Trainer<Base>::train_step(Run& run, Optimizer& optimizer, const std::vector<Example>& examples,
                                     double learning_rate) {
  const Clock::time_point begin = Clock::now();
  const int64_t epoch = run.sampler.state().epoch;
  int64_t supervised = 0, tokens = 0;
  torch::Tensor sum, rows_in_use;
  bool uses_all_rows = false;
  RaggedBatch batch;
  optimizer.zero_grad();
  for (int64_t i = 0; i < options_.accumulate && run.sampler.state().epoch == epoch; ++i) {
    std::vector<const Example*> chosen;
    for (const int64_t index : run.sampler.next()) chosen.push_back(&examples[index]);
    batch = collate(chosen, model_.device());
    const torch::Tensor loss = objective_(model_, batch);
    // Nothing is learnt from a batch where no position lies inside a prompt, or where none reaches the loss.
    if (loss.requires_grad()) loss.backward();
    sum = sum.defined() ? sum + loss.detach() : loss.detach();
    if (batch.row_scales.defined()) {
      const torch::Tensor in_use = batch.row_scales.ne(0).any(0);
      rows_in_use = rows_in_use.defined() ? rows_in_use | in_use : in_use;
    }
    uses_all_rows |= !batch.row_scales.defined();
    supervised += batch.num_supervised();
    tokens += batch.num_tokens();
  }
  const double loss = sum.item<double>() / static_cast<double>(supervised);
  if (!std::isfinite(loss)) fail_not_finite(batch, run.step + 1, loss, 0.0);
  optimizer.set_learning_rate(learning_rate);
  const double norm = optimizer.step(static_cast<double>(supervised), uses_all_rows ? torch::Tensor() : rows_in_use);
  if (!std::isfinite(norm)) fail_not_finite(batch, run.step + 1, loss, norm);

  ++run.step;
  run.tokens += tokens;
  run.losses.push_back(loss);
  if (std::ssize(run.losses) > run.steps_per_epoch) run.losses.pop_front();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return {.step = run.step, .total_steps = run.total_steps,
          .epoch = static_cast<double>(run.step) / static_cast<double>(run.steps_per_epoch), .loss = loss,
          .learning_rate = learning_rate, .gradient_norm = norm,
          .tokens_per_second = static_cast<double>(tokens) / seconds, .seconds = run.elapsed()};
}

template <HookedTransformer Base>
nlohmann::json Trainer<Base>::fingerprint(int64_t num_examples) const {
  return {{"examples", num_examples},
          {"epochs", options_.epochs},
          {"max_steps", options_.max_steps ? nlohmann::json(*options_.max_steps) : nlohmann::json()},
          {"batch_size", options_.batch_size},
          {"accumulate", options_.accumulate},
          {"learning_rate", options_.learning_rate},
          {"schedule", to_string(options_.schedule)},
          {"warmup_ratio", options_.warmup_ratio},
          {"weight_decay", options_.weight_decay},
          {"max_gradient_norm", options_.max_gradient_norm},
          {"shuffle", options_.shuffle}};
}

template <HookedTransformer Base>
void Trainer<Base>::save_checkpoint(const Run& run, const Optimizer& optimizer) const {
  if (options_.checkpoint.empty()) return;
  TrainingState state;
  capture(state, model_.interventions(), model_.device());
  state.tensors.merge(optimizer.state());
  state.progress = {{"step", run.step},       {"sampler", run.sampler.state()}, {"tokens", run.tokens},
                    {"seconds", run.elapsed()}, {"losses", run.losses},          {"run", fingerprint(num_examples_)}};
  nlohmann::json callbacks(nlohmann::json::value_t::object);
  for (const Callback* callback : callbacks_) callback->save_state(callbacks);
  state.progress["callbacks"] = std::move(callbacks);
  save_training_state(state, options_.checkpoint);
}

template <HookedTransformer Base>
void Trainer<Base>::resume(Run& run, const TrainingState& state) const {
  const nlohmann::json wanted = fingerprint(num_examples_);
  try {
    const nlohmann::json& written = state.progress.at("run");
    for (const auto& [key, value] : wanted.items()) {
      if (written.at(key) == value) continue;
      fail<ConfigError>("Trainer", "cannot resume: {} was {}, now it is {}", key, written.at(key).dump(), value.dump());
    }
    state.progress.at("step").get_to(run.step);
    state.progress.at("tokens").get_to(run.tokens);
    state.progress.at("seconds").get_to(run.seconds);
    state.progress.at("losses").get_to(run.losses);
    run.sampler.restore(state.progress.at("sampler").get<SamplerState>());
    for (Callback* callback : callbacks_) callback->load_state(state.progress.at("callbacks"));
  } catch (const nlohmann::json::exception&) {
    fail<CheckpointError>("Trainer", "{}: its progress is not one of this library", options_.checkpoint.string());
  }
  restore(state, model_.mutable_interventions(), model_.device());
}

// Runs the batch again with every block's output captured, to name where the numbers went wrong first.
template <HookedTransformer Base>
void Trainer<Base>::fail_not_finite(const RaggedBatch& batch, int64_t step, double loss, double norm) {
  std::string where = "every block's output is finite, so the loss itself or its gradient is not";
  if constexpr (LanguageModel<Base>) {
    torch::NoGradGuard no_grad;
    ForwardContext context =
        model_.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
    const auto num_layers = static_cast<int>(model_.base()->num_layers());
    for (int layer = 0; layer < num_layers; ++layer) context.capture({.layer = layer});
    (void)model_.base()->loss(batch.input_ids, context, batch.target_rows, batch.targets);
    for (const auto& [site, activation] : context.activations()) {
      if (activation.isfinite().all().template item<bool>()) continue;
      where = fmt::format("the first value that is not finite stands at {}", to_string(site));
      break;
    }
  }
  fail<Error>("Trainer", "step {}: the loss is {} and the gradient's norm {}: {}; lower the learning rate, or look at the data",
              step, loss, norm, where);
}

}  // namespace reft
