#pragma once

#include <ATen/ops/linalg_householder_product.h>
#include <ATen/ops/linalg_matrix_exp.h>
#include <torch/types.h>

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "reft/checkpoint/pyreft_key.hpp"
#include "reft/hook/positions.hpp"
#include "reft/intervention/intervention.hpp"
#include "reft/intervention/low_rank.hpp"
#include "reft/intervention/state.hpp"
#include "reft/tensor/householder.hpp"

namespace reft {

// Note [pyreft folders]
// config.json lists the interventions: place, unit and rank as a row of 13 or 14 fields, and the class. The values of
// each are in intkey_<key>.bin, a torch.save file; Note [Keys of pyreft], Note [torch.save]. LoReFT's holds the evaluated
// R; the other orthonormal classes hold what torch's parametrization is made of, `original` X (D, r) and `base` B (D, D).
// A trainer leaves the .bin files alone, and pytorch_model.bin with whatever was trained of the base.
// Nowhere stored: positions, which modules share, activation, dropout, the base. Whoever loads a folder gives them.
// pyreft keeps R as (D, r), our R transposed. Ref: pyreft 0.1.0 interventions.py; pyvene 0.1.8 intervenable_base.py.

/// What a pyreft folder does not say.
struct PyreftOptions {
  std::string positions = {};             ///< "f5+l5"; needed to attach, not to read
  std::optional<Tie> tie = {};            ///< nothing: `all` or `group`, whichever fits the number of interventions
  std::string type = {};                  ///< "consreft", …; needed where no config.json tells classes of equal tensors apart, and
                                          ///< to read a loreft as noreft or an ortho_direft as direft: the same function, R free
  std::string activation = "linear";      ///< applied to W h + b
  double dropout = 0.0;
  DropoutOn dropout_on = DropoutOn::state;
  PositionRule position_rule = PositionRule::pyreft;
};

/// One intervention of a pyreft folder: where it is, and what it does.
struct PyreftIntervention {
  PyreftKey key;
  std::shared_ptr<InterventionBase> intervention;
};

namespace detail {

inline constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kPyreftClasses{{{"loreft", "LoreftIntervention"},
                                                                                              {"noreft", "NoreftIntervention"},
                                                                                              {"direft", "NodireftIntervention"},
                                                                                              {"ortho_direft", "DireftIntervention"},
                                                                                              {"consreft", "ConsreftIntervention"},
                                                                                              {"lobireft", "LobireftIntervention"}}};

inline constexpr const char* kPyreftOriginal = "rotate_layer.parametrizations.weight.original";
inline constexpr const char* kPyreftBase = "rotate_layer.parametrizations.weight.0.base";

template <class... Args>
[[noreturn]] void refuse_pyreft(const std::filesystem::path& path, fmt::format_string<Args...> message, Args&&... args) {
  fail<CheckpointError>("read_pyreft", "{}: {}", path.string(), fmt::format(message, std::forward<Args>(args)...));
}

/// R of torch.nn.utils.parametrizations.orthogonal, from what it stores.
///   r < D: R = B (H_1 ⋯ H_r)[:, :r] diag(trunc X_jj),   H_j = I − τ_j v_j v_jᵀ,  v_j = e_j + X[j+1:, j],  τ_j = 2/|v_j|²
///   r = D: R = B exp(tril X − (tril X)ᵀ)
/// @param X (D, r).   @param B (D, D).   @return (D, r).
inline torch::Tensor evaluate_orthogonal(const torch::Tensor& X, const torch::Tensor& B) {
  const torch::Tensor base = B.to(torch::kFloat64), lower = X.to(torch::kFloat64).tril(-1);
  if (X.size(0) == X.size(1)) return base.matmul(at::linalg_matrix_exp(lower - lower.t())).to(torch::kFloat32);
  const torch::Tensor tau = 2.0 / (1.0 + lower.square().sum(0));
  const torch::Tensor signs = X.diagonal().trunc();
  return base.matmul(at::linalg_householder_product(lower, tau) * signs).to(torch::kFloat32);
}

/// What torch's parametrization starts from at R, with the base reft trains about.
/// @param R (r, D).   @return original (D, r), −1 on the diagonal and 0 elsewhere, and base (D, D), whose first r columns are R.
inline std::pair<torch::Tensor, torch::Tensor> orthogonal_start(const torch::Tensor& R) {
  torch::Tensor base = dense(orthogonal_base(R));
  base.narrow(1, 0, R.size(0)).copy_(R.t());
  return {-torch::eye(R.size(1), R.size(0), R.options()), base};
}

}  // namespace detail

}  // namespace reft
