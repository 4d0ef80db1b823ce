// The memory test: how much text can one small edit hold? An intervention of a few hundred numbers, at one layer and on
// the last token of a meaningless prompt, learns the first tokens of a text by heart; what greedy decoding then gives
// back without a mistake is its recovery. One such run is a cell; cells are swept over layers, lengths, ranks and kinds
// of text, side by side over one frozen base.
//   Ref: Wu et al. 2024, arXiv:2404.03592, appendix F.
#include <chrono>
#include <fstream>
#include <iostream>

#include "reft/checkpoint/adapter.hpp"
#include "reft/generate/generate.hpp"
#include "reft/report/heat_map.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/trainer.hpp"
#include "support/drawings.hpp"
#include "support/interventions.hpp"
#include "support/model_path.hpp"
#include "support/parallel.hpp"
#include "support/program.hpp"

namespace {

using reft::program::Common;
using Model = reft::ReftModel<reft::CausalLM>;

const std::filesystem::path kExamples = REFT_SOURCE_DIR "/examples";
const std::vector<std::string> kKinds{"natural", "shuffled", "random"};

struct Settings {
  std::string model = (kExamples / "tiny_model").string(), text = (kExamples / "data/story.txt").string(), prompt = "ALIC#ID1->";
  std::string intervention = "consreft", layers = "all", lengths = "1,2,4,8,16,32", ranks = "1", output = "memorization";
  std::vector<std::string> kinds = kKinds;
  int64_t max_steps = 500;
  double learning_rate = 1e-2;
  bool overwrite = false, adapters = false;
};

void add_flags(CLI::App& app, Settings& settings) {
  const auto option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str();
  };
  const auto numbers = reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); });
  option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file");
  option("--text", settings.text, "file whose beginning is learned");
  option("--prompt", settings.prompt, "fixed prompt; its last token is edited");
  option("--layers", settings.layers, "all, or layers joined by ';'")
      ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_layers(text); }));
  option("--lengths", settings.lengths, "tokens to learn, joined by ','")->check(numbers);
  option("--ranks", settings.ranks, "dimensions of the edited subspace, joined by ','")->check(numbers);
  option("--kinds", settings.kinds, "of text: natural, shuffled (its words), random (tokens)")
      ->delimiter(',')->check(CLI::IsMember(kKinds));
  option("--intervention", settings.intervention, "the form; consreft is the bias-only one of the paper");
  option("--max-steps", settings.max_steps, "optimizer steps of a cell; fewer once all is recovered")->check(CLI::NonNegativeNumber);
  option("--learning-rate", settings.learning_rate, "at the first step; falls linearly to 0")->check(CLI::NonNegativeNumber);
  option("--output", settings.output, "folder for the results; finished cells of an earlier run are not run again");
  app.add_flag("--overwrite", settings.overwrite, "begin anew in a folder that holds cells");
  app.add_flag("--adapters", settings.adapters, "also write every cell's adapter");
}

// --- texts ------------------------------------------------------------------------------------------------------------

