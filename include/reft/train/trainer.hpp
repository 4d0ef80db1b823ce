#pragma once

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reft/data/example_source.hpp"
#include "reft/data/sampler.hpp"
#include "reft/train/best_parameters.hpp"
#include "reft/train/callback.hpp"
#include "reft/train/data_parallel.hpp"
#include "reft/train/evaluation.hpp"
#include "reft/train/not_finite.hpp"
#include "reft/train/objective.hpp"
#include "reft/train/optimizer.hpp"
#include "reft/train/run_identity.hpp"
#include "reft/train/schedule.hpp"
#include "reft/train/step_sums.hpp"
#include "reft/train/trainer_options.hpp"
#include "reft/train/training_state.hpp"

namespace reft {

/// Trains the interventions of a model by AdamW, and its head after `train_head`; the rest of the base stays as it is.
///   Trainer(model, {.epochs = 9}).fit(examples);
/// A step takes `accumulate` batches of one epoch; its loss is the sum over their supervised tokens, divided once, or over
/// whatever else the objective sums.
template <HookedTransformer Base>
class Trainer {
 public:
  Trainer(ReftModel<Base>& model, TrainerOptions options, Objective<Base> objective)
      : model_(model), options_(std::move(options)), objective_(std::move(objective)) {
    if (!options_.communicator) options_.communicator = std::make_shared<SingleProcess>();
  }

  /// Language modelling.
  Trainer(ReftModel<Base>& model, TrainerOptions options = {})
    requires LanguageModel<Base>
      : Trainer(model, std::move(options), &language_modelling_loss<Base>) {}

  /// The callback must outlive `fit`.
  Trainer& add(Callback& callback) {
    callbacks_.push_back(&callback);
    return *this;
  }

  /// Measured at every evaluation, beside "loss".
  /// @param lower_is_better  matters where it is the `metric_for_best`.
  Trainer& add_metric(std::string name, Metric<Base> metric, bool lower_is_better = false) {
    metrics_[std::move(name)] = {std::move(metric), lower_is_better};
    return *this;
  }

  /// @param evaluation  its loss is measured at every evaluation; without any there is none, but of the metrics.
  /// @throws DataError for no examples; ConfigError for no interventions or options that cannot be meant; Error, naming
  ///   step and site, when the loss is no longer finite.
  TrainingResult fit(const ExampleSource& examples, const ExampleSource& evaluation);

