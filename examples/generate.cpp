// Continues prompts with a base, or with a base and adapters: many prompts and adapters at once, one base in memory.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <numeric>

#include "reft/data/prompt_template.hpp"
#include "reft/generate/adapter_registry.hpp"
#include "reft/generate/generate_text.hpp"
#include "reft/generate/score.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "support/adapter.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"
#include "support/prompts.hpp"

namespace {

using reft::program::PromptLine;

constexpr const char* kNoAdapter = "none";
constexpr int64_t kShortestSharedPrefix = 8;  // tokens below which sharing them is not worth a pass

struct Settings {
  std::string model, prompt, prompt_file, tokens, prompt_template, score, score_tokens;
  reft::program::AdapterFlags adapter;
  reft::GenerateOptions generation;
  double scale = 1.0;
  int64_t batch_size = 16;
  bool json = false, interactive = false, stream = false;
};

/// One answer that is asked for.
struct Task {
  std::string text;     // of the prompt, in its wording; none of ids and chats
  std::string adapter;  // its name, or none
  reft::GenerationRequest request;
};

class Generator {
 public:
  Generator(const Settings& settings, const reft::program::Common& common)
      : settings_(settings), options_(settings.generation), base_(reft::load_causal_lm(settings.model, common.load_options())), registry_(base_) {
    if (!reft::find_tokenizer_files(settings.model).empty()) options_.tokenizer = reft::load_tokenizer(settings.model);
    for (const std::string& folder : settings.adapter.folders()) {
      if (folder != kNoAdapter) registry_.add(folder, folder, settings.adapter.options());
      names_.push_back(folder);
      (void)adapter(folder);  // what is wrong with one is said before anything is answered
    }
    if (names_.empty()) names_.push_back(kNoAdapter);
  }

  void answer(const std::vector<PromptLine>& prompts) {
    std::vector<Task> tasks;
    for (const PromptLine& prompt : prompts) {
      for (const std::string& name : prompt.adapter ? std::vector{*prompt.adapter} : names_) tasks.push_back(task(prompt, name));
    }
    if (!settings_.score.empty() || !settings_.score_tokens.empty()) return print_scores(tasks);
    const auto prefix = shared_prefix(tasks);
    options_.prefix = prefix.get();
    const int64_t batch_size = settings_.stream ? 1 : settings_.batch_size;
    for (auto first = tasks.begin(); first != tasks.end();) {
      const auto last = first + std::min<std::ptrdiff_t>(batch_size, tasks.end() - first);
      print_batch(std::vector<Task>(first, last));
      first = last;
    }
  }

  /// One answer a line of standard input, until it ends. With the model's chat template the lines are turns of one
  /// conversation; in another wording, asked for or the adapter's, each prompt stands alone.
  void chat() {
    if (names_.size() > 1) reft::fail<reft::ConfigError>("generate", "--interactive: expected one adapter, got {}", names_.size());
    const std::optional<reft::PromptTemplate> asked = wording(adapter(names_.front()).info);
    const bool converses = asked ? *asked == reft::PromptTemplate::chat : tokenizer().has_chat_template();
    auto messages = nlohmann::ordered_json::array();
    for (std::string line; fmt::print("> "), std::fflush(stdout), std::getline(std::cin, line);) {
      if (line.empty()) continue;
      if (!converses) {
        print_streaming(task({line}, names_.front()));
        continue;
      }
      messages.push_back({{"role", "user"}, {"content", line}});
      const reft::Continuation answer = print_streaming(task({.tokens = chat_tokens(messages)}, names_.front()));
      messages.push_back({{"role", "assistant"}, {"content", answer.text}});
    }
    fmt::print("\n");
  }

 private:
  const reft::Tokenizer& tokenizer() const {
    if (!options_.tokenizer) {
      reft::fail<reft::ConfigError>("generate", "{} has no tokenizer; give --tokens", settings_.model);
    }
    return *options_.tokenizer;
  }

