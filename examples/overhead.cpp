// What do interventions cost at inference? Prefill and decoding with and without them, against rank, number of layers and
// number of positions. Time is measured and its slope fitted; operators, which launch every kernel, are counted: edits of
// the prompt add none to decoding.
//   Ref: Wu et al. 2024, arXiv:2404.03592, appendix H.
#include <ATen/record_function.h>

#include <chrono>
#include <filesystem>
#include <limits>

#include "reft/generate/generate.hpp"
#include "reft/model/loading.hpp"
#include "support/command_line.hpp"
#include "support/drawings.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"

namespace {

using reft::program::Common;
using Model = reft::ReftModel<reft::CausalLM>;

struct Settings {
  std::string model = REFT_SOURCE_DIR "/examples/tiny_model", output = "overhead", phase = "prompt";
  std::string ranks = "1,4,8,16,32", layers = "1,2,4,6", positions = "1,2,4,8,16";
  int64_t prompt_tokens = 64, new_tokens = 16, repeats = 30;
};

void add_flags(CLI::App& app, Settings& settings) {
  const auto option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str()->group("Experiment");
  };
  const auto numbers = reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); });
  option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file");
  option("--ranks", settings.ranks, "ranks to measure, at one layer and one position")->check(numbers);
  option("--layers", settings.layers, "numbers of edited layers, with rank 8 at one position")->check(numbers);
  option("--positions", settings.positions, "numbers of edited last positions, with rank 8 at one layer")->check(numbers);
  option("--phase", settings.phase, "when they act: prompt, decode or every")
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_phase(text); }));
  option("--prompt-tokens", settings.prompt_tokens, "of the one prompt")->check(CLI::PositiveNumber);
  option("--new-tokens", settings.new_tokens, "decoded behind it")->check(CLI::PositiveNumber);
  option("--repeats", settings.repeats, "of each measurement; the fastest counts, for others disturb it only upwards")->check(CLI::PositiveNumber);
  option("--output", settings.output, "folder for overhead.json and overhead.svg");
}

struct Shape {
  int64_t rank = 8, layers = 1, positions = 1;
};

struct Cost {
  double prefill_seconds = std::numeric_limits<double>::infinity(), decode_seconds = prefill_seconds;  // decoding: per token
  int64_t prefill_operators = 0, decode_operators = 0;                                                 // decoding: of all tokens
};

/// Counts this thread's calls of LibTorch operators, those that operators make too, while it lives.
class OperatorCount {
 public:
  OperatorCount() {
    count() = 0;
    const auto tell = [](const at::RecordFunction&) -> std::unique_ptr<at::ObserverContext> {
      ++count();
      return nullptr;
    };
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(tell).scopes({at::RecordScope::FUNCTION}));
  }
  OperatorCount(const OperatorCount&) = delete;
  OperatorCount& operator=(const OperatorCount&) = delete;
  ~OperatorCount() { at::removeCallback(handle_); }

  int64_t value() const { return count(); }

 private:
  static int64_t& count() {
    static thread_local int64_t calls = 0;
    return calls;
  }

  at::CallbackHandle handle_ = 0;
};

class Overhead {
 public:
  Overhead(reft::CausalLM base, const Settings& settings) : base_(std::move(base)), settings_(settings), plain_(base_) {
    const reft::TransformerConfig& config = base_->config();
    if (settings.prompt_tokens + settings.new_tokens > config.max_position_embeddings) {
      reft::fail<reft::ConfigError>("overhead", "expected at most {} tokens of prompt and answer, got {}", config.max_position_embeddings,
                                    settings.prompt_tokens + settings.new_tokens);
    }
    prompt_ = torch::randint(config.vocab_size, {settings.prompt_tokens}, torch::kInt64).to(base_->device());
  }

