// Two tasks learned by small edits and used together: to go on in German (A) and to answer an instruction with the bare
// answer (B). Neither has seen an instruction answered in German; together they should.
//   one adapter, two subspaces:  rank 8, rows 0–3 for A and 4–7 for B, trained in mixed batches with row scales
//   joined:                      A and B trained apart at rank 4, their subspaces turned until they are orthogonal
//   summed:                      the edits of A and B added as LoRA's are, without R Rᵀ = I between them
// Scored on unseen instructions by word lists and exact match; nobody has to read the answers.
//   Ref: Wu et al. 2024, arXiv:2404.03592, appendix G.1.
#include <fstream>
#include <map>
#include <numbers>

#include "reft/checkpoint/adapter.hpp"
#include "reft/data/tokenize.hpp"
#include "reft/generate/generate.hpp"
#include "reft/intervention/subspaces.hpp"
#include "reft/report/heat_map.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/trainer.hpp"
#include "support/drawings.hpp"
#include "support/interventions.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"
#include "support/samples.hpp"

namespace {

using reft::program::Common;
using Model = reft::ReftModel<reft::CausalLM>;

const std::filesystem::path kExamples = REFT_SOURCE_DIR "/examples";

struct Settings {
  std::string model = (kExamples / "tiny_model").string(), data = (kExamples / "data/composition.json").string(), output = "composition";
  std::string layers = "0", positions = "all";
  int64_t rank = 4, max_questions = 0;
  double dropout = 0.2;
  reft::TrainerOptions training{.epochs = 3, .batch_size = 16, .learning_rate = 1e-2};
};

void add_flags(CLI::App& app, Settings& settings) {
  const auto option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str();
  };
  option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file");
  option("--data", settings.data, "JSON with the examples of both tasks, the questions and the word lists");
  option("--layers", settings.layers, "all, or layers joined by ';'")
      ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_layers(text); }));
  option("--positions", settings.positions, "edited positions of the prompt; they share an intervention")
      ->check(reft::program::checked_by([](const std::string& text) { reft::Positions::parse(text); }));
  option("--rank", settings.rank, "rows of each task's subspace")->check(CLI::PositiveNumber);
  option("--dropout", settings.dropout, "in training, of the edited states: each task then bears the other's edit better")->check(CLI::Range(0.0, 0.999));
  option("--epochs", settings.training.epochs, "passes over the examples of a task")->check(CLI::PositiveNumber);
  option("--batch-size", settings.training.batch_size, "examples of a step")->check(CLI::PositiveNumber);
  option("--learning-rate", settings.training.learning_rate, "at the first step; falls linearly to 0")->check(CLI::NonNegativeNumber);
  option("--max-questions", settings.max_questions, "only the first questions; 0 = all")->check(CLI::NonNegativeNumber);
  option("--output", settings.output, "folder for composition.json and composition.svg");
}

// --- data -------------------------------------------------------------------------------------------------------------

struct Data {
  std::vector<reft::Example> german, instruction, both;  // `both`: instructions answered in German, which A and B never see
  std::vector<reft::program::Question> questions;  // an English instruction and its English answer
  std::vector<std::string> german_answers, kinds;
  std::vector<std::string> german_quizzes;  // the questions as the base knows quizzes, in German
  std::set<std::string> english_words, german_words;
};

std::vector<reft::Example> tokenized(const nlohmann::json& rows, const reft::Tokenizer& tokenizer, int64_t longest) {
  std::vector<reft::RawExample> raw;
  for (const auto& row : rows) {
    if (row.contains("prompt")) raw.push_back(reft::PromptExample{row.at("prompt"), row.at("completion")});
    else raw.push_back(reft::TextExample{row.at("instruction"), row.value("input", ""), row.at("output")});
  }
  const auto encode = [&](std::string_view text) { return tokenizer.encode(text); };
  return reft::tokenize_examples(raw, encode, {.eos_token_id = tokenizer.eos_token_id(), .max_length = longest}).examples;
}

