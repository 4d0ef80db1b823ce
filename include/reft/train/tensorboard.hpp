#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reft/io/event_file.hpp"
#include "reft/train/callback.hpp"

namespace reft {

/// Scalars for TensorBoard: train/loss, train/learning_rate, train/gradient_norm, train/tokens_per_second, train/epoch and
/// train/<metric> of the objective at every step, eval/loss and eval/<metric> at evaluations. A resumed run adds a file to the folder; TensorBoard then
/// shows every step once.
class TensorBoard : public Callback {
 public:
  explicit TensorBoard(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// @throws Error if the folder cannot be written.
  void on_begin(int64_t first_step, int64_t) override { file_.emplace(folder_).start_session(first_step + 1); }

  void on_step(const StepReport& report) override {
    Scalars scalars{{"train/loss", report.loss},
                    {"train/learning_rate", report.learning_rate},
                    {"train/gradient_norm", report.gradient_norm},
                    {"train/tokens_per_second", report.tokens_per_second},
                    {"train/epoch", report.epoch}};
    for (const auto& [name, value] : report.metrics) scalars.emplace_back("train/" + name, value);
    file_->add_scalars(report.step, scalars);
  }

  void on_evaluation(const EvaluationReport& report) override {
    Scalars scalars;
    for (const auto& [name, value] : report.metrics) scalars.emplace_back("eval/" + name, value);
    file_->add_scalars(report.step, scalars);
  }

 private:
  using Scalars = std::vector<std::pair<std::string, double>>;

  std::filesystem::path folder_;
  std::optional<EventFile> file_;
};

}  // namespace reft