  /// Without and with interventions, by turns, so that both meet the same machine.
  std::pair<Cost, Cost> measure(const Shape& shape) const {
    Model edited(base_);
    for (int64_t i = 0; i < shape.layers; ++i) {
      const auto layer = static_cast<int>(i * base_->num_layers() / shape.layers);
      edited.attach<reft::LoReFT>({.layer = layer, .positions = fmt::format("l{}", shape.positions), .tie = reft::Tie::all,
                                   .phase = reft::parse_phase(settings_.phase)}, {.rank = shape.rank});
    }
    std::pair<Cost, Cost> costs{count(plain_), count(edited)};
    for (int64_t i = 0; i < settings_.repeats; ++i) {
      keep_fastest(costs.first, plain_);
      keep_fastest(costs.second, edited);
    }
    return costs;
  }

 private:
  Cost count(const Model& model) const {
    Cost cost;
    const OperatorCount operators;
    generate(model, [&] { cost.prefill_operators = operators.value(); });
    cost.decode_operators = operators.value() - cost.prefill_operators;
    return cost;
  }

  /// The observer that counts would slow every operator down: time is taken without it.
  void keep_fastest(Cost& cost, const Model& model) const {
    using Clock = std::chrono::steady_clock;
    const auto seconds = [](auto from, auto to) { return std::chrono::duration<double>(to - from).count(); };
    const auto begin = Clock::now();
    auto prefilled = begin;
    generate(model, [&] { prefilled = Clock::now(); });
    cost.prefill_seconds = std::min(cost.prefill_seconds, seconds(begin, prefilled));
    cost.decode_seconds = std::min(cost.decode_seconds, seconds(prefilled, Clock::now()) / static_cast<double>(settings_.new_tokens));
  }

  /// The prompt, then `new_tokens` tokens behind it.
  template <class Prefilled>
  void generate(const Model& model, Prefilled prefilled) const {
    torch::NoGradGuard no_grad;
    const torch::Device device = base_->device();
    const torch::Tensor last = torch::tensor({settings_.prompt_tokens - 1}, torch::kInt64).to(device);
    const auto finished = [](const torch::Tensor& logits) { return logits.argmax(1).to(torch::kCPU); };  // waits for a device
    reft::KvCache cache(base_->config(), 1, settings_.prompt_tokens + settings_.new_tokens, torch::TensorOptions(base_->dtype()).device(device));
    const auto context = model.interventions().prompt_context(reft::Layout::ragged({settings_.prompt_tokens}, device), std::vector{settings_.prompt_tokens});
    torch::Tensor token = finished(base_->forward(prompt_, context, last, &cache));
    prefilled();
    for (int64_t i = 0; i < settings_.new_tokens; ++i) {
      const auto step = model.interventions().decode_context(reft::Layout::ragged({1}, device, cache.lengths()));
      token = finished(base_->forward(token.to(device), step, {}, &cache));
    }
  }

  reft::CausalLM base_;
  const Settings& settings_;
  Model plain_;
  torch::Tensor prompt_;
};

// --- the sweeps ---------------------------------------------------------------------------------------------------------

/// The line of least squares through the points: y = first + slope x. Through one point it is level.
std::pair<double, double> fitted(const std::vector<reft::ChartPoint>& points) {
  reft::ChartPoint mean;
  for (const reft::ChartPoint& point : points) mean = {mean.x + point.x / std::ssize(points), mean.y + point.y / std::ssize(points)};
  double xx = 0.0, xy = 0.0;
  for (const reft::ChartPoint& point : points) {
    xx += (point.x - mean.x) * (point.x - mean.x);
    xy += (point.x - mean.x) * (point.y - mean.y);
  }
  const double slope = xx > 0.0 ? xy / xx : 0.0;
  return {mean.y - slope * mean.x, slope};
}

struct Sweep {
  std::string name, unit;  // "layers", "layer"
  int64_t Shape::* field;
  std::vector<int64_t> values;
};

