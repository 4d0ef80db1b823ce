// Instruction tuning: trains ReFT interventions on a frozen decoder and writes an adapter folder.
// Without --model and --data it tunes the embedded model on the embedded instructions, and shows answers before and after.
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <iostream>
#include <iterator>

#include "reft/checkpoint/adapter.hpp"
#include "reft/data/dataset.hpp"
#include "reft/data/tokenize_chat.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/generation_metric.hpp"
#include "reft/train/html_report.hpp"
#include "reft/train/tensorboard.hpp"
#include "reft/train/trunk_cache.hpp"
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
  std::string model, output = "adapter", eval_data, eval_generation, data_cache, prompt_template = "alpaca", schedule = "linear", metrics,
                     tensorboard, report, trunk_cache = "auto";
  std::vector<std::string> data;
  std::vector<double> data_weights;
  reft::TrainerOptions training;
  int64_t max_steps = -1, max_length = 0, max_examples = 0, eval_max_new_tokens = 64;
  double eval_fraction = 0.0;
  bool no_shuffle = false, stream = false, deterministic = false, overwrite = false, resume = false;
  reft::program::InterventionFlags interventions;

  bool is_embedded() const { return model.empty() && data.empty(); }
};

void add_flags(CLI::App& app, Settings& settings) {
  reft::TrainerOptions& training = settings.training;
  app.add_option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file (default: the embedded model)");
  app.add_option("--data", settings.data,
                 "JSON or JSON Lines of instruction/input/output, prompt/completion, messages, text or "
                 "input_ids/labels/prompt_length, or lines of a .txt; several are joined (default: the embedded instructions)")
      ->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--output", settings.output, "folder for the adapter and its checkpoint")->capture_default_str();
  app.add_flag("--overwrite", settings.overwrite, "the output folder may hold something");
  settings.interventions.add_to(app);
  const auto option = [&](const char* name, auto& value, const char* help, const char* group) {
    return app.add_option(name, value, help)->capture_default_str()->group(group);
  };
  option("--eval-data", settings.eval_data, "evaluation examples, like --data", "Data");
  option("--eval-fraction", settings.eval_fraction, "share of the data held out for evaluation", "Data")->check(CLI::Range(0.0, 0.99));
  app.add_option("--data-weights", settings.data_weights, "how often each --data is drawn from, as 2,1 (default: all examples alike)")
      ->delimiter(',')
      ->group("Data");
  option("--data-cache", settings.data_cache, "folder that keeps tokenized data for the next run", "Data");
  app.add_flag("--stream", settings.stream, "read and tokenize rows when they are needed, for files larger than memory")->group("Data");
  option("--max-examples", settings.max_examples, "only the first of each file; 0 = all", "Data")->check(CLI::NonNegativeNumber);
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
  app.add_flag("--deterministic", settings.deterministic,
               "only operations that give the same bits every time; an error where there is none")
      ->group("Training");
  option("--eval-every", training.evaluate_every, "steps between evaluations; 0 = after every epoch", "Evaluation")->check(CLI::NonNegativeNumber);
  option("--eval-generation", settings.eval_generation,
         "score greedy answers too: exact_match, or contains (the expected text is in the answer)", "Evaluation")
      ->check(CLI::IsMember({"exact_match", "contains"}));
  option("--eval-max-new-tokens", settings.eval_max_new_tokens, "of those answers", "Evaluation")->check(CLI::PositiveNumber);
  option("--metric-for-best", training.metric_for_best, "loss, exact_match or contains: the parameters of the best evaluation are kept",
         "Evaluation");
  option("--patience", training.patience, "evaluations without a better metric-for-best that end the run; 0 = never", "Evaluation")
      ->check(CLI::NonNegativeNumber);
  option("--trunk-cache", settings.trunk_cache, "auto (blocks below the lowest edit run once for each example where they are a quarter or more) or off", "Training")
      ->check(CLI::IsMember({"auto", "off"}));
  option("--checkpoint-every", training.checkpoint_every, "steps between checkpoints; 0 = only on ctrl-C and SIGTERM", "Training")
      ->check(CLI::NonNegativeNumber);
  option("--checkpoint-minutes", training.checkpoint_minutes, "minutes between checkpoints; 0 = only as the other flags say", "Training")
      ->check(CLI::NonNegativeNumber);
  option("--keep-checkpoints", training.keep_checkpoints, "so many of the last, the older ones with their step in the name", "Training")
      ->check(CLI::PositiveNumber);
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
  std::shared_ptr<const reft::ExampleSource> train, evaluation;
  reft::Mixture mixture;
  std::vector<Question> samples;  // a few, unseen ones where some are held out
};

