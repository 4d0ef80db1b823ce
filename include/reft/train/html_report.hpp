#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "reft/io/atomic_file.hpp"
#include "reft/report/page.hpp"
#include "reft/train/callback.hpp"
#include "reft/version.hpp"

namespace reft {

/// A prompt and what was said to it before and after training.
struct ReportSample {
  std::string prompt, before, after, expected;
};

/// What a report says besides the curves; each may be empty.
struct ReportContent {
  std::string title = "Training report", subtitle;
  std::vector<std::pair<std::string, std::string>> configuration;  ///< name and value, in order
  std::vector<std::vector<std::string>> interventions;             ///< site, type, positions, parameters
  int64_t trained_parameters = 0, base_parameters = 0;
  std::vector<ReportSample> samples;
  std::function<int64_t()> memory_bytes;  ///< asked after every step: what is in use now
};

/// A page that shows a run: loss, learning rate, gradient norm, throughput and memory as curves, then samples, what was
/// trained, and the configuration. Written when the run begins, at evaluations, every few seconds and at its end, so that
/// it can be looked at meanwhile; a resumed run goes on with the curves it had.
class HtmlReport : public Callback {
 public:
  HtmlReport(std::filesystem::path path, ReportContent content) : path_(std::move(path)), content_(std::move(content)) {}

  ReportContent& content() { return content_; }

  /// @throws Error if the file cannot be written.
  void write() const { write_file_atomically(path_, html()); }

  std::string html() const {
    ReportPage page(content_.title, content_.subtitle);
    page.add_figures(figures());
    page.add_drawings(drawings());
    add_samples(page);
    if (!content_.interventions.empty()) {
      page.add_heading("What was trained");
      page.add_table({"site", "form", "positions", "parameters"}, content_.interventions, {3});
    }
    if (!content_.configuration.empty()) {
      std::vector<std::vector<std::string>> rows;
      for (const auto& [name, value] : content_.configuration) rows.push_back({name, value});
      page.add_heading("Configuration");
      page.add_table({"setting", "value"}, rows);
    }
    page.add_html(fmt::format("<footer>reft {}</footer>\n", kVersion));
    return page.html();
  }

  void on_begin(int64_t first_step, int64_t total_steps) override {
    if (first_step == 0) curves_.clear();
    total_steps_ = total_steps;
    write();
  }

  void on_step(const StepReport& report) override {
    last_ = report;
    const auto step = static_cast<double>(report.step);
    curves_["loss"].add(step, report.loss);
    curves_["learning rate"].add(step, report.learning_rate);
    curves_["gradient norm"].add(step, report.gradient_norm);
    curves_["tokens per second"].add(step, report.tokens_per_second);
    if (content_.memory_bytes) curves_["memory"].add(step, static_cast<double>(content_.memory_bytes()));
    if (report.seconds - written_at_ < kSecondsBetweenWrites) return;
    written_at_ = report.seconds;
    write();
  }

  void on_evaluation(const EvaluationReport& report) override {
    for (const auto& [name, value] : report.metrics) curves_["evaluation " + name].add(static_cast<double>(report.step), value);
    write();
  }

  void on_end() override { write(); }

  void save_state(nlohmann::json& states) const override {
    nlohmann::json curves(nlohmann::json::value_t::object);
    for (const auto& [name, curve] : curves_) curves[name] = curve;
    states["html_report"] = std::move(curves);
  }

  void load_state(const nlohmann::json& states) override {
    curves_.clear();
    if (!states.contains("html_report")) return;
    for (const auto& [name, curve] : states["html_report"].items()) curves_[name] = curve.get<ThinnedSeries>();
  }

 private:
  static constexpr double kSecondsBetweenWrites = 5.0;

  const std::vector<ChartPoint>& curve(const std::string& name) const {
    static const std::vector<ChartPoint> none;
    const auto found = curves_.find(name);
    return found == curves_.end() ? none : found->second.points();
  }

  /// A mean over about a thirtieth of the run.
  static std::vector<ChartPoint> smooth(const std::vector<ChartPoint>& points) {
    const double span = std::max(1.0, static_cast<double>(points.size()) / 30.0);
    return smoothed(points, 1.0 - 2.0 / (span + 1.0));
  }

