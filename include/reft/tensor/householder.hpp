#pragma once

#include <ATen/ops/geqrf.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <torch/types.h>

#include "reft/error.hpp"

namespace reft {

// Note [Orthonormal rows without a D x D buffer]
// R (r, D) must keep orthonormal rows while an unconstrained optimizer moves parameters. As torch's `orthogonal`
// parametrization does, R is a fixed orthogonal base B times a Householder product that is the identity at X = 0:
//   v_i = e_i + X[i, i+1:],   H_i = I - 2 v_i v_iᵀ / |v_i|²,   Rᵀ = -B (H_1 ⋯ H_r)[:, :r]
// torch keeps B as a dense D x D buffer with random columns after the first r. Here B is itself the product of the r
// reflectors that a QR decomposition of the starting R yields: a deterministic function of R alone, O(Dr) memory, and
// from the same start the trajectory of any optimizer is the one of the dense form with that B.
// A product of reflectors is applied in compact WY form, H_1 ⋯ H_r = I - Vᵀ T V, with V (r, D) the vectors as rows and
// T⁻¹ = triu(V Vᵀ, 1) + diag(|v_i|²)/2: matrix products only, differentiable, and batched over interventions.

/// An orthogonal D x D matrix B = (I - Uᵀ T U) diag(signs, 1, …, 1), held as r reflectors.
struct OrthogonalBase {
  torch::Tensor U;      // (..., r, D) reflector vectors as rows
  torch::Tensor T;      // (..., r, r) upper triangular
  torch::Tensor signs;  // (..., r) of +1 or -1
};

/// The base whose first r columns are the rows of R.   Cost: O(D r²), in float64.
/// @param R  (r, D) with orthonormal rows, r <= D.   @throws ShapeError for other shapes.
inline OrthogonalBase orthogonal_base(const torch::Tensor& R) {
  if (R.dim() != 2 || R.size(0) > R.size(1)) {
    fail<ShapeError>("orthogonal_base", "expected R (r, D) with r <= D, got {}", c10::str(R.sizes()));
  }
  const int64_t rank = R.size(0);
  const auto [packed, tau] = at::geqrf(R.detach().to(torch::kCPU, torch::kFloat64).t().contiguous());  // (D, r), (r)
  const torch::Tensor U = packed.t().triu(1) + torch::eye(rank, R.size(1), torch::kFloat64);          // (r, D)
  torch::Tensor T = torch::zeros({rank, rank}, torch::kFloat64);
  for (int64_t i = 0; i < rank; ++i) {
    if (i > 0) {
      const torch::Tensor overlap = U.narrow(0, 0, i).matmul(U[i]);  // (i)
      T.narrow(0, 0, i).select(1, i).copy_(-tau[i] * T.narrow(0, 0, i).narrow(1, 0, i).matmul(overlap));
    }
    T[i][i] = tau[i];
  }
  const torch::Tensor diagonal = packed.diagonal();  // of the triangular factor: +1 or -1 up to rounding
  const torch::Tensor signs = torch::where(diagonal < 0, -torch::ones_like(diagonal), torch::ones_like(diagonal));
  const auto options = R.options().requires_grad(false);
  return {U.to(options), T.to(options), signs.to(options)};
}

/// R = -((H_1 ⋯ H_r)[:, :r])ᵀ Bᵀ with H from X, differentiable in X; at X = 0 it is the R that `base` was made from.
/// @param X  (..., r, D); only entries right of the diagonal are read, so the others get a zero gradient.
/// @return (..., r, D) with orthonormal rows.   Cost: O(D r²) per matrix.
inline torch::Tensor householder_rows(const torch::Tensor& X, const OrthogonalBase& base) {
  const int64_t rank = X.size(-2);
  const torch::Tensor E = torch::eye(rank, X.size(-1), X.options().requires_grad(false));  // (r, D)
  const torch::Tensor V = X.triu(1) + E;                                                   // (..., r, D)
  const torch::Tensor gram = V.matmul(V.transpose(-1, -2));                                // (..., r, r)
  const torch::Tensor T_inverse = gram.triu(1) + 0.5 * torch::diag_embed(gram.diagonal(0, -2, -1));
  const torch::Tensor T_top = at::linalg_solve_triangular(T_inverse, V.narrow(-1, 0, rank), /*upper=*/true);  // (..., r, r)
  const torch::Tensor Q = T_top.transpose(-1, -2).matmul(V) - E;                                               // (..., r, D)

  const torch::Tensor signed_Q =
      torch::cat({Q.narrow(-1, 0, rank) * base.signs.unsqueeze(-2), Q.narrow(-1, rank, Q.size(-1) - rank)}, -1);
  const torch::Tensor coefficients = signed_Q.matmul(base.U.transpose(-1, -2)).matmul(base.T.transpose(-1, -2));
  return signed_Q - coefficients.matmul(base.U);
}

/// B as a dense matrix (D, D), for export; its first r columns are the starting R.
inline torch::Tensor dense(const OrthogonalBase& base) {
  const int64_t width = base.U.size(-1), rank = base.U.size(-2);
  const torch::Tensor I = torch::eye(width, base.U.options());
  const torch::Tensor signs = torch::cat({base.signs, torch::ones({width - rank}, base.signs.options())});
  return (I - base.U.t().matmul(base.T).matmul(base.U)) * signs.unsqueeze(0);
}

/// The largest |R Rᵀ - I| over all entries: 0 for exactly orthonormal rows.
inline double orthonormality_error(const torch::Tensor& R) {
  const torch::Tensor rows = R.detach().to(torch::kFloat64);
  const torch::Tensor gram = rows.matmul(rows.transpose(-1, -2));
  return (gram - torch::eye(rows.size(-2), gram.options())).abs().max().item<double>();
}

}  // namespace reft
