// Learning from preferences: trains ReFT interventions on pairs of answers, the better one and the worse one.
//   --objective dpo     a language model that prefers the better answers, measured against the base itself
//   --objective reward  a reward model: one score for a text, from a trained head
#include "reft/data/preference.hpp"
#include "reft/data/sampler.hpp"
#include "reft/data/tokenize_preferences.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/preference_loss.hpp"
#include "support/interventions.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"
#include "support/ranks.hpp"
#include "support/text_data.hpp"
#include "support/training.hpp"

namespace {

using reft::program::Common;

struct Settings {
  std::string model, data, eval_data, objective = "dpo", prompt_template = "alpaca";
  int64_t max_length = 0, max_examples = 0;
  double eval_fraction = 0.0, beta = 0.1, head_learning_rate = 0.0;
  reft::program::TrainingFlags training;
  reft::program::InterventionFlags interventions;
};

void add_flags(CLI::App& app, Settings& settings) {
  app.add_option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file")->required();
  app.add_option("--data", settings.data, "JSON or JSON Lines with chosen and rejected beside prompt, instruction, messages or conversations")->required();
  settings.training.add_to(app, "preference", "loss, accuracy or margin");
  settings.interventions.add_to(app);
  settings.interventions.set_default_start("identity");
  const auto option = [&](const char* name, auto& value, const char* help, const char* group) {
    return app.add_option(name, value, help)->capture_default_str()->group(group);
  };
  option("--eval-data", settings.eval_data, "evaluation examples, like --data", "Data");
  option("--eval-fraction", settings.eval_fraction, "share of the data held out for evaluation", "Data")->check(CLI::Range(0.0, 0.99));
  option("--max-examples", settings.max_examples, "only the first of each file; 0 = all", "Data")->check(CLI::NonNegativeNumber);
  option("--max-length", settings.max_length, "tokens of a sequence; 0 = the smaller of 512 and the model's context", "Data")
      ->check(CLI::NonNegativeNumber);
  option("--template", settings.prompt_template, "wording of prompts: alpaca, none, or chat, the model's own", "Data")
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_prompt_template(text); }));
  option("--objective", settings.objective, "dpo, or reward (a reward model with a trained head)", "Training")->check(CLI::IsMember({"dpo", "reward"}));
  option("--beta", settings.beta, "of dpo: how far it may go from the base; larger is nearer", "Training")->check(CLI::PositiveNumber);
  option("--head-learning-rate", settings.head_learning_rate, "peak of the reward head's; 0 = as --learning-rate", "Training")
      ->check(CLI::NonNegativeNumber);
}

struct Data {
  reft::PreferencePairs train, evaluation;
};

std::vector<reft::PreferencePair> read_file(const Settings& settings, const std::string& file, const std::optional<reft::Tokenizer>& tokenizer,
                                            const reft::TokenizeOptions& options) {
  auto rows = reft::read_preferences(file);
  if (settings.max_examples > 0 && std::ssize(rows) > settings.max_examples) rows.resize(static_cast<size_t>(settings.max_examples));
  const auto encode = [&](std::string_view text) {
    if (!tokenizer) reft::fail<reft::DataError>("preference", "the data is text, but the model folder has no tokenizer");
    return tokenizer->encode(text);
  };
  reft::TokenizedPreferences tokens = reft::tokenize_preferences(rows, encode, options);
  if (tokens.num_cut + tokens.num_skipped > 0) {
    fmt::print(stderr, "warning: {}: {} pairs cut at {} tokens, {} skipped because nothing to learn is left of them\n", file, tokens.num_cut,
               options.max_length, tokens.num_skipped);
  }
  return std::move(tokens.pairs);
}

Data read_data(const Settings& settings, const Common& common, const std::optional<reft::Tokenizer>& tokenizer, const reft::TokenizeOptions& options) {
  std::vector<reft::PreferencePair> train = read_file(settings, settings.data, tokenizer, options), evaluation;
  if (settings.eval_fraction > 0.0) std::tie(train, evaluation) = reft::split_train_eval(std::move(train), settings.eval_fraction, common.seed);
  if (!settings.eval_data.empty()) {
    for (auto& pair : read_file(settings, settings.eval_data, tokenizer, options)) evaluation.push_back(std::move(pair));
  }
  return {reft::PreferencePairs(std::move(train)), reft::PreferencePairs(std::move(evaluation))};
}

/// The same for both objectives, once base and loss are chosen.
template <class Base>
int train(CLI::App& app, Settings& settings, const Common& common, const std::string& folder, const Base& base, reft::Objective<Base> objective) {
  const std::optional<reft::Tokenizer> tokenizer = reft::program::find_tokenizer(folder);
  const Data data = read_data(settings, common, tokenizer,
                              reft::program::tokenize_options(settings.prompt_template, settings.max_length, base->config(), tokenizer));
  settings.training.check_best_metric({"loss", "accuracy", "margin"}, data.evaluation.size() > 0);
  reft::ReftModel<Base> model(base);
  settings.interventions.attach(model);
  const reft::TrainerOptions options = settings.training.trainer_options(common);
  const double head_rate = settings.head_learning_rate > 0.0 ? settings.head_learning_rate : options.learning_rate;
  if (settings.objective == "reward") model.train_head(options.learning_rate > 0.0 ? head_rate / options.learning_rate : 1.0);
  if (!common.quiet) fmt::print(stderr, "{}\n", model.trainable_summary());
  reft::Trainer<Base> trainer(model, options, std::move(objective));
  const std::string subtitle = fmt::format("ReFT on {}, {} on {}", settings.model, settings.objective, settings.data);
  reft::program::TrainingRun training(settings.training, common, reft::program::report_content(app, settings.training, model, subtitle));
  const auto result = training.fit(trainer, model, data.train, data.evaluation, {settings.model, settings.prompt_template});
  if (!result) return training.exit_code();
  training.finish(*result);
  fmt::print("{}\n", reft::program::result_json(*result, model).dump());
  return 0;
}

int run(CLI::App& app, Settings& settings, const Common& common) {
  reft::program::expect_alone("preference");
  common.apply();
  if (settings.training.deterministic) reft::program::use_deterministic_operations();
  settings.training.check_output();
  reft::program::take_template(app, settings.interventions.init_adapter(), settings.prompt_template);
  const std::string folder = reft::program::model_path(settings.model);
  reft::LoadOptions load = common.load_options();
  if (settings.objective == "dpo") {
    if (app.count("--head-learning-rate") > 0) reft::fail<reft::ConfigError>("preference", "--head-learning-rate: --objective dpo trains no head");
    return train(app, settings, common, folder, reft::load_causal_lm(folder, load), reft::Objective<reft::CausalLM>(reft::DpoLoss<reft::CausalLM>(settings.beta)));
  }
  if (app.count("--beta") > 0) reft::fail<reft::ConfigError>("preference", "--beta: --objective reward has none");
  load.num_labels = 1;
  return train(app, settings, common, folder, reft::load_sequence_classifier(folder, load),
               reft::Objective<reft::SequenceClassifier>(&reft::reward_loss<reft::SequenceClassifier>));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tunes a frozen decoder with ReFT on pairs of answers: direct preference optimization, or a reward model.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  common.add_quantize(app);
  return reft::program::run(app, argc, argv, [&] { return run(app, settings, common); });
}
