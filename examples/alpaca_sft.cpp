// Instruction tuning: trains ReFT interventions on a frozen decoder and writes an adapter folder.
// Without --model and --data it tunes the embedded model on the embedded instructions, and shows answers before and after.
#include <fstream>
#include <iterator>

#include "reft/checkpoint/adapter.hpp"
#include "reft/data/dataset.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/generation_metric.hpp"
#include "reft/train/constant_prefix.hpp"
#include "reft/train/trunk_cache.hpp"
#include "support/interventions.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"
#include "support/ranks.hpp"
#include "support/samples.hpp"
#include "support/text_data.hpp"
#include "support/training.hpp"

namespace {

using reft::program::Common;
using reft::program::Question;
using Model = reft::ReftModel<reft::CausalLM>;

const std::filesystem::path kExamples = REFT_SOURCE_DIR "/examples";
constexpr size_t kShown = 8;  // answers before and after

struct Settings {
  std::string model, eval_data, eval_generation, data_cache, prompt_template = "alpaca", trunk_cache = "auto";
  std::vector<std::string> data;
  std::vector<double> data_weights;
  int64_t max_length = 0, max_examples = 0, eval_max_new_tokens = 64, rank_timeout = 300;
  double eval_fraction = 0.0;
  bool stream = false;
  reft::program::TrainingFlags training;
  reft::program::InterventionFlags interventions;

  bool is_embedded() const { return model.empty() && data.empty(); }
};

void add_flags(CLI::App& app, Settings& settings) {
  app.add_option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file (default: the embedded model)");
  app.add_option("--data", settings.data,
                 "JSON or JSON Lines of instruction/input/output, prompt/completion, messages, text or "
                 "input_ids/labels/prompt_length, or lines of a .txt; several are joined (default: the embedded instructions)")
      ->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  settings.training.add_to(app, "alpaca_sft", "loss, exact_match or contains");
  settings.interventions.add_to(app);
  const auto option = [&](const char* name, auto& value, const char* help, const char* group) {
    return app.add_option(name, value, help)->capture_default_str()->group(group);
  };
  option("--rank-timeout", settings.rank_timeout, "under mpirun or torchrun, where the processes share each batch: seconds the others may take to answer", "Machine")
      ->check(CLI::PositiveNumber);
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
  option("--template", settings.prompt_template, "wording of prompts: alpaca, none, or chat, the model's own", "Data")
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_prompt_template(text); }));
  option("--eval-generation", settings.eval_generation,
         "score greedy answers too: exact_match, or contains (the expected text is in the answer)", "Evaluation")
      ->check(CLI::IsMember({"exact_match", "contains"}));
  option("--eval-max-new-tokens", settings.eval_max_new_tokens, "of those answers", "Evaluation")->check(CLI::PositiveNumber);
  option("--trunk-cache", settings.trunk_cache, "auto (what no edit can change, where it is a quarter of the work or more, is computed once for each example: blocks below the lowest edit, else tokens before the first) or off", "Training")
      ->check(CLI::IsMember({"auto", "off"}));
}

/// The embedded model is small: one intervention a layer, shared by many positions, within 0.5 % of its parameters.
void apply_embedded_recipe(CLI::App& app, Settings& settings) {
  const auto set_default = [&](const char* flag, auto& value, auto recipe) {
    if (app.count(flag) > 0) return;
    value = recipe;
    app.get_option(flag)->default_str(fmt::format("{}", recipe));
  };
  settings.interventions.set_defaults("f4+l4", "all", 4);
  set_default("--epochs", settings.training.options.epochs, 6);
  set_default("--batch-size", settings.training.options.batch_size, 16);
  set_default("--learning-rate", settings.training.options.learning_rate, 1e-2);
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
  options.tokenize = reft::program::tokenize_options(settings.prompt_template, settings.max_length, config, tokenizer);
  if (!settings.data_cache.empty()) {
    for (const auto& file : reft::find_tokenizer_files(model)) options.tokenizer_content += file_content(file);
  }
  return options;
}

