#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <tuple>
#include <vector>

#include "reft/intervention/intervention.hpp"
#include "reft/intervention/options.hpp"
#include "reft/intervention/random_start.hpp"
#include "reft/intervention/state.hpp"

namespace reft {

struct ReFTr1Options {
  int64_t k = 8;                         ///< activations of a sequence that set the strength in training, >= 1
  double l1 = 0.005;                     ///< λ, the weight of the penalty on all other activations, >= 0
  double alpha = 1.0;                    ///< α, the strength in evaluation mode, in units of h
  torch::Dtype dtype = torch::kFloat32;  ///< of w and the maths: float32 or float64
};

/// One direction w (D), |w| = 1, that both detects a concept and steers towards it.
///   detection    ψ(h) = ReLU(h·w)
///   training     h' = h + mean(TopK(ψ(H))) w,   H the edited rows of h's sequence;   loss + λ Σ ψ(H) outside TopK(ψ(H))
///   evaluation   h' = h + α w
/// A sequence of fewer than k rows takes the mean over those it has. The penalty is a sum over rows, as the objective
/// is one over tokens; AxBench's code takes means of both and lets λ grow linearly from 0 over the run.
///
/// The parameter is w times any length: only its direction is read, so every optimizer keeps |w| = 1, and decay, which
/// would only change the size of the steps, leaves it alone.
/// Ref: Wu et al. 2025, arXiv:2501.17148, section 3 (ReFT-r1); AxBench's TopKReLUIntervention, whose detector has no bias.
class ReFTr1 : public InterventionBase {
 public:
  using Options = ReFTr1Options;
  static constexpr std::string_view kTypeName = "reft_r1";

  /// Starts at a uniformly random direction.   @throws ConfigError for k < 1, λ < 0, or a dtype other than float32 and
  /// float64.
  explicit ReFTr1(int64_t hidden_size, const Options& options = {}) : hidden_size_(hidden_size), options_(options) {
    check_parameter_dtype(kTypeName, options.dtype);
    if (options.k < 1) fail<ConfigError>(kTypeName, "expected k >= 1, got {}", options.k);
    if (!(options.l1 >= 0.0)) fail<ConfigError>(kTypeName, "expected l1 >= 0, got {}", options.l1);
    const torch::Tensor start = NoRandomStart::is_on() ? torch::ones({hidden_size}, options.dtype) : torch::randn({hidden_size}, options.dtype);
    w_ = register_parameter("w", start / start.norm());
  }

  /// @throws ConfigError for an unknown option.
  static Options parse_options(const nlohmann::json& json) {
    Options options;
    read_options(kTypeName, json,
                 {{"k", into(options.k)}, {"l1", into(options.l1)}, {"alpha", into(options.alpha)}, {"dtype", into(options.dtype)}});
    return options;
  }

  /// w (D), of length 1.
  torch::Tensor direction() const { return w_ / w_.norm(); }

  /// ψ(h): (P, D) to (P).
  torch::Tensor detect(const torch::Tensor& h) const {
    check_width(kTypeName, h, hidden_size_);
    return torch::relu(h.matmul(direction()));
  }

  /// Takes the rows for those of one sequence.
  torch::Tensor forward(const torch::Tensor& h) override { return edit(h, {}); }

  torch::Tensor edit(const torch::Tensor& h, const RowContext& rows) override {
    check_width(kTypeName, h, hidden_size_);
    if (!is_training()) return h + options_.alpha * direction();
    const Sequences sequences(rows, h);
    const torch::Tensor strength = top(sequences.by_sequence(detect(h))).sum(1) / sequences.counts.clamp_max(options_.k);  // (B)
    return h + strength.index_select(0, sequences.index).unsqueeze(1) * direction();
  }

  bool has_auxiliary_loss() const override { return is_training() && options_.l1 > 0.0; }

  torch::Tensor auxiliary_loss(const torch::Tensor& h, const RowContext& rows) override {
    const torch::Tensor activations = Sequences(rows, h).by_sequence(detect(h));
    return options_.l1 * (activations.sum() - top(activations).sum());
  }

  double alpha() const { return options_.alpha; }
  void set_alpha(double alpha) { options_.alpha = alpha; }

  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override {
    return {{"k", options_.k}, {"l1", options_.l1}, {"alpha", options_.alpha}, {"dtype", parameter_dtype_name(options_.dtype)}};
  }
  NamedTensors state() const override { return {{"w", direction().detach()}}; }

  void load_state(const NamedTensors& tensors) override {
    check_state(kTypeName, {{"w", {hidden_size_}}}, tensors);
    const auto length = tensors.at("w").norm().item<double>();
    if (!(length > 0.0 && std::isfinite(length))) fail<CheckpointError>(kTypeName, "tensor \"w\": expected a direction, got length {}", length);
    torch::NoGradGuard no_grad;
    w_.copy_(tensors.at("w"));
  }

  bool decays(std::string_view /*parameter_name*/) const override { return false; }

 private:
  /// How P rows lie in B sequences.
  struct Sequences {
    torch::Tensor index, place;  // (P) the sequence of a row, and which of its rows it is
    torch::Tensor counts;        // (B) rows of each, at least 1
    int64_t longest = 1;

    Sequences(const RowContext& rows, const torch::Tensor& h) {
      const std::vector<int64_t> sequences = rows.sequences.empty() ? std::vector<int64_t>(h.size(0), 0) : rows.sequences;
      std::vector<int64_t> places, filled(sequences.back() + 1, 0);
      for (const int64_t sequence : sequences) places.push_back(filled[sequence]++);
      for (int64_t& count : filled) longest = std::max(longest, count = std::max<int64_t>(count, 1));
      const auto to_device = [&](const std::vector<int64_t>& values) { return torch::tensor(values, torch::kInt64).to(h.device()); };
      index = to_device(sequences), place = to_device(places), counts = to_device(filled);
    }

    /// (P) to (B, longest), filled up by zeros, which neither a sum nor a largest of ψ >= 0 notices.
    torch::Tensor by_sequence(const torch::Tensor& activations) const {
      return torch::zeros({counts.size(0), longest}, activations.options().requires_grad(false)).index_put({index, place}, activations);
    }
  };

  torch::Tensor top(const torch::Tensor& activations) const {
    return std::get<0>(activations.topk(std::min(options_.k, activations.size(1)), 1));
  }

  int64_t hidden_size_;
  Options options_;
  torch::Tensor w_;  // (D)
};

}  // namespace reft