std::string read_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) reft::fail<reft::DataError>("memorization", "--text {}: no such file", path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string shuffled_words(const std::string& text, uint64_t seed) {
  std::istringstream stream(text);
  const std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
  std::string shuffled;
  for (const int64_t i : reft::shuffled_order(std::ssize(words), seed)) shuffled += (shuffled.empty() ? "" : " ") + words[i];
  return shuffled;
}

/// The tokens of each kind, as many as the model has positions for.
std::map<std::string, std::vector<int64_t>> make_texts(const Settings& settings, const Common& common, const reft::Tokenizer& tokenizer,
                                                       const reft::TransformerConfig& config) {
  std::map<std::string, std::vector<int64_t>> texts;
  std::vector<int64_t>& natural = texts["natural"];
  natural = tokenizer.encode(read_text(settings.text), /*add_special_tokens=*/false);
  if (std::ssize(natural) > config.max_position_embeddings) natural.resize(config.max_position_embeddings);
  texts["shuffled"] = tokenizer.encode(shuffled_words(tokenizer.decode(natural), common.seed), false);
  const auto ends = [&](int64_t token) { return std::ranges::find(config.eos_token_ids, token) != config.eos_token_ids.end(); };
  for (int64_t epoch = 0; std::ssize(texts["random"]) < config.max_position_embeddings; ++epoch) {
    const std::vector<int64_t> drawn = reft::shuffled_order(config.vocab_size, common.seed, epoch);
    std::ranges::copy_if(drawn, std::back_inserter(texts["random"]), [&](int64_t token) { return !ends(token); });
  }
  return texts;
}

// --- cells ------------------------------------------------------------------------------------------------------------

struct Cell {
  std::string kind;
  int64_t rank = 1;
  int layer = 0;
  int64_t length = 0;

  auto operator<=>(const Cell&) const = default;
  std::string name() const { return fmt::format("{}-rank{}-layer{}-length{}", kind, rank, layer, length); }
};

struct Outcome {
  int64_t recovered_tokens = 0, steps = 0;
  double seconds = 0.0;
};

nlohmann::ordered_json to_json(const Cell& cell, const Outcome& outcome) {
  return {{"layer", cell.layer},
          {"length", cell.length},
          {"rank", cell.rank},
          {"kind", cell.kind},
          {"recovery", static_cast<double>(outcome.recovered_tokens) / static_cast<double>(cell.length)},
          {"recovered_tokens", outcome.recovered_tokens},
          {"steps", outcome.steps},
          {"seconds", outcome.seconds}};
}

/// The finished cells, in a file that grows by a line each: a run that was cut off goes on behind it.
class CellFile {
 public:
  /// @throws ConfigError if the file was written under other settings.
  CellFile(std::filesystem::path path, const nlohmann::json& settings, bool overwrite) : path_(std::move(path)) {
    std::string kept = nlohmann::json{{"settings", settings}}.dump() + "\n";
    if (!overwrite && std::filesystem::exists(path_)) read(settings, kept);
    reft::write_file_atomically(path_, kept);
    stream_.open(path_, std::ios::app);
  }

  const std::map<Cell, Outcome>& finished() const { return finished_; }

  void add(const Cell& cell, const Outcome& outcome) {
    stream_ << to_json(cell, outcome).dump() << '\n' << std::flush;
    if (!stream_) reft::fail<reft::Error>("memorization", "{}: cannot be written; is the disk full?", path_.string());
    finished_[cell] = outcome;
  }

 private:
  void read(const nlohmann::json& settings, std::string& kept) {
    std::ifstream stream(path_);
    for (std::string line; std::getline(stream, line);) {
      const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!json.is_object()) continue;  // cut off while it was written
      if (json.contains("settings")) check(settings, json["settings"]);
      if (!json.contains("recovered_tokens")) continue;
      finished_[{json.at("kind"), json.at("rank"), json.at("layer"), json.at("length")}] = {json.at("recovered_tokens"), json.at("steps"),
                                                                                          json.at("seconds")};
      kept += line + "\n";
    }
  }

  void check(const nlohmann::json& settings, const nlohmann::json& written) const {
    for (const auto& [key, value] : settings.items()) {
      if (written.contains(key) && written[key] == value) continue;
      reft::fail<reft::ConfigError>("memorization", "{}: holds cells of another {}: {}, now {}; give another --output, or --overwrite",
                                    path_.string(), key, written.value(key, nlohmann::json()).dump(), value.dump());
    }
  }

  std::filesystem::path path_;
  std::ofstream stream_;
  std::map<Cell, Outcome> finished_;
};

// --- one cell ---------------------------------------------------------------------------------------------------------

/// How much of the text the model would give back: while all is right, what it reads is the text itself, so one pass
/// over prompt and text shows its choices.
int64_t recovered_so_far(const Model& model, const reft::RaggedBatch& batch) {
  torch::NoGradGuard no_grad;
  const reft::ForwardContext context = model.interventions().prompt_context(batch.layout, batch.prompt_lengths);
  const torch::Tensor choices = model.base()->forward(batch.input_ids, context, batch.target_rows).argmax(1);
  return choices.eq(batch.targets).cumprod(0).sum().item<int64_t>();
}

