#pragma once

#include <torch/types.h>

#include <string_view>

#include "reft/intervention/intervention.hpp"
#include "reft/intervention/options.hpp"
#include "reft/intervention/state.hpp"

namespace reft {

struct ActivationAdditionOptions {
  torch::Tensor vector = {};             ///< v (D), as of `diff_mean`; kept with the tensors of an adapter, not in its JSON
  double alpha = 1.0;                    ///< α, in units of v's own length
  torch::Dtype dtype = torch::kFloat32;  ///< of v and the maths: float32 or float64
};

/// h' = h + α v,   v (D) given, nothing trained.
///
/// Steering with a constant vector: a difference of activations of two prompts, or of the means of many (DiffMean).
/// Ref: Turner et al. 2023, arXiv:2308.10248. pyvene's AdditionIntervention with α v as its source representation.
class ActivationAddition : public InterventionBase {
 public:
  using Options = ActivationAdditionOptions;
  static constexpr std::string_view kTypeName = "activation_addition";

  /// @throws ShapeError if v is not (D); ConfigError for a dtype other than float32 and float64.
  explicit ActivationAddition(int64_t hidden_size, const Options& options = {})
      : hidden_size_(hidden_size),
        alpha_(options.alpha),
        dtype_(options.dtype),
        vector_(*this, kTypeName, "vector", {hidden_size}, options.dtype, options.vector) {
    check_parameter_dtype(kTypeName, options.dtype);
  }

  /// @throws ConfigError for an unknown option.
  static Options parse_options(const nlohmann::json& json) {
    Options options;
    read_options(kTypeName, json, {{"alpha", into(options.alpha)}, {"dtype", into(options.dtype)}});
    return options;
  }

  /// @throws ConfigError if no vector was given.
  torch::Tensor forward(const torch::Tensor& h) override {
    check_width(kTypeName, h, hidden_size_);
    return torch::add(h, vector_.value(), alpha_);
  }

  double alpha() const { return alpha_; }
  void set_alpha(double alpha) { alpha_ = alpha; }

  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override { return {{"alpha", alpha_}, {"dtype", parameter_dtype_name(dtype_)}}; }
  NamedTensors state() const override { return vector_.state(); }
  void load_state(const NamedTensors& tensors) override { vector_.load_state(tensors); }

 private:
  int64_t hidden_size_;
  double alpha_;
  torch::Dtype dtype_;
  Constant vector_;
};

}  // namespace reft
