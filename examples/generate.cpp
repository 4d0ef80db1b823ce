// Continues prompts with a base, or with a base and an adapter.
#include <chrono>
#include <fstream>
#include <iostream>

#include "reft/data/prompt_template.hpp"
#include "reft/generate/generate.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "support/adapter.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"

namespace {

struct Settings {
  std::string model, prompt, prompt_file, tokens, prompt_template;
  reft::program::AdapterFlags adapter;
  reft::GenerateOptions generation;
  bool json = false, interactive = false;
};

class Generator {
 public:
  Generator(const Settings& settings, const reft::program::Common& common)
      : settings_(settings), model_(reft::load_causal_lm(settings.model, common.load_options())) {
    if (std::filesystem::exists(std::filesystem::path(settings.model) / "tokenizer.json")) {
      tokenizer_ = reft::load_tokenizer(settings.model);
    }
    const reft::AdapterInfo adapter = settings.adapter.attach(model_);
    // An adapter is best asked in the wording it was trained with.
    for (const std::string& name : {settings.prompt_template, adapter.prompt_template, std::string("none")}) {
      if (name.empty()) continue;
      template_ = reft::parse_prompt_template(name);
      break;
    }
  }

  const reft::Tokenizer& tokenizer() const {
    if (!tokenizer_) {
      reft::fail<reft::ConfigError>("generate", "{} has no tokenizer.json; give --tokens", settings_.model);
    }
    return *tokenizer_;
  }

  std::vector<int64_t> encode(const std::string& text) const {
    return tokenizer().encode(reft::render_prompt(template_, text));
  }

  void print(const std::vector<int64_t>& prompt) {
    const auto begin = std::chrono::steady_clock::now();
    const reft::Continuation continuation = reft::generate(model_, {prompt}, settings_.generation).front();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const std::string text = tokenizer_ ? tokenizer_->decode(continuation.tokens) : "";
    if (!settings_.json) {
      if (tokenizer_) fmt::print("{}\n", text);
      else fmt::print("{}\n", fmt::join(continuation.tokens, ","));
      return;
    }
    nlohmann::ordered_json line{{"prompt_tokens", prompt},
                                {"tokens", continuation.tokens},
                                {"text", tokenizer_ ? nlohmann::ordered_json(text) : nullptr},
                                {"finish_reason", reft::to_string(continuation.finish_reason)},
                                {"seconds", seconds},
                                {"tokens_per_second", static_cast<double>(continuation.tokens.size()) / seconds}};
    fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    std::fflush(stdout);
  }

  /// One answer a line of standard input, until it ends; each prompt stands alone.
  void chat() {
    reft::GenerateOptions options = settings_.generation;
    const reft::Tokenizer& words = tokenizer();
    for (std::string line; fmt::print("> "), std::fflush(stdout), std::getline(std::cin, line);) {
      if (line.empty()) continue;
      reft::TokenStream stream(words);
      options.on_token = [&](int64_t, int64_t token) {
        fmt::print("{}", stream.add(token));
        std::fflush(stdout);
      };
      (void)reft::generate(model_, {encode(line)}, options);
      fmt::print("{}\n", stream.flush());
    }
    fmt::print("\n");
  }

 private:
  const Settings& settings_;
  reft::ReftModel<reft::CausalLM> model_;
  std::optional<reft::Tokenizer> tokenizer_;
  reft::PromptTemplate template_ = reft::PromptTemplate::none;
};

/// One prompt a line, as text or as {"prompt": …}.
std::vector<std::string> read_prompts(const std::string& path) {
  std::ifstream file(path);
  if (!file) reft::fail<reft::DataError>("generate", "{}: no such file", path);
  std::vector<std::string> prompts;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (path.ends_with(".jsonl")) {
      const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!json.is_object() || !json.contains("prompt") || !json["prompt"].is_string()) {
        reft::fail<reft::DataError>("generate", "{}: line {}: expected {{\"prompt\": text}}", path, number);
      }
      line = json["prompt"].get<std::string>();
    }
    prompts.push_back(line);
  }
  if (prompts.empty()) reft::fail<reft::DataError>("generate", "{}: it holds no prompt", path);
  return prompts;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Continues prompts; prompt-only interventions cost nothing while decoding.");
  Settings settings;
  reft::program::Common common;
  app.add_option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file")->required();
  settings.adapter.add_to(app);
  auto* source = app.add_option_group("Prompt", "one of these");
  source->add_option("--prompt", settings.prompt, "one prompt");
  source->add_option("--prompt-file", settings.prompt_file, "one prompt a line; a .jsonl file has one {\"prompt\": …} a line");
  source->add_option("--tokens", settings.tokens, "one prompt as token ids, \"1,2,3\"")
      ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); }));
  source->add_flag("--interactive", settings.interactive, "a prompt a line from standard input, answers as they come");
  source->require_option(1);
  app.add_option("--template", settings.prompt_template, "wording laid around a prompt: none or alpaca (default: the adapter's, else none)")
      ->check(reft::program::checked_by([](const std::string& text) { reft::parse_prompt_template(text); }));
  reft::SamplingOptions& sampling = settings.generation.sampling;
  const auto option = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->capture_default_str()->group("Choosing tokens");
  };
  option("--max-new-tokens", settings.generation.max_new_tokens, "at most")->check(CLI::NonNegativeNumber);
  option("--temperature", sampling.temperature, "0 = greedy")->check(CLI::NonNegativeNumber);
  option("--top-k", sampling.top_k, "draw among the k most likely; 0 = all")->check(CLI::NonNegativeNumber);
  option("--top-p", sampling.top_p, "draw among the fewest whose probabilities reach p")->check(CLI::Range(1e-9, 1.0));
  option("--repetition-penalty", sampling.repetition_penalty, "1 = none")->check(CLI::PositiveNumber);
  option("--no-repeat-ngram", sampling.no_repeat_ngram, "no n tokens twice; 0 = no rule")->check(CLI::NonNegativeNumber);
  app.add_flag("--json", settings.json, "one JSON object a prompt");
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] {
    common.apply();
    sampling.seed = common.seed;
    settings.model = reft::program::model_path(settings.model);
    Generator generator(settings, common);
    if (settings.interactive) {
      generator.chat();
    } else if (!settings.tokens.empty()) {
      generator.print(reft::program::parse_tokens(settings.tokens));
    } else {
      for (const std::string& prompt : settings.prompt_file.empty() ? std::vector{settings.prompt} : read_prompts(settings.prompt_file)) {
        generator.print(generator.encode(prompt));
      }
    }
    return 0;
  });
}