Data read_data(const Settings& settings, const reft::Tokenizer& tokenizer, int64_t longest) {
  std::ifstream stream(settings.data);
  if (!stream) reft::fail<reft::DataError>("composition", "--data {}: no such file", settings.data);
  Data data;
  try {
    const nlohmann::json json = nlohmann::json::parse(stream);
    data.german = tokenized(json.at("german"), tokenizer, longest);
    data.instruction = tokenized(json.at("instruction"), tokenizer, longest);
    nlohmann::json in_german = json.at("instruction");
    for (auto& row : in_german) row["output"] = row.at("german");
    data.both = tokenized(in_german, tokenizer, longest);
    std::vector<reft::RawExample> rows;
    for (const auto& row : json.at("evaluation")) {
      if (settings.max_questions > 0 && settings.max_questions == std::ssize(data.german_answers)) break;
      rows.push_back(reft::TextExample{row.at("instruction"), row.value("input", ""), row.at("output")});
      data.german_answers.push_back(row.at("german"));
      data.kinds.push_back(row.at("kind"));
      data.german_quizzes.push_back(fmt::format("Frage: {}\nAntwort:", row.at("german_question").get<std::string>()));
    }
    data.questions = reft::program::questions_of(rows, reft::PromptTemplate::alpaca, rows.size());
    json.at("words").at("english").get_to(data.english_words);
    json.at("words").at("german").get_to(data.german_words);
  } catch (const nlohmann::json::exception& error) {
    reft::fail<reft::DataError>("composition", "{}: {}", settings.data, error.what());
  }
  return data;
}

// --- scoring ----------------------------------------------------------------------------------------------------------

/// More of its words are only German than only English.
bool is_german(const std::string& text, const Data& data) {
  std::istringstream stream(text);
  int64_t german = 0, english = 0;
  for (std::string word; stream >> word;) {
    while (!word.empty() && std::ispunct(static_cast<unsigned char>(word.back()))) word.pop_back();
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return c < 128 ? std::tolower(c) : c; });
    german += data.german_words.contains(word);
    english += data.english_words.contains(word);
  }
  return german > english;
}

struct Score {
  double german = 0.0;    ///< share of answers in German
  double followed = 0.0;  ///< share of answers that are the bare answer, in either language
  double both = 0.0;      ///< share of answers that are the bare German answer
  std::map<std::string, std::pair<int64_t, int64_t>> kinds;  ///< of each kind of question: followed, asked
  std::vector<std::string> answers;
};

// --- the experiment ---------------------------------------------------------------------------------------------------

class Composition {
 public:
  Composition(reft::CausalLM base, reft::Tokenizer tokenizer, const Settings& settings, uint64_t seed, Data data)
      : base_(std::move(base)), tokenizer_(std::move(tokenizer)), settings_(settings), seed_(seed), data_(std::move(data)) {}

  const Data& data() const { return data_; }

  Model trained(const std::string& type, int64_t rank, const std::vector<reft::Example>& examples) const {
    torch::manual_seed(seed_);
    Model model(base_);
    const auto chosen = reft::program::parse_layers(settings_.layers);
    for (int layer = 0; layer < static_cast<int>(base_->num_layers()); ++layer) {
      if (chosen && std::ranges::find(*chosen, layer) == chosen->end()) continue;
      model.attach(type, {.layer = layer, .positions = settings_.positions, .tie = reft::Tie::all}, {{"rank", rank}, {"identity_start", true}, {"dropout", settings_.dropout}});
    }
    reft::TrainerOptions options = settings_.training;
    options.seed = seed_;
    reft::Trainer<reft::CausalLM>(model, options).fit(examples);
    return model;
  }

  /// Both tasks' examples, each with its half of the rows.
  std::vector<reft::Example> mixed() const {
    std::vector<reft::Example> examples = data_.german;
    for (reft::Example& example : examples) example.row_scales = rows(1, 0);
    for (reft::Example example : data_.instruction) {
      example.row_scales = rows(0, 1);
      examples.push_back(std::move(example));
    }
    return examples;
  }

  std::vector<float> rows(float a, float b) const {
    std::vector<float> scales(settings_.rank, a);
    scales.resize(2 * settings_.rank, b);
    return scales;
  }

  Score evaluate(Model& model, const std::vector<float>& row_scales = {}) const {
    reft::GenerateOptions options{.max_new_tokens = 24};
    if (!row_scales.empty()) options.row_scales = torch::tensor(row_scales);
    return scored(reft::program::answers(model, tokenizer_, data_.questions, options));
  }

  /// What the base knows in German: its answers to the same questions as German quizzes, up to the end of the line.
  Score german_quiz() const {
    Model model(base_);
    std::vector<std::vector<int64_t>> prompts;
    for (const std::string& quiz : data_.german_quizzes) prompts.push_back(tokenizer_.encode(quiz));
    std::vector<std::string> answers = reft::program::answers(model, tokenizer_, std::span<const std::vector<int64_t>>(prompts), {.max_new_tokens = 24});
    for (std::string& answer : answers) answer = answer.substr(0, answer.find('\n'));
    return scored(std::move(answers));
  }

