#pragma once

#include <torch/nn/init.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <cmath>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "reft/intervention/random_start.hpp"
#include "reft/tensor/householder.hpp"

namespace reft {

/// Whether R Rᵀ = I within 1e-3.
inline bool is_orthonormal(const torch::Tensor& R) { return orthonormality_error(R) < 1e-3; }

/// @throws ErrorType unless `is_orthonormal`.
template <class ErrorType = CheckpointError>
void check_orthonormal(std::string_view type, const torch::Tensor& R) {
  if (!is_orthonormal(R)) fail<ErrorType>(type, "the rows of R are not orthonormal: |R Rᵀ - I| is up to {:.3g}", orthonormality_error(R));
}

/// R (r, D) with R Rᵀ = I, whatever an optimizer does; see Note [Orthonormal rows without a D x D buffer].
///
/// The parameter is X (r, D), zero at the start. R is rebuilt from X inside autograd once per forward, so that any
/// optimizer is correct; weight decay pulls X to 0, that is R to its start. `reft::Optimizer` lends R as a leaf instead
/// (`lend`), and the rebuilding leaves the forward altogether.
class Orthonormal {
 public:
  static constexpr bool kIsOrthonormal = true;
  static constexpr const char* kParameterName = "X";

  /// Registers X in `owner`, with a uniformly random orthonormal start from the global generator.
  /// @throws ConfigError unless 1 <= rank <= width.
  Orthonormal(torch::nn::Module& owner, int64_t rank, int64_t width, torch::Dtype dtype) {
    const torch::Tensor start = random_orthonormal_rows(rank, width);  // refuses the rank before a size depends on it
    X_ = owner.register_parameter(kParameterName, torch::zeros({rank, width}, dtype));
    start_ = owner.register_buffer("R_start", torch::empty({rank, width}, dtype));
    start_.copy_(start);
  }

  /// Makes `R` the start of a new trajectory: X = 0.   @param R  (r, D) with orthonormal rows.
  void restart(const torch::Tensor& R) {
    torch::NoGradGuard no_grad;
    start_.copy_(R);
    X_.zero_();
    cached_ = torch::Tensor();
  }

  /// (r, D). The gradient of R reaches X through autograd, or stays on R while it is lent.
  torch::Tensor R() {
    if (lent_.defined()) return lent_;
    const bool tracked = at::GradMode::is_enabled() && X_.requires_grad();
    if (cached_.defined() && cached_for_ == version() && cached_.requires_grad() == tracked) return cached_;
    cached_ = !tracked && is_at_start() ? start_ : householder_rows(X_, base());
    cached_for_ = version();
    return cached_;
  }

  /// Forgets an R that belongs to an autograd graph, so that the next forward builds its own.
  void begin_forward() {
    if (cached_.defined() && cached_.requires_grad()) cached_ = torch::Tensor();
  }

  /// The current R without a graph.
  torch::Tensor value() {
    torch::NoGradGuard no_grad;
    return R().detach();
  }

  /// Uses `leaf` (r, D) as R until `take_back`; whoever lends it keeps it equal to householder_rows(X).
  void lend(torch::Tensor leaf) { lent_ = std::move(leaf); }
  void take_back() {
    lent_ = cached_ = torch::Tensor();
    zero_for_.reset();
  }

  const torch::Tensor& X() const { return X_; }

  /// Computed when first needed, so that an adapter that is only used never pays for it.
  const OrthogonalBase& base() {
    if (!base_ || base_for_ != start_._version() || base_->U.device() != start_.device()) {
      base_ = orthogonal_base(start_);
      base_for_ = start_._version();
    }
    return *base_;
  }

  static torch::Tensor random_orthonormal_rows(int64_t rank, int64_t width) {
    if (rank < 1 || rank > width) {
      fail<ConfigError>("Orthonormal", "expected a rank in 1..{} (the hidden size), got {}", width, rank);
    }
    torch::NoGradGuard no_grad;
    return NoRandomStart::is_on() ? torch::zeros({rank, width}) : torch::nn::init::orthogonal_(torch::empty({rank, width}));
  }

 private:
  /// Changes with every write to X or to the start, and with a move to another device.
  using Version = std::tuple<int64_t, int64_t, torch::Device>;
  Version version() const { return {X_._version(), start_._version(), X_.device()}; }

  // Asking for the values of X costs one reduction, so it is done once per version.
  bool is_at_start() {
    if (zero_for_ != version()) {
      is_zero_ = X_.count_nonzero().item<int64_t>() == 0;
      zero_for_ = version();
    }
    return is_zero_;
  }

  torch::Tensor X_, start_, lent_, cached_;  // (r, D) each
  std::optional<OrthogonalBase> base_;
  int64_t base_for_ = 0;                          // the version of the start that `base_` was made from
  std::optional<Version> cached_for_, zero_for_;  // when `cached_` and `is_zero_` were found
  bool is_zero_ = false;
};

/// A projection (r, D) without constraint, started like the weight of `torch::nn::Linear(D, r)`.
class Free {
 public:
  static constexpr bool kIsOrthonormal = false;
  static constexpr const char* kParameterName = "R";

  /// @throws ConfigError unless 1 <= rank <= width.
  Free(torch::nn::Module& owner, int64_t rank, int64_t width, torch::Dtype dtype) {
    if (rank < 1 || rank > width) {
      fail<ConfigError>("Free", "expected a rank in 1..{} (the hidden size), got {}", width, rank);
    }
    torch::NoGradGuard no_grad;
    const double bound = 1.0 / std::sqrt(static_cast<double>(width));
    R_ = owner.register_parameter(kParameterName, detail::uniform_start({rank, width}, dtype, -bound, bound));
  }

  void restart(const torch::Tensor& R) {
    torch::NoGradGuard no_grad;
    R_.copy_(R);
  }

  torch::Tensor R() { return R_; }
  void begin_forward() {}
  torch::Tensor value() { return R_.detach(); }

 private:
  torch::Tensor R_;  // (r, D)
};

}  // namespace reft
