#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "reft/data/batch.hpp"
#include "reft/data/example_source.hpp"
#include "reft/train/objective.hpp"

namespace reft {

/// A number that says how good a model is, asked for at evaluations.
template <class Base>
using Metric = std::function<double(ReftModel<Base>& model)>;

namespace detail {

/// Evaluation mode and no gradients, as long as it lives.
template <class Base>
class Evaluating {
 public:
  explicit Evaluating(ReftModel<Base>& model) : model_(model), was_training_(model.is_training()) { model_.eval(); }
  Evaluating(const Evaluating&) = delete;
  Evaluating& operator=(const Evaluating&) = delete;
  ~Evaluating() { model_.train(was_training_); }

 private:
  torch::NoGradGuard no_grad_;
  ReftModel<Base>& model_;
  bool was_training_;
};

inline std::vector<Example> examples_from(const ExampleSource& source, int64_t first, int64_t count) {
  std::vector<Example> examples;
  for (int64_t i = first; i < std::min(first + count, source.size()); ++i) {
    for (Example& example : source.sequences(i)) examples.push_back(std::move(example));
  }
  return examples;
}

inline RaggedBatch collate(const std::vector<Example>& examples, torch::Device device) {
  std::vector<const Example*> pointers;
  for (const Example& example : examples) pointers.push_back(&example);
  return reft::collate(pointers, device);
}

}  // namespace detail

/// "loss" and the objective's metrics, as means over the terms of `examples`, in evaluation mode and without gradients.
/// @throws DataError for no examples.
template <class Base>
std::map<std::string, double> evaluate_objective(ReftModel<Base>& model, const ExampleSource& examples, int64_t batch_size,
                                                 const Objective<Base>& objective) {
  const detail::Evaluating evaluating(model);
  std::map<std::string, double> means;
  int64_t count = 0;
  for (int64_t first = 0; first < examples.size(); first += batch_size) {
    const RaggedBatch batch = detail::collate(detail::examples_from(examples, first, batch_size), model.device());
    const BatchLoss loss = objective(model, batch);
    means["loss"] += loss.sum.item<double>();
    for (const auto& [name, sum] : loss.metrics) means[name] += sum.template item<double>();
    count += loss.terms_in(batch);
  }
  if (count == 0) fail<DataError>("evaluate_loss", "expected at least one supervised token, got none");
  for (auto& [name, value] : means) value /= static_cast<double>(count);
  return means;
}

/// The "loss" of `evaluate_objective`.
template <class Base>
double evaluate_loss(ReftModel<Base>& model, const ExampleSource& examples, int64_t batch_size, const Objective<Base>& objective) {
  return evaluate_objective(model, examples, batch_size, objective).at("loss");
}

template <class Base>
double evaluate_loss(ReftModel<Base>& model, const std::vector<Example>& examples, int64_t batch_size, const Objective<Base>& objective) {
  return evaluate_loss(model, ListedExamples(examples), batch_size, objective);
}

}  // namespace reft