  Score scored(std::vector<std::string> answers) const {
    Score score{.answers = std::move(answers)};
    const double share = 1.0 / static_cast<double>(data_.questions.size());
    for (size_t i = 0; i < data_.questions.size(); ++i) {
      const std::string& answer = score.answers[i];
      const bool is_bare_german = answer == data_.german_answers[i];
      score.german += is_german(answer, data_) ? share : 0.0;
      const bool followed = is_bare_german || answer == data_.questions[i].expected;
      score.followed += followed ? share : 0.0;
      score.kinds[data_.kinds[i]].first += followed;
      ++score.kinds[data_.kinds[i]].second;
      score.both += is_bare_german ? share : 0.0;
    }
    return score;
  }

 private:
  reft::CausalLM base_;
  reft::Tokenizer tokenizer_;
  const Settings& settings_;
  uint64_t seed_;
  Data data_;
};

/// A model with `combine(a's, b's)` wherever a and b have an intervention.
template <class Combine>
Model combined(const Model& a, const Model& b, Combine combine) {
  Model model(a.base());
  for (size_t i = 0; i < a.interventions().attachments().size(); ++i) {
    reft::Attachment attachment = a.interventions().attachments()[i];
    attachment.intervention = combine(*attachment.intervention, *b.interventions().attachments()[i].intervention);
    model.attach(std::move(attachment));
  }
  return model;
}

Model joined(const Model& a, const Model& b) {
  return combined(a, b, [](const reft::InterventionBase& a_edit, const reft::InterventionBase& b_edit) {
    return reft::join(dynamic_cast<const reft::LoReFT&>(a_edit), dynamic_cast<const reft::LoReFT&>(b_edit));
  });
}

/// The sum of both edits, which is again a free form of the same kind: its matrices are those of a above those of b.
Model summed(const Model& a, const Model& b, const std::string& free_form) {
  return combined(a, b, [&](const reft::InterventionBase& a_edit, const reft::InterventionBase& b_edit) {
    std::map<std::string, torch::Tensor> state = a_edit.state();
    for (auto& [name, tensor] : state) tensor = torch::cat({tensor, b_edit.state().at(name)});
    auto sum = reft::make_intervention(free_form, a_edit.hidden_size(), {{"rank", a_edit.rank() + b_edit.rank()}});
    sum->load_state(state);
    return sum;
  });
}

void clamp_first_rows(Model& model, int64_t count) {
  std::vector<int64_t> rows(count);
  std::iota(rows.begin(), rows.end(), int64_t{0});
  for (const auto& intervention : model.interventions().interventions()) reft::clamp_rows(dynamic_cast<reft::LoReFT&>(*intervention), rows, 0.0);
}

/// How far the two tasks' subspaces lie apart at each site, in degrees.
nlohmann::ordered_json conflict_report(const Model& a, const Model& b) {
  nlohmann::ordered_json report = nlohmann::ordered_json::array();
  for (size_t i = 0; i < a.interventions().attachments().size(); ++i) {
    const auto R = [&](const Model& model) { return model.interventions().attachments()[i].intervention->state().at("R"); };
    const torch::Tensor degrees = reft::principal_angles(R(a), R(b)) * (180.0 / std::numbers::pi);
    nlohmann::ordered_json angles = nlohmann::ordered_json::array();
    for (int64_t j = 0; j < degrees.size(0); ++j) angles.push_back(std::round(10.0 * degrees[j].item<double>()) / 10.0);
    report.push_back({{"site", reft::to_string(a.interventions().attachments()[i].sites.front())}, {"principal_angles_degrees", angles}});
  }
  return report;
}

// --- the table --------------------------------------------------------------------------------------------------------

using Table = std::vector<std::pair<std::string, Score>>;

