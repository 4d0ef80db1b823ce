#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>

#include "reft/error.hpp"
#include "reft/io/atomic_file.hpp"

namespace reft {

/// One finished optimizer step.
struct StepReport {
  int64_t step = 0;         ///< counted from 1
  int64_t total_steps = 0;
  double epoch = 0.0;       ///< epochs finished, with their fraction
  double loss = 0.0;        ///< mean over the supervised tokens, or other terms, of the step
  double learning_rate = 0.0;
  double gradient_norm = 0.0;      ///< before clipping
  double tokens_per_second = 0.0;  ///< of this step
  double seconds = 0.0;            ///< since the run began, earlier parts of a resumed run included
  std::map<std::string, double> metrics = {};  ///< of the objective, as means over the same terms
};

/// One evaluation: "loss", the mean over the supervised tokens, and the trainer's other metrics by name.
struct EvaluationReport {
  int64_t step = 0;
  std::map<std::string, double> metrics;
};

/// Told of what happens in training. Several may be given; they are called in order.
class Callback {
 public:
  virtual ~Callback() = default;
  virtual void on_begin(int64_t /*first_step*/, int64_t /*total_steps*/) {}
  virtual void on_step(const StepReport& /*report*/) {}
  virtual void on_evaluation(const EvaluationReport& /*report*/) {}
  virtual void on_end() {}
  /// Puts into a checkpoint, under a key of its own, what this callback needs when the run is resumed.
  virtual void save_state(nlohmann::json& /*states*/) const {}
  /// Called before `on_begin` of a resumed run; the key is missing where the earlier run had no such callback.
  virtual void load_state(const nlohmann::json& /*states*/) {}
};

/// "1:05", "2:03:10".
inline std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::max(0.0, std::round(seconds)));
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

/// Loss, speed and time left: a bar that rewrites itself on a terminal, else about twenty quiet lines.
class Progress : public Callback {
 public:
  Progress(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}

  void on_begin(int64_t first_step, int64_t total_steps) override {
    first_ = first_step;
    stride_ = std::max<int64_t>(1, total_steps / 20);
  }

  void on_step(const StepReport& report) override {
    if (first_seconds_ < 0) first_seconds_ = report.seconds;
    loss_ = report.step == first_ + 1 ? report.loss : 0.9 * loss_ + 0.1 * report.loss;
    speed_ = report.step == first_ + 1 ? report.tokens_per_second : 0.9 * speed_ + 0.1 * report.tokens_per_second;
    const bool last = report.step == report.total_steps;
    if (!is_terminal_ && !last && report.step % stride_ != 0) return;
    const auto done = static_cast<double>(report.step - first_), left = static_cast<double>(report.total_steps - report.step);
    const double per_step = done > 1 ? (report.seconds - first_seconds_) / (done - 1) : report.seconds;
    const std::string numbers = fmt::format("step {}/{}  epoch {:.2f}  loss {:.4f}  {:.0f} tokens/s  {} left", report.step,
                                            report.total_steps, report.epoch, loss_, speed_, clock_text(per_step * left));
    if (is_terminal_) {
      constexpr int64_t kWidth = 24;
      const int64_t filled = kWidth * report.step / std::max<int64_t>(1, report.total_steps);
      std::string bar;
      for (int64_t i = 0; i < kWidth; ++i) bar += i < filled ? "█" : "░";
      out_ << "\r\x1b[K" << bar << ' ' << numbers << (last ? "\n" : "") << std::flush;
    } else {
      out_ << numbers << '\n' << std::flush;
    }
  }

  void on_evaluation(const EvaluationReport& report) override {
    std::string text = fmt::format("step {}  evaluation", report.step);
    for (const auto& [name, value] : report.metrics) text += fmt::format("  {} {:.4f}", name, value);
    out_ << (is_terminal_ ? "\r\x1b[K" : "") << text << '\n' << std::flush;
  }

 private:
  std::ostream& out_;
  bool is_terminal_;
  int64_t first_ = 0, stride_ = 1;
  double loss_ = 0.0, speed_ = 0.0;  // running means
  double first_seconds_ = -1.0;
};

/// One JSON object a line: {"step":1,"loss":…,"learning_rate":…,"gradient_norm":…,"tokens_per_second":…}, then the objective's
/// metrics by name; evaluations as {"step":…,"eval_loss":…,"eval_<metric>":…}. A resumed run goes on behind the step it resumes from: later lines are dropped.
class MetricsFile : public Callback {
 public:
  /// @throws Error if the file cannot be written.
  explicit MetricsFile(std::filesystem::path path) : path_(std::move(path)) { open(std::ios::app); }

  void on_begin(int64_t first_step, int64_t) override {
    // A device or a pipe keeps no lines; replaced by a file it would be gone.
    if (!std::filesystem::is_regular_file(path_)) return;
    stream_.close();
    std::string kept;
    std::ifstream earlier(path_);
    for (std::string line; first_step > 0 && std::getline(earlier, line);) {
      const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (json.is_object() && json.contains("step") && json["step"].is_number_integer() && json["step"] <= first_step) {
        kept += line + "\n";
      }
    }
    write_file_atomically(path_, kept);
    open(std::ios::app);
  }

  void on_step(const StepReport& report) override {
    nlohmann::ordered_json line{{"step", report.step},
                                {"loss", report.loss},
                                {"learning_rate", report.learning_rate},
                                {"gradient_norm", report.gradient_norm},
                                {"tokens_per_second", report.tokens_per_second}};
    for (const auto& [name, value] : report.metrics) line[name] = value;
    write(line);
  }

  void on_evaluation(const EvaluationReport& report) override {
    nlohmann::ordered_json line{{"step", report.step}};
    for (const auto& [name, value] : report.metrics) line["eval_" + name] = value;
    write(line);
  }

 private:
  void open(std::ios::openmode mode) {
    stream_.open(path_, mode);
    if (!stream_) fail<Error>("MetricsFile", "{}: cannot be written", path_.string());
  }

  void write(const nlohmann::ordered_json& line) {
    stream_ << line.dump() << '\n' << std::flush;
    if (!stream_) fail<Error>("MetricsFile", "{}: cannot be written; is the disk full?", path_.string());
  }

  std::filesystem::path path_;
  std::ofstream stream_;
};

}  // namespace reft
