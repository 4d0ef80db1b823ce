// The six forms at equal sites and steps: what do W h, the subtraction of R h and orthonormality buy? Each form learns the
// instructions from several starts and answers the held-out ones.
//   Ref: Wu et al. 2024, arXiv:2404.03592, table 17: h + Rᵀb < h + Rᵀ(b − Rh) < the forms with W h, which are about equal.
#include <cmath>
#include <filesystem>
#include <mutex>
#include <optional>

#include "reft/data/readers.hpp"
#include "reft/data/tokenize.hpp"
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
const std::vector<std::string> kForms{"lobireft", "consreft", "ortho_direft", "noreft", "direft", "loreft"};

struct Settings {
  std::string model = (kExamples / "tiny_model").string(), data = (kExamples / "data/instructions_train.json").string();
  std::string questions = (kExamples / "data/instructions_heldout.json").string(), output = "ablation", positions = "f4+l4";
  std::vector<std::string> forms = kForms;
  int64_t rank = 4, epochs = 3, batch_size = 16, seeds = 3, max_examples = 0, max_questions = 0;
  double learning_rate = 1e-2;
};

void add_flags(CLI::App& app, Settings& settings) {
  const auto option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str()->group("Experiment");
  };
  option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file");
  option("--data", settings.data, "training examples: instruction, input, output");
  option("--questions", settings.questions, "unseen ones of the same form");
  option("--forms", settings.forms, "the forms that are compared")->delimiter(',')->check(CLI::IsMember(kForms));
  option("--positions", settings.positions, "edited positions of the prompt, in every layer; they share an intervention")
      ->check(reft::program::checked_by([](const std::string& text) { reft::Positions::parse(text); }));
  option("--rank", settings.rank, "of every intervention")->check(CLI::PositiveNumber);
  option("--epochs", settings.epochs, "passes over the data")->check(CLI::NonNegativeNumber);
  option("--batch-size", settings.batch_size, "examples of a step")->check(CLI::PositiveNumber);
  option("--seeds", settings.seeds, "runs of each form, from different starts")->check(CLI::PositiveNumber);
  option("--learning-rate", settings.learning_rate, "at the first step; falls linearly to 0")->check(CLI::NonNegativeNumber);
  option("--max-examples", settings.max_examples, "only the first of the data; 0 = all")->check(CLI::NonNegativeNumber);
  option("--max-questions", settings.max_questions, "only the first questions; 0 = all")->check(CLI::NonNegativeNumber);
  option("--output", settings.output, "folder for ablation.json and ablation.svg");
}

struct Run {
  std::string form;
  uint64_t seed = 0;
  double exact_match = 0.0, loss = 0.0;  // of the held-out questions
  int64_t parameters = 0, steps = 0;
};

template <class Row>
void keep_first(std::vector<Row>& rows, int64_t count) {
  if (count > 0 && count < std::ssize(rows)) rows.resize(count);
}

class Ablation {
 public:
  Ablation(reft::CausalLM base, reft::Tokenizer tokenizer, const Settings& settings)
      : base_(std::move(base)), tokenizer_(std::move(tokenizer)), settings_(settings) {
    std::vector<reft::RawExample> rows = reft::read_examples(settings.data), held_out = reft::read_examples(settings.questions);
    keep_first(rows, settings.max_examples);
    keep_first(held_out, settings.max_questions);
    examples_ = tokenized(rows);
    held_out_ = tokenized(held_out);
    questions_ = reft::program::questions_of(held_out, reft::PromptTemplate::alpaca, held_out.size());
  }

  /// Many threads may do so at once.
  Run run(const std::string& form, uint64_t seed) const {
    Model model(base_);
    reft::program::seeded(seed, [&] {
      for (int layer = 0; layer < static_cast<int>(base_->num_layers()); ++layer) {
        model.attach(form, {.layer = layer, .positions = settings_.positions, .tie = reft::Tie::all}, {{"rank", settings_.rank}});
      }
    });
    const reft::TrainerOptions options{.epochs = settings_.epochs, .batch_size = settings_.batch_size, .learning_rate = settings_.learning_rate, .seed = seed};
    const reft::TrainingResult result = reft::Trainer<reft::CausalLM>(model, options).fit(examples_, held_out_);
    return {form, seed, reft::program::exact_match(reft::program::answers(model, tokenizer_, questions_, {.max_new_tokens = 32}), questions_), result.eval_loss.value_or(0.0),
            model.num_trainable_parameters(), result.steps};
  }

 private:
  std::vector<reft::Example> tokenized(const std::vector<reft::RawExample>& rows) const {
    const auto encode = [&](std::string_view text) { return tokenizer_.encode(text); };
    const int64_t longest = std::min<int64_t>(512, base_->config().max_position_embeddings);
    return reft::tokenize_examples(rows, encode, {.eos_token_id = tokenizer_.eos_token_id(), .max_length = longest}).examples;
  }

