// Measures training and generation of a model folder, or of a random Llama of a given shape; prints one JSON object.
// Flags and keys are those of the peers' benchmark of pyreft, so that the two can be put side by side.
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <numeric>

#include "reft/checkpoint/adapter.hpp"
#include "reft/data/load_examples.hpp"
#include "reft/generate/generate.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/constant_prefix.hpp"
#include "reft/train/trainer.hpp"
#include "reft/train/trunk_cache.hpp"
#include "support/interventions.hpp"
#include "support/program.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using Model = reft::ReftModel<reft::CausalLM>;

struct Settings {
  std::string model, mode = "train,generate", data, tokenizer, layers = "all", positions = "f1+l1";
  int64_t hidden = 256, num_layers = 8, heads = 8, kv_heads = 8, head_dim = 0, inter = 688, vocab = 4096;
  bool tie = false, share_weights = false, trunk_cache = false;
  int64_t batch = 8, seq = 128, max_length = 512, rank = 4, warmup = 2, steps = 8;
  double supervised = 0.25, learning_rate = 1e-3;
  int64_t gen_prompt = 64, gen_tokens = 64, gen_batch = 1;
};

void add_flags(CLI::App& app, Settings& settings) {
  const auto option = [&](const char* name, auto& value, const char* help, const char* group) {
    app.add_option(name, value, help)->capture_default_str()->group(group);
  };
  option("--mode", settings.mode, "train, generate, load (of a saved adapter), or several", "What");
  option("--model", settings.model, "Hugging Face folder instead of a random Llama", "Model");
  option("--hidden", settings.hidden, "hidden size of the random Llama", "Model");
  option("--layers", settings.num_layers, "its layers", "Model");
  option("--heads", settings.heads, "its query heads", "Model");
  option("--kv-heads", settings.kv_heads, "its key and value heads", "Model");
  option("--head-dim", settings.head_dim, "the width of its heads; 0 = hidden size over heads", "Model");
  option("--inter", settings.inter, "its feed-forward width", "Model");
  option("--vocab", settings.vocab, "its vocabulary", "Model");
  app.add_flag("--tie", settings.tie, "its embeddings are tied")->group("Model");
  option("--rank", settings.rank, "rank of the LoReFT interventions", "Interventions");
  option("--reft-layers", settings.layers, "all, 3;5", "Interventions");
  option("--positions", settings.positions, "where they act", "Interventions");
  app.add_flag("--share-weights", settings.share_weights, "one intervention a layer for all positions")->group("Interventions");
  option("--batch", settings.batch, "sequences of a training step", "Training");
  option("--seq", settings.seq, "tokens of each, of which pyreft's layout has a pad token first", "Training");
  option("--supervised", settings.supervised, "the share of them that is supervised, from the end", "Training");
  option("--data", settings.data, "Alpaca JSON: real lengths, batches in file order, a new one each step", "Training");
  option("--tokenizer", settings.tokenizer, "folder of the tokenizer of --data (default: --model)", "Training");
  option("--max-length", settings.max_length, "tokens of a row of --data", "Training");
  option("--lr", settings.learning_rate, "learning rate", "Training");
  app.add_flag("--trunk-cache", settings.trunk_cache, "measure what an epoch after the first costs with a cached trunk, or cached prefixes where there is none")->group("Training");
  option("--warmup", settings.warmup, "steps before the clock starts", "Training");
  option("--steps", settings.steps, "steps that are measured", "Training");
  option("--gen-prompt", settings.gen_prompt, "tokens of a prompt", "Generation");
  option("--gen-tokens", settings.gen_tokens, "new tokens", "Generation");
  option("--gen-batch", settings.gen_batch, "prompts at once", "Generation");
}

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.size() % 2 == 1 ? values[values.size() / 2] : (values[values.size() / 2 - 1] + values[values.size() / 2]) / 2;
}

double peak_megabytes() { return static_cast<double>(reft::program::peak_memory_bytes(torch::kCPU)) / (1 << 20); }

/// A CUDA device is waited for before the clock is read.
void synchronize(torch::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize(device.index());
}

reft::CausalLM make_base(const Settings& settings, const reft::program::Common& common) {
  reft::LoadOptions options = common.load_options();
  if (!settings.model.empty()) return reft::load_causal_lm(settings.model, options);
  reft::TransformerConfig config;
  config.hidden_size = settings.hidden;
  config.num_hidden_layers = settings.num_layers;
  config.num_attention_heads = settings.heads;
  config.num_key_value_heads = settings.kv_heads;
  config.head_dim = settings.head_dim > 0 ? settings.head_dim : settings.hidden / settings.heads;
  config.intermediate_size = settings.inter;
  config.vocab_size = settings.vocab;
  config.tie_word_embeddings = settings.tie;
  reft::CausalLM base(config, torch::TensorOptions().dtype(options.dtype.value_or(torch::kFloat32)).device(options.device));
  reft::initialize(base);
  if (options.quantization != reft::Quantization::none) base->quantize(options.quantization);
  return base;
}

