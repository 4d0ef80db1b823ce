// Instruction tuning: trains ReFT interventions on a frozen decoder and writes an adapter folder.
// Without --model and --data it tunes the embedded model on the embedded instructions, and shows answers before and after.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <iostream>

#include "reft/checkpoint/adapter.hpp"
#include "reft/data/readers.hpp"
#include "reft/data/tokenize.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/html_report.hpp"
#include "reft/train/tensorboard.hpp"
#include "reft/train/trainer.hpp"
#include "support/interventions.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"
#include "support/samples.hpp"

namespace {

using reft::program::Common;
using reft::program::Question;
using Model = reft::ReftModel<reft::CausalLM>;

const std::filesystem::path kExamples = REFT_SOURCE_DIR "/examples";
constexpr size_t kShown = 8;  // answers before and after

struct Settings {
  std::string model, data, output = "adapter", eval_data, prompt_template = "alpaca", schedule = "linear", metrics, tensorboard, report;
  reft::TrainerOptions training;
  int64_t max_steps = -1, max_length = 0, max_examples = 0;
  double eval_fraction = 0.0;
  bool no_shuffle = false, overwrite = false, resume = false;
  reft::program::InterventionFlags interventions;

  bool is_embedded() const { return model.empty() && data.empty(); }
};

void add_flags(CLI::App& app, Settings& settings) {
  reft::TrainerOptions& training = settings.training;
  app.add_option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file (default: the embedded model)");
  app.add_option("--data", settings.data,
                 "JSON or JSON Lines of instruction/input/output, prompt/completion or input_ids/labels/prompt_length "
                 "(default: the embedded instructions)");
  app.add_option("--output", settings.output, "folder for the adapter and its checkpoint")->capture_default_str();
  app.add_flag("--overwrite", settings.overwrite, "the output folder may hold something");
  settings.interventions.add_to(app);
  const auto option = [&](const char* name, auto& value, const char* help, const char* group) {
    return app.add_option(name, value, help)->capture_default_str()->group(group);
  };
  option("--eval-data", settings.eval_data, "evaluation examples, like --data", "Data");
  option("--eval-fraction", settings.eval_fraction, "share of the data held out for evaluation", "Data")->check(CLI::Range(0.0, 0.99));
  option("--max-examples", settings.max_examples, "only the first of the data; 0 = all", "Data")->check(CLI::NonNegativeNumber);
  option("--max-length", settings.max_length, "tokens of a sequence; 0 = the smaller of 512 and the model's context", "Data")
      ->check(CLI::NonNegativeNumber);
  option("--template", settings.prompt_template, "wording of prompts: alpaca or none", "Data")
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_prompt_template(text); }));
  app.add_flag("--no-shuffle", settings.no_shuffle, "keep the order of the file")->group("Data");
  option("--epochs", training.epochs, "passes over the data", "Training")->check(CLI::NonNegativeNumber);
  option("--max-steps", settings.max_steps, "optimizer steps at most; -1 = as many as the epochs have", "Training")->check(CLI::Range(int64_t{-1}, int64_t{1} << 40));
  option("--batch-size", training.batch_size, "examples of one forward", "Training")->check(CLI::PositiveNumber);
  option("--accumulate", training.accumulate, "forwards of one optimizer step", "Training")->check(CLI::PositiveNumber);
  option("--learning-rate", training.learning_rate, "peak, reached after warm-up", "Training")->check(CLI::NonNegativeNumber);
  option("--schedule", settings.schedule, "linear, cosine or constant", "Training")
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_schedule(text); }));
  option("--warmup-ratio", training.warmup_ratio, "share of the steps", "Training")->check(CLI::Range(0.0, 1.0));
  option("--weight-decay", training.weight_decay, "of all parameters but b", "Training")->check(CLI::NonNegativeNumber);
  option("--max-grad-norm", training.max_gradient_norm, "gradients are scaled down to it; 0 = never", "Training")->check(CLI::NonNegativeNumber);
  option("--checkpoint-every", training.checkpoint_every, "steps between checkpoints; 0 = only on ctrl-C", "Training")->check(CLI::NonNegativeNumber);
  app.add_flag("--resume", settings.resume, "go on from the output folder's checkpoint, if there is one")->group("Training");
  option("--metrics", settings.metrics, "JSON Lines file, one line a step", "Training");
  option("--tensorboard", settings.tensorboard, "folder for TensorBoard's event files", "Training");
  option("--report", settings.report, "HTML file that shows the run: curves, samples, configuration", "Training");
}