  reft::AdapterRegistry::Adapter adapter(const std::string& name) {
    return name == kNoAdapter ? reft::AdapterRegistry::Adapter{} : registry_.get(name);
  }

  /// What was asked for, or what the adapter was trained with: it is best asked so.
  std::optional<reft::PromptTemplate> wording(const reft::AdapterInfo& info) const {
    const std::string& name = settings_.prompt_template.empty() ? info.prompt_template : settings_.prompt_template;
    return name.empty() ? std::nullopt : std::optional(reft::parse_prompt_template(name));
  }

  /// A conversation up to where the assistant's answer begins, in the model's own form.
  std::vector<int64_t> chat_tokens(const nlohmann::ordered_json& messages) const {
    return tokenizer().encode(tokenizer().chat_template().render(messages, {.add_generation_prompt = true}), /*add_special_tokens=*/false);
  }

  Task task(const PromptLine& prompt, const std::string& name) {
    const auto [interventions, info] = adapter(name);
    Task task{{}, name, {prompt.tokens, interventions, prompt.scale.value_or(settings_.scale)}};
    if (!prompt.tokens.empty()) return task;
    const reft::PromptTemplate prompt_template = wording(info).value_or(reft::PromptTemplate::none);
    if (prompt_template != reft::PromptTemplate::chat) task.text = reft::render_prompt(prompt_template, prompt.text);
    task.request.prompt = reft::prompt_tokens(tokenizer(), prompt_template, prompt.text);
    return task;
  }

  /// What all prompts begin with, such as a template's first words.
  std::unique_ptr<reft::PrefixCache> shared_prefix(const std::vector<Task>& tasks) const {
    if (tasks.size() < 2) return nullptr;
    std::vector<int64_t> shared = tasks.front().request.prompt;
    for (const Task& task : tasks) {
      const std::vector<int64_t>& prompt = task.request.prompt;
      const auto end = std::mismatch(shared.begin(), shared.end(), prompt.begin(), prompt.end()).first;
      shared.erase(end == shared.end() && prompt.size() <= shared.size() ? std::prev(end) : end, shared.end());
      if (std::ssize(shared) < kShortestSharedPrefix) return nullptr;
    }
    return std::make_unique<reft::PrefixCache>(base_, std::move(shared));
  }

  void print_batch(const std::vector<Task>& tasks) {
    if (settings_.stream) {
      print_streaming(tasks.front());
      return;
    }
    std::vector<reft::GenerationRequest> requests;
    for (const Task& task : tasks) requests.push_back(task.request);
    const auto begin = std::chrono::steady_clock::now();
    const std::vector<reft::Continuation> continuations = reft::generate(base_, requests, options_);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (size_t i = 0; i < continuations.size(); ++i) {
      const auto samples = static_cast<size_t>(options_.num_samples);
      print(tasks[i / samples], continuations[i], static_cast<int64_t>(i % samples), seconds);
    }
    std::fflush(stdout);
  }

  void print(const Task& task, const reft::Continuation& continuation, int64_t sample, double seconds) const {
    if (!settings_.json) {
      if (names_.size() > 1) fmt::print("{}: ", task.adapter);
      if (options_.tokenizer) fmt::print("{}\n", continuation.text);
      else fmt::print("{}\n", fmt::join(continuation.tokens, ","));
      return;
    }
    nlohmann::ordered_json line{{"prompt_tokens", task.request.prompt},
                                {"tokens", continuation.tokens},
                                {"text", options_.tokenizer ? nlohmann::ordered_json(continuation.text) : nullptr},
                                {"finish_reason", reft::to_string(continuation.finish_reason)},
                                {"seconds", seconds},
                                {"tokens_per_second", static_cast<double>(continuation.tokens.size()) / seconds}};
    if (names_.size() > 1 || names_.front() != kNoAdapter) line["adapter"] = task.adapter;
    if (options_.num_samples > 1) line["sample"] = sample;
    if (options_.beams.num_beams > 1) line["beam_score"] = continuation.beam_score;
    if (options_.log_probabilities) line["log_probabilities"] = continuation.log_probabilities;
    print_json(line);
  }