Table measure(const Composition& composition, const Settings& settings, bool quiet, nlohmann::ordered_json& conflicts) {
  Table table;
  const auto add = [&](const std::string& name, Score score) {
    if (!quiet) fmt::print(stderr, "{}: german {:.2f}, followed {:.2f}, both {:.2f}\n", name, score.german, score.followed, score.both);
    table.emplace_back(name, std::move(score));
  };
  const Data& data = composition.data();
  const int64_t rank = settings.rank;

  Model one = composition.trained("loreft", 2 * rank, composition.mixed());
  add("base", composition.evaluate(one, composition.rows(0, 0)));
  add("base, asked in German", composition.german_quiz());
  add("one adapter, A", composition.evaluate(one, composition.rows(1, 0)));
  add("one adapter, B", composition.evaluate(one, composition.rows(0, 1)));
  add("one adapter, A + B", composition.evaluate(one, composition.rows(1, 1)));
  add("one adapter, 0.8 A + B", composition.evaluate(one, composition.rows(0.8F, 1)));
  add("one adapter, A / 2 + B", composition.evaluate(one, composition.rows(0.5, 1)));
  add("one adapter, -A + B", composition.evaluate(one, composition.rows(-1, 1)));
  clamp_first_rows(one, rank);
  add("one adapter, A clamped to 0, B", composition.evaluate(one, composition.rows(1, 1)));

  Model a = composition.trained("loreft", rank, data.german), b = composition.trained("loreft", rank, data.instruction);
  conflicts = conflict_report(a, b);
  add("apart, A", composition.evaluate(a));
  add("apart, B", composition.evaluate(b));
  Model both = joined(a, b), sum = summed(a, b, "noreft");
  add("apart, joined A + B", composition.evaluate(both));
  add("apart, summed A + B", composition.evaluate(sum));

  Model free_a = composition.trained("direft", rank, data.german), free_b = composition.trained("direft", rank, data.instruction);
  add("LoRA-style, A", composition.evaluate(free_a));
  add("LoRA-style, B", composition.evaluate(free_b));
  Model free_sum = summed(free_a, free_b, "direft");
  add("LoRA-style, summed A + B", composition.evaluate(free_sum));
  Model taught = composition.trained("loreft", 2 * rank, data.both);
  add("trained on the composed task", composition.evaluate(taught));
  return table;
}

std::string draw(const Table& table) {
  reft::HeatMap map{.title = "Two tasks, used together: share of answers, per cent", .columns = {"German", "follow", "both"}, .high = 100.0, .decimals = 0};
  for (const auto& [name, score] : table) {
    map.rows.push_back(name);
    map.values.push_back({100.0 * score.german, 100.0 * score.followed, 100.0 * score.both});
  }
  return reft::program::side_by_side({reft::to_svg(map)});
}

void print_samples(const Table& table, const Data& data) {
  for (size_t i = 0; i < std::min<size_t>(4, data.questions.size()); ++i) {
    fmt::print("\n{}   (German: {})\n", data.questions[i].shown, data.german_answers[i]);
    for (const auto& [name, score] : table) fmt::print("  {:<32} {}\n", name, score.answers[i]);
  }
  fmt::print("\n");
}

/// How many questions of each kind were followed: a row for each way of answering.
void print_kinds(const Table& table) {
  fmt::print("{:<32}", "followed, of each kind");
  for (const auto& [kind, count] : table.front().second.kinds) fmt::print(" {:>15}", fmt::format("{} ({})", kind, count.second));
  fmt::print("\n");
  for (const auto& [name, score] : table) {
    fmt::print("{:<32}", name);
    for (const auto& [kind, count] : score.kinds) fmt::print(" {:>15}", count.first);
    fmt::print("\n");
  }
  fmt::print("\n");
}

int run(const Settings& settings, const Common& common) {
  common.apply();
  const std::string folder = reft::program::model_path(settings.model);
  reft::LoadOptions load = common.load_options();
  if (common.dtype == "auto") load.dtype = torch::kFloat32;
  const reft::CausalLM base = reft::load_causal_lm(folder, load);
  const reft::Tokenizer tokenizer = reft::load_tokenizer(folder);
  const Composition composition(base, tokenizer, settings, common.seed, read_data(settings, tokenizer, std::min<int64_t>(512, base->config().max_position_embeddings)));

  nlohmann::ordered_json result{{"rows", nlohmann::ordered_json::array()}};
  const Table table = measure(composition, settings, common.quiet, result["conflicts"]);
  print_samples(table, composition.data());
  print_kinds(table);
  fmt::print("{:<32} {:>8} {:>9} {:>6}\n", "", "German", "followed", "both");
  for (const auto& [name, score] : table) {
    fmt::print("{:<32} {:>8.2f} {:>9.2f} {:>6.2f}\n", name, score.german, score.followed, score.both);
    nlohmann::ordered_json kinds;
    for (const auto& [kind, count] : score.kinds) kinds[kind] = {count.first, count.second};
    result["rows"].push_back({{"name", name}, {"german", score.german}, {"followed", score.followed}, {"both", score.both}, {"followed_of_kind", kinds}});
  }
  reft::program::write_results(settings.output, "composition", result, draw(table));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Two tasks learned by small edits, apart or in two subspaces of one, and used together.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] { return run(settings, common); });
}