reft::Dataset read_file(const std::string& file, const std::optional<reft::Tokenizer>& tokenizer, const reft::DatasetOptions& options) {
  const auto encode = [tokenizer](std::string_view text) {
    if (!tokenizer) reft::fail<reft::DataError>("alpaca_sft", "the data is text, but the model folder has no tokenizer");
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

/// What would be refused later too, but only after the output folder is made.
void check_evaluation(const Settings& settings, const Data& data, bool has_tokenizer) {
  std::vector<std::string> measured{"loss"};
  if (!settings.eval_generation.empty()) measured.push_back(settings.eval_generation);
  const bool evaluates = data.evaluation->size() > 0;
  settings.training.check_best_metric(measured, evaluates);
  if (!settings.eval_generation.empty() && !has_tokenizer)
    reft::fail<reft::ConfigError>("alpaca_sft", "--eval-generation: the model folder has no tokenizer");
  if (!settings.eval_generation.empty() && !evaluates)
    reft::fail<reft::ConfigError>("alpaca_sft", "--eval-generation needs --eval-data or --eval-fraction");
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

/// What of the work no edit can change, judged by some examples.
double constant_share(const Model& model, const reft::ExampleSource& examples) {
  int64_t constant = 0, all = 0;
  for (int64_t i = 0; i < std::min<int64_t>(examples.size(), 64); ++i) {
    const reft::RaggedBatch batch = reft::detail::collate(examples.sequences(i), torch::kCPU);
    for (const int64_t length : reft::ConstantPrefix::prefix_lengths(model.interventions(), batch)) constant += length;
    all += batch.num_tokens();
  }
  return static_cast<double>(constant) / static_cast<double>(std::max<int64_t>(all, 1));
}

reft::Objective<reft::CausalLM> objective(const Settings& settings, const reft::TrainerOptions& options, const Model& model,
                                          const reft::ExampleSource& examples, reft::TrunkCache<reft::CausalLM>& trunk, reft::ConstantPrefix& prefix) {
  constexpr double kWorthIt = 0.25;
  const double blocks = static_cast<double>(trunk.num_blocks()) / static_cast<double>(model.base()->num_layers());
  if (settings.trunk_cache == "auto" && options.epochs > 1) {
    if (blocks >= kWorthIt) return trunk.objective();
    if (!settings.stream && constant_share(model, examples) >= kWorthIt) return prefix.objective();
  }
  return &reft::language_modelling_loss<reft::CausalLM>;
}

int run(CLI::App& app, Settings& settings, Common common) {
  const bool embedded = settings.is_embedded();
  common.apply();
  if (settings.training.deterministic) reft::program::use_deterministic_operations();
  const reft::program::Launch launch = reft::program::find_launch(settings.rank_timeout);
  common.device = reft::program::device_of(launch, common.device);
  const std::shared_ptr<reft::Communicator> communicator = reft::program::make_communicator(launch, common.torch_device());
  if (communicator->is_first()) settings.training.check_output();
  if (embedded) apply_embedded_recipe(app, settings);
  reft::program::take_template(app, settings.interventions.init_adapter(), settings.prompt_template);
  if (settings.model.empty()) settings.model = (kExamples / "tiny_model").string();
  if (settings.data.empty()) settings.data = {(kExamples / "data/instructions_train.json").string()};

  reft::LoadOptions load = common.load_options();
  if (embedded && common.dtype == "auto") load.dtype = torch::kFloat32;  // stored in bfloat16, small enough for more
  const std::string folder = reft::program::model_path(settings.model);
  const reft::CausalLM base = reft::load_causal_lm(folder, load);
  const std::optional<reft::Tokenizer> tokenizer = reft::program::find_tokenizer(folder);
  const Data data = read_data(settings, tokenizer, dataset_options(settings, common, base->config(), tokenizer, folder));
  check_evaluation(settings, data, tokenizer.has_value());
  Model model(base);

  std::vector<Question> questions;
  std::vector<std::string> before;
  if (const bool asks = communicator->is_first(); asks && embedded) {
    questions = reft::program::questions_of(reft::read_examples(kExamples / "data/instructions_heldout.json"), reft::PromptTemplate::alpaca, SIZE_MAX);
  } else if (asks && !settings.training.report.empty() && tokenizer) {
    questions = data.samples;
  }
  const int64_t answer_length = embedded ? 32 : 64;
  if (!questions.empty()) before = reft::program::answers(model, *tokenizer, questions, {.max_new_tokens = answer_length});
  settings.interventions.attach(model);
  if (!settings.stream && communicator->is_first()) warn_of_dropped_positions(model, *data.train);
  if (!common.quiet && communicator->is_first()) fmt::print(stderr, "{}\n", model.trainable_summary());

  reft::TrainerOptions options = settings.training.trainer_options(common);
  options.mixture = data.mixture;
  options.communicator = communicator;
  reft::TrunkCache trunk(model);
  reft::ConstantPrefix prefix;
  reft::Trainer<reft::CausalLM> trainer(model, options, objective(settings, options, model, *data.train, trunk, prefix));
  if (!settings.eval_generation.empty()) {
    const reft::Scorer scorer = settings.eval_generation == "contains" ? reft::contains_match : reft::exact_match;
    const auto decode = [&](std::span<const int64_t> ids) { return tokenizer->decode(ids); };
    trainer.add_metric(settings.eval_generation,
                       reft::generation_metric(*data.evaluation, decode, scorer, {settings.eval_max_new_tokens, options.batch_size}));
  }
  const std::string subtitle = fmt::format("ReFT on {}, trained on {}", settings.model, fmt::join(settings.data, ", "));
  reft::program::TrainingRun training(settings.training, common, reft::program::report_content(app, settings.training, model, subtitle), *communicator);
  const auto result = training.fit(trainer, model, *data.train, *data.evaluation, {settings.model, settings.prompt_template});
  if (!result) return training.exit_code();
  if (!communicator->is_first()) return 0;

  nlohmann::ordered_json summary = reft::program::result_json(*result, model);
  if (!questions.empty()) {
    const std::vector<std::string> after = reft::program::answers(model, *tokenizer, questions, {.max_new_tokens = answer_length});
    if (embedded) {
      show_answers(questions, before, after);
      summary["exact_match_before"] = reft::program::exact_match(before, questions);
      summary["exact_match_after"] = reft::program::exact_match(after, questions);
    }
    training.report().content().samples = report_samples(questions, before, after);
  }
  training.finish(*result);
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
  common.add_quantize(app);
  return reft::program::run(app, argc, argv, [&] { return run(app, settings, common); });
}
