#pragma once

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "reft/checkpoint/adapter.hpp"
#include "reft/train/html_report.hpp"
#include "reft/train/tensorboard.hpp"
#include "reft/train/trainer.hpp"
#include "support/program.hpp"

namespace reft::program {

inline std::atomic<int> stop_signal{0};

/// The flags of every program that trains, and what they mean.
struct TrainingFlags {
  TrainerOptions options;
  std::string program, output = "adapter", schedule = "linear", metrics, tensorboard, report;
  int64_t max_steps = -1;
  bool no_shuffle = false, deterministic = false, activation_checkpointing = false, overwrite = false, resume = false;

  /// @param best_metrics  what --metric-for-best may name.
  void add_to(CLI::App& app, std::string name, const char* best_metrics) {
    program = std::move(name);
    const auto option = [&](const char* flag, auto& value, const std::string& help, const char* group) {
      return app.add_option(flag, value, help)->capture_default_str()->group(group);
    };
    app.add_option("--output", output, "folder for the adapter and its checkpoint")->capture_default_str();
    app.add_flag("--overwrite", overwrite, "the output folder may hold something");
    app.add_flag("--no-shuffle", no_shuffle, "keep the order of the file")->group("Data");
    option("--epochs", options.epochs, "passes over the data", "Training")->check(CLI::NonNegativeNumber);
    option("--max-steps", max_steps, "optimizer steps at most; -1 = as many as the epochs have", "Training")->check(CLI::Range(int64_t{-1}, int64_t{1} << 40));
    option("--batch-size", options.batch_size, "examples of one forward", "Training")->check(CLI::PositiveNumber);
    option("--accumulate", options.accumulate, "forwards of one optimizer step", "Training")->check(CLI::PositiveNumber);
    option("--learning-rate", options.learning_rate, "peak, reached after warm-up", "Training")->check(CLI::NonNegativeNumber);
    option("--schedule", schedule, "linear, cosine or constant", "Training")
        ->check(checked_by([](const std::string& text) { parse_schedule(text); }));
    option("--warmup-ratio", options.warmup_ratio, "share of the steps", "Training")->check(CLI::Range(0.0, 1.0));
    option("--weight-decay", options.weight_decay, "of all parameters but b", "Training")->check(CLI::NonNegativeNumber);
    option("--max-grad-norm", options.max_gradient_norm, "gradients are scaled down to it; 0 = never", "Training")->check(CLI::NonNegativeNumber);
    app.add_flag("--activation-checkpointing", activation_checkpointing, "compute blocks again in backward: less memory, more time")->group("Training");
    app.add_flag("--deterministic", deterministic, "only operations that give the same bits every time; an error where there is none")
        ->group("Training");
    option("--eval-every", options.evaluate_every, "steps between evaluations; 0 = after every epoch", "Evaluation")->check(CLI::NonNegativeNumber);
    option("--metric-for-best", options.metric_for_best, fmt::format("{}: the parameters of the best evaluation are kept", best_metrics), "Evaluation");
    option("--patience", options.patience, "evaluations without a better metric-for-best that end the run; 0 = never", "Evaluation")
        ->check(CLI::NonNegativeNumber);
    option("--checkpoint-every", options.checkpoint_every, "steps between checkpoints; 0 = only on ctrl-C and SIGTERM", "Training")
        ->check(CLI::NonNegativeNumber);
    option("--checkpoint-minutes", options.checkpoint_minutes, "minutes between checkpoints; 0 = only as the other flags say", "Training")
        ->check(CLI::NonNegativeNumber);
    option("--keep-checkpoints", options.keep_checkpoints, "so many of the last, the older ones with their step in the name", "Training")
        ->check(CLI::PositiveNumber);
    app.add_flag("--resume", resume, "go on from the output folder's checkpoint, if there is one")->group("Training");
    option("--metrics", metrics, "JSON Lines file, one line a step", "Training");
    option("--tensorboard", tensorboard, "folder for TensorBoard's event files", "Training");
    option("--report", report, "HTML file that shows the run: curves, samples, configuration", "Training");
  }

