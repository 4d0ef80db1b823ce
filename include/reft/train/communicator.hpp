#pragma once

#include <torch/types.h>

#include <cstdint>

namespace reft {

/// The processes that train one model together, each with its own share of every batch and all with the same parameters.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int64_t rank() const = 0;  ///< of this process, 0 to size() − 1
  virtual int64_t size() const = 0;

  /// Replaces `values` by their sum over all ranks, the same to the last bit on each. Every rank must call it.
  /// @param values  1-D float64 on the CPU, contiguous, equally long on all ranks.
  /// @throws Error if a rank does not answer.
  virtual void all_reduce_sum(torch::Tensor& values) = 0;

  bool is_first() const { return rank() == 0; }
};

/// One process alone.
class SingleProcess : public Communicator {
 public:
  int64_t rank() const override { return 0; }
  int64_t size() const override { return 1; }
  void all_reduce_sum(torch::Tensor&) override {}
};

}  // namespace reft
