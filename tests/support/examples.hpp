#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "reft/data/example.hpp"
#include "reft/train/callback.hpp"

namespace reft::test {

/// `count` sequences of 5 to 8 tokens below 50, whose answers follow from their prompts of 3.
inline std::vector<Example> some_examples(int64_t count) {
  std::vector<Example> examples;
  for (int64_t i = 0; i < count; ++i) {
    Example example;
    const int64_t length = 5 + i % 4;
    for (int64_t j = 0; j < length; ++j) example.input_ids.push_back((7 * i + 3 * j) % 50);
    example.labels = example.input_ids;
    example.prompt_length = 3;
    std::fill_n(example.labels.begin(), 3, kIgnoredLabel);
    examples.push_back(std::move(example));
  }
  return examples;
}

/// Notes the loss of every step.
class LossRecorder : public Callback {
 public:
  void on_step(const StepReport& report) override { losses.push_back(report.loss); }
  std::vector<double> losses;
};

/// max |a − b|; infinite for runs of different lengths.
inline double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0.0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace reft::test
