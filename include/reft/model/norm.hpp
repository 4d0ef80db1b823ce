#pragma once

#include <ATen/ops/layer_norm.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "reft/model/transformer_config.hpp"
#include "reft/model/weights.hpp"
#include "reft/tensor/rms_norm.hpp"

namespace reft {

/// The normalization of a family over the last dimension, see `NormKind`.
class Norm : public torch::nn::Module {
 public:
  Norm(const TransformerConfig& config, int64_t width, torch::TensorOptions options)
      : kind_(config.norm), epsilon_(config.norm_eps) {
    weight_ = register_parameter("weight", torch::empty({width}, options));
    if (kind_ == NormKind::layer) bias_ = register_parameter("bias", torch::empty({width}, options));
  }

  int64_t width() const { return weight_.size(0); }
  bool is_trained() const { return weight_.requires_grad() || (bias_.defined() && bias_.requires_grad()); }

  /// @param x  (..., width).   @return like x.
  torch::Tensor forward(const torch::Tensor& x) const {
    switch (kind_) {
      case NormKind::rms: return rms_norm(x, weight_, epsilon_);
      case NormKind::layer: return at::layer_norm(x, {width()}, weight_, bias_, epsilon_);
      case NormKind::rms_offset: break;
    }
    // Rounded once, after the weight: Gemma differs from Llama in this too.
    const torch::Tensor wide = x.to(torch::promote_types(x.scalar_type(), torch::kFloat32));
    return rms_norm(wide, weight_.to(wide.scalar_type()) + 1.0, epsilon_).to(x.scalar_type());
  }

  void add_slots(std::vector<WeightSlot>& slots, const std::string& name) const {
    slots.emplace_back(name + ".weight", weight_);
    if (bias_.defined()) slots.emplace_back(name + ".bias", bias_);
  }

 private:
  NormKind kind_;
  double epsilon_;
  torch::Tensor weight_, bias_;  // (width), (width) or undefined
};

}  // namespace reft