  TrainingResult fit(const std::vector<Example>& examples, const std::vector<Example>& evaluation = {}) {
    return fit(ListedExamples(examples), ListedExamples(evaluation));
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// Where a run stands; with the tensors of a TrainingState, all of it.
  struct Run {
    Sampler sampler;
    int64_t step = 0, total_steps = 0, steps_per_epoch = 0;
    int64_t tokens = 0;
    double seconds = 0.0;       // of earlier parts of the run
    std::deque<double> losses;  // of the last epoch's steps
    Clock::time_point begin = Clock::now(), checkpoint_at = begin;
    std::map<std::string, double> eval_metrics;
    std::optional<BestParameters> best;
    bool a_rank_stops = false;  // said with the sums of the last step, so that all stop after the same one

    double elapsed() const { return seconds + std::chrono::duration<double>(Clock::now() - begin).count(); }
    bool ends_epoch() const { return step % steps_per_epoch == 0; }
  };

  struct NamedMetric {
    Metric<Base> measure;
    bool lower_is_better = false;
  };

  Run begin_run(int64_t num_examples, bool has_evaluation) const;
  void resume(Run& run, const TrainingState& state);
  std::unique_ptr<Optimizer> make_optimizer();
  void check_best_metric(const Run& run, const StepReport& report) const;
  RaggedBatch add_share(StepSums& sums, const std::vector<int64_t>& indices, const ExampleSource& examples);
  bool is_asked_to_stop() const { return options_.should_stop && options_.should_stop(); }
  bool stops(const Run& run) const { return options_.communicator->size() > 1 ? run.a_rank_stops : is_asked_to_stop(); }
  StepReport train_step(Run& run, Optimizer& optimizer, const ExampleSource& examples, double learning_rate);
  void evaluate(Run& run, const ExampleSource& evaluation);
  bool evaluates(const Run& run, const ExampleSource& evaluation) const;
  bool checkpoint_is_due(const Run& run) const;
  void save_checkpoint(Run& run, const Optimizer& optimizer) const;
  [[noreturn]] void fail_not_finite(const RaggedBatch& batch, int64_t step, double loss, double norm);

  ReftModel<Base>& model_;
  TrainerOptions options_;
  Objective<Base> objective_;
  std::vector<Callback*> callbacks_;
  std::map<std::string, NamedMetric> metrics_;
  nlohmann::json identity_;  // of the run that `fit` makes, as `run_identity`
};

template <HookedTransformer Base>
TrainingResult Trainer<Base>::fit(const ExampleSource& examples, const ExampleSource& evaluation) {
  if (examples.size() == 0) fail<DataError>("Trainer", "expected at least one example, got none");
  Run run = begin_run(examples.size(), evaluation.size() > 0);
  identity_ = run_identity(model_, options_, examples);
  if (run.best && evaluation.size() == 0 && metrics_.empty()) {
    fail<ConfigError>("Trainer", "metric_for_best is \"{}\", but there is nothing to evaluate", options_.metric_for_best);
  }
  std::optional<TrainingState> state;
  if (options_.resume && std::filesystem::exists(options_.checkpoint)) {
    state = load_training_state(options_.checkpoint);
    resume(run, *state);
  }
  if (options_.communicator->size() > 1) check_ranks_agree(*options_.communicator, fmt::format("{} {} {}", run.step, identity_.dump(), parameter_bytes(model_)));
  std::unique_ptr<Optimizer> optimizer = make_optimizer();
  if (state) optimizer->load_state(state->tensors);
  const LearningRateSchedule schedule(options_.schedule, run.total_steps, options_.warmup_ratio);

  TrainingResult result;
  model_.train();
  for (Callback* callback : callbacks_) callback->on_begin(run.step, run.total_steps);
  run.begin = run.checkpoint_at = Clock::now();
  const auto is_out_of_patience = [&] { return run.best && options_.patience > 0 && run.best->evaluations_since() >= options_.patience; };
  while (run.step < run.total_steps && !is_out_of_patience()) {
    const StepReport report = train_step(run, *optimizer, examples, options_.learning_rate * schedule.factor(run.step));
    for (Callback* callback : callbacks_) callback->on_step(report);
    check_best_metric(run, report);
    const bool last = run.step == run.total_steps;
    if (evaluates(run, evaluation)) evaluate(run, evaluation);
    if (!last && stops(run)) {
      result.stopped = true;
      break;
    }
    if (!last && checkpoint_is_due(run)) save_checkpoint(run, *optimizer);
  }
  result.seconds = run.elapsed();
  result.out_of_patience = is_out_of_patience() && !result.stopped;
  if (result.stopped) save_checkpoint(run, *optimizer);
  for (Callback* callback : callbacks_) callback->on_end();
  model_.eval();
  result.steps = run.step;
  result.tokens = run.tokens;
  result.eval_metrics = std::move(run.eval_metrics);
  if (!result.stopped && run.best && run.best->is_set()) {
    optimizer.reset();  // R is then rebuilt from the parameters
    run.best->apply(model_.mutable_trainable());
    result.best_step = run.best->step();
  }
  if (const auto loss = result.eval_metrics.find("loss"); loss != result.eval_metrics.end()) result.eval_loss = loss->second;
  const auto count = static_cast<double>(std::max<size_t>(1, run.losses.size()));
  result.train_loss = std::accumulate(run.losses.begin(), run.losses.end(), 0.0) / count;
  return result;
}

template <HookedTransformer Base>
bool Trainer<Base>::evaluates(const Run& run, const ExampleSource& evaluation) const {
  if (evaluation.size() == 0 && metrics_.empty()) return false;
  const bool due = options_.evaluate_every > 0 ? run.step % options_.evaluate_every == 0 : run.ends_epoch();
  return due || run.step == run.total_steps;
}

template <HookedTransformer Base>
void Trainer<Base>::evaluate(Run& run, const ExampleSource& evaluation) {
  EvaluationReport report{run.step, {}};
  if (evaluation.size() > 0) report.metrics = evaluate_objective(model_, evaluation, options_.batch_size, objective_);
  for (const auto& [name, metric] : metrics_) {
    const detail::Evaluating evaluating(model_);
    report.metrics[name] = metric.measure(model_);
  }
  for (Callback* callback : callbacks_) callback->on_evaluation(report);
  if (run.best) {
    const auto value = report.metrics.find(run.best->metric());
    if (value == report.metrics.end()) fail<ConfigError>("Trainer", "metric_for_best \"{}\" is not measured", run.best->metric());
    run.best->consider(value->second, run.step, model_.trainable());
    if (run.best->step() != run.step) return;
  }
  run.eval_metrics = std::move(report.metrics);
}

template <HookedTransformer Base>
bool Trainer<Base>::checkpoint_is_due(const Run& run) const {
  const double minutes = std::chrono::duration<double>(Clock::now() - run.checkpoint_at).count() / 60.0;
  return (options_.checkpoint_every > 0 && run.step % options_.checkpoint_every == 0) ||
         (options_.checkpoint_minutes > 0.0 && minutes >= options_.checkpoint_minutes);
}

template <HookedTransformer Base>
typename Trainer<Base>::Run Trainer<Base>::begin_run(int64_t num_examples, bool has_evaluation) const {
  if (options_.epochs < 0 || options_.accumulate < 1) {
    fail<ConfigError>("Trainer", "expected epochs >= 0 and accumulate >= 1, got {} and {}", options_.epochs, options_.accumulate);
  }
  if (options_.patience > 0 && options_.metric_for_best.empty()) fail<ConfigError>("Trainer", "patience needs a metric_for_best");
  Run run{Sampler(num_examples, options_.batch_size, options_.seed, options_.shuffle, options_.mixture)};
  run.steps_per_epoch = (run.sampler.batches_per_epoch() + options_.accumulate - 1) / options_.accumulate;
  run.total_steps = options_.epochs * run.steps_per_epoch;
  if (options_.max_steps) run.total_steps = std::min(run.total_steps, *options_.max_steps);
  if (const std::string& name = options_.metric_for_best; !name.empty()) {
    const auto metric = metrics_.find(name);
    std::vector<std::string> names;
    for (const auto& [known, unused] : metrics_) names.push_back(known);
    // With examples to evaluate it may be one of the objective's, which the first step tells.
    if (name != "loss" && metric == metrics_.end() && !has_evaluation)
      fail<ConfigError>("Trainer", "metric_for_best \"{}\": expected loss or one of [{}]", name, fmt::join(names, ", "));
    run.best.emplace(name, name == "loss" || (metric != metrics_.end() && metric->second.lower_is_better));
  }
  return run;
}

template <HookedTransformer Base>
std::unique_ptr<Optimizer> Trainer<Base>::make_optimizer() {
  std::vector<OtherParameter> head;
  if (model_.head()) {
    for (const torch::Tensor& parameter : model_.head()->module->parameters())
      head.push_back({parameter, /*decays=*/parameter.dim() > 1, model_.head()->learning_rate_scale});
  }
  return std::make_unique<Optimizer>(model_.interventions().interventions(),
                                     OptimizerOptions{.learning_rate = options_.learning_rate, .weight_decay = options_.weight_decay,
                                                      .max_gradient_norm = options_.max_gradient_norm},
                                     head);
}

template <HookedTransformer Base>
void Trainer<Base>::check_best_metric(const Run& run, const StepReport& report) const {
  if (!run.best || run.best->metric() == "loss" || metrics_.contains(run.best->metric()) || report.metrics.contains(run.best->metric())) return;
  std::vector<std::string> names;
  for (const auto& [name, unused] : metrics_) names.push_back(name);
  for (const auto& [name, unused] : report.metrics) names.push_back(name);
  fail<ConfigError>("Trainer", "metric_for_best \"{}\": expected loss or one of [{}]", run.best->metric(), fmt::join(names, ", "));
}

/// Adds this rank's share of a batch.   @return the share.
template <HookedTransformer Base>
RaggedBatch Trainer<Base>::add_share(StepSums& sums, const std::vector<int64_t>& indices, const ExampleSource& examples) {
  std::vector<int64_t> own = share_of(indices, *options_.communicator);
  // A rank without examples has one look on, so that it knows what the others add up.
  const bool counts = !own.empty();
  if (!counts) own.push_back(indices.front());
  std::vector<Example> chosen;
  for (const int64_t index : own) {
    for (Example& example : examples.sequences(index)) chosen.push_back(std::move(example));
  }
  RaggedBatch batch = detail::collate(chosen, model_.device());
  const BatchLoss loss = objective_(model_, batch);
  // Nothing is learnt from a batch where no position lies inside a prompt, or where none reaches the loss.
  if (counts && loss.sum.requires_grad()) loss.sum.backward();
  sums.add(loss, batch, counts);
  return batch;
}

template <HookedTransformer Base>
StepReport Trainer<Base>::train_step(Run& run, Optimizer& optimizer, const ExampleSource& examples,
                                     double learning_rate) {
  const Clock::time_point begin = Clock::now();
  const int64_t epoch = run.sampler.state().epoch;
  StepSums sums;
  RaggedBatch batch;
  optimizer.zero_grad();
  for (int64_t i = 0; i < options_.accumulate && run.sampler.state().epoch == epoch; ++i) batch = add_share(sums, run.sampler.next(), examples);
  const bool several = options_.communicator->size() > 1;
  const StepTotals totals = sums.total(*options_.communicator, optimizer, several && is_asked_to_stop());
  run.a_rank_stops = totals.stops;
  const double loss = totals.loss / totals.terms;
  if (!std::isfinite(loss)) fail_not_finite(batch, run.step + 1, loss, 0.0);
  optimizer.set_learning_rate(learning_rate);
  const double norm = optimizer.step(totals.terms, sums.rows_in_use());
  if (!std::isfinite(norm)) fail_not_finite(batch, run.step + 1, loss, norm);

  ++run.step;
  run.tokens += totals.tokens;
  run.losses.push_back(loss);
  if (std::ssize(run.losses) > run.steps_per_epoch) run.losses.pop_front();
  std::map<std::string, double> metrics;
  for (const auto& [name, part] : totals.metrics) metrics[name] = part / totals.terms;
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return {.step = run.step, .total_steps = run.total_steps,
          .epoch = static_cast<double>(run.step) / static_cast<double>(run.steps_per_epoch), .loss = loss,
          .learning_rate = learning_rate, .gradient_norm = norm,
          .tokens_per_second = static_cast<double>(totals.tokens) / seconds, .seconds = run.elapsed(), .metrics = std::move(metrics)};
}

template <HookedTransformer Base>
void Trainer<Base>::save_checkpoint(Run& run, const Optimizer& optimizer) const {
  if (options_.checkpoint.empty() || !options_.communicator->is_first()) return;
  TrainingState state;
  capture(state, model_.trainable(), model_.device());
  state.tensors.merge(optimizer.state());
  state.progress = {{"step", run.step},       {"sampler", run.sampler.state()}, {"tokens", run.tokens},
                    {"seconds", run.elapsed()}, {"losses", run.losses},          {"run", identity_}};
  nlohmann::json callbacks(nlohmann::json::value_t::object);
  for (const Callback* callback : callbacks_) callback->save_state(callbacks);
  state.progress["callbacks"] = std::move(callbacks);
  state.progress["eval_metrics"] = run.eval_metrics;
  if (run.best) run.best->capture(state);
  keep_older_checkpoints(options_.checkpoint, options_.keep_checkpoints);
  save_training_state(state, options_.checkpoint);
  run.checkpoint_at = Clock::now();
}

template <HookedTransformer Base>
void Trainer<Base>::resume(Run& run, const TrainingState& state) {
  try {
    const nlohmann::json& written = state.progress.at("run");
    for (const auto& [key, value] : identity_.items()) {
      if (written.at(key) == value) continue;
      fail<ConfigError>("Trainer", "cannot resume: {} was {}, now it is {}", key, written.at(key).dump(), value.dump());
    }
    state.progress.at("step").get_to(run.step);
    state.progress.at("tokens").get_to(run.tokens);
    state.progress.at("seconds").get_to(run.seconds);
    state.progress.at("losses").get_to(run.losses);
    run.sampler.restore(state.progress.at("sampler").get<SamplerState>());
    for (Callback* callback : callbacks_) callback->load_state(state.progress.at("callbacks"));
    state.progress.at("eval_metrics").get_to(run.eval_metrics);
    if (run.best) run.best->restore(state, model_.device());
  } catch (const nlohmann::json::exception&) {
    fail<CheckpointError>("Trainer", "{}: its progress is not one of this library", options_.checkpoint.string());
  }
  restore(state, model_.mutable_trainable(), model_.device());
}

template <HookedTransformer Base>
void Trainer<Base>::fail_not_finite(const RaggedBatch& batch, int64_t step, double loss, double norm) {
  fail<Error>("Trainer", "step {}: the loss is {} and the gradient's norm {}: {}; lower the learning rate, or look at the data", step, loss,
              norm, where_not_finite(model_, batch));
}

}  // namespace reft
