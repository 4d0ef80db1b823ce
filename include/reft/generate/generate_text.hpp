#pragma once

#include <string>
#include <string_view>

#include "reft/data/prompt_template.hpp"
#include "reft/generate/generate.hpp"
#include "reft/tokenizer/tokenizer.hpp"

namespace reft {

/// The answer to one instruction, as text.   @throws as `generate`.
inline std::string generate_text(const ReftModel<CausalLM>& model, const Tokenizer& tokenizer, std::string_view instruction,
                                 PromptTemplate prompt_template = PromptTemplate::alpaca, GenerateOptions options = {}) {
  options.tokenizer = tokenizer;
  const std::vector<int64_t> prompt = tokenizer.encode(render_prompt(prompt_template, instruction));
  return generate(model, {prompt}, options).front().text;
}

}  // namespace reft
