#pragma once

#include <string>
#include <string_view>

#include "reft/error.hpp"

namespace reft {

/// How an instruction becomes the text that the model reads.
///   alpaca   the Stanford Alpaca prompt, with its two wordings for instructions with and without an input
///   none     the instruction, and the input on the next line if there is one
///   chat     the same as the user's message, and around it the model's own chat template, which its tokenizer knows
enum class PromptTemplate { alpaca, none, chat };

inline std::string_view to_string(PromptTemplate prompt_template) {
  switch (prompt_template) {
    case PromptTemplate::alpaca: return "alpaca";
    case PromptTemplate::none: return "none";
    case PromptTemplate::chat: break;
  }
  return "chat";
}

/// @throws ConfigError.
inline PromptTemplate parse_prompt_template(std::string_view text) {
  for (auto prompt_template : {PromptTemplate::alpaca, PromptTemplate::none, PromptTemplate::chat}) {
    if (text == to_string(prompt_template)) return prompt_template;
  }
  fail<ConfigError>("parse_prompt_template", "\"{}\": expected alpaca, none or chat", text);
}

/// The prompt's text, up to where the answer begins; of a chat the user's message alone.
inline std::string render_prompt(PromptTemplate prompt_template, std::string_view instruction,
                                 std::string_view input = {}) {
  if (prompt_template != PromptTemplate::alpaca) {
    return input.empty() ? std::string(instruction) : fmt::format("{}\n{}", instruction, input);
  }
  if (input.empty()) {
    return fmt::format(
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\n{}\n\n### Response:\n",
        instruction);
  }
  return fmt::format(
      "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
      "response that appropriately completes the request.\n\n### Instruction:\n{}\n\n### Input:\n{}\n\n### Response:\n",
      instruction, input);
}

}  // namespace reft
