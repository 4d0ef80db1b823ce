#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include "reft/tensor/frozen_linear.hpp"
#include "reft/tensor/quantized_linear.hpp"

namespace reft {

/// x Wᵀ + b, W as floats, or in fewer bits once it is quantized.
class Linear : public torch::nn::Module {
 public:
  Linear(int64_t in, int64_t out, bool has_bias, torch::TensorOptions options) {
    weight_ = register_parameter("weight", torch::empty({out, in}, options));
    if (has_bias) bias_ = register_parameter("bias", torch::empty({out}, options));
  }

  /// (O, C).   @throws ConfigError once it is quantized.
  const torch::Tensor& weight() const {
    if (is_quantized()) fail<ConfigError>("Linear", "expected a weight of floats, got one in {}", to_string(matrix_.kind));
    return weight_;
  }
  const torch::Tensor& bias() const { return bias_; }  ///< (O), or undefined

  /// @param x  (N, C).   @return (N, O).
  torch::Tensor forward(const torch::Tensor& x) const {
    return is_quantized() ? quantized_linear(x, matrix_, bias_) : frozen_linear(x, weight_, bias_);
  }

  bool is_quantized() const { return matrix_.kind != Quantization::none; }

  /// Keeps the weight in fewer bits from now on; it cannot be trained then.   @param kind  int8 or nf4.
  void quantize(Quantization kind) {
    matrix_ = reft::quantize(weight(), kind);
    weight_.set_data(torch::zeros({1}, weight_.options()).expand({matrix_.rows, matrix_.columns}));  // a shape without memory
  }

 private:
  torch::Tensor weight_, bias_;  // (O, C), (O) or undefined
  QuantizedMatrix matrix_;       // in place of the weight
};

}  // namespace reft