/// The same by decoding, one token at a time.
int64_t recovered_by_decoding(Model& model, const std::vector<int64_t>& prompt, std::span<const int64_t> text) {
  const reft::GenerateOptions options{.max_new_tokens = std::ssize(text), .use_end_tokens = false};
  const std::vector<int64_t> tokens = reft::generate(model, {prompt}, options).front().tokens;
  return std::ranges::mismatch(tokens, text).in1 - tokens.begin();
}

class MemoryTest {
 public:
  MemoryTest(reft::CausalLM base, const Settings& settings, const Common& common, std::vector<int64_t> prompt,
             std::map<std::string, std::vector<int64_t>> texts)
      : base_(std::move(base)), settings_(settings), seed_(common.seed), prompt_(std::move(prompt)), texts_(std::move(texts)) {}

  /// Trains and measures one cell; many threads may do so at once.
  Outcome run(const Cell& cell) {
    const auto begin = std::chrono::steady_clock::now();
    const std::span<const int64_t> text = std::span(texts_.at(cell.kind)).first(cell.length);
    const reft::Example example = learned(text);
    const reft::Example* const examples[]{&example};
    const reft::RaggedBatch batch = reft::collate(examples, base_->device());
    Model model(base_);
    reft::program::seeded(seed_, [&] {
      model.attach(settings_.intervention, {.layer = cell.layer, .positions = "l1"}, {{"rank", cell.rank}});
    });

    int64_t steps = 0;
    constexpr int64_t kStepsBetweenLooks = 10;
    reft::TrainerOptions options{.epochs = settings_.max_steps, .batch_size = 1, .learning_rate = settings_.learning_rate, .shuffle = false};
    options.should_stop = [&] { return ++steps % kStepsBetweenLooks == 0 && recovered_so_far(model, batch) == cell.length; };
    const reft::TrainingResult result = reft::Trainer<reft::CausalLM>(model, options).fit({example});
    if (settings_.adapters) reft::save_adapter(model, std::filesystem::path(settings_.output) / "adapters" / cell.name(), {settings_.model, "none"}, true);

    // Decoding beyond the first mistake would tell nothing more.
    const int64_t reached = std::min(recovered_so_far(model, batch) + 1, cell.length);
    const int64_t recovered = recovered_by_decoding(model, prompt_, text.first(reached));
    return {recovered, result.steps, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()};
  }

 private:
  reft::Example learned(std::span<const int64_t> text) const {
    reft::Example example{prompt_, std::vector<int64_t>(prompt_.size(), reft::kIgnoredLabel), std::ssize(prompt_)};
    example.input_ids.insert(example.input_ids.end(), text.begin(), text.end());
    example.labels.insert(example.labels.end(), text.begin(), text.end());
    return example;
  }

  reft::CausalLM base_;
  const Settings& settings_;
  uint64_t seed_;
  std::vector<int64_t> prompt_;
  std::map<std::string, std::vector<int64_t>> texts_;
};

// --- the sweep --------------------------------------------------------------------------------------------------------

std::vector<Cell> make_cells(const Settings& settings, const reft::TransformerConfig& config, int64_t prompt_length,
                             const std::map<std::string, std::vector<int64_t>>& texts) {
  std::vector<int> layers(config.num_hidden_layers);
  std::iota(layers.begin(), layers.end(), 0);
  if (const auto chosen = reft::program::parse_layers(settings.layers)) layers = *chosen;
  std::vector<Cell> cells;
  for (const std::string& kind : settings.kinds) {
    for (const int64_t rank : reft::program::parse_tokens(settings.ranks)) {
      for (const int layer : layers) {
        for (const int64_t length : reft::program::parse_tokens(settings.lengths)) {
          const int64_t room = config.max_position_embeddings - prompt_length, have = std::ssize(texts.at(kind));
          if (length < 1 || length > std::min(room, have)) {
            reft::fail<reft::ConfigError>("memorization", "--lengths: {} tokens, but the model has room for {} behind the prompt and the {} text has {}",
                                          length, room, kind, have);
          }
          cells.push_back({kind, rank, layer, length});
        }
      }
    }
  }
  return cells;
}