  reft::CausalLM base_;
  reft::Tokenizer tokenizer_;
  const Settings& settings_;
  std::vector<reft::Example> examples_, held_out_;
  std::vector<reft::program::Question> questions_;
};

struct Summary {
  double mean = 0.0, deviation = 0.0;  // of the sample, over seeds
  double loss = 0.0;
  int64_t parameters = 0;
};

Summary summarize(const std::vector<Run>& runs, const std::string& form) {
  Summary summary;
  std::vector<double> values;
  for (const Run& run : runs) {
    if (run.form != form) continue;
    values.push_back(run.exact_match);
    summary.mean += run.exact_match;
    summary.loss += run.loss;
    summary.parameters = run.parameters;
  }
  const auto count = static_cast<double>(values.size());
  summary.mean /= count;
  summary.loss /= count;
  for (const double value : values) summary.deviation += (value - summary.mean) * (value - summary.mean) / std::max(1.0, count - 1.0);
  summary.deviation = std::sqrt(summary.deviation);
  return summary;
}

/// Table 17's order: bias only < constant target < each form with W h. Nothing where a form is missing.
std::optional<bool> has_the_papers_order(const std::map<std::string, Summary>& table) {
  if (table.size() != kForms.size()) return std::nullopt;
  const double constant = table.at("consreft").mean;
  return table.at("lobireft").mean < constant &&
         std::ranges::all_of(table, [&](const auto& row) { return row.first == "lobireft" || row.first == "consreft" || row.second.mean > constant; });
}

int run(const Settings& settings, const Common& common) {
  common.apply();
  const std::string folder = reft::program::model_path(settings.model);
  reft::LoadOptions load = common.load_options();
  if (common.dtype == "auto" && load.device.is_cpu()) load.dtype = torch::kFloat32;
  const reft::CausalLM base = reft::load_causal_lm(folder, load);
  const Ablation ablation(base, reft::load_tokenizer(folder), settings);

  std::vector<Run> runs;
  for (int64_t i = 0; i < settings.seeds; ++i) {
    for (const std::string& form : settings.forms) runs.push_back({form, common.seed + static_cast<uint64_t>(i)});
  }
  std::mutex mutex;
  reft::program::for_each_in_parallel(std::ssize(runs), at::get_num_threads(), [&](int64_t i) {
    runs[i] = ablation.run(runs[i].form, runs[i].seed);
    const std::lock_guard lock(mutex);
    if (!common.quiet) fmt::print(stderr, "{}, seed {}: exact match {:.3f}, loss {:.4f}\n", runs[i].form, runs[i].seed, runs[i].exact_match, runs[i].loss);
  });

  std::map<std::string, Summary> table;
  reft::HeatMap map{.title = "Exact match on held-out instructions, per cent", .x_label = "seed", .high = 100.0, .decimals = 1};
  for (int64_t i = 0; i < settings.seeds; ++i) map.columns.push_back(std::to_string(common.seed + static_cast<uint64_t>(i)));
  map.columns.push_back("mean");
  nlohmann::ordered_json result{{"forms", nlohmann::ordered_json::array()}, {"runs", nlohmann::ordered_json::array()}};
  fmt::print("{:<14} {:>10} {:>12} {:>7} {:>8}\n", "form", "parameters", "exact match", "± sd", "loss");
  for (const std::string& form : settings.forms) {
    const Summary summary = table[form] = summarize(runs, form);
    fmt::print("{:<14} {:>10} {:>12.3f} {:>7.3f} {:>8.4f}\n", form, summary.parameters, summary.mean, summary.deviation, summary.loss);
    result["forms"].push_back({{"form", form}, {"parameters", summary.parameters}, {"exact_match", summary.mean}, {"deviation", summary.deviation},
                               {"loss", summary.loss}});
    map.rows.push_back(form);
    map.values.emplace_back();
    for (const Run& run : runs) {
      if (run.form == form) map.values.back().push_back(100.0 * run.exact_match);
    }
    map.values.back().push_back(100.0 * summary.mean);
  }
  for (const Run& run : runs) {
    result["runs"].push_back({{"form", run.form}, {"seed", run.seed}, {"exact_match", run.exact_match}, {"loss", run.loss}, {"steps", run.steps}});
  }
  const std::optional<bool> order = has_the_papers_order(table);
  if (order) fmt::print("lobireft < consreft < the forms with W h, as in the paper: {}\n", *order ? "yes" : "no");
  result["has_the_papers_order"] = order ? nlohmann::ordered_json(*order) : nlohmann::ordered_json();
  reft::program::write_results(settings.output, "ablation", result, reft::program::side_by_side({reft::to_svg(map)}));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares the six forms of intervention at equal sites and steps, over several starts.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] { return run(settings, common); });
}
