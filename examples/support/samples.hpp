#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reft/data/example.hpp"
#include "reft/data/prompt_template.hpp"
#include "reft/generate/generate_text.hpp"
#include "reft/tokenizer/tokenizer.hpp"

namespace reft::program {

/// A prompt to look at: what a reader sees of it, what the model reads, and the answer of the data.
struct Question {
  std::string shown, prompt, expected;
  bool is_chat = false;  // the prompt is the user's message
};

/// The rows that are text, at most `count` of them, from all over the list.
inline std::vector<Question> questions_of(const std::vector<RawExample>& rows, PromptTemplate prompt_template, size_t count) {
  std::vector<Question> questions;
  for (const RawExample& row : rows) {
    if (const auto* text = std::get_if<TextExample>(&row)) {
      questions.push_back({text->instruction + (text->input.empty() ? "" : "  [" + text->input + "]"),
                           render_prompt(prompt_template, text->instruction, text->input), text->output,
                           prompt_template == PromptTemplate::chat});
    } else if (const auto* pair = std::get_if<PromptExample>(&row)) {
      questions.push_back({pair->prompt, pair->prompt, pair->completion});
    }
  }
  if (questions.size() <= count) return questions;
  std::vector<Question> chosen;
  for (size_t i = 0; i < count; ++i) chosen.push_back(std::move(questions[i * questions.size() / count]));
  return chosen;
}

inline std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? "" : std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

/// Answers to tokenized prompts, without white space around them.
template <class Base>
std::vector<std::string> answers(ReftModel<Base>& model, const Tokenizer& tokenizer, std::span<const std::vector<int64_t>> prompts,
                                 const GenerateOptions& options) {
  std::vector<std::string> texts;
  constexpr size_t kBatch = 50;
  for (size_t first = 0; first < prompts.size(); first += kBatch) {
    const auto batch = prompts.subspan(first, std::min(kBatch, prompts.size() - first));
    for (const Continuation& continuation : generate(model, std::vector(batch.begin(), batch.end()), options)) {
      texts.push_back(trimmed(tokenizer.decode(continuation.tokens)));
    }
  }
  return texts;
}

template <class Base>
std::vector<std::string> answers(ReftModel<Base>& model, const Tokenizer& tokenizer, const std::vector<Question>& questions,
                                 const GenerateOptions& options) {
  std::vector<std::vector<int64_t>> prompts;
  for (const Question& question : questions) {
    prompts.push_back(prompt_tokens(tokenizer, question.is_chat ? PromptTemplate::chat : PromptTemplate::none, question.prompt));
  }
  return answers(model, tokenizer, std::span<const std::vector<int64_t>>(prompts), options);
}

/// The share of answers that are the expected ones.
inline double exact_match(const std::vector<std::string>& texts, const std::vector<Question>& questions) {
  int64_t hits = 0;
  for (size_t i = 0; i < texts.size(); ++i) hits += texts[i] == trimmed(questions[i].expected);
  return static_cast<double>(hits) / static_cast<double>(texts.size());
}

}  // namespace reft::program
