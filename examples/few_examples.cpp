// How few examples teach a format? Trains on 1, 2, 5, … examples drawn from a file and asks unseen questions; an answer counts
// if it has the format. The default format is the bare answer; the embedded model says whole sentences.
//   Ref: Wu et al. 2024, arXiv:2404.03592, appendix G.2, with 5 and 10 examples.
#include <cmath>
#include <filesystem>
#include <mutex>
#include <regex>

#include "reft/data/readers.hpp"
#include "reft/data/sampler_order.hpp"
#include "reft/data/tokenize_chat.hpp"
#include "reft/model/loading.hpp"
#include "reft/report/heat_map.hpp"
#include "reft/train/trainer.hpp"
#include "support/drawings.hpp"
#include "support/interventions.hpp"
#include "support/model_path.hpp"
#include "support/parallel.hpp"
#include "support/program.hpp"
#include "support/samples.hpp"

namespace {

using reft::program::Common;
using Model = reft::ReftModel<reft::CausalLM>;

const std::filesystem::path kExamples = REFT_SOURCE_DIR "/examples";

struct Settings {
  std::string model = (kExamples / "tiny_model").string(), data = (kExamples / "data/instructions_train.json").string();
  std::string questions = (kExamples / "data/instructions_heldout.json").string(), format = "[^.]+", output = "few_examples";
  std::string template_name = "alpaca", counts = "1,2,5,10,20";
  int64_t steps = 150, draws = 5, max_questions = 0, max_new_tokens = 32;
  double learning_rate = 1e-2, weight_decay = 0.0;
  reft::program::InterventionFlags interventions;
};

std::string is_expression(const std::string& text) {
  try {
    const std::regex expression(text);
    return {};
  } catch (const std::regex_error& error) {
    return fmt::format("{}: {}", text, error.what());
  }
}

void add_flags(CLI::App& app, Settings& settings) {
  settings.interventions.add_to(app);
  const auto option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str()->group("Experiment");
  };
  option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file");
  option("--data", settings.data, "examples are drawn from these: instruction, input, output");
  option("--questions", settings.questions, "unseen ones of the same form");
  option("--format", settings.format, "regular expression that a whole answer must match, as ECMAScript")->check(is_expression);
  option("--template", settings.template_name, "of prompts: alpaca, none, or chat, the model's own")->check(CLI::IsMember({"alpaca", "none", "chat"}));
  option("--counts", settings.counts, "numbers of examples, joined by ','")
      ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); }));
  option("--steps", settings.steps, "optimizer steps, on all examples each")->check(CLI::NonNegativeNumber);
  option("--draws", settings.draws, "runs of each number, with other examples and from another start")->check(CLI::PositiveNumber);
  option("--learning-rate", settings.learning_rate, "at the first step; falls linearly to 0")->check(CLI::NonNegativeNumber);
  option("--weight-decay", settings.weight_decay, "of all parameters but b")->check(CLI::NonNegativeNumber);
  option("--max-questions", settings.max_questions, "only the first questions; 0 = all")->check(CLI::NonNegativeNumber);
  option("--max-new-tokens", settings.max_new_tokens, "of an answer")->check(CLI::PositiveNumber);
  option("--output", settings.output, "folder for few_examples.json, few_examples.svg, and misses.json: answers without the format");
  settings.interventions.set_defaults("f4+l4", "all", 4);
}

struct Run {
  int64_t examples = 0;
  uint64_t seed = 0;
  double format_rate = 0.0;   ///< share of answers that have the format
  double content_rate = 0.0;  ///< share of answers that also hold the expected output
  std::vector<std::string> answers;
  std::vector<size_t> misses;  ///< questions whose answers do not have the format
};

class FewExamples {
 public:
  FewExamples(reft::CausalLM base, reft::Tokenizer tokenizer, const Settings& settings)
      : base_(std::move(base)), tokenizer_(std::move(tokenizer)), settings_(settings), format_(settings.format) {
    examples_ = tokenized(reft::read_examples(settings.data));
    const auto rows = reft::read_examples(settings.questions);
    questions_ = reft::program::questions_of(rows, prompt_template(), settings.max_questions > 0 ? settings.max_questions : rows.size());
    for (const reft::program::Question& question : questions_) prompts_.push_back(prompt_tokens(question));
    if (questions_.empty()) reft::fail<reft::DataError>("few_examples", "--questions {}: no question with an answer", settings.questions);
  }

  int64_t num_examples() const { return std::ssize(examples_); }
  const std::vector<reft::program::Question>& questions() const { return questions_; }