  std::vector<std::pair<std::string, std::string>> figures() const {
    std::vector<std::pair<std::string, std::string>> figures{
        {"steps", fmt::format("{} of {}", grouped_number(last_.step), grouped_number(total_steps_))}};
    if (const auto loss = smooth(curve("loss")); !loss.empty())
      figures.emplace_back("loss (smoothed)", fmt::format("{:.4f}", loss.back().y));
    for (const auto& [name, points] : curves_) {
      if (name.starts_with("evaluation ") && !points.points().empty())
        figures.emplace_back(name, fmt::format("{:.4f}", points.points().back().y));
    }
    if (content_.base_parameters > 0) {
      figures.emplace_back("trained parameters", grouped_number(content_.trained_parameters));
      figures.emplace_back("share of the base", fmt::format("{:.3g} %", 100.0 * static_cast<double>(content_.trained_parameters) /
                                                                            static_cast<double>(content_.base_parameters)));
    }
    if (last_.step > 0) figures.emplace_back("time", clock_text(last_.seconds));
    if (const auto speed = smooth(curve("tokens per second")); !speed.empty())
      figures.emplace_back("tokens per second", short_number(speed.back().y));
    if (const auto& memory = curve("memory"); !memory.empty()) {
      const auto most = std::max_element(memory.begin(), memory.end(), [](const auto& a, const auto& b) { return a.y < b.y; });
      figures.emplace_back("memory, most", bytes_text(static_cast<int64_t>(most->y)));
    }
    return figures;
  }

  std::vector<std::string> drawings() const {
    LineChart loss{
        .title = "Loss",
        .series = {{"each step", curve("loss"), SeriesStyle::faint, 0}, {"smoothed", smooth(curve("loss")), SeriesStyle::line, 0}}};
    if (!curve("evaluation loss").empty()) loss.series.push_back({"evaluation", curve("evaluation loss"), SeriesStyle::dots, 1});
    std::vector<std::string> drawings{to_svg(loss)};
    for (const auto& [name, points] : curves_) {
      if (!name.starts_with("evaluation ") || name == "evaluation loss") continue;
      drawings.push_back(to_svg(LineChart{
          .title = "Evaluation: " + name.substr(11), .series = {{"", points.points(), SeriesStyle::dots, 2}}, .from_zero = true}));
    }
    const auto& norm = curve("gradient norm");
    drawings.push_back(
        to_svg(LineChart{.title = "Learning rate", .series = {{"", curve("learning rate"), SeriesStyle::line, 0}}, .from_zero = true}));
    drawings.push_back(to_svg(LineChart{.title = "Gradient norm, before clipping",
                                        .series = {{"", norm, SeriesStyle::faint, 0}, {"", smooth(norm), SeriesStyle::line, 0}},
                                        .from_zero = true}));
    const auto& speed = curve("tokens per second");
    drawings.push_back(to_svg(LineChart{.title = "Tokens per second",
                                        .series = {{"", speed, SeriesStyle::faint, 0}, {"", smooth(speed), SeriesStyle::line, 0}},
                                        .from_zero = true}));
    if (!curve("memory").empty()) {
      drawings.push_back(
          to_svg(LineChart{.title = "Memory in use (bytes)", .series = {{"", curve("memory"), SeriesStyle::line, 0}}, .from_zero = true}));
    }
    return drawings;
  }

  void add_samples(ReportPage& page) const {
    if (content_.samples.empty()) return;
    page.add_heading("Before and after");
    for (const ReportSample& sample : content_.samples) {
      const auto answer = [&](std::string_view name, const std::string& text) {
        const bool same = name != "expected" && !sample.expected.empty() && text == sample.expected;
        return text.empty() ? std::string()
                            : fmt::format("<div><small>{}</small><p{}>{}{}</p></div>", name, same ? " class=\"same\"" : "",
                                          html_escape(text), same ? " ✓" : "");
      };
      page.add_html(fmt::format("<div class=\"sample\"><p class=\"prompt\">{}</p><div class=\"answers\">{}{}{}</div></div>\n",
                                html_escape(sample.prompt), answer("before", sample.before), answer("after", sample.after),
                                answer("expected", sample.expected)));
    }
  }

  std::filesystem::path path_;
  ReportContent content_;
  std::map<std::string, ThinnedSeries> curves_;
  StepReport last_;
  int64_t total_steps_ = 0;
  double written_at_ = 0.0;
};

}  // namespace reft
