#pragma once

#include <torch/nn/functional/dropout.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <cmath>
#include <string>

#include "reft/intervention/edit.hpp"
#include "reft/intervention/intervention.hpp"
#include "reft/intervention/options.hpp"
#include "reft/intervention/projection.hpp"
#include "reft/intervention/random_start.hpp"
#include "reft/intervention/state.hpp"
#include "reft/tensor/activation.hpp"

namespace reft {

/// Where dropout acts: on the whole new hidden state, as pyreft does, or on the edit alone.
enum class DropoutOn { state, edit };

inline std::string_view to_string(DropoutOn where) { return where == DropoutOn::state ? "state" : "edit"; }

/// @throws ConfigError for other names.
inline DropoutOn parse_dropout_on(std::string_view name) {
  if (name == "state") return DropoutOn::state;
  if (name == "edit") return DropoutOn::edit;
  fail<ConfigError>("parse_dropout_on", "\"{}\": expected state or edit", name);
}

struct LowRankOptions {
  int64_t rank = 4;                            ///< r, in 1..D
  double dropout = 0.0;                        ///< probability in [0, 1), in training mode only
  DropoutOn dropout_on = DropoutOn::state;     ///< pyreft's place by default
  std::string activation = "linear";           ///< applied to W h + b; a name of transformers' table
  bool projection_bias = false;                ///< c in R h + c, of a replacing form with a free projection
  bool identity_start = false;                 ///< start as the identity: W = R, b = 0 (replace) or W = 0, b = 0 (add)
  torch::Dtype dtype = torch::kFloat32;        ///< of the parameters and the maths: float32 or float64
};

/// @throws ConfigError for an unknown key or a value of the wrong type; absent keys keep their defaults.
inline LowRankOptions parse_low_rank_options(const nlohmann::json& json) {
  LowRankOptions options;
  read_options("parse_low_rank_options", json,
               {{"rank", into(options.rank)},
                {"dropout", into(options.dropout)},
                {"dropout_on", [&](const nlohmann::json& value) { options.dropout_on = parse_dropout_on(value.get<std::string>()); }},
                {"activation", into(options.activation)},
                {"projection_bias", into(options.projection_bias)},
                {"identity_start", into(options.identity_start)},
                {"dtype", into(options.dtype)}});
  return options;
}

/// h' = h + Rᵀ s(h), an edit of h inside the r-dimensional subspace spanned by the rows of R.
///   s(h) = act(Wh + b) − (Rh + c)  |  b − Rh  |  act(Wh + b)  |  b      as `Edit` says
/// `Projection` says whether R Rᵀ = I. The six named forms are aliases in loreft.hpp.
///
/// Parameters: R or its X (r, D), W (r, D), b (r), c (r), as the form has them. Shapes: h (P, D) to (P, D).
/// Cost: at most 3·P·D·r multiply-adds.   Ref: Wu et al. 2024, arXiv:2404.03592; pyreft stores Rᵀ.
template <class Projection, class Edit>
class LowRankIntervention : public InterventionBase {
 public:
  using Options = LowRankOptions;
  static constexpr std::string_view kTypeName = LowRankName<Projection, Edit>::kValue;
  static Options parse_options(const nlohmann::json& json) { return parse_low_rank_options(json); }
  static constexpr bool kMayHaveProjectionBias = Edit::kReplaces && !Projection::kIsOrthonormal;

  /// Starts as pyreft does: R orthogonal (or Linear's start if free), W and b uniform in ±1/√D, a constant b in [0, 1).
  /// @throws ConfigError for a rank outside 1..D, a dropout outside [0, 1), an unknown activation, or an option that
  ///         this form has no place for.
  explicit LowRankIntervention(int64_t hidden_size, const LowRankOptions& options = {})
      : hidden_size_(hidden_size),
        options_(checked(options)),
        activation_(activation_function(options.activation)),
        projection_(*this, options.rank, hidden_size, options.dtype) {
    torch::NoGradGuard no_grad;
    const double bound = 1.0 / std::sqrt(static_cast<double>(hidden_size));
    if constexpr (Edit::kHasWeight) {
      W_ = register_parameter("W", detail::uniform_start({options.rank, hidden_size}, options.dtype, -bound, bound));
    }
    const double low = Edit::kHasWeight ? -bound : 0.0, high = Edit::kHasWeight ? bound : 1.0;
    b_ = register_parameter("b", detail::uniform_start({options.rank}, options.dtype, low, high));
    if (options.projection_bias) {
      c_ = register_parameter("c", detail::uniform_start({options.rank}, options.dtype, -bound, bound));
    }
    if (options.identity_start) start_as_identity();
  }

  torch::Tensor forward(const torch::Tensor& h) override { return edited(h, {}); }
  torch::Tensor forward_scaled(const torch::Tensor& h, const torch::Tensor& scales) override { return edited(h, scales); }