  /// Draws examples, trains and asks; many threads may do so at once. Of one seed fewer examples are the first of more.
  Run run(int64_t count, uint64_t seed) const {
    Model model(base_);
    if (count > 0) {
      reft::program::seeded(seed, [&] { settings_.interventions.attach(model); });
      std::vector<reft::Example> shown;
      for (const int64_t index : reft::shuffled_order(num_examples(), seed)) {
        if (std::ssize(shown) < count) shown.push_back(examples_[index]);
      }
      reft::TrainerOptions options{.epochs = settings_.steps, .batch_size = count, .learning_rate = settings_.learning_rate,
                                         .weight_decay = settings_.weight_decay, .seed = seed};
      reft::Trainer<reft::CausalLM>(model, options).fit(shown);
    }
    Run result{.examples = count, .seed = seed, .answers = reft::program::answers(model, tokenizer_, std::span(prompts_), {.max_new_tokens = settings_.max_new_tokens})};
    const double share = 1.0 / static_cast<double>(questions_.size());
    for (size_t i = 0; i < questions_.size(); ++i) {
      if (!std::regex_match(result.answers[i], format_)) {
        result.misses.push_back(i);
        continue;
      }
      result.format_rate += share;
      if (result.answers[i].find(questions_[i].expected) != std::string::npos) result.content_rate += share;
    }
    return result;
  }

 private:
  bool is_chat() const { return settings_.template_name == "chat"; }
  reft::PromptTemplate prompt_template() const { return reft::parse_prompt_template(is_chat() ? "none" : settings_.template_name); }

  static nlohmann::ordered_json said(const char* role, const std::string& text) { return {{"role", role}, {"content", text}}; }

  std::vector<reft::Example> tokenized(const std::vector<reft::RawExample>& rows) const {
    if (is_chat()) return chats(rows);
    const auto encode = [&](std::string_view text) { return tokenizer_.encode(text); };
    return reft::tokenize_examples(rows, encode, {.prompt_template = prompt_template(), .eos_token_id = tokenizer_.eos_token_id(), .max_length = longest()}).examples;
  }

  /// The rows as conversations of one turn, in the model's own wording.
  std::vector<reft::Example> chats(const std::vector<reft::RawExample>& rows) const {
    std::vector<reft::Example> examples;
    for (const auto& [shown, prompt, expected, is_chat] : reft::program::questions_of(rows, prompt_template(), rows.size())) {
      const reft::RenderedChat chat = tokenizer_.chat_template().render_with_assistant({said("user", prompt), said("assistant", expected)});
      examples.push_back(reft::tokenize_chat(chat.text, chat.assistant, [&](std::string_view text) { return tokenizer_.encode(text, false); }));
    }
    return examples;
  }

  std::vector<int64_t> prompt_tokens(const reft::program::Question& question) const {
    return reft::prompt_tokens(tokenizer_, is_chat() ? reft::PromptTemplate::chat : reft::PromptTemplate::none, question.prompt);
  }

  int64_t longest() const { return std::min<int64_t>(512, base_->config().max_position_embeddings); }

  reft::CausalLM base_;
  reft::Tokenizer tokenizer_;
  const Settings& settings_;
  std::regex format_;
  std::vector<reft::Example> examples_;
  std::vector<reft::program::Question> questions_;
  std::vector<std::vector<int64_t>> prompts_;
};

void print_samples(const Run& before, const Run& after, const std::vector<reft::program::Question>& questions) {
  constexpr size_t kSamples = 5;
  for (size_t sample = 0; sample < std::min(kSamples, questions.size()); ++sample) {
    const size_t i = sample * questions.size() / kSamples;
    fmt::print("{}\n  before: {}\n  after {} examples: {}\n", questions[i].shown, before.answers[i], after.examples, after.answers[i]);
  }
}

/// One number of examples over all draws.
struct Summary {
  int64_t examples = 0;
  double mean = 0.0, deviation = 0.0, lowest = 1.0, highest = 0.0;  // of the format
  double content = 0.0;                                             // mean
};

std::vector<Summary> summarize(const std::vector<Run>& runs, int64_t draws) {
  std::vector<Summary> summaries;
  for (size_t first = 0; first < runs.size(); first += draws) {
    Summary summary{.examples = runs[first].examples};
    const std::span draws_of(runs.begin() + first, draws);
    for (const Run& run : draws_of) {
      summary.mean += run.format_rate / draws;
      summary.content += run.content_rate / draws;
      summary.lowest = std::min(summary.lowest, run.format_rate);
      summary.highest = std::max(summary.highest, run.format_rate);
    }
    for (const Run& run : draws_of) summary.deviation += std::pow(run.format_rate - summary.mean, 2) / std::max<int64_t>(1, draws - 1);
    summary.deviation = std::sqrt(summary.deviation);
    summaries.push_back(summary);
  }
  return summaries;
}

