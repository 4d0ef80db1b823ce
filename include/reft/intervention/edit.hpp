#pragma once

#include <string_view>

namespace reft {

// What a low-rank intervention writes into the subspace spanned by the rows of R. Each policy says which learned
// source it has (W h + b, or a constant b) and whether the present content R h is replaced or kept.

/// Wh + b − Rh
struct LinearReplace {
  static constexpr bool kHasWeight = true, kReplaces = true;
};

/// b − Rh
struct ConstantReplace {
  static constexpr bool kHasWeight = false, kReplaces = true;
};

/// Wh + b
struct LinearAdd {
  static constexpr bool kHasWeight = true, kReplaces = false;
};

/// b
struct ConstantAdd {
  static constexpr bool kHasWeight = false, kReplaces = false;
};

template <class Projection, class Edit>
struct LowRankName;  // the registry's name of each pair, given beside its alias in loreft.hpp

}  // namespace reft