  /// What an earlier run left is not overwritten unasked.   @throws ConfigError.
  void check_output() const {
    const std::filesystem::path folder = output;
    std::error_code error;
    if (std::filesystem::exists(folder) && !std::filesystem::is_directory(folder)) {
      fail<ConfigError>(program, "--output {}: expected a folder, got a file", output);
    }
    if (overwrite || resume) return;
    if (std::filesystem::exists(folder) && !std::filesystem::is_empty(folder, error)) {
      fail<ConfigError>(program, "--output {}: the folder exists and is not empty; give another, or --overwrite or --resume", output);
    }
    if (std::filesystem::is_regular_file(metrics) && std::filesystem::file_size(metrics, error) > 0) {
      fail<ConfigError>(program, "--metrics {}: the file exists; give another, or --overwrite or --resume", metrics);
    }
    if (std::filesystem::exists(report)) {
      fail<ConfigError>(program, "--report {}: the file exists; give another, or --overwrite or --resume", report);
    }
    if (has_event_files(tensorboard)) {
      fail<ConfigError>(program, "--tensorboard {}: the folder holds event files; give another, or --overwrite or --resume", tensorboard);
    }
  }

  /// What the trainer would refuse too, but only after the output folder is made.
  /// @param measured  what --metric-for-best may name.
  /// @param evaluates  whether there is something to evaluate.
  void check_best_metric(const std::vector<std::string>& measured, bool evaluates) const {
    const std::string& best = options.metric_for_best;
    if (!best.empty() && std::find(measured.begin(), measured.end(), best) == measured.end()) {
      fail<ConfigError>(program, "--metric-for-best {}: expected one of [{}]", best, fmt::join(measured, ", "));
    }
    if (options.patience > 0 && best.empty()) fail<ConfigError>(program, "--patience needs --metric-for-best");
    if (!best.empty() && !evaluates) fail<ConfigError>(program, "--metric-for-best needs --eval-data or --eval-fraction");
  }

  /// Only when nothing is left that could be refused: bad input leaves no folder.
  void create_output() const {
    std::error_code error;
    std::filesystem::create_directories(output, error);
    if (error) fail<Error>(program, "--output {}: cannot create the folder: {}", output, error.message());
  }

  TrainerOptions trainer_options(const Common& common) const {
    TrainerOptions all = options;
    all.schedule = parse_schedule(schedule);
    all.seed = common.seed;
    all.shuffle = !no_shuffle;
    all.resume = resume;
    all.checkpoint = std::filesystem::path(output) / "checkpoint.safetensors";
    all.should_stop = [] { return stop_signal != 0; };
    if (max_steps >= 0) all.max_steps = max_steps;
    return all;
  }
};

/// The first signal asks for a checkpoint after the step; a second one ends the process at once.
inline void stop_on_signals(bool on) {
  for (const int signal : {SIGINT, SIGTERM}) {
    std::signal(signal, !on ? SIG_DFL : [](int number) {
      stop_signal = number;
      std::signal(number, SIG_DFL);
    });
  }
}

/// What a report says besides the curves.
template <class Base>
ReportContent report_content(const CLI::App& app, const TrainingFlags& flags, const ReftModel<Base>& model, const std::string& subtitle) {
  ReportContent content{.title = flags.output, .subtitle = subtitle, .configuration = configuration(app)};
  for (const Attachment& attachment : model.interventions().attachments()) {
    std::vector<std::string> sites;
    for (const Site& site : attachment.sites) sites.push_back(to_string(site));
    content.interventions.push_back({fmt::format("{}", fmt::join(sites, ", ")), std::string(attachment.intervention->type()),
                                     attachment.positions.text(), grouped_number(attachment.intervention->num_parameters())});
  }
  content.trained_parameters = model.num_trainable_parameters();
  content.base_parameters = model.num_base_parameters();
  content.memory_bytes = [device = model.device()] { return memory_bytes(device); };
  return content;
}

/// A run as the flags ask for it: its observers, the output folder, ctrl-C, the adapter at the end.
class TrainingRun {
 public:
  /// @param communicator  only its first rank writes and says something.
  TrainingRun(const TrainingFlags& flags, const Common& common, ReportContent content, const Communicator& communicator = SingleProcess())
      : flags_(flags), quiet_(common.quiet), is_first_(communicator.is_first()), report_(flags.report, std::move(content)) {}

