#pragma once

#include "reft/intervention/low_rank.hpp"

namespace reft {

// The six forms of pyreft. R and W₂ are (r, D), W and W₁ (r, D), b (r); R Rᵀ = I, W₂ is free.
// Ref: Wu et al. 2024, arXiv:2404.03592, section 3.2 and table 17.

template <> struct LowRankName<Orthonormal, LinearReplace> { static constexpr std::string_view kValue = "loreft"; };
template <> struct LowRankName<Orthonormal, ConstantReplace> { static constexpr std::string_view kValue = "consreft"; };
template <> struct LowRankName<Orthonormal, ConstantAdd> { static constexpr std::string_view kValue = "lobireft"; };
template <> struct LowRankName<Free, LinearReplace> { static constexpr std::string_view kValue = "noreft"; };
template <> struct LowRankName<Free, LinearAdd> { static constexpr std::string_view kValue = "direft"; };
template <> struct LowRankName<Orthonormal, LinearAdd> { static constexpr std::string_view kValue = "ortho_direft"; };

/// h' = h + Rᵀ(Wh + b − Rh)        eq. 2: replaces the content of a learned subspace by a learned linear map of h.
using LoReFT = LowRankIntervention<Orthonormal, LinearReplace>;

/// h' = h + Rᵀ(b − Rh)             the bias-only form: replaces the content of a learned subspace by a constant.
using ConsReFT = LowRankIntervention<Orthonormal, ConstantReplace>;
using BiasReFT = ConsReFT;

/// h' = h + Rᵀb                    adds one learned vector, held as r directions: a low-rank BitFit.
using LobiReFT = LowRankIntervention<Orthonormal, ConstantAdd>;

/// h' = h + W₂ᵀ(W₁h + b − W₂h)     LoReFT without orthonormality.
using NoReFT = LowRankIntervention<Free, LinearReplace>;

/// h' = h + W₂ᵀ(W₁h + b)           eq. 3, the paper's DiReFT; pyreft calls it Nodireft.
using DiReFT = LowRankIntervention<Free, LinearAdd>;

/// h' = h + Rᵀ(Wh + b)             pyreft's Direft.
using OrthoDiReFT = LowRankIntervention<Orthonormal, LinearAdd>;

}  // namespace reft
