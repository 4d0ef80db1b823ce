#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/types.h>

#include <vector>

namespace reft {

/// While one lives, interventions that this thread makes begin with zeros and draw no random numbers: they are to be filled with
/// what was saved. Drawing is most of the time that loading a large adapter would take, and would move the global generator on.
class NoRandomStart {
 public:
  NoRandomStart() { ++count_; }
  NoRandomStart(const NoRandomStart&) = delete;
  NoRandomStart& operator=(const NoRandomStart&) = delete;
  ~NoRandomStart() { --count_; }

  static bool is_on() { return count_ > 0; }

 private:
  inline static thread_local int count_ = 0;
};

namespace detail {

/// Uniform in [low, high), from the global generator.
inline torch::Tensor uniform_start(const std::vector<int64_t>& shape, torch::Dtype dtype, double low, double high) {
  return NoRandomStart::is_on() ? at::zeros(shape, dtype) : at::empty(shape, dtype).uniform_(low, high);
}

}  // namespace detail

}  // namespace reft
