// Sequence classification, or regression: trains ReFT interventions and a head on a frozen encoder or decoder, and writes
// both as an adapter folder.
#include "reft/data/tokenize_labelled.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/classification_loss.hpp"
#include "support/interventions.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"
#include "support/ranks.hpp"
#include "support/text_data.hpp"
#include "support/training.hpp"

namespace {

using reft::program::Common;
using Model = reft::ReftModel<reft::SequenceClassifier>;

struct Settings {
  std::string model, data, eval_data, task = "classification";
  reft::LabelledColumns columns;
  int64_t max_length = 0, max_examples = 0;
  double eval_fraction = 0.0, head_learning_rate = 0.0;
  reft::program::TrainingFlags training;
  reft::program::InterventionFlags interventions;

  bool is_regression() const { return task == "regression"; }
};

void add_flags(CLI::App& app, Settings& settings) {
  app.add_option("--model", settings.model, "base: a Hugging Face folder, or the id of a model in its local cache")->required();
  app.add_option("--data", settings.data, "labelled text: a .tsv whose first line names the columns, a JSON list or JSON Lines")->required();
  settings.training.add_to(app, "classification", "loss or accuracy");
  settings.interventions.add_to(app, /*may_be_none=*/true);
  const auto option = [&](const char* name, auto& value, const char* help, const char* group) {
    return app.add_option(name, value, help)->capture_default_str()->group(group);
  };
  option("--task", settings.task, "classification, or regression of numbers", "Data")->check(CLI::IsMember({"classification", "regression"}));
  option("--eval-data", settings.eval_data, "evaluation examples, like --data", "Data");
  option("--eval-fraction", settings.eval_fraction, "share of the data held out for evaluation", "Data")->check(CLI::Range(0.0, 0.99));
  option("--text-column", settings.columns.text, "name of the text's column or key; empty: sentence, text, sentence1, premise or question1", "Data");
  option("--second-text-column", settings.columns.second_text, "of the second text; empty: sentence2, hypothesis or question2 where there is one",
         "Data");
  option("--label-column", settings.columns.label, "of the label; empty: label", "Data");
  option("--max-examples", settings.max_examples, "only the first of each file; 0 = all", "Data")->check(CLI::NonNegativeNumber);
  option("--max-length", settings.max_length, "tokens of a sequence; 0 = the smaller of 512 and the model's context", "Data")
      ->check(CLI::NonNegativeNumber);
  option("--head-learning-rate", settings.head_learning_rate, "peak of the head's; 0 = as --learning-rate", "Training")->check(CLI::NonNegativeNumber);
}

struct Data {
  std::vector<std::string> labels;  // of the classes, in order; none for regression
  std::vector<reft::LabelledExample> train, evaluation;
};

std::vector<reft::LabelledExample> read_file(const Settings& settings, const std::string& file, const reft::LabelCheck& check) {
  auto rows = reft::read_labelled(file, settings.columns, check);
  if (settings.max_examples > 0 && std::ssize(rows) > settings.max_examples) rows.resize(static_cast<size_t>(settings.max_examples));
  return rows;
}

/// The classes are those of an adapter to go on from, or else of the training file.
Data read_data(const Settings& settings, const Common& common) {
  Data data;
  if (!settings.is_regression()) data.labels = reft::program::stored_info(settings.interventions.init_adapter()).labels;
  const auto check = [&] {
    return settings.is_regression() ? reft::is_number() : data.labels.empty() ? reft::LabelCheck() : reft::one_of(data.labels);
  };
  data.train = read_file(settings, settings.data, check());
  if (!settings.is_regression() && data.labels.empty()) data.labels = reft::label_names(data.train);
  if (!settings.is_regression() && data.labels.size() < 2) {
    reft::fail<reft::DataError>("classification", "{}: expected at least two classes, got [{}]", settings.data, fmt::join(data.labels, ", "));
  }
  constexpr size_t kMostClasses = 1000;
  if (data.labels.size() > kMostClasses) {
    reft::fail<reft::DataError>("classification", "{}: {} different labels; is this --task regression, or another --label-column?", settings.data,
                                data.labels.size());
  }
  if (settings.eval_fraction > 0.0) {
    std::tie(data.train, data.evaluation) = reft::split_train_eval(std::move(data.train), settings.eval_fraction, common.seed);
  }
  if (!settings.eval_data.empty()) {
    for (reft::LabelledExample& row : read_file(settings, settings.eval_data, check())) data.evaluation.push_back(std::move(row));
  }
  return data;
}

std::vector<reft::Example> tokenized(const std::vector<reft::LabelledExample>& rows, const Data& data, const reft::Tokenizer& tokenizer,
                                     int64_t max_length) {
  reft::LabelledTokens tokens = reft::tokenize_labelled(rows, data.labels, tokenizer, max_length);
  if (tokens.num_cut > 0) fmt::print(stderr, "warning: {} examples cut at {} tokens\n", tokens.num_cut, max_length);
  return std::move(tokens.examples);
}

/// With a head for the classes; one that an adapter brings is read by `attach`.
reft::SequenceClassifier load_base(const Settings& settings, const std::string& folder, const Common& common, const Data& data) {
  reft::LoadOptions load = common.load_options();
  load.num_labels = settings.is_regression() ? 1 : std::ssize(data.labels);
  return reft::load_sequence_classifier(folder, load);
}

int run(CLI::App& app, Settings& settings, const Common& common) {
  reft::program::expect_alone("classification");
  common.apply();
  if (settings.training.deterministic) reft::program::use_deterministic_operations();
  settings.training.check_output();
  const Data data = read_data(settings, common);
  settings.training.check_best_metric(settings.is_regression() ? std::vector<std::string>{"loss"} : std::vector<std::string>{"loss", "accuracy"},
                                      !data.evaluation.empty());
  const std::string folder = reft::program::model_path(settings.model);
  const reft::SequenceClassifier base = load_base(settings, folder, common, data);
  const reft::Tokenizer tokenizer = reft::load_tokenizer(folder);
  const int64_t max_length = reft::program::sequence_length(settings.max_length, base->config());
  const std::vector<reft::Example> train = tokenized(data.train, data, tokenizer, max_length);
  const std::vector<reft::Example> evaluation = tokenized(data.evaluation, data, tokenizer, max_length);

  Model model(base);
  settings.interventions.attach(model);
  reft::TrainerOptions options = settings.training.trainer_options(common);
  const double head_rate = settings.head_learning_rate > 0.0 ? settings.head_learning_rate : options.learning_rate;
  model.train_head(options.learning_rate > 0.0 ? head_rate / options.learning_rate : 1.0);
  if (!common.quiet) fmt::print(stderr, "{}\n", model.trainable_summary());
  const reft::Objective<reft::SequenceClassifier> objective =
      settings.is_regression() ? &reft::regression_loss<reft::SequenceClassifier> : &reft::classification_loss<reft::SequenceClassifier>;
  reft::Trainer<reft::SequenceClassifier> trainer(model, options, objective);
  const std::string subtitle = fmt::format("ReFT and a trained head on {}, trained on {}", settings.model, settings.data);
  reft::program::TrainingRun training(settings.training, common, reft::program::report_content(app, settings.training, model, subtitle));
  auto result = training.fit(trainer, model, reft::ListedExamples(train), reft::ListedExamples(evaluation),
                                   {.base_model = settings.model, .prompt_template = "", .labels = data.labels});
  if (!result) return training.exit_code();
  if (result->steps == 0 && !evaluation.empty()) {  // what was loaded is evaluated
    result->eval_metrics = reft::evaluate_objective(model, reft::ListedExamples(evaluation), options.batch_size, objective);
    result->eval_loss = result->eval_metrics.at("loss");
  }
  training.finish(*result);
  nlohmann::ordered_json summary = reft::program::result_json(*result, model);
  summary["head_parameters"] = model.num_head_parameters();
  summary["labels"] = data.labels;
  fmt::print("{}\n", summary.dump());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Classifies texts with a frozen encoder or decoder: trains ReFT interventions and a head on labelled examples.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  common.add_quantize(app);
  return reft::program::run(app, argc, argv, [&] { return run(app, settings, common); });
}
