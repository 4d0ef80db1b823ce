#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "reft/error.hpp"

namespace reft::program {

/// One prompt of --prompt-file, as text or as token ids, and what its line asks for.
struct PromptLine {
  std::string text = {};
  std::vector<int64_t> tokens = {};          // instead of text, where there are any
  std::optional<std::string> adapter = {};   // one of those given, or "none"
  std::optional<double> scale = {};
};

/// {"prompt": TEXT} or {"prompt_tokens": [1, 2]}, with "adapter" and "scale" if they differ from the flags.
/// @return nothing where the line is anything else.
inline std::optional<PromptLine> parse_prompt_line(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.contains("prompt") == json.contains("prompt_tokens")) return std::nullopt;
  try {
    PromptLine prompt;
    if (json.contains("prompt")) json.at("prompt").get_to(prompt.text);
    else json.at("prompt_tokens").get_to(prompt.tokens);
    if (json.contains("adapter")) prompt.adapter = json.at("adapter").get<std::string>();
    if (json.contains("scale")) prompt.scale = json.at("scale").get<double>();
    return prompt;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

/// One prompt a line, as text; in a .jsonl file as an object each.   @throws DataError.
inline std::vector<PromptLine> read_prompts(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail<DataError>("generate", "{}: no such file", path);
  std::vector<PromptLine> prompts;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (!path.ends_with(".jsonl")) {
      prompts.push_back({line});
      continue;
    }
    const auto prompt = parse_prompt_line(line);
    if (!prompt) fail<DataError>("generate", "{}: line {}: expected {{\"prompt\": text}} or {{\"prompt_tokens\": ids}}", path, number);
    prompts.push_back(*prompt);
  }
  if (prompts.empty()) fail<DataError>("generate", "{}: it holds no prompt", path);
  return prompts;
}

}  // namespace reft::program