/// The rates over the number of examples, between the lowest and the highest of the draws; and those of every draw.
std::string draw(const std::vector<Run>& runs, const std::vector<Summary>& summaries) {
  reft::ChartSeries format{.name = "format", .style = reft::SeriesStyle::dots}, content{.name = "right answer", .style = reft::SeriesStyle::dots, .color = 1};
  reft::ChartSeries lowest{.name = "lowest, highest", .color = 2}, highest{.color = 2};
  reft::HeatMap map{.title = "format, per cent", .x_label = "examples", .y_label = "draw", .high = 100.0, .decimals = 0};
  map.values.resize(runs.size() / summaries.size());
  for (const Summary& summary : summaries) {
    const auto x = static_cast<double>(summary.examples);
    format.points.push_back({x, 100.0 * summary.mean});
    content.points.push_back({x, 100.0 * summary.content});
    lowest.points.push_back({x, 100.0 * summary.lowest});
    highest.points.push_back({x, 100.0 * summary.highest});
    map.columns.push_back(std::to_string(summary.examples));
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    if (i < map.values.size()) map.rows.push_back(std::to_string(runs[i].seed));
    map.values[i % map.values.size()].push_back(100.0 * runs[i].format_rate);
  }
  const reft::LineChart chart{.title = "answers, per cent", .x_label = "examples", .series = {lowest, highest, content, format}, .from_zero = true};
  return reft::program::side_by_side({reft::to_svg(chart), reft::to_svg(map)});
}

int run(const Settings& settings, const Common& common) {
  common.apply();
  const std::string folder = reft::program::model_path(settings.model);
  reft::LoadOptions load = common.load_options();
  if (common.dtype == "auto" && load.device.is_cpu()) load.dtype = torch::kFloat32;
  const reft::CausalLM base = reft::load_causal_lm(folder, load);
  const FewExamples experiment(base, reft::load_tokenizer(folder), settings);

  std::vector<Run> runs;
  for (const int64_t count : reft::program::parse_tokens(settings.counts)) {
    if (count > experiment.num_examples()) {
      reft::fail<reft::ConfigError>("few_examples", "--counts: {} examples, but {} has {}", count, settings.data, experiment.num_examples());
    }
    for (int64_t i = 0; i < settings.draws; ++i) runs.push_back({count, common.seed + static_cast<uint64_t>(i)});
  }
  std::mutex mutex;
  reft::program::for_each_in_parallel(std::ssize(runs), at::get_num_threads(), [&](int64_t i) {
    runs[i] = experiment.run(runs[i].examples, runs[i].seed);
    const std::lock_guard lock(mutex);
    if (!common.quiet) {
      fmt::print(stderr, "{} examples, seed {}: format {:.3f}, content {:.3f}\n", runs[i].examples, runs[i].seed, runs[i].format_rate, runs[i].content_rate);
    }
  });

  const Run base_run = experiment.run(0, common.seed);
  print_samples(base_run, runs.back(), experiment.questions());
  nlohmann::ordered_json result{{"base_format_rate", base_run.format_rate}, {"counts", nlohmann::ordered_json::array()}, {"runs", nlohmann::ordered_json::array()}};
  const std::vector<Summary> summaries = summarize(runs, settings.draws);
  fmt::print("{:>8} {:>7} {:>6} {:>7} {:>8} {:>21}\n", "examples", "format", "± sd", "lowest", "highest", "and the right answer");
  for (const Summary& summary : summaries) {
    fmt::print("{:>8} {:>7.3f} {:>6.3f} {:>7.3f} {:>8.3f} {:>21.3f}\n", summary.examples, summary.mean, summary.deviation, summary.lowest, summary.highest, summary.content);
    result["counts"].push_back({{"examples", summary.examples}, {"format_rate", summary.mean}, {"deviation", summary.deviation}, {"content_rate", summary.content}});
  }
  nlohmann::ordered_json misses = nlohmann::ordered_json::array();
  for (const Run& run : runs) {
    nlohmann::ordered_json answers = nlohmann::ordered_json::array();
    for (const size_t i : run.misses) answers.push_back({{"question", experiment.questions()[i].shown}, {"answer", run.answers[i]}});
    result["runs"].push_back({{"examples", run.examples}, {"seed", run.seed}, {"format_rate", run.format_rate}, {"content_rate", run.content_rate}});
    misses.push_back({{"examples", run.examples}, {"seed", run.seed}, {"answers", answers}});
  }
  reft::program::write_results(settings.output, "few_examples", result, draw(runs, summaries));
  reft::write_file_atomically(std::filesystem::path(settings.output) / "misses.json", misses.dump(1) + "\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("How few examples teach a format, measured on unseen questions.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] { return run(settings, common); });
}