std::string file_content(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

reft::DatasetOptions dataset_options(const Settings& settings, const Common& common, const reft::TransformerConfig& config,
                                     const std::optional<reft::Tokenizer>& tokenizer, const std::string& model) {
  reft::DatasetOptions options{.stream = settings.stream, .cache = settings.data_cache, .max_examples = settings.max_examples,
                               .eval_fraction = settings.eval_fraction, .seed = common.seed};
  options.tokenize = {.prompt_template = reft::parse_prompt_template(settings.prompt_template),
                      .max_length = settings.max_length > 0 ? settings.max_length : std::min<int64_t>(512, config.max_position_embeddings),
                      .vocabulary_size = config.vocab_size};
  if (!tokenizer) return options;
  options.tokenize.eos_token_id = tokenizer->eos_token_id();
  if (tokenizer->has_chat_template()) {
    options.tokenize.tokenize_chat = [tokenizer](const nlohmann::ordered_json& messages) {
      const reft::RenderedChat chat = tokenizer->chat_template().render_with_assistant(messages);
      return reft::tokenize_chat(chat.text, chat.assistant, [&](std::string_view text) { return tokenizer->encode(text, false); });
    };
  }
  if (!settings.data_cache.empty()) {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
      options.tokenizer_content += file_content(std::filesystem::path(model) / name);
  }
  return options;
}

reft::Dataset read_file(const std::string& file, const std::optional<reft::Tokenizer>& tokenizer, const reft::DatasetOptions& options) {
  const auto encode = [tokenizer](std::string_view text) {
    if (!tokenizer) reft::fail<reft::DataError>("alpaca_sft", "the data is text, but the model folder has no tokenizer.json");
    return tokenizer->encode(text);
  };
  reft::Dataset dataset = reft::open_dataset(file, encode, options);
  if (dataset.num_cut + dataset.num_skipped > 0) {
    fmt::print(stderr, "warning: {}: {} examples cut at {} tokens, {} skipped because nothing to learn is left of them\n", file,
               dataset.num_cut, options.tokenize.max_length, dataset.num_skipped);
  }
  return dataset;
}

Data read_data(const Settings& settings, const std::optional<reft::Tokenizer>& tokenizer, reft::DatasetOptions options) {
  if (!settings.data_weights.empty() && settings.data_weights.size() != settings.data.size()) {
    reft::fail<reft::ConfigError>("alpaca_sft", "--data-weights: expected {} numbers, one for each --data, got {}", settings.data.size(),
                                  settings.data_weights.size());
  }
  Data data;
  std::vector<std::shared_ptr<const reft::ExampleSource>> train, evaluation;
  for (const std::string& file : settings.data) {
    const reft::Dataset dataset = read_file(file, tokenizer, options);
    train.push_back(dataset.train);
    evaluation.push_back(dataset.evaluation);
    data.mixture.sizes.push_back(dataset.train->size());
    for (Question& question : reft::program::questions_of(dataset.samples, options.tokenize.prompt_template, kShown))
      data.samples.push_back(std::move(question));
  }
  data.mixture.weights = settings.data_weights;
  if (!settings.data_weights.empty()) reft::mixture_shares(data.mixture, 1);  // refuses what cannot be meant
  options.max_examples = 0;
  options.eval_fraction = 0.0;
  if (!settings.eval_data.empty()) evaluation.push_back(read_file(settings.eval_data, tokenizer, options).train);
  data.train = std::make_shared<reft::JoinedExamples>(std::move(train));
  data.evaluation = std::make_shared<reft::JoinedExamples>(std::move(evaluation));
  return data;
}

/// What the trainer would refuse too, but only after the output folder is made.
void check_evaluation(const Settings& settings, const Data& data, bool has_tokenizer) {
  const std::string& best = settings.training.metric_for_best;
  if (!best.empty() && best != "loss" && best != settings.eval_generation) {
    reft::fail<reft::ConfigError>("alpaca_sft", "--metric-for-best {}: expected loss, or what --eval-generation names", best);
  }
  if (settings.training.patience > 0 && best.empty()) reft::fail<reft::ConfigError>("alpaca_sft", "--patience needs --metric-for-best");
  if (!settings.eval_generation.empty() && !has_tokenizer)
    reft::fail<reft::ConfigError>("alpaca_sft", "--eval-generation: the model folder has no tokenizer.json");
  if (data.evaluation->size() > 0) return;
  if (!best.empty() || !settings.eval_generation.empty()) {
    reft::fail<reft::ConfigError>("alpaca_sft", "{} needs --eval-data or --eval-fraction", best.empty() ? "--eval-generation" : "--metric-for-best");
  }
}

void warn_of_dropped_positions(const Model& model, const reft::ExampleSource& examples) {
  std::vector<int64_t> prompt_lengths;
  for (int64_t i = 0; i < examples.size(); ++i) prompt_lengths.push_back(examples.get(i).prompt_length);
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
  reft::ReportContent content{.title = settings.output,
                              .subtitle = fmt::format("ReFT on {}, trained on {}", settings.model, fmt::join(settings.data, ", ")),
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
  if (settings.deterministic) reft::program::use_deterministic_operations();
  check_output(settings);
  if (embedded) apply_embedded_recipe(app, settings);
  take_template(app, settings);
  if (settings.model.empty()) settings.model = (kExamples / "tiny_model").string();
  if (settings.data.empty()) settings.data = {(kExamples / "data/instructions_train.json").string()};

  reft::LoadOptions load = common.load_options();
  if (embedded && common.dtype == "auto") load.dtype = torch::kFloat32;  // stored in bfloat16, small enough for more
  const std::string folder = reft::program::model_path(settings.model);
  const reft::CausalLM base = reft::load_causal_lm(folder, load);
  const std::optional<reft::Tokenizer> tokenizer = find_tokenizer(folder);
  const Data data = read_data(settings, tokenizer, dataset_options(settings, common, base->config(), tokenizer, folder));
  check_evaluation(settings, data, tokenizer.has_value());
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
  if (!settings.stream) warn_of_dropped_positions(model, *data.train);
  if (!common.quiet) fmt::print(stderr, "{}\n", model.trainable_summary());

  reft::TrainerOptions& training = settings.training;
  training.schedule = reft::parse_schedule(settings.schedule);
  training.seed = common.seed;
  training.mixture = data.mixture;
  training.shuffle = !settings.no_shuffle;
  training.resume = settings.resume;
  training.checkpoint = std::filesystem::path(settings.output) / "checkpoint.safetensors";
  if (settings.max_steps >= 0) training.max_steps = settings.max_steps;
  create_output(settings);
  stop_on_signals(true);
  training.should_stop = [] { return stop_signal != 0; };
  reft::TrunkCache trunk(model);
  const bool caches = settings.trunk_cache == "auto" && training.epochs > 1 && 4 * trunk.num_blocks() >= model.base()->num_layers();
  reft::Trainer<reft::CausalLM> trainer(model, training, caches ? trunk.objective() : &reft::language_modelling_loss<reft::CausalLM>);
  if (!settings.eval_generation.empty()) {
    const reft::Scorer scorer = settings.eval_generation == "contains" ? reft::contains_match : reft::exact_match;
    const auto decode = [&](std::span<const int64_t> ids) { return tokenizer->decode(ids); };
    trainer.add_metric(settings.eval_generation,
                       reft::generation_metric(*data.evaluation, decode, scorer, {settings.eval_max_new_tokens, training.batch_size}));
  }
  reft::Progress progress(std::cerr, isatty(STDERR_FILENO) != 0);
  std::optional<reft::MetricsFile> metrics;
  if (!settings.metrics.empty()) trainer.add(metrics.emplace(settings.metrics));
  reft::TensorBoard tensorboard(settings.tensorboard);
  if (!settings.tensorboard.empty()) trainer.add(tensorboard);
  reft::HtmlReport report(settings.report, report_content(app, settings, model));
  if (!settings.report.empty()) trainer.add(report);
  if (!common.quiet) trainer.add(progress);
  const reft::TrainingResult result = trainer.fit(*data.train, *data.evaluation);
  if (result.stopped) {
    fmt::print(stderr, "\nstopped after step {}; the checkpoint is in {}; --resume goes on from it\n", result.steps, settings.output);
    return 128 + stop_signal;
  }
  reft::save_adapter(model, settings.output, {settings.model, settings.prompt_template}, /*overwrite=*/true);
  reft::remove_checkpoints(training.checkpoint);
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
  for (const auto& [name, value] : result.eval_metrics) {
    if (name != "loss") summary["eval_" + name] = value;
  }
  if (result.best_step) summary["best_step"] = *result.best_step;
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
  if (result.out_of_patience && !common.quiet) {
    fmt::print(stderr, "no better {} in {} evaluations: ended after step {}\n", training.metric_for_best, training.patience, result.steps);
  }
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
