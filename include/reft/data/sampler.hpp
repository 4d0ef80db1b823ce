#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

#include "reft/data/mixture.hpp"
#include "reft/data/sampler_order.hpp"
#include "reft/error.hpp"

namespace reft {

/// Everything needed to go on where a sampler stood.
struct SamplerState {
  uint64_t seed = 0;
  int64_t epoch = 0;
  int64_t position = 0;  ///< examples of this epoch already handed out

  bool operator==(const SamplerState&) const = default;
};

inline void to_json(nlohmann::json& json, const SamplerState& state) {
  json = {{"seed", state.seed}, {"epoch", state.epoch}, {"position", state.position}};
}

inline void from_json(const nlohmann::json& json, SamplerState& state) {
  state = {json.at("seed"), json.at("epoch"), json.at("position")};
}

/// Hands out batches of example indices, epoch after epoch, each in an order of its own; the last batch of an epoch may
/// be smaller.
class Sampler {
 public:
  /// @throws ConfigError for no examples, an empty batch, or a mixture of another number of examples.
  Sampler(int64_t num_examples, int64_t batch_size, uint64_t seed, bool shuffle = true, Mixture mixture = {})
      : num_examples_(num_examples), batch_size_(batch_size), shuffle_(shuffle), mixture_(std::move(mixture)), state_{seed, 0, 0} {
    if (num_examples < 1 || batch_size < 1) {
      fail<ConfigError>("Sampler", "expected at least one example and a batch size of at least 1, got {} and {}",
                        num_examples, batch_size);
    }
    if (const auto mixed = std::accumulate(mixture_.sizes.begin(), mixture_.sizes.end(), int64_t{0});
        !mixture_.weights.empty() && mixed != num_examples) {
      fail<ConfigError>("Sampler", "expected a mixture of {} examples, got {}", num_examples, mixed);
    }
    reorder();
  }

  int64_t batches_per_epoch() const { return (num_examples_ - 1) / batch_size_ + 1; }

  /// The next batch. The epoch ends with the batch after which `state().position` is 0.
  std::vector<int64_t> next() {
    const int64_t size = std::min(batch_size_, num_examples_ - state_.position);
    const auto begin = order_.begin() + state_.position;
    std::vector<int64_t> batch(begin, begin + size);
    state_.position += size;
    if (state_.position == num_examples_) {
      state_.position = 0;
      ++state_.epoch;
      reorder();
    }
    return batch;
  }

  const SamplerState& state() const { return state_; }

  /// @throws ConfigError if the state does not belong to this many examples.
  void restore(const SamplerState& state) {
    if (state.epoch < 0 || state.position < 0 || state.position >= num_examples_) {
      fail<ConfigError>("Sampler", "epoch {}, position {} is not within {} examples", state.epoch, state.position,
                        num_examples_);
    }
    state_ = state;
    reorder();
  }

 private:
  void reorder() {
    if (!mixture_.weights.empty()) {
      order_ = mixed_order(mixture_, state_.seed, state_.epoch, shuffle_);
    } else if (shuffle_) {
      order_ = shuffled_order(num_examples_, state_.seed, state_.epoch);
    } else if (order_.empty()) {
      order_.resize(num_examples_);
      std::iota(order_.begin(), order_.end(), int64_t{0});
    }
  }

  int64_t num_examples_, batch_size_;
  bool shuffle_;
  Mixture mixture_;
  SamplerState state_;
  std::vector<int64_t> order_;
};

/// Splits off round(fraction · count) examples for evaluation, at least one, chosen by the seed; both parts keep the
/// order of the file.   @return (training, evaluation).
/// @throws ConfigError unless 0 < fraction < 1 and both parts hold an example.
template <class T>
std::pair<std::vector<T>, std::vector<T>> split_train_eval(std::vector<T> examples, double fraction, uint64_t seed) {
  const auto count = std::ssize(examples);
  if (!(fraction > 0 && fraction < 1) || count < 2) {
    fail<ConfigError>("split_train_eval", "expected a fraction between 0 and 1 of at least 2 examples, got {} of {}",
                      fraction, count);
  }
  const auto wanted = static_cast<int64_t>(std::llround(fraction * static_cast<double>(count)));
  const auto order = shuffled_order(count, seed);
  std::vector<bool> chosen(examples.size());
  for (int64_t i = 0; i < std::clamp<int64_t>(wanted, 1, count - 1); ++i) chosen[order[i]] = true;
  std::pair<std::vector<T>, std::vector<T>> parts;
  for (int64_t i = 0; i < count; ++i) (chosen[i] ? parts.second : parts.first).push_back(std::move(examples[i]));
  return parts;
}

}  // namespace reft