/// The embedded model is small: one intervention a layer, shared by many positions, within 0.5 % of its parameters.
void apply_embedded_recipe(CLI::App& app, Settings& settings) {
  const auto set_default = [&](const char* flag, auto& value, auto recipe) {
    if (app.count(flag) > 0) return;
    value = recipe;
    app.get_option(flag)->default_str(fmt::format("{}", recipe));
  };
  settings.interventions.set_defaults("f4+l4", "all", 4);
  set_default("--epochs", settings.training.epochs, 6);
  set_default("--batch-size", settings.training.batch_size, 16);
  set_default("--learning-rate", settings.training.learning_rate, 1e-2);
}

/// An adapter to go on from brings the wording it was trained with.
void take_template(const CLI::App& app, Settings& settings) {
  const std::string& adapter = settings.interventions.init_adapter();
  if (adapter.empty() || reft::adapter_format(adapter) != reft::AdapterFormat::reft) return;
  const std::string stored = reft::read_adapter_config(adapter).info.prompt_template;
  if (stored.empty()) return;
  if (app.count("--template") > 0 && settings.prompt_template != stored) {
    reft::fail<reft::ConfigError>("--init-adapter", "--template {} contradicts {}, where it is {}", settings.prompt_template, adapter, stored);
  }
  settings.prompt_template = stored;
}

// --- data -----------------------------------------------------------------------------------------------------------

struct Data {
  std::vector<reft::Example> train, evaluation;
  std::vector<Question> samples;  // a few, unseen ones where some are held out
};

std::vector<reft::Example> tokenized(const std::vector<reft::RawExample>& rows, const std::string& file,
                                     const std::optional<reft::Tokenizer>& tokenizer, const reft::TokenizeOptions& options) {
  const auto encode = [&](std::string_view text) {
    if (!tokenizer) reft::fail<reft::DataError>("alpaca_sft", "{} holds text, but the model folder has no tokenizer.json", file);
    return tokenizer->encode(text);
  };
  reft::TokenizedExamples result = reft::tokenize_examples(rows, encode, options);
  if (result.num_cut + result.num_skipped > 0) {
    fmt::print(stderr, "warning: {}: {} examples cut at {} tokens, {} skipped because nothing to learn is left of them\n", file,
               result.num_cut, options.max_length, result.num_skipped);
  }
  return std::move(result.examples);
}

void check_tokens(const std::vector<reft::Example>& examples, const std::string& file, int64_t vocabulary_size) {
  for (size_t i = 0; i < examples.size(); ++i) {
    for (const auto* tokens : {&examples[i].input_ids, &examples[i].labels}) {
      for (const int64_t token : *tokens) {
        if (token < vocabulary_size) continue;
        reft::fail<reft::DataError>("alpaca_sft", "{}: example {}: token {}, but the model's vocabulary has {} (0..{})", file, i + 1,
                                    token, vocabulary_size, vocabulary_size - 1);
      }
    }
  }
}

Data read_data(const Settings& settings, const Common& common, const reft::TransformerConfig& config,
               const std::optional<reft::Tokenizer>& tokenizer) {
  reft::TokenizeOptions options{.prompt_template = reft::parse_prompt_template(settings.prompt_template)};
  options.max_length = settings.max_length > 0 ? settings.max_length : std::min<int64_t>(512, config.max_position_embeddings);
  if (tokenizer) options.eos_token_id = tokenizer->eos_token_id();
  std::vector<reft::RawExample> rows = reft::read_examples(settings.data), held_out;
  if (settings.max_examples > 0 && std::ssize(rows) > settings.max_examples) rows.resize(static_cast<size_t>(settings.max_examples));
  if (settings.eval_fraction > 0.0) {
    std::tie(rows, held_out) = reft::split_train_eval(std::move(rows), settings.eval_fraction, common.seed);
  }
  Data data{tokenized(rows, settings.data, tokenizer, options), {},
            reft::program::questions_of(held_out.empty() ? rows : held_out, options.prompt_template, kShown)};
  if (!held_out.empty()) data.evaluation = tokenized(held_out, settings.data, tokenizer, options);
  if (!settings.eval_data.empty()) {
    const auto more = tokenized(reft::read_examples(settings.eval_data), settings.eval_data, tokenizer, options);
    data.evaluation.insert(data.evaluation.end(), more.begin(), more.end());
  }
  check_tokens(data.train, settings.data, config.vocab_size);
  check_tokens(data.evaluation, settings.eval_data.empty() ? settings.data : settings.eval_data, config.vocab_size);
  return data;
}

void warn_of_dropped_positions(const Model& model, const std::vector<reft::Example>& examples) {
  std::vector<int64_t> prompt_lengths;
  for (const reft::Example& example : examples) prompt_lengths.push_back(example.prompt_length);
  if (const int64_t dropped = model.interventions().num_dropped(prompt_lengths); dropped > 0) {
    fmt::print(stderr, "warning: {} positions lie outside their prompts and are dropped\n", dropped);
  }
}

