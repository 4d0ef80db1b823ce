#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <concepts>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "reft/error.hpp"
#include "reft/intervention/row_context.hpp"

namespace reft {

class Orthonormal;

/// An edit Φ: (P, D) -> (P, D) of selected hidden states, with its own trainable parameters.
///
/// A `torch::nn::Module`, so `parameters()`, `train()`, `eval()` and `to()` are those of any module. What trainers,
/// checkpoints and ReftModel need beyond that is below; a type that meets the concept `Intervention` can be attached
/// by name or by type.
class InterventionBase : public torch::nn::Module {
 public:
  /// @param x  (P, D) in `dtype()`.   @return (P, D), same dtype.
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;

  /// The same with each row of its subspace weighted: 1 as trained, 0 off, -1 the opposite.
  /// @param scales  (P, r).   @throws ConfigError if this form has no such rows.
  virtual torch::Tensor forward_scaled(const torch::Tensor& /*x*/, const torch::Tensor& /*scales*/) {
    fail<ConfigError>(type(), "row scales: this form has no subspace whose rows could be scaled");
  }

  /// Rows r of its subspace; 0 for a form without one.
  virtual int64_t rank() const { return 0; }

  /// What a forward over a batch calls. Override it where Φ depends on more than the rows' values and scales.
  virtual torch::Tensor edit(const torch::Tensor& x, const RowContext& rows) {
    return rows.scales.defined() ? forward_scaled(x, rows.scales) : forward(x);
  }

  /// Whether `edit` reads `RowContext::source`, so that another run has to come first.
  virtual bool needs_source() const { return false; }

  /// Whether `auxiliary_loss` has something to add in the present mode.
  virtual bool has_auxiliary_loss() const { return false; }

  /// A term of the training loss beside the objective's own: a sum over the rows before their edit.
  virtual torch::Tensor auxiliary_loss(const torch::Tensor& /*x*/, const RowContext& /*rows*/) { return {}; }

  /// Width D of the rows it edits.
  virtual int64_t hidden_size() const = 0;

  /// The registry's name of this form, such as "loreft".
  virtual std::string_view type() const = 0;

  /// The options it was made with, as `make_intervention` reads them back.
  virtual nlohmann::json options() const = 0;

  /// Tensors with a meaning of their own (R, W, b, …), from which `load_state` restores the same function.
  virtual std::map<std::string, torch::Tensor> state() const = 0;

  /// @throws CheckpointError for a missing, unknown or wrongly shaped tensor.
  virtual void load_state(const std::map<std::string, torch::Tensor>& tensors) = 0;

  /// The tensors the next `forward` reads that may want a gradient; asked for before each. They differ from
  /// `parameters()` where one is computed from another, as R is from X.
  virtual std::vector<torch::Tensor> forward_tensors() { return parameters(); }

  /// The projection whose rows must stay orthonormal, if this form has one.
  virtual Orthonormal* orthonormal() { return nullptr; }

  /// Names of parameters that weight decay leaves alone.
  virtual bool decays(std::string_view parameter_name) const { return parameter_name != "b"; }

  /// Its learning rate in relation to the optimizer's; 0 leaves it as it is.   @throws ConfigError for a negative one.
  void set_learning_rate_scale(double scale) {
    if (!(scale >= 0.0)) fail<ConfigError>("set_learning_rate_scale", "expected at least 0, got {}", scale);
    learning_rate_scale_ = scale;
  }
  double learning_rate_scale() const { return learning_rate_scale_; }

  /// The dtype of its maths, which is that of its tensors; rows are cast to it and back.
  torch::Dtype dtype() const {
    for (const auto& tensors : {parameters(), buffers()}) {
      if (!tensors.empty()) return tensors.front().scalar_type();
    }
    return torch::kFloat32;
  }

  int64_t num_parameters() const {
    int64_t count = 0;
    for (const torch::Tensor& parameter : parameters()) count += parameter.numel();
    return count;
  }

 private:
  double learning_rate_scale_ = 1.0;
};

namespace detail {
template <class T>
concept HasTypeName = requires {
  { T::kTypeName } -> std::convertible_to<std::string_view>;
};
template <class T>
concept HasOptions = requires { typename T::Options; };
template <class T>
concept MadeFromOptions = HasOptions<T> && std::constructible_from<T, int64_t, const typename T::Options&>;
}  // namespace detail

/// What a type must have to be attached with `ReftModel::attach<T>` and registered with `register_intervention<T>`.
template <class T>
concept Intervention = std::derived_from<T, InterventionBase> && detail::HasTypeName<T> && detail::MadeFromOptions<T>;

/// Compiles only if T meets `Intervention`; otherwise says which part is missing and how to add it.
template <class T>
consteval void require_intervention() {
  static_assert(std::derived_from<T, InterventionBase>,
                "an intervention must derive publicly from reft::InterventionBase and override forward, hidden_size, "
                "type, options, state and load_state");
  static_assert(detail::HasTypeName<T>,
                "an intervention needs a name for checkpoints and the command line: add "
                "`static constexpr std::string_view kTypeName = \"my_intervention\";`");
  static_assert(detail::HasOptions<T>,
                "an intervention needs a struct of options with defaults: add `struct Options { int64_t rank = 4; };` "
                "or `using Options = …;`");
  static_assert(detail::MadeFromOptions<T>,
                "an intervention must be constructible as T(int64_t hidden_size, const T::Options&)");
}

}  // namespace reft