void attach(Model& model, const Settings& settings) {
  const reft::Tie tie = settings.share_weights ? reft::Tie::all : reft::Tie::group;
  const auto chosen = reft::program::parse_layers(settings.layers);
  for (int layer = 0; layer < model.base()->num_layers(); ++layer) {
    if (chosen && std::find(chosen->begin(), chosen->end(), layer) == chosen->end()) continue;
    model.attach<reft::LoReFT>({.layer = layer, .positions = settings.positions, .tie = tie, .position_rule = reft::PositionRule::pyreft},
                               {.rank = settings.rank});
  }
}

std::vector<int64_t> random_tokens(int64_t count, int64_t vocab) {
  const torch::Tensor tokens = torch::randint(3, vocab, {count}, torch::kInt64);
  return {tokens.const_data_ptr<int64_t>(), tokens.const_data_ptr<int64_t>() + count};
}

/// Rows of equal length, without the pad token that pyreft has in front of each, or the rows of --data in the file's order.
std::vector<reft::Example> make_examples(const Settings& settings, int64_t vocab) {
  if (!settings.data.empty()) {
    const auto tokenizer = reft::load_tokenizer(settings.tokenizer.empty() ? settings.model : settings.tokenizer);
    reft::TokenizeOptions options{.max_length = settings.max_length};  // no end token, as the peers' rows have none
    auto examples = reft::tokenize_examples(reft::read_examples(settings.data), [&](std::string_view text) { return tokenizer.encode(text); }, options).examples;
    const int64_t wanted = (settings.warmup + settings.steps) * settings.batch;
    for (int64_t i = 0; std::ssize(examples) < wanted; ++i) examples.push_back(examples[i]);
    examples.resize(static_cast<size_t>(wanted));
    return examples;
  }
  const int64_t supervised = std::max<int64_t>(1, std::llround(static_cast<double>(settings.seq) * settings.supervised));
  std::vector<reft::Example> examples(static_cast<size_t>(settings.batch));
  for (reft::Example& example : examples) {
    example.input_ids = random_tokens(settings.seq - 1, vocab);
    example.labels = example.input_ids;
    example.prompt_length = settings.seq - 1 - supervised;
    std::fill_n(example.labels.begin(), example.prompt_length, reft::kIgnoredLabel);
  }
  return examples;
}

/// Notes when each step ends, and its loss.
class Stopwatch : public reft::Callback {
 public:
  explicit Stopwatch(torch::Device device) : device_(device) {}

  void on_step(const reft::StepReport& report) override {
    synchronize(device_);
    ends.push_back(Clock::now());
    losses.push_back(report.loss);
  }

  std::vector<Clock::time_point> ends;
  std::vector<double> losses;

 private:
  torch::Device device_;
};

/// What the first epoch leaves in the cache.
template <class Cache>
void fill(Cache& cache, Model& model, const std::vector<reft::Example>& examples) {
  torch::NoGradGuard no_grad;
  for (const reft::Example& example : examples) {
    const reft::Example* one = &example;
    (void)cache.loss(model, reft::collate(std::span(&one, 1), model.device()));
  }
}