  int64_t hidden_size() const override { return hidden_size_; }
  int64_t rank() const override { return options_.rank; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override;
  std::map<std::string, torch::Tensor> state() const override;
  void load_state(const std::map<std::string, torch::Tensor>& tensors) override;

  std::vector<torch::Tensor> forward_tensors() override {
    projection_.begin_forward();
    std::vector<torch::Tensor> tensors{projection_.R(), b_};
    for (const torch::Tensor& tensor : {W_, c_}) {
      if (tensor.defined()) tensors.push_back(tensor);
    }
    return tensors;
  }

  Orthonormal* orthonormal() override {
    if constexpr (Projection::kIsOrthonormal) return &projection_;
    return nullptr;
  }

  bool decays(std::string_view parameter_name) const override {
    return parameter_name != "b" && parameter_name != "c";
  }

 private:
  static const LowRankOptions& checked(const LowRankOptions& options) {
    if (!(options.dropout >= 0.0 && options.dropout < 1.0)) {
      fail<ConfigError>(kTypeName, "expected a dropout in [0, 1), got {}", options.dropout);
    }
    check_parameter_dtype(kTypeName, options.dtype);
    if (options.projection_bias && !kMayHaveProjectionBias) {
      fail<ConfigError>(kTypeName, "projection_bias: only noreft has a projection with a bias");
    }
    if (!Edit::kHasWeight && options.activation != "linear") {
      fail<ConfigError>(kTypeName, "activation \"{}\": this form has no W h + b to apply it to", options.activation);
    }
    if (!Edit::kHasWeight && Edit::kReplaces && options.identity_start) {
      fail<ConfigError>(kTypeName, "identity_start: a form that writes a constant cannot start as the identity");
    }
    if (options.identity_start && options.activation != "linear") {
      fail<ConfigError>(kTypeName, "identity_start: expected no activation, got \"{}\"", options.activation);
    }
    return options;
  }

  /// @param scales  (P, r) of the subspace's rows, or undefined: all 1.
  torch::Tensor edited(const torch::Tensor& h, const torch::Tensor& scales) {
    check_width(kTypeName, h, hidden_size_);
    if (is_square() && h.scalar_type() != torch::kFloat64) return edited(h.to(torch::kFloat64), scales).to(h.scalar_type());
    const torch::Tensor R = widened(projection_.R());                      // (r, D)
    torch::Tensor coefficients = source(h, R);                             // (P, r), or (r) where nothing depends on h
    if (scales.defined()) coefficients = coefficients * scales;
    torch::Tensor edit = coefficients.matmul(R);                           // (P, D) or (D)
    if (options_.dropout_on == DropoutOn::edit) edit = dropout(edit.expand_as(h));
    const torch::Tensor edited = h + edit;
    return options_.dropout_on == DropoutOn::state ? dropout(edited) : edited;
  }

  /// What is written into the subspace, minus what is taken out of it: (P, r), or (r) where nothing depends on h.
  torch::Tensor source(const torch::Tensor& h, const torch::Tensor& R) const {
    torch::Tensor written = widened(b_);
    if constexpr (Edit::kHasWeight) written = activation_(at::linear(h, widened(W_), written));
    if constexpr (Edit::kReplaces) return written - at::linear(h, R, widened(c_));
    return written;
  }

  /// At r = D all of h is taken out and written anew: what cancels costs float32 a digit, so it is done in float64.
  bool is_square() const { return options_.rank == hidden_size_; }
  torch::Tensor widened(const torch::Tensor& tensor) const {
    return is_square() && tensor.defined() ? tensor.to(torch::kFloat64) : tensor;
  }

  torch::Tensor dropout(const torch::Tensor& tensor) const {
    if (options_.dropout == 0.0 || !is_training()) return tensor;
    return torch::dropout(tensor, options_.dropout, /*train=*/true);
  }

  void start_as_identity() {
    b_.zero_();
    if (c_.defined()) c_.zero_();
    if constexpr (Edit::kHasWeight) {
      if constexpr (Edit::kReplaces) W_.copy_(projection_.value());
      else W_.zero_();
    }
  }

  int64_t hidden_size_;
  LowRankOptions options_;
  ActivationFunction activation_;
  mutable Projection projection_;  // evaluating R fills its cache
  torch::Tensor W_, b_, c_;        // (r, D), (r), (r)
};

template <class Projection, class Edit>
nlohmann::json LowRankIntervention<Projection, Edit>::options() const {
  return {{"rank", options_.rank},
          {"dropout", options_.dropout},
          {"dropout_on", to_string(options_.dropout_on)},
          {"activation", options_.activation},
          {"projection_bias", options_.projection_bias},
          {"dtype", parameter_dtype_name(options_.dtype)}};
}

template <class Projection, class Edit>
std::map<std::string, torch::Tensor> LowRankIntervention<Projection, Edit>::state() const {
  std::map<std::string, torch::Tensor> tensors{{"R", projection_.value()}, {"b", b_.detach()}};
  if (W_.defined()) tensors["W"] = W_.detach();
  if (c_.defined()) tensors["c"] = c_.detach();
  return tensors;
}

template <class Projection, class Edit>
void LowRankIntervention<Projection, Edit>::load_state(const std::map<std::string, torch::Tensor>& tensors) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& [name, tensor] : state()) shapes[name] = tensor.sizes().vec();
  check_state(kTypeName, shapes, tensors);
  if (Projection::kIsOrthonormal) check_orthonormal(kTypeName, tensors.at("R"));
  torch::NoGradGuard no_grad;
  projection_.restart(tensors.at("R"));
  b_.copy_(tensors.at("b"));
  if (W_.defined()) W_.copy_(tensors.at("W"));
  if (c_.defined()) c_.copy_(tensors.at("c"));
}

}  // namespace reft
