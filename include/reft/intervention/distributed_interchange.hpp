#pragma once

#include <torch/types.h>

#include <string_view>

#include "reft/intervention/interchange.hpp"
#include "reft/intervention/projection.hpp"

namespace reft {

struct DistributedInterchangeOptions {
  int64_t rank = 4;                      ///< r, in 1..D
  torch::Dtype dtype = torch::kFloat32;  ///< of R and the maths: float32 or float64
};

/// h' = h + Rᵀ(R s − R h),   R (r, D), R Rᵀ = I;   s (D) what a source run has in the same place.
///
/// Interchanges the content of a subspace. With R trained so that the outputs are those of a causal model's own
/// interchange, this is distributed alignment search (DAS). Gradients reach R and h; the source run is a constant. Row
/// scales of 0 and 1 choose rows of R for each sequence, as pyvene's `subspaces` do.
/// Ref: Geiger et al. 2023, arXiv:2303.02536; ReFT's paper, eq. 1; pyvene's LowRankRotatedSpaceIntervention.
class DistributedInterchange : public InterventionBase {
 public:
  using Options = DistributedInterchangeOptions;
  static constexpr std::string_view kTypeName = "das";

  /// Starts at a uniformly random subspace.   @throws ConfigError for a rank outside 1..D, or a dtype other than
  /// float32 and float64.
  explicit DistributedInterchange(int64_t hidden_size, const Options& options = {})
      : hidden_size_(hidden_size), options_(checked(options)), projection_(*this, options.rank, hidden_size, options.dtype) {}

  /// @throws ConfigError for an unknown option.
  static Options parse_options(const nlohmann::json& json) {
    Options options;
    read_options(kTypeName, json, {{"rank", into(options.rank)}, {"dtype", into(options.dtype)}});
    return options;
  }

  torch::Tensor forward(const torch::Tensor& h) override { return edit(h, {}); }

  torch::Tensor edit(const torch::Tensor& h, const RowContext& rows) override {
    check_width(kTypeName, h, hidden_size_);
    const torch::Tensor s = source_rows(kTypeName, rows).to(h.scalar_type());
    const torch::Tensor R = projection_.R();  // (r, D)
    torch::Tensor change = at::linear(s - h, R);  // (P, r)
    if (rows.scales.defined()) change = change * rows.scales;
    return h + change.matmul(R);
  }

  int64_t rank() const override { return options_.rank; }
  bool needs_source() const override { return true; }
  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override {
    return {{"rank", options_.rank}, {"dtype", parameter_dtype_name(options_.dtype)}};
  }
  NamedTensors state() const override { return {{"R", projection_.value()}}; }

  void load_state(const NamedTensors& tensors) override {
    check_state(kTypeName, {{"R", {options_.rank, hidden_size_}}}, tensors);
    check_orthonormal(kTypeName, tensors.at("R"));
    projection_.restart(tensors.at("R"));
  }

  std::vector<torch::Tensor> forward_tensors() override {
    projection_.begin_forward();
    return {projection_.R()};
  }

  Orthonormal* orthonormal() override { return &projection_; }

 private:
  static const Options& checked(const Options& options) {
    check_parameter_dtype(kTypeName, options.dtype);
    return options;
  }

  int64_t hidden_size_;
  Options options_;
  mutable Orthonormal projection_;  // evaluating R fills its cache
};

using DAS = DistributedInterchange;

}  // namespace reft
