#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "reft/train/communicator.hpp"

namespace reft {

// Note [Data-parallel steps]
// Every rank holds the whole model and computes its share of each batch. Losses and gradients are sums that are divided once,
// by the terms of the whole step, so that adding them up over ranks gives what one process would have computed. All that
// a step adds up goes in one message, in float64: the sum is then that of one process to its last float32 bit but one.

/// The examples of a batch that a rank computes: every size-th.
inline std::vector<int64_t> share_of(const std::vector<int64_t>& batch, const Communicator& communicator) {
  std::vector<int64_t> own;
  for (int64_t i = communicator.rank(); i < static_cast<int64_t>(batch.size()); i += communicator.size()) own.push_back(batch[i]);
  return own;
}

/// Replaces gradients and sums by theirs over all ranks.
/// @param gradients  1-D, of one device; written in place.   @param sums  equally many on all ranks.
inline void all_reduce(Communicator& communicator, const std::vector<torch::Tensor>& gradients, std::vector<double>& sums) {
  torch::NoGradGuard no_grad;
  const auto wide = torch::TensorOptions(torch::kFloat64).device(communicator.device());
  std::vector<torch::Tensor> parts{torch::tensor(sums, wide)};
  for (const torch::Tensor& gradient : gradients) parts.push_back(gradient.to(wide));
  torch::Tensor message = torch::cat(parts);
  communicator.all_reduce_sum(message);
  int64_t first = static_cast<int64_t>(sums.size());
  const torch::Tensor summed = message.narrow(0, 0, first).cpu();
  std::copy_n(summed.const_data_ptr<double>(), first, sums.begin());
  for (const torch::Tensor& gradient : gradients) {
    torch::Tensor(gradient).copy_(message.narrow(0, first, gradient.numel()));
    first += gradient.numel();
  }
}

/// @param run  all that must be the same on every rank.
/// @throws ConfigError, on every rank, unless it is. The message has one length whatever the ranks hold.
inline void check_ranks_agree(Communicator& communicator, std::string_view run) {
  const uint64_t hash = std::hash<std::string_view>{}(run);
  const double low = static_cast<double>(hash & 0xFFFFF), high = static_cast<double>(hash >> 44);  // their squares are exact
  torch::Tensor sums = torch::tensor({low, high, low * low, high * high}, torch::TensorOptions(torch::kFloat64).device(communicator.device()));
  communicator.all_reduce_sum(sums);
  const torch::Tensor found = sums.cpu();
  const double* const s = found.const_data_ptr<double>();
  const auto size = static_cast<double>(communicator.size());
  if (size * s[2] == s[0] * s[0] && size * s[3] == s[1] * s[1]) return;  // numbers whose variance is 0
  fail<ConfigError>("Trainer", "rank {} of {}: the ranks differ in examples, options, interventions or checkpoint; start all of them alike",
                    communicator.rank(), communicator.size());
}

}  // namespace reft