  reft::Continuation print_streaming(const Task& task) {
    (void)tokenizer();
    reft::GenerateOptions options = options_;
    options.on_text = [](int64_t, std::string_view text) {
      fmt::print("{}", text);
      std::fflush(stdout);
    };
    std::vector<reft::Continuation> answers = reft::generate(base_, std::span(&task.request, 1), options);
    fmt::print("\n");
    return std::move(answers.front());
  }

  /// Tokens of the text to score: those that the prompt gets more when it stands behind it, or its own where the two
  /// would grow together.
  std::vector<int64_t> scored_tokens(const Task& task) const {
    if (!settings_.score_tokens.empty()) return reft::program::parse_tokens(settings_.score_tokens);
    const std::vector<int64_t>& prompt = task.request.prompt;
    const std::vector<int64_t> whole = tokenizer().encode(task.text + settings_.score);
    const bool continues = !task.text.empty() && whole.size() > prompt.size() && std::equal(prompt.begin(), prompt.end(), whole.begin());
    if (continues) return {whole.begin() + std::ssize(prompt), whole.end()};
    return tokenizer().encode(settings_.score, /*add_special_tokens=*/false);
  }

  void print_scores(const std::vector<Task>& tasks) const {
    for (const Task& task : tasks) {
      const std::vector<int64_t> tokens = scored_tokens(task);
      const std::vector<double> scores = reft::score(base_, std::span(&task.request, 1), {tokens}).front();
      const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
      if (!settings_.json) {
        if (names_.size() > 1) fmt::print("{}: ", task.adapter);
        fmt::print("{:.6f}\n", sum);
        continue;
      }
      nlohmann::ordered_json line{{"prompt_tokens", task.request.prompt}, {"tokens", tokens}, {"log_probabilities", scores}, {"log_probability", sum}};
      if (names_.size() > 1 || names_.front() != kNoAdapter) line["adapter"] = task.adapter;
      print_json(line);
    }
  }

  static void print_json(const nlohmann::ordered_json& line) {
    fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }

