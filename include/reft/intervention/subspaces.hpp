#pragma once

#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/linalg_svdvals.h>
#include <torch/types.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "reft/intervention/low_rank.hpp"

namespace reft {

/// How far two subspaces lie apart: angles of 0 mean shared directions, π/2 that neither sees the other.
///   cos θ_i = σ_i(A Bᵀ)
/// @param A, B  (r_A, D), (r_B, D) with orthonormal rows.   @return (min(r_A, r_B)) radians, ascending.
/// @throws ShapeError for other shapes.
inline torch::Tensor principal_angles(const torch::Tensor& A, const torch::Tensor& B) {
  if (A.dim() != 2 || B.dim() != 2 || A.size(1) != B.size(1)) {
    fail<ShapeError>("principal_angles", "expected (r_A, D) and (r_B, D), got {} and {}", c10::str(A.sizes()), c10::str(B.sizes()));
  }
  return at::linalg_svdvals(A.to(torch::kFloat64).matmul(B.to(torch::kFloat64).t())).clamp(0.0, 1.0).acos();
}

/// The orthonormal rows nearest to those of S; no row comes before another.
///   (S Sᵀ)^(-1/2) S
/// @param S  (r, D).   @throws ConfigError if its rows are almost dependent, so that no such rows are near.
inline torch::Tensor nearest_orthonormal_rows(const torch::Tensor& S) {
  const auto [U, singular_values, Vh] = at::linalg_svd(S.to(torch::kFloat64), /*full_matrices=*/false);
  constexpr double kSmallest = 1e-2;
  if (const double smallest = singular_values.min().item<double>(); S.size(0) > S.size(1) || smallest < kSmallest) {
    fail<ConfigError>("nearest_orthonormal_rows", "expected {} independent rows of width {}, but their smallest singular value is {:.1e}",
                      S.size(0), S.size(1), smallest);
  }
  return U.matmul(Vh).to(S.scalar_type());
}

/// Two interventions trained apart as one of rank r_A + r_B: rows 0 … r_A − 1 are a's, the others b's.
///   R = the orthonormal rows nearest to [R_A; R_B],   b = [b_A; b_B],   W = [W_A; W_B] + R − [R_A; R_B] where R h is replaced
/// The coefficients W h + b − R h that each writes stay what they were trained to be; only their directions turn, the
/// less the wider the angles between the subspaces. (Without W, or behind an activation, R h is replaced along the new
/// directions.)
/// @throws ConfigError for other widths or activations, or subspaces that almost share a direction.
template <class Edit>
std::shared_ptr<LowRankIntervention<Orthonormal, Edit>> join(const LowRankIntervention<Orthonormal, Edit>& a,
                                                             const LowRankIntervention<Orthonormal, Edit>& b) {
  const nlohmann::json a_options = a.options(), b_options = b.options();
  for (const char* key : {"activation", "dtype"}) {
    if (a_options[key] != b_options[key]) {
      fail<ConfigError>("join", "expected one {}, got {} and {}", key, a_options[key].dump(), b_options[key].dump());
    }
  }
  if (a.hidden_size() != b.hidden_size()) fail<ConfigError>("join", "expected one width, got {} and {}", a.hidden_size(), b.hidden_size());
  std::map<std::string, torch::Tensor> state;
  const auto a_state = a.state(), b_state = b.state();
  for (const auto& [name, tensor] : a_state) state[name] = torch::cat({tensor, b_state.at(name)});
  const torch::Tensor R = nearest_orthonormal_rows(state["R"]);
  if constexpr (Edit::kReplaces && Edit::kHasWeight) {
    if (a_options["activation"] == "linear") state["W"] = state["W"] + R - state["R"];
  }
  state["R"] = R;
  auto joined = std::make_shared<LowRankIntervention<Orthonormal, Edit>>(
      a.hidden_size(), LowRankOptions{.rank = a.rank() + b.rank(), .activation = a_options["activation"], .dtype = state["b"].scalar_type()});
  joined->load_state(state);
  return joined;
}

/// Makes rows of a subspace constant, whatever h is: W_j = 0, b_j = value, so that afterwards R_j h' = value.
/// @throws ConfigError for a row the intervention does not have.
template <class Projection>
void clamp_rows(LowRankIntervention<Projection, LinearReplace>& intervention, std::span<const int64_t> rows, double value) {
  std::map<std::string, torch::Tensor> state = intervention.state();
  torch::Tensor W = state["W"].clone(), b = state["b"].clone();
  for (const int64_t row : rows) {
    if (row < 0 || row >= intervention.rank()) fail<ConfigError>("clamp_rows", "row {}: expected one of 0..{}", row, intervention.rank() - 1);
    W[row].zero_();
    b[row].fill_(value);
  }
  state["W"] = W;
  state["b"] = b;
  intervention.load_state(state);
}

}  // namespace reft