  HtmlReport& report() { return report_; }

  /// Trains and writes the adapter.
  /// @return nothing if it was stopped by a signal; the exit code is then `exit_code()`.
  template <class Base>
  std::optional<TrainingResult> fit(Trainer<Base>& trainer, ReftModel<Base>& model, const ExampleSource& examples,
                                    const ExampleSource& evaluation, const AdapterInfo& info) {
    if (is_first_) flags_.create_output();
    model.set_activation_checkpointing(flags_.activation_checkpointing);
    stop_on_signals(true);
    if (is_first_) observe(trainer);
    const TrainingResult result = trainer.fit(examples, evaluation);
    if (result.stopped) {
      if (is_first_) fmt::print(stderr, "\nstopped after step {}; the checkpoint is in {}; --resume goes on from it\n", result.steps, flags_.output);
      return std::nullopt;
    }
    if (is_first_) {
      save_adapter(model, flags_.output, info, /*overwrite=*/true);
      remove_checkpoints(std::filesystem::path(flags_.output) / "checkpoint.safetensors");
    }
    stop_on_signals(false);
    return result;
  }

  int exit_code() const { return 128 + stop_signal; }

  /// What is said at the very end: the report, and where things are.
  void finish(const TrainingResult& result) {
    if (!flags_.report.empty()) report_.write();
    if (quiet_) return;
    if (result.out_of_patience) {
      fmt::print(stderr, "no better {} in {} evaluations: ended after step {}\n", flags_.options.metric_for_best, flags_.options.patience,
                 result.steps);
    }
    fmt::print(stderr, "the adapter is in {}\n", std::filesystem::absolute(flags_.output).string());
  }

 private:
  template <class Base>
  void observe(Trainer<Base>& trainer) {
    if (!flags_.metrics.empty()) trainer.add(metrics_.emplace(flags_.metrics));
    if (!flags_.tensorboard.empty()) trainer.add(tensorboard_.emplace(flags_.tensorboard));
    if (!flags_.report.empty()) trainer.add(report_);
    if (!quiet_) trainer.add(progress_);
  }

  const TrainingFlags& flags_;
  bool quiet_, is_first_;
  HtmlReport report_;
  Progress progress_{std::cerr, isatty(STDERR_FILENO) != 0};
  std::optional<MetricsFile> metrics_;
  std::optional<TensorBoard> tensorboard_;
};

/// The result object of a run, with a key for each metric.
template <class Base>
nlohmann::ordered_json result_json(const TrainingResult& result, const ReftModel<Base>& model) {
  nlohmann::ordered_json summary{{"train_loss", result.steps > 0 ? nlohmann::ordered_json(result.train_loss) : nullptr},
                                 {"eval_loss", result.eval_loss ? nlohmann::ordered_json(*result.eval_loss) : nullptr},
                                 {"steps", result.steps},
                                 {"tokens", result.tokens},
                                 {"tokens_per_second", result.tokens_per_second()},
                                 {"seconds", result.seconds},
                                 {"trainable_parameters", model.num_trainable_parameters()},
                                 {"base_parameters", model.num_base_parameters()},
                                 {"peak_memory_bytes", peak_memory_bytes(model.device())}};
  for (const auto& [name, value] : result.eval_metrics) {
    if (name != "loss") summary["eval_" + name] = value;
  }
  if (result.best_step) summary["best_step"] = *result.best_step;
  return summary;
}

}  // namespace reft::program
