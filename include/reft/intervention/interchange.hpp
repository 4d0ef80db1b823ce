#pragma once

#include <torch/types.h>

#include <string_view>

#include "reft/intervention/intervention.hpp"
#include "reft/intervention/options.hpp"
#include "reft/intervention/state.hpp"

namespace reft {

/// The rows of the source run, or the refusal to go on without one.
/// @throws ConfigError if the call gave none.   @return (P, D) in the dtype of the run.
inline const torch::Tensor& source_rows(std::string_view type, const RowContext& rows) {
  if (!rows.source.defined()) {
    fail<ConfigError>(type, "no source run was given; call interchange(model, base, source), or make the context with a SourceRun");
  }
  return rows.source;
}

struct InterchangeOptions {};

/// h' = s,   s (D) the hidden state that a source run has in the same place.
///
/// s belongs to the call (`RowContext`), so one attached intervention serves any number of source runs at once.
/// Ref: Geiger et al. 2021, arXiv:2106.02997; pyvene's VanillaIntervention.
class Interchange : public InterventionBase {
 public:
  using Options = InterchangeOptions;
  static constexpr std::string_view kTypeName = "interchange";

  explicit Interchange(int64_t hidden_size, const Options& = {}) : hidden_size_(hidden_size) {}

  /// @throws ConfigError for any option.
  static Options parse_options(const nlohmann::json& json) {
    read_options(kTypeName, json, {});
    return {};
  }

  torch::Tensor forward(const torch::Tensor& h) override { return edit(h, {}); }

  /// s comes back in its own dtype: rows of a base in bfloat16 or float64 are then replaced bit by bit.
  torch::Tensor edit(const torch::Tensor& h, const RowContext& rows) override {
    check_width(kTypeName, h, hidden_size_);
    return source_rows(kTypeName, rows);
  }

  bool needs_source() const override { return true; }
  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override { return nlohmann::json::object(); }
  NamedTensors state() const override { return {}; }
  void load_state(const NamedTensors& tensors) override { check_state(kTypeName, {}, tensors); }

 private:
  int64_t hidden_size_;
};

}  // namespace reft
