#pragma once

#include <torch/types.h>

#include <cmath>

namespace reft::test {

/// max |a − b| / max |b|, in float64: one tolerance then serves tensors of any scale.
inline double relative_distance(const torch::Tensor& a, const torch::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const torch::Tensor wide = b.detach().to(torch::kFloat64);
  const double scale = wide.numel() == 0 ? 0.0 : wide.abs().max().item<double>();
  const double difference = wide.numel() == 0 ? 0.0 : (a.detach().to(torch::kFloat64) - wide).abs().max().item<double>();
  return scale > 0.0 ? difference / scale : difference;
}

/// Half a unit in the last place of numbers near 1, times four: what two roundings in different order may differ by.
inline double tolerance(torch::Dtype dtype) {
  switch (dtype) {
    case torch::kBFloat16: return 0x1p-7;
    case torch::kFloat16: return 0x1p-10;
    case torch::kFloat64: return 1e-12;
    default: return 1e-5;  // float32 sums over some hundred terms
  }
}

}  // namespace reft::test