/// One map for each kind and rank: layers down, lengths across, recovery in per cent.
std::string draw(const std::vector<Cell>& cells, const std::map<Cell, Outcome>& outcomes) {
  std::vector<std::pair<std::string, int64_t>> parts;
  for (const Cell& cell : cells) {
    if (std::pair part(cell.kind, cell.rank); std::ranges::find(parts, part) == parts.end()) parts.push_back(part);
  }
  std::vector<std::string> maps;
  for (const auto& [kind, rank] : parts) {
    reft::HeatMap map{.title = fmt::format("recovered per cent: {}, rank {}", kind, rank), .x_label = "tokens", .y_label = "layer", .high = 100.0, .decimals = 0};
    for (const Cell& cell : cells) {
      if (cell.kind != kind || cell.rank != rank) continue;
      if (const auto row = std::to_string(cell.layer); map.rows.empty() || map.rows.back() != row) {
        map.rows.push_back(row);
        map.values.emplace_back();
      }
      if (map.rows.size() == 1) map.columns.push_back(std::to_string(cell.length));
      map.values.back().push_back(100.0 * static_cast<double>(outcomes.at(cell).recovered_tokens) / static_cast<double>(cell.length));
    }
    maps.push_back(reft::to_svg(map));
  }
  return reft::program::side_by_side(maps);
}

std::string fingerprint(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

int run(const Settings& settings, const Common& common) {
  common.apply();
  const std::string folder = reft::program::model_path(settings.model);
  reft::LoadOptions load = common.load_options();
  if (common.dtype == "auto") load.dtype = torch::kFloat32;
  const reft::CausalLM base = reft::load_causal_lm(folder, load);
  const reft::Tokenizer tokenizer = reft::load_tokenizer(folder);
  const std::vector<int64_t> prompt = tokenizer.encode(settings.prompt);
  auto texts = make_texts(settings, common, tokenizer, base->config());
  const std::vector<Cell> cells = make_cells(settings, base->config(), std::ssize(prompt), texts);

  const std::filesystem::path output = settings.output;
  std::filesystem::create_directories(output);
  CellFile file(output / "cells.jsonl",
                {{"model", settings.model}, {"text", fingerprint(read_text(settings.text))}, {"prompt", settings.prompt},
                 {"intervention", settings.intervention}, {"max_steps", settings.max_steps}, {"learning_rate", settings.learning_rate},
                 {"seed", common.seed}, {"dtype", c10::toString(base->dtype())}},
                settings.overwrite);
  std::vector<Cell> left;
  for (const Cell& cell : cells) {
    if (!file.finished().contains(cell)) left.push_back(cell);
  }
  std::ranges::stable_sort(left, std::ranges::greater{}, &Cell::length);  // long ones first, so that all threads end together

  MemoryTest test(base, settings, common, prompt, std::move(texts));
  std::mutex mutex;
  int64_t done = 0;
  reft::program::for_each_in_parallel(std::ssize(left), at::get_num_threads(), [&](int64_t i) {
    const Outcome outcome = test.run(left[i]);
    const std::lock_guard lock(mutex);
    file.add(left[i], outcome);
    ++done;
    if (!common.quiet) {
      fmt::print(stderr, "{}/{}  {}: {} tokens after {} steps, {:.1f} s\n", done, left.size(), left[i].name(), outcome.recovered_tokens,
                 outcome.steps, outcome.seconds);
    }
  });

  nlohmann::ordered_json result{{"cells", nlohmann::ordered_json::array()}};
  for (const Cell& cell : cells) result["cells"].push_back(to_json(cell, file.finished().at(cell)));
  reft::program::write_results(output, "memorization", result, draw(cells, file.finished()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The memory test: how much text one small edit of one hidden state can hold.");
  Settings settings;
  Common common;
  add_flags(app, settings);
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] { return run(settings, common); });
}
