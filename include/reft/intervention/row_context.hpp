#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace reft {

/// What a forward knows of the P rows of one edit beside their values. It belongs to the call, never to the
/// intervention, so that one intervention serves several calls at once.
struct RowContext {
  std::vector<int64_t> sequences;  // (P) the sequence of the batch that each row belongs to, ascending
  std::vector<int64_t> positions;  // (P) its place there, counted from the first token, cached ones included
  torch::Tensor scales;            // (P, r) of the rows of its subspace; undefined = 1
  torch::Tensor source;            // (P, D) what another run has in these places; undefined where no run was given
};

}  // namespace reft
