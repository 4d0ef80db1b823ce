#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "reft/data/prompt_template.hpp"
#include "reft/generate/generate.hpp"
#include "reft/tokenizer/tokenizer.hpp"

namespace reft {

/// An instruction in a wording, up to where the answer begins.   @throws TokenizerError for chat where the model has no template.
inline std::vector<int64_t> prompt_tokens(const Tokenizer& tokenizer, PromptTemplate prompt_template, std::string_view instruction) {
  const std::string prompt = render_prompt(prompt_template, instruction);
  if (prompt_template != PromptTemplate::chat) return tokenizer.encode(prompt);
  const auto messages = nlohmann::ordered_json::array({{{"role", "user"}, {"content", prompt}}});
  return tokenizer.encode(tokenizer.chat_template().render(messages, {.add_generation_prompt = true}), /*add_special_tokens=*/false);
}

/// The answer to one instruction, as text.   @throws as `generate`.
inline std::string generate_text(const ReftModel<CausalLM>& model, const Tokenizer& tokenizer, std::string_view instruction,
                                 PromptTemplate prompt_template = PromptTemplate::alpaca, GenerateOptions options = {}) {
  options.tokenizer = tokenizer;
  return generate(model, {prompt_tokens(tokenizer, prompt_template, instruction)}, options).front().text;
}

}  // namespace reft