  const Settings& settings_;
  reft::GenerateOptions options_;
  reft::CausalLM base_;
  reft::AdapterRegistry registry_;
  std::vector<std::string> names_;  // adapters that answer each prompt
};

reft::EarlyStopping parse_early_stopping(const std::string& text) {
  if (text == "yes") return reft::EarlyStopping::yes;
  return text == "no" ? reft::EarlyStopping::no : reft::EarlyStopping::never;
}

void add_choosing_flags(CLI::App& app, reft::GenerateOptions& generation) {
  const auto option = [&](const char* group, const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str()->group(group);
  };
  const char *choosing = "Choosing tokens", *beams = "Beam search", *stopping = "Stopping";
  reft::SamplingOptions& sampling = generation.sampling;
  option(choosing, "--temperature", sampling.temperature, "0 = greedy")->check(CLI::NonNegativeNumber);
  option(choosing, "--top-k", sampling.top_k, "draw among the k most likely; 0 = all")->check(CLI::NonNegativeNumber);
  option(choosing, "--top-p", sampling.top_p, "draw among the fewest whose probabilities reach p")->check(CLI::Range(1e-9, 1.0));
  option(choosing, "--min-p", sampling.min_p, "draw among those at least p times as likely as the likeliest; 0 = all")->check(CLI::Range(0.0, 1.0));
  option(choosing, "--repetition-penalty", sampling.repetition_penalty, "1 = none")->check(CLI::PositiveNumber);
  option(choosing, "--no-repeat-ngram", sampling.no_repeat_ngram, "no n tokens twice; 0 = no rule")->check(CLI::NonNegativeNumber);
  option(choosing, "--num-samples", generation.num_samples, "answers to each prompt; sample j is drawn with seed + j")->check(CLI::Range(1, 1 << 16));
  option(beams, "--num-beams", generation.beams.num_beams, "1 = none")->check(CLI::Range(1, 1 << 10));
  option(beams, "--length-penalty", generation.beams.length_penalty, "score = sum of log-probabilities / length^penalty");
  app.add_option_function<std::string>("--early-stopping", [&](const std::string& text) { generation.beams.early_stopping = parse_early_stopping(text); },
                                       "stop with num-beams finished: yes, no (when a better one is unlikely) or never (impossible)")
      ->default_str("no")->check(CLI::IsMember({"yes", "no", "never"}))->group(beams);
  option(stopping, "--max-new-tokens", generation.max_new_tokens, "at most")->check(CLI::Range(0, 1 << 20));
  app.add_option("--stop", generation.stop_strings, "text before which an answer ends; may be given again")
      ->type_name("TEXT")->allow_extra_args(false)->group(stopping);
}

/// @throws ConfigError where several answers would come at once to one screen.
void check_one_answer(const Settings& settings) {
  const bool several = settings.generation.num_samples > 1 || settings.generation.beams.num_beams > 1;
  if (several && (settings.stream || settings.interactive)) {
    reft::fail<reft::ConfigError>("generate", "--stream and --interactive show one answer as it comes; leave out --num-samples and --num-beams");
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Continues prompts; prompt-only interventions cost nothing while decoding.");
  Settings settings;
  reft::program::Common common;
  app.add_option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file")->required();
  settings.adapter.add_to(app, /*several=*/true);
  app.add_option("--scale", settings.scale, "of the edits: h + scale (edited h - h)")->capture_default_str()->group("Adapter");
  auto* source = app.add_option_group("Prompt", "one of these");
  source->add_option("--prompt", settings.prompt, "one prompt");
  source->add_option("--prompt-file", settings.prompt_file,
                     "one prompt a line; in a .jsonl file {\"prompt\": TEXT} or {\"prompt_tokens\": IDS}, and \"adapter\", \"scale\" of its own");
  source->add_option("--tokens", settings.tokens, "one prompt as token ids, \"1,2,3\"")
      ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); }));
  auto* interactive = source->add_flag("--interactive", settings.interactive, "a prompt a line from standard input, answers as they come");
  source->require_option(1);
  app.add_option("--template", settings.prompt_template, "wording laid around a prompt: none, alpaca or chat, the model's own (default: the adapter's, else none; --interactive: else chat)")
      ->group("Prompt wording")->check(reft::program::checked_by([](const std::string& text) {
        reft::parse_prompt_template(text);
      }));
  add_choosing_flags(app, settings.generation);
  const char* output = "Output";
  auto* json = app.add_flag("--json", settings.json, "one JSON object an answer")->group(output);
  app.add_flag("--logprobs", settings.generation.log_probabilities, "the log-probability of each token, in the JSON")->needs(json)->group(output);
  app.add_flag("--stream", settings.stream, "answers as they come, one after the other")->excludes(json)->group(output);
  app.add_option("--batch-size", settings.batch_size, "prompts answered together")->capture_default_str()->check(CLI::PositiveNumber)->group(output);
  auto* score = app.add_option("--score", settings.score, "answer nothing; say the log-probability of this text behind each prompt")->group(output);
  app.add_option("--score-tokens", settings.score_tokens, "the same of token ids")->excludes(score)->group(output)
      ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); }));
  interactive->excludes(json);
  common.add_to(app);
  common.add_quantize(app);
  return reft::program::run(app, argc, argv, [&] {
    check_one_answer(settings);
    common.apply();
    settings.generation.sampling.seed = common.seed;
    settings.model = reft::program::model_path(settings.model);
    Generator generator(settings, common);
    if (settings.interactive) {
      generator.chat();
    } else if (!settings.tokens.empty()) {
      generator.answer({{.tokens = reft::program::parse_tokens(settings.tokens)}});
    } else {
      generator.answer(settings.prompt_file.empty() ? std::vector<PromptLine>{{settings.prompt}} : reft::program::read_prompts(settings.prompt_file));
    }
    return 0;
  });
}
