#pragma once

#include <torch/types.h>

#include <string_view>

#include "reft/intervention/intervention.hpp"
#include "reft/intervention/options.hpp"
#include "reft/intervention/state.hpp"

namespace reft {

struct REDOptions {
  torch::Dtype dtype = torch::kFloat32;  ///< of the parameters and the maths: float32 or float64
};

/// h' = s ⊙ h + b,   s (D), b (D); starts as the identity, s = 1, b = 0.
///
/// Representation editing: a scale and a shift of every coordinate. Neither decays, since a decaying s would pull the
/// hidden state itself to zero.
/// Ref: Wu et al. 2024, arXiv:2402.15179; there at all positions and layers. ReFT's paper, appendix B.
class RED : public InterventionBase {
 public:
  using Options = REDOptions;
  static constexpr std::string_view kTypeName = "red";

  /// @throws ConfigError for a dtype other than float32 and float64.
  explicit RED(int64_t hidden_size, const Options& options = {}) : hidden_size_(hidden_size), options_(options) {
    check_parameter_dtype(kTypeName, options.dtype);
    s_ = register_parameter("s", torch::ones({hidden_size}, options.dtype));
    b_ = register_parameter("b", torch::zeros({hidden_size}, options.dtype));
  }

  /// @throws ConfigError for an unknown option.
  static Options parse_options(const nlohmann::json& json) {
    Options options;
    read_options(kTypeName, json, {{"dtype", into(options.dtype)}});
    return options;
  }

  torch::Tensor forward(const torch::Tensor& h) override {
    check_width(kTypeName, h, hidden_size_);
    return torch::addcmul(b_, h, s_);
  }

  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override { return {{"dtype", parameter_dtype_name(options_.dtype)}}; }
  NamedTensors state() const override { return {{"s", s_.detach()}, {"b", b_.detach()}}; }

  void load_state(const NamedTensors& tensors) override {
    check_state(kTypeName, {{"s", {hidden_size_}}, {"b", {hidden_size_}}}, tensors);
    torch::NoGradGuard no_grad;
    s_.copy_(tensors.at("s"));
    b_.copy_(tensors.at("b"));
  }

  bool decays(std::string_view /*parameter_name*/) const override { return false; }

 private:
  int64_t hidden_size_;
  Options options_;
  torch::Tensor s_, b_;  // (D)
};

}  // namespace reft
