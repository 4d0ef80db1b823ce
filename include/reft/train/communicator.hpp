#pragma once

#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <string_view>
#include <thread>

#include "reft/error.hpp"

namespace reft {

/// The processes that train one model together, each with its own share of every batch and all with the same parameters.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int64_t rank() const = 0;  ///< of this process, 0 to size() − 1
  virtual int64_t size() const = 0;

  /// Where `all_reduce_sum` takes its values.
  virtual torch::Device device() const { return torch::kCPU; }

  /// Replaces `values` by their sum over all ranks, the same to the last bit on each. Every rank must call it.
  /// @param values  1-D float64 on `device()`, contiguous, equally long on all ranks.
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

namespace detail {

/// Asks until it is so or the time is over.   @return whether it is so.
template <class Done>
bool poll(Done is_done, std::chrono::seconds timeout) {
  const auto begin = std::chrono::steady_clock::now();
  for (int polls = 0; !is_done(); ++polls) {
    if (std::chrono::steady_clock::now() - begin > timeout) return false;
    // Steps take milliseconds: a short while of asking again and again, then a rest in between.
    if (polls > 1000) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return true;
}

[[noreturn]] inline void fail_unanswered(std::string_view name, const Communicator& communicator, std::chrono::seconds timeout) {
  fail<Error>(name, "rank {} of {}: the others did not answer within {} s; one of them has ended or hangs", communicator.rank(),
              communicator.size(), timeout.count());
}

}  // namespace detail
}  // namespace reft