// --- answers before and after ---------------------------------------------------------------------------------------

std::string one_line(const std::string& text, size_t longest) {
  std::string line;
  size_t characters = 0;
  for (const char byte : text) {
    const bool begins = (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
    if (begins && characters++ == longest) return line + "…";
    line += byte == '\n' ? ' ' : byte;
  }
  return line;
}

void show_answers(const std::vector<Question>& questions, const std::vector<std::string>& before, const std::vector<std::string>& after) {
  fmt::print("\nUnseen instructions, the base's answer and the tuned one's:\n");
  for (size_t i = 0; i < std::min(kShown, questions.size()); ++i) {
    const size_t index = i * questions.size() / kShown;
    const Question& question = questions[index];
    fmt::print("  {}\n", one_line(question.shown, 100));
    fmt::print("    before  {}\n    after   {}   (expected: {})\n", one_line(before[index], 80), one_line(after[index], 40), question.expected);
  }
  fmt::print("\n");
}

// --- running ----------------------------------------------------------------------------------------------------------

std::atomic<int> stop_signal{0};

/// The first signal asks for a checkpoint after the step; a second one ends the process at once.
void stop_on_signals(bool on) {
  for (const int signal : {SIGINT, SIGTERM}) {
    std::signal(signal, !on ? SIG_DFL : [](int number) {
      stop_signal = number;
      std::signal(number, SIG_DFL);
    });
  }
}

void check_output(const Settings& settings) {
  const std::filesystem::path folder = settings.output;
  std::error_code error;
  if (std::filesystem::exists(folder) && !std::filesystem::is_directory(folder)) {
    reft::fail<reft::ConfigError>("alpaca_sft", "--output {}: expected a folder, got a file", settings.output);
  }
  const bool is_full = std::filesystem::exists(folder) && !std::filesystem::is_empty(folder, error);
  if (is_full && !settings.overwrite && !settings.resume) {
    reft::fail<reft::ConfigError>("alpaca_sft", "--output {}: the folder exists and is not empty; give another, or --overwrite or --resume",
                                  settings.output);
  }
  const bool has_metrics = std::filesystem::is_regular_file(settings.metrics) && std::filesystem::file_size(settings.metrics, error) > 0;
  if (has_metrics && !settings.overwrite && !settings.resume) {
    reft::fail<reft::ConfigError>("alpaca_sft", "--metrics {}: the file exists; give another, or --overwrite or --resume", settings.metrics);
  }
  if (std::filesystem::exists(settings.report) && !settings.overwrite && !settings.resume) {
    reft::fail<reft::ConfigError>("alpaca_sft", "--report {}: the file exists; give another, or --overwrite or --resume", settings.report);
  }
  if (reft::has_event_files(settings.tensorboard) && !settings.overwrite && !settings.resume) {
    reft::fail<reft::ConfigError>("alpaca_sft", "--tensorboard {}: the folder holds event files; give another, or --overwrite or --resume",
                                  settings.tensorboard);
  }
}

/// What a report says besides the curves.
reft::ReportContent report_content(const CLI::App& app, const Settings& settings, const Model& model) {
  reft::ReportContent content{.title = settings.output, .subtitle = fmt::format("ReFT on {}, trained on {}", settings.model, settings.data),
                              .configuration = reft::program::configuration(app)};
  for (const reft::Attachment& attachment : model.interventions().attachments()) {
    std::vector<std::string> sites;
    for (const reft::Site& site : attachment.sites) sites.push_back(to_string(site));
    content.interventions.push_back({fmt::format("{}", fmt::join(sites, ", ")), std::string(attachment.intervention->type()), attachment.positions.text(),
                                     reft::grouped_number(attachment.intervention->num_parameters())});
  }
  content.trained_parameters = model.num_trainable_parameters();
  content.base_parameters = model.num_base_parameters();
  content.memory_bytes = [device = model.base()->device()] { return reft::program::memory_bytes(device); };
  return content;
}

std::vector<reft::ReportSample> report_samples(const std::vector<Question>& questions, const std::vector<std::string>& before,
                                               const std::vector<std::string>& after) {
  std::vector<reft::ReportSample> samples;
  const size_t count = std::min(kShown, questions.size());
  for (size_t i = 0; i < count; ++i) {
    const size_t index = i * questions.size() / count;
    samples.push_back({questions[index].shown, before[index], after[index], reft::program::trimmed(questions[index].expected)});
  }
  return samples;
}

/// Only when nothing is left that could be refused: bad input leaves no folder.
void create_output(const Settings& settings) {
  std::error_code error;
  std::filesystem::create_directories(settings.output, error);
  if (error) reft::fail<reft::Error>("alpaca_sft", "--output {}: cannot create the folder: {}", settings.output, error.message());
}

std::optional<reft::Tokenizer> find_tokenizer(const std::filesystem::path& model) {
  if (!std::filesystem::exists(model / "tokenizer.json")) return std::nullopt;
  return reft::load_tokenizer(model);
}

int run(CLI::App& app, Settings& settings, const Common& common) {
  const bool embedded = settings.is_embedded();
  common.apply();
  check_output(settings);
  if (embedded) apply_embedded_recipe(app, settings);
  take_template(app, settings);
  if (settings.model.empty()) settings.model = (kExamples / "tiny_model").string();
  if (settings.data.empty()) settings.data = (kExamples / "data/instructions_train.json").string();

  reft::LoadOptions load = common.load_options();
  if (embedded && common.dtype == "auto") load.dtype = torch::kFloat32;  // stored in bfloat16, small enough for more
  const std::string folder = reft::program::model_path(settings.model);
  const reft::CausalLM base = reft::load_causal_lm(folder, load);
  const std::optional<reft::Tokenizer> tokenizer = find_tokenizer(folder);
  const Data data = read_data(settings, common, base->config(), tokenizer);
  Model model(base);

  std::vector<Question> questions;
  std::vector<std::string> before;
  if (embedded) {
    questions = reft::program::questions_of(reft::read_examples(kExamples / "data/instructions_heldout.json"), reft::PromptTemplate::alpaca, SIZE_MAX);
  } else if (!settings.report.empty() && tokenizer) {
    questions = data.samples;
  }
  const int64_t answer_length = embedded ? 32 : 64;
  if (!questions.empty()) before = reft::program::answers(model, *tokenizer, questions, answer_length);
  settings.interventions.attach(model);
  warn_of_dropped_positions(model, data.train);
  if (!common.quiet) fmt::print(stderr, "{}\n", model.trainable_summary());

  reft::TrainerOptions& training = settings.training;
  training.schedule = reft::parse_schedule(settings.schedule);
  training.seed = common.seed;
  training.shuffle = !settings.no_shuffle;
  training.resume = settings.resume;
  training.checkpoint = std::filesystem::path(settings.output) / "checkpoint.safetensors";
  if (settings.max_steps >= 0) training.max_steps = settings.max_steps;
  create_output(settings);
  stop_on_signals(true);
  training.should_stop = [] { return stop_signal != 0; };
  reft::Trainer<reft::CausalLM> trainer(model, training);
  reft::Progress progress(std::cerr, isatty(STDERR_FILENO) != 0);
  std::optional<reft::MetricsFile> metrics;
  if (!settings.metrics.empty()) trainer.add(metrics.emplace(settings.metrics));
  reft::TensorBoard tensorboard(settings.tensorboard);
  if (!settings.tensorboard.empty()) trainer.add(tensorboard);
  reft::HtmlReport report(settings.report, report_content(app, settings, model));
  if (!settings.report.empty()) trainer.add(report);
  if (!common.quiet) trainer.add(progress);
  const reft::TrainingResult result = trainer.fit(data.train, data.evaluation);
  if (result.stopped) {
    fmt::print(stderr, "\nstopped after step {}; the checkpoint is in {}; --resume goes on from it\n", result.steps, settings.output);
    return 128 + stop_signal;
  }
  reft::save_adapter(model, settings.output, {settings.model, settings.prompt_template}, /*overwrite=*/true);
  std::filesystem::remove(training.checkpoint);
  stop_on_signals(false);

  nlohmann::ordered_json summary{{"train_loss", result.steps > 0 ? nlohmann::ordered_json(result.train_loss) : nullptr},
                                 {"eval_loss", result.eval_loss ? nlohmann::ordered_json(*result.eval_loss) : nullptr},
                                 {"steps", result.steps},
                                 {"tokens", result.tokens},
                                 {"tokens_per_second", result.tokens_per_second()},
                                 {"seconds", result.seconds},
                                 {"trainable_parameters", model.num_trainable_parameters()},
                                 {"base_parameters", model.num_base_parameters()},
                                 {"peak_memory_bytes", reft::program::peak_memory_bytes(base->device())}};
  if (!questions.empty()) {
    const std::vector<std::string> after = reft::program::answers(model, *tokenizer, questions, answer_length);
    if (embedded) {
      show_answers(questions, before, after);
      summary["exact_match_before"] = reft::program::exact_match(before, questions);
      summary["exact_match_after"] = reft::program::exact_match(after, questions);
    }
    report.content().samples = report_samples(questions, before, after);
  }
  if (!settings.report.empty()) report.write();
  if (!common.quiet) fmt::print(stderr, "the adapter is in {}\n", std::filesystem::absolute(settings.output).string());
  fmt::print("{}\n", summary.dump());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tunes a frozen decoder with ReFT: small low-rank edits of its hidden states.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] { return run(app, settings, common); });
}
