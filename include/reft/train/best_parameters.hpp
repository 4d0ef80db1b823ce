#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "reft/train/training_state.hpp"

namespace reft {

/// Remembers the parameters of the evaluation whose metric was best: the smallest where lower is better, else the largest.
/// Of equal ones the first stands; a value that is not finite is never the best.
class BestParameters {
 public:
  BestParameters(std::string metric, bool lower_is_better) : metric_(std::move(metric)), lower_is_better_(lower_is_better) {}

  const std::string& metric() const { return metric_; }
  bool is_set() const { return !tensors_.empty(); }
  double value() const { return value_; }
  int64_t step() const { return step_; }
  int64_t evaluations_since() const { return evaluations_since_; }

  /// Told of every evaluation; copies the parameters if it is the best so far.
  void consider(double value, int64_t step, const torch::nn::Module& module) {
    const bool better = std::isfinite(value) && (!is_set() || (lower_is_better_ ? value < value_ : value > value_));
    if (!better) {
      ++evaluations_since_;
      return;
    }
    value_ = value;
    step_ = step;
    evaluations_since_ = 0;
    for (const auto& item : module.named_parameters()) tensors_[item.key()] = item.value().detach().clone();
  }

  /// Puts the best parameters back.
  void apply(torch::nn::Module& module) const {
    torch::NoGradGuard no_grad;
    for (auto& item : module.named_parameters()) item.value().copy_(tensors_.at(item.key()));
  }

  /// Adds what a resumed run needs.
  void capture(TrainingState& state) const {
    if (!is_set() && evaluations_since_ == 0) return;
    state.progress["best"] = {{"metric", metric_}, {"value", value_}, {"step", step_}, {"evaluations_since", evaluations_since_}};
    for (const auto& [name, tensor] : tensors_) state.tensors["best." + name] = tensor;
  }

  /// The reverse of `capture`.   @throws nlohmann::json::exception for a state of another form.
  void restore(const TrainingState& state, torch::Device device) {
    const auto best = state.progress.find("best");
    if (best == state.progress.end() || best->at("metric") != metric_) return;
    best->at("value").get_to(value_);
    best->at("step").get_to(step_);
    best->at("evaluations_since").get_to(evaluations_since_);
    for (auto found = state.tensors.lower_bound("best."); found != state.tensors.end() && found->first.starts_with("best."); ++found) {
      tensors_[found->first.substr(5)] = found->second.to(device);
    }
  }

 private:
  std::string metric_;
  bool lower_is_better_;
  double value_ = 0.0;
  int64_t step_ = 0, evaluations_since_ = 0;
  std::map<std::string, torch::Tensor> tensors_;
};

}  // namespace reft