class Report {
 public:
  void add(const Sweep& sweep, int64_t value, const Cost& plain, const Cost& edited) {
    const double prefill_more = 1e6 * (edited.prefill_seconds - plain.prefill_seconds), decode_more = 1e6 * (edited.decode_seconds - plain.decode_seconds);
    const int64_t prefill_operators = edited.prefill_operators - plain.prefill_operators, decode_operators = edited.decode_operators - plain.decode_operators;
    fmt::print("{:<10} {:>6} {:>12.0f} {:>+9.0f} {:>+10} {:>12.0f} {:>+9.1f} {:>+10}\n", sweep.name, value, 1e6 * plain.prefill_seconds, prefill_more,
               prefill_operators, 1e6 * plain.decode_seconds, decode_more, decode_operators);
    rows_.push_back({{"sweep", sweep.name}, {"value", value}, {"prefill_seconds", edited.prefill_seconds}, {"base_prefill_seconds", plain.prefill_seconds},
                     {"decode_seconds", edited.decode_seconds}, {"base_decode_seconds", plain.decode_seconds},
                     {"extra_prefill_operators", prefill_operators}, {"extra_decode_operators", decode_operators}});
    points_.push_back({static_cast<double>(value), prefill_more});
  }

  /// Fits and draws the rows since the last call.
  void finish(const Sweep& sweep) {
    const auto [first, slope] = fitted(points_);
    slopes_[sweep.unit] = slope;
    reft::ChartSeries measured{.name = "measured", .points = points_, .style = reft::SeriesStyle::dots}, line{.name = "fitted", .color = 1};
    for (const reft::ChartPoint& point : points_) line.points.push_back({point.x, first + slope * point.x});
    charts_.push_back(reft::to_svg(reft::LineChart{.title = fmt::format("prefill: {:+.2f} µs per {}", slope, sweep.unit),
                                                   .x_label = sweep.name + "   (vertical: extra µs)", .series = {line, measured}, .from_zero = true}));
    points_.clear();
  }

  nlohmann::ordered_json json(const Settings& settings) const {
    return {{"prompt_tokens", settings.prompt_tokens}, {"new_tokens", settings.new_tokens}, {"phase", settings.phase},
            {"prefill_microseconds_per", slopes_}, {"rows", rows_}};
  }
  std::string svg() const { return reft::program::side_by_side(charts_); }

 private:
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array(), slopes_;
  std::vector<reft::ChartPoint> points_;
  std::vector<std::string> charts_;
};

int run(const Settings& settings, const Common& common) {
  common.apply();
  const reft::CausalLM base = reft::load_causal_lm(reft::program::model_path(settings.model), common.load_options());
  const std::vector<Sweep> sweeps{{"ranks", "rank", &Shape::rank, reft::program::parse_tokens(settings.ranks)},
                                  {"layers", "layer", &Shape::layers, reft::program::parse_tokens(settings.layers)},
                                  {"positions", "position", &Shape::positions, reft::program::parse_tokens(settings.positions)}};
  for (const Sweep& sweep : sweeps) {
    const int64_t most = sweep.field == &Shape::layers ? base->num_layers() : sweep.field == &Shape::positions ? settings.prompt_tokens : base->config().hidden_size;
    for (const int64_t value : sweep.values) {
      if (value < 1 || value > most) reft::fail<reft::ConfigError>("overhead", "--{}: expected 1 to {}, got {}", sweep.name, most, value);
    }
  }
  const Overhead overhead(base, settings);
  fmt::print("{:<10} {:>6} {:>12} {:>9} {:>10} {:>12} {:>9} {:>10}\n", "sweep", "value", "prefill µs", "more", "operators", "token µs", "more", "operators");
  Report report;
  for (const Sweep& sweep : sweeps) {
    for (const int64_t value : sweep.values) {
      Shape shape;
      shape.*sweep.field = value;
      const auto [plain, edited] = overhead.measure(shape);
      report.add(sweep, value, plain, edited);
    }
    report.finish(sweep);
  }
  const nlohmann::ordered_json result = report.json(settings);
  reft::program::write_results(settings.output, "overhead", result, report.svg());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures what interventions cost in prefill and decoding, in time and in operators.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] { return run(settings, common); });
}
