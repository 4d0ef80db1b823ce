#pragma once

#include <ATen/ops/_weight_int8pack_mm.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <optional>
#include <string_view>

#include "reft/error.hpp"
#include "reft/tensor/checks.hpp"

namespace reft {

/// How a frozen weight is kept: as it is, with 8 bits and a scale for each row, or with 4 bits and a scale for 64 weights.
enum class Quantization { none, int8, nf4 };

inline std::string_view to_string(Quantization kind) {
  return kind == Quantization::int8 ? "int8" : kind == Quantization::nf4 ? "nf4" : "none";
}

/// @throws ConfigError for other names.
inline Quantization parse_quantization(std::string_view name) {
  for (const Quantization kind : {Quantization::none, Quantization::int8, Quantization::nf4}) {
    if (name == to_string(kind)) return kind;
  }
  fail<ConfigError>("parse_quantization", "\"{}\": expected none, int8 or nf4", name);
}

/// A matrix W (O, C) in fewer bits.
///   int8:  W[o, c] ≈ s[o] · q,         s[o] = max |W[o]| / 127
///   nf4:   W[o, c] ≈ s[k] · level[q],  s[k] = max |W| in a block of 64 weights that follow each other
/// The levels are those of NF4: Dettmers et al. 2023, arXiv:2305.14314, appendix E.
struct QuantizedMatrix {
  Quantization kind = Quantization::none;
  torch::Tensor codes;   // int8 (O, C), or uint8 (O·C / 2): two 4-bit codes a byte, the first in the upper half
  torch::Tensor scales;  // float32 (O), or (O·C / 64), the last block filled up with zeros
  int64_t rows = 0, columns = 0;

  int64_t num_bytes() const { return static_cast<int64_t>(codes.nbytes() + scales.nbytes()); }
};

namespace detail {

constexpr int64_t kNf4Block = 64;

inline torch::Tensor nf4_levels(torch::Device device) {
  static const torch::Tensor levels = torch::tensor(
      {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
       -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
       0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f});
  return levels.to(device);
}

// Where there was nothing but zeros, any scale will do.
inline torch::Tensor without_zeros(const torch::Tensor& scales) { return scales.masked_fill(scales == 0.0, 1.0); }

}  // namespace detail

/// @param weight  (O, C), any float dtype.   @param kind  int8 or nf4.
inline QuantizedMatrix quantize(const torch::Tensor& weight, Quantization kind) {
  check_shape("quantize", "weight", weight, {-1, -1});
  QuantizedMatrix matrix{.kind = kind, .rows = weight.size(0), .columns = weight.size(1)};
  const torch::Tensor wide = weight.detach().to(torch::kFloat32);
  if (kind == Quantization::int8) {
    matrix.scales = detail::without_zeros(wide.abs().amax(1) / 127.0);
    matrix.codes = (wide / matrix.scales.unsqueeze(1)).round().to(torch::kInt8);
    return matrix;
  }
  if (kind != Quantization::nf4) fail<ConfigError>("quantize", "expected int8 or nf4, got {}", to_string(kind));
  const int64_t missing = (detail::kNf4Block - wide.numel() % detail::kNf4Block) % detail::kNf4Block;
  const torch::Tensor blocks = at::constant_pad_nd(wide.flatten(), {0, missing}).view({-1, detail::kNf4Block});
  matrix.scales = detail::without_zeros(blocks.abs().amax(1));
  const torch::Tensor levels = detail::nf4_levels(weight.device());
  const torch::Tensor halfway = (levels.narrow(0, 1, 15) + levels.narrow(0, 0, 15)) / 2.0;
  const torch::Tensor pairs = at::bucketize(blocks / matrix.scales.unsqueeze(1), halfway).to(torch::kUInt8).view({-1, 2});
  matrix.codes = pairs.select(1, 0) * 16 + pairs.select(1, 1);
  return matrix;
}

/// @return (O, C) the values that are computed with.
inline torch::Tensor dequantize(const QuantizedMatrix& matrix, torch::Dtype dtype) {
  if (matrix.kind == Quantization::int8) return (matrix.codes * matrix.scales.unsqueeze(1)).to(dtype);
  // A byte is looked up whole: a table of 256 pairs of levels.
  const torch::Tensor levels = detail::nf4_levels(matrix.codes.device());
  const torch::Tensor pairs = torch::stack({levels.repeat_interleave(16), levels.repeat(16)}, 1);  // (256, 2)
  const torch::Tensor values = pairs.index_select(0, matrix.codes.to(torch::kInt32)).view({-1, detail::kNf4Block});
  return (values * matrix.scales.unsqueeze(1)).flatten().narrow(0, 0, matrix.rows * matrix.columns).view({matrix.rows, matrix.columns}).to(dtype);
}

namespace detail {

// The matrix is made anew in backward, so that a graph does not hold it in full.
class QuantizedLinear : public torch::autograd::Function<QuantizedLinear> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x, const QuantizedMatrix& weight,
                               const std::optional<torch::Tensor>& bias) {
    ctx->saved_data["kind"] = static_cast<int64_t>(weight.kind);
    ctx->saved_data["codes"] = weight.codes;
    ctx->saved_data["scales"] = weight.scales;
    ctx->saved_data["shape"] = std::vector<int64_t>{weight.rows, weight.columns};
    return at::linear(x, dequantize(weight, x.scalar_type()), bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& gradients) {
    const std::vector<int64_t> shape = ctx->saved_data["shape"].toIntVector();
    const QuantizedMatrix weight{static_cast<Quantization>(ctx->saved_data["kind"].toInt()), ctx->saved_data["codes"].toTensor(),
                                 ctx->saved_data["scales"].toTensor(), shape[0], shape[1]};
    return {gradients[0].matmul(dequantize(weight, gradients[0].scalar_type())), {}, {}};
  }
};

// A few rows in bfloat16 on a CPU are multiplied with the codes themselves: what decoding waits for is reading the weights.
inline bool multiplies_codes(const torch::Tensor& x, const QuantizedMatrix& weight) {
  constexpr int64_t kFewRows = 16;
  return weight.kind == Quantization::int8 && x.is_cpu() && x.scalar_type() == torch::kBFloat16 && x.size(0) <= kFewRows;
}

}  // namespace detail

/// x Wᵀ + b;   `at::linear(x, dequantize(weight), bias)` is the reference.
/// @param x  (N, C).   @param bias  (O) or undefined.   @return (N, O), dtype of x.
inline torch::Tensor quantized_linear(const torch::Tensor& x, const QuantizedMatrix& weight, const torch::Tensor& bias = {}) {
  if (needs_graph(x)) return detail::QuantizedLinear::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
  if (!detail::multiplies_codes(x, weight)) return at::linear(x, dequantize(weight, x.scalar_type()), bias);
  const torch::Tensor product = at::_weight_int8pack_mm(x.contiguous(), weight.codes, weight.scales.to(torch::kBFloat16));
  return bias.defined() ? product + bias : product;
}

}  // namespace reft