void train(Model& model, const Settings& settings, nlohmann::ordered_json& result) {
  const auto examples = make_examples(settings, model.base()->config().vocab_size);
  Stopwatch stopwatch(model.device());
  reft::TrainerOptions options{.epochs = 1 << 20, .batch_size = settings.batch, .learning_rate = settings.learning_rate,
                               .schedule = reft::ScheduleKind::constant, .shuffle = false};
  options.max_steps = settings.warmup + settings.steps;
  reft::TrunkCache trunk(model);
  reft::ConstantPrefix prefix;
  reft::Objective<reft::CausalLM> objective = &reft::language_modelling_loss<reft::CausalLM>;
  if (settings.trunk_cache && trunk.num_blocks() > 0) fill(trunk, model, examples), objective = trunk.objective();
  else if (settings.trunk_cache) fill(prefix, model, examples), objective = prefix.objective();
  const auto begin = Clock::now();
  reft::Trainer<reft::CausalLM> trainer(model, options, objective);
  trainer.add(stopwatch).fit(examples);
  std::vector<double> times;
  for (int64_t i = settings.warmup; i < settings.warmup + settings.steps; ++i) {
    times.push_back(std::chrono::duration<double>(stopwatch.ends[i] - (i == 0 ? begin : stopwatch.ends[i - 1])).count());
  }
  // Real lengths differ from step to step: the mean is the figure then.
  const double step = settings.data.empty() ? median(times) : std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size());
  double tokens = static_cast<double>(settings.batch * settings.seq);
  if (!settings.data.empty()) {
    int64_t useful = 0;
    for (int64_t i = settings.warmup * settings.batch; i < std::ssize(examples); ++i) useful += std::ssize(examples[i].input_ids);
    tokens = static_cast<double>(useful) / static_cast<double>(settings.steps);
  }
  result["first_step_s"] = std::chrono::duration<double>(stopwatch.ends.front() - begin).count();
  result["loss0"] = stopwatch.losses.front();
  result["loss_end"] = stopwatch.losses.back();
  result["losses"] = std::vector<double>(stopwatch.losses.begin() + settings.warmup, stopwatch.losses.end());
  result["step_s"] = step;
  result["step_min_s"] = *std::min_element(times.begin(), times.end());
  result["tok_s"] = tokens / step;
}

void generate(Model& model, const Settings& settings, nlohmann::ordered_json& result) {
  std::vector<std::vector<int64_t>> prompts;
  for (int64_t i = 0; i < settings.gen_batch; ++i) prompts.push_back(random_tokens(settings.gen_prompt, model.base()->config().vocab_size));
  const auto once = [&](int64_t count) {
    const auto begin = Clock::now();
    const auto found = reft::generate(model, prompts, {.max_new_tokens = count, .use_end_tokens = false});
    synchronize(model.device());
    return seconds_since(begin);
  };
  const auto median_of = [&](int64_t count, int64_t repeats) {
    std::vector<double> times;
    for (int64_t i = 0; i < repeats; ++i) times.push_back(once(count));
    return median(times);
  };
  once(2);
  const double prefill = median_of(1, 3), total = median_of(settings.gen_tokens, std::max<int64_t>(3, settings.steps / 2));
  const auto batch = static_cast<double>(settings.gen_batch), tokens = static_cast<double>(settings.gen_tokens);
  result["prefill_s"] = prefill;
  result["gen_total_s"] = total;
  result["gen_tok_s"] = batch * tokens / total;
  result["decode_tok_s"] = batch * (tokens - 1) / std::max(1e-9, total - prefill);
}

/// Reads the model's adapter into the same base.
void load(const Model& model, nlohmann::ordered_json& result) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / fmt::format("reft_bench_{}", ::getpid());
  reft::save_adapter(model, folder, {}, /*overwrite=*/true);
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) {
    const auto begin = Clock::now();
    Model loaded(model.base());
    reft::load_adapter(loaded, folder);
    times.push_back(seconds_since(begin));
  }
  std::filesystem::remove_all(folder);
  result["load_s"] = median(times);
}

int measure(const Settings& settings, const reft::program::Common& common, Clock::time_point begin) {
  common.apply();
  nlohmann::ordered_json result{{"method", "reft"}};
  result["rss_before_mb"] = peak_megabytes();
  const reft::CausalLM base = make_base(settings, common);
  Model model(base);
  result["model_params"] = model.num_base_parameters();
  result["rss_model_mb"] = peak_megabytes();
  const auto building = Clock::now();
  attach(model, settings);
  result["build_s"] = seconds_since(building);
  result["trainable"] = model.num_trainable_parameters();
  result["start_s"] = seconds_since(begin);
  if (settings.mode.find("train") != std::string::npos) train(model, settings, result);
  if (settings.mode.find("generate") != std::string::npos) generate(model, settings, result);
  if (settings.mode.find("load") != std::string::npos) load(model, result);
  result["peak_rss_mb"] = peak_megabytes();
  if (model.device().is_cuda()) result["peak_cuda_mb"] = static_cast<double>(reft::program::peak_memory_bytes(model.device())) / (1 << 20);
  std::cout << result.dump() << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto begin = Clock::now();
  CLI::App app("Measures training and generation with LoReFT; prints one JSON object. Seconds, tokens per second, mebibytes.");
  Settings settings;
  reft::program::Common common;
  add_flags(app, settings);
  common.add_to(app);
  common.add_quantize(app);
  return reft::program::run(app, argc, argv, [&] { return measure(settings, common, begin); });
}
