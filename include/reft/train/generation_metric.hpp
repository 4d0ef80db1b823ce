#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/generate/generate.hpp"
#include "reft/train/evaluation.hpp"

namespace reft {

/// How well an answer fits what was expected, 0 to 1. A user's own scorer is one such function.
using Scorer = std::function<double(std::string_view answer, std::string_view expected)>;

namespace detail {

inline std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const auto first = text.find_first_not_of(kBlanks);
  return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

}  // namespace detail

/// 1 if both are the same text but for white space around them, else 0.
inline double exact_match(std::string_view answer, std::string_view expected) {
  return detail::without_blanks(answer) == detail::without_blanks(expected) ? 1.0 : 0.0;
}

/// 1 if the expected text stands somewhere in the answer, else 0.
inline double contains_match(std::string_view answer, std::string_view expected) {
  return answer.find(detail::without_blanks(expected)) != std::string_view::npos ? 1.0 : 0.0;
}

struct GenerationMetricOptions {
  int64_t max_new_tokens = 64;
  int64_t batch_size = 8;  ///< prompts of one call of `generate`
};

/// The mean score of greedy answers. The prompt of an example is its first prompt_length tokens; what is expected are the
/// supervised tokens behind them, but the end token.
/// @param decode    ids to text, without special tokens.
/// @param examples  must outlive the metric.   @throws DataError, when asked, for no examples.
inline Metric<CausalLM> generation_metric(const ExampleSource& examples, std::function<std::string(std::span<const int64_t>)> decode,
                                          Scorer scorer, GenerationMetricOptions options = {}) {
  return [&examples, decode = std::move(decode), scorer = std::move(scorer), options](ReftModel<CausalLM>& model) {
    if (examples.size() == 0) fail<DataError>("generation_metric", "expected at least one example, got none");
    const detail::Evaluating evaluating(model);
    double sum = 0.0;
    for (int64_t first = 0; first < examples.size(); first += options.batch_size) {
      std::vector<std::vector<int64_t>> prompts, expected;
      for (const Example& example : detail::examples_from(examples, first, options.batch_size)) {
        const auto prompt_end = example.input_ids.begin() + example.prompt_length;
        prompts.emplace_back(example.input_ids.begin(), prompt_end);
        auto& answer = expected.emplace_back();
        for (std::size_t i = static_cast<std::size_t>(example.prompt_length); i < example.labels.size(); ++i) {
          if (example.labels[i] != kIgnoredLabel) answer.push_back(example.labels[i]);
        }
      }
      const auto answers = generate(model, prompts, {.max_new_tokens = options.max_new_tokens});
      for (std::size_t i = 0; i < answers.size(); ++i) sum += scorer(decode(answers[i].tokens), decode(expected[i]));
    }
    return sum / static_cast<double>(examples.size());
  };
}

}  // namespace reft
