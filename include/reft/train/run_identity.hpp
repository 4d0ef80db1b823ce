#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "reft/data/example_source.hpp"
#include "reft/reft_model.hpp"
#include "reft/train/schedule.hpp"
#include "reft/train/trainer_options.hpp"

namespace reft {

namespace detail {

/// Tells one data set from another by its first rows.
inline std::size_t hash_of_first(const ExampleSource& examples) {
  std::string text;
  for (int64_t i = 0; i < std::min<int64_t>(examples.size(), 8); ++i) {
    for (const Example& example : examples.sequences(i)) text += fmt::format("{} {}\n", fmt::join(example.input_ids, " "), example.prompt_length);
  }
  return std::hash<std::string>{}(text);
}

}  // namespace detail

/// What makes a training run this one: a checkpoint is gone on from only by the same run, and all ranks must be of one.
template <HookedTransformer Base>
nlohmann::json run_identity(const ReftModel<Base>& model, const TrainerOptions& options, const ExampleSource& examples) {
  std::vector<std::string> attachments;
  for (const Attachment& attachment : model.interventions().attachments()) {
    std::string sites;
    for (const Site& site : attachment.sites) sites += to_string(site) + " ";
    attachments.push_back(fmt::format("{}{} {} {} {}", sites, attachment.intervention->type(), attachment.positions.text(),
                                      attachment.phase.text(), attachment.intervention->options().dump()));
  }
  std::vector<double> scales;
  for (const auto& intervention : model.interventions().interventions()) scales.push_back(intervention->learning_rate_scale());
  const bool alike = std::all_of(scales.begin(), scales.end(), [](double scale) { return scale == 1.0; });
  return {{"examples", examples.size()},
          {"first_examples", detail::hash_of_first(examples)},
          {"interventions", attachments},
          {"seed", options.seed},
          {"learning_rate_scales", alike ? nlohmann::json() : nlohmann::json(scales)},
          {"head_learning_rate_scale", model.head() ? nlohmann::json(model.head()->learning_rate_scale) : nlohmann::json()},
          {"epochs", options.epochs},
          {"max_steps", options.max_steps ? nlohmann::json(*options.max_steps) : nlohmann::json()},
          {"batch_size", options.batch_size},
          {"accumulate", options.accumulate},
          {"learning_rate", options.learning_rate},
          {"schedule", to_string(options.schedule)},
          {"warmup_ratio", options.warmup_ratio},
          {"weight_decay", options.weight_decay},
          {"max_gradient_norm", options.max_gradient_norm},
          {"shuffle", options.shuffle},
          {"mixture", options.mixture.weights},
          {"evaluate_every", options.evaluate_every},
          {"metric_for_best", options.metric_for_best},
          {"patience", options.patience}};
}

/// The values of all that is trained, one after the other.
template <HookedTransformer Base>
std::string parameter_bytes(const ReftModel<Base>& model) {
  std::string bytes;
  for (const torch::Tensor& parameter : model.parameters()) {
    const torch::Tensor values = parameter.detach().cpu().contiguous();
    bytes.append(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
  }
  return bytes;
}

}  // namespace reft
