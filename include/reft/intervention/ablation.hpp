#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <optional>
#include <string_view>
#include <vector>

#include "reft/intervention/intervention.hpp"
#include "reft/intervention/options.hpp"
#include "reft/intervention/projection.hpp"
#include "reft/intervention/state.hpp"

namespace reft {

// Interventions that take information out of a hidden state, to see what depended on it. Nothing is trained.

struct ZeroAblationOptions {
  torch::Tensor R = {};                  ///< (r, D) orthonormal rows: the subspace to empty; none = all of h
  int64_t rank = 0;                      ///< r, when R is still to be read from an adapter
  torch::Dtype dtype = torch::kFloat32;  ///< of R and the maths: float32 or float64
};

/// h' = 0,   or   h' = h − RᵀR h where a subspace is given (r = 1: the ablation of one direction).
/// Ref: pyvene's ZeroIntervention; Arditi et al. 2024, arXiv:2406.11717, for one direction.
class ZeroAblation : public InterventionBase {
 public:
  using Options = ZeroAblationOptions;
  static constexpr std::string_view kTypeName = "zero_ablation";

  /// @throws ShapeError if R is not (r, D); ConfigError if its rows are not orthonormal, or for a dtype other than
  ///   float32 and float64.
  explicit ZeroAblation(int64_t hidden_size, const Options& options = {})
      : hidden_size_(hidden_size), rank_(options.R.defined() ? options.R.size(0) : options.rank), dtype_(options.dtype) {
    check_parameter_dtype(kTypeName, dtype_);
    if (rank_ < 0 || rank_ > hidden_size) {
      fail<ConfigError>(kTypeName, "expected a rank in 0..{} (the hidden size), got {}", hidden_size, rank_);
    }
    if (rank_ > 0) R_.emplace(*this, kTypeName, "R", std::vector<int64_t>{rank_, hidden_size}, dtype_, options.R);
    if (options.R.defined()) check_orthonormal<ConfigError>(kTypeName, options.R);
  }

  /// @throws ConfigError for an unknown option.
  static Options parse_options(const nlohmann::json& json) {
    Options options;
    read_options(kTypeName, json, {{"rank", into(options.rank)}, {"dtype", into(options.dtype)}});
    return options;
  }

  torch::Tensor forward(const torch::Tensor& h) override {
    check_width(kTypeName, h, hidden_size_);
    if (!R_) return torch::zeros_like(h);
    const torch::Tensor& R = R_->value();
    return h - at::linear(h, R).matmul(R);
  }

  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override { return {{"rank", rank_}, {"dtype", parameter_dtype_name(dtype_)}}; }
  NamedTensors state() const override { return R_ ? R_->state() : NamedTensors{}; }

  void load_state(const NamedTensors& tensors) override {
    if (!R_) return check_state(kTypeName, {}, tensors);
    if (tensors.contains("R")) check_orthonormal(kTypeName, tensors.at("R"));
    R_->load_state(tensors);
  }

 private:
  int64_t hidden_size_, rank_;
  torch::Dtype dtype_;
  std::optional<Constant> R_;
};

struct MeanAblationOptions {
  torch::Tensor mean = {};               ///< μ (D), as of `mean_activation`; kept with the tensors of an adapter
  torch::Dtype dtype = torch::kFloat32;  ///< of μ and the maths: float32 or float64
};

/// h' = μ,   μ (D) the mean of activations over some data.
/// Ref: Wang et al. 2022, arXiv:2211.00593. pyvene's VanillaIntervention with μ as its source representation.
class MeanAblation : public InterventionBase {
 public:
  using Options = MeanAblationOptions;
  static constexpr std::string_view kTypeName = "mean_ablation";

  /// @throws ShapeError if μ is not (D); ConfigError for a dtype other than float32 and float64.
  explicit MeanAblation(int64_t hidden_size, const Options& options = {})
      : hidden_size_(hidden_size),
        dtype_(options.dtype),
        mean_(*this, kTypeName, "mean", {hidden_size}, options.dtype, options.mean) {
    check_parameter_dtype(kTypeName, dtype_);
  }

  /// @throws ConfigError for an unknown option.
  static Options parse_options(const nlohmann::json& json) {
    Options options;
    read_options(kTypeName, json, {{"dtype", into(options.dtype)}});
    return options;
  }

  /// @throws ConfigError if no mean was given.
  torch::Tensor forward(const torch::Tensor& h) override {
    check_width(kTypeName, h, hidden_size_);
    return mean_.value().expand_as(h);
  }

  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override { return {{"dtype", parameter_dtype_name(dtype_)}}; }
  NamedTensors state() const override { return mean_.state(); }
  void load_state(const NamedTensors& tensors) override { mean_.load_state(tensors); }

 private:
  int64_t hidden_size_;
  torch::Dtype dtype_;
  Constant mean_;
};

struct NoiseAblationOptions {
  double sigma = 0.13462981581687927;  ///< standard deviation of the noise; pyvene's default
  uint64_t seed = 1;
};

/// h' = h + σ ε,   ε ~ N(0, I).
///
/// The noise of a token is a function of the seed and of its place in the sequence alone: the same in every forward,
/// for every sequence, on every device, whatever else is in the batch. pyvene's NoiseIntervention too gives all
/// sequences one noise, drawn once by NumPy for exactly four positions; its numbers are others.
/// Ref: Meng et al. 2022, arXiv:2202.05262 (causal tracing).
class NoiseAblation : public InterventionBase {
 public:
  using Options = NoiseAblationOptions;
  static constexpr std::string_view kTypeName = "noise_ablation";

  /// @throws ConfigError for σ < 0.
  explicit NoiseAblation(int64_t hidden_size, const Options& options = {}) : hidden_size_(hidden_size), options_(options) {
    if (!(options.sigma >= 0.0)) fail<ConfigError>(kTypeName, "expected sigma >= 0, got {}", options.sigma);
  }

  /// @throws ConfigError for an unknown option.
  static Options parse_options(const nlohmann::json& json) {
    Options options;
    read_options(kTypeName, json, {{"sigma", into(options.sigma)}, {"seed", into(options.seed)}});
    return options;
  }

  /// Takes the rows for the tokens 0, 1, … of one sequence.
  torch::Tensor forward(const torch::Tensor& h) override {
    RowContext rows;
    for (int64_t i = 0; i < h.size(0); ++i) rows.positions.push_back(i);
    return edit(h, rows);
  }

  torch::Tensor edit(const torch::Tensor& h, const RowContext& rows) override {
    check_width(kTypeName, h, hidden_size_);
    std::vector<torch::Tensor> noise;
    for (const int64_t position : rows.positions) noise.push_back(epsilon(position));
    return torch::add(h, torch::stack(noise).to(h.options().requires_grad(false)), options_.sigma);
  }

  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override { return {{"sigma", options_.sigma}, {"seed", options_.seed}}; }
  NamedTensors state() const override { return {}; }
  void load_state(const NamedTensors& tensors) override { check_state(kTypeName, {}, tensors); }

 private:
  // A generator of its own for every place: an edit of token 4000 need not draw the noise of those before it.
  torch::Tensor epsilon(int64_t position) const {
    constexpr uint64_t kStride = 0x9E3779B9;  // odd: no two of 2³² places share a seed, and one seed's are not the next one's
    at::Generator generator = at::detail::createCPUGenerator(options_.seed + kStride * static_cast<uint64_t>(position));
    return torch::randn({hidden_size_}, generator);
  }

  int64_t hidden_size_;
  Options options_;
};

}  // namespace reft
