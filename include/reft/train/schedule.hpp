#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

#include "reft/error.hpp"

namespace reft {

/// How the learning rate falls after warm-up: straight to 0, along half a cosine to 0, or not at all.
enum class ScheduleKind { linear, cosine, constant };

inline std::string_view to_string(ScheduleKind kind) {
  return kind == ScheduleKind::linear ? "linear" : kind == ScheduleKind::cosine ? "cosine" : "constant";
}

/// @throws ConfigError for other names.
inline ScheduleKind parse_schedule(std::string_view name) {
  for (const ScheduleKind kind : {ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::constant}) {
    if (to_string(kind) == name) return kind;
  }
  fail<ConfigError>("parse_schedule", "\"{}\": expected linear, cosine or constant", name);
}

/// The factor of the learning rate at each optimizer step, as in transformers.
///   s / w for s < w, then 1 − p, (1 + cos πp) / 2 or 1, with p = (s − w) / (n − w)
/// for step s (from 0) of n, and w = ceil(warmup_ratio · n) steps of warm-up.
class LearningRateSchedule {
 public:
  /// @throws ConfigError for a ratio outside [0, 1].
  LearningRateSchedule(ScheduleKind kind, int64_t total_steps, double warmup_ratio = 0.0)
      : kind_(kind), total_steps_(total_steps) {
    if (!(warmup_ratio >= 0.0 && warmup_ratio <= 1.0)) {
      fail<ConfigError>("LearningRateSchedule", "expected a warm-up ratio from 0 to 1, got {}", warmup_ratio);
    }
    warmup_steps_ = static_cast<int64_t>(std::ceil(warmup_ratio * static_cast<double>(total_steps)));
  }

  int64_t warmup_steps() const { return warmup_steps_; }

  double factor(int64_t step) const {
    if (step < warmup_steps_) return static_cast<double>(step) / static_cast<double>(warmup_steps_);
    const auto rest = static_cast<double>(std::max<int64_t>(1, total_steps_ - warmup_steps_));
    const double progress = std::min(1.0, static_cast<double>(step - warmup_steps_) / rest);
    switch (kind_) {
      case ScheduleKind::linear: return 1.0 - progress;
      case ScheduleKind::cosine: return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
      default: return 1.0;
    }
  }

 private:
  ScheduleKind kind_;
  int64_t total_steps_;
  int64_t warmup_steps_ = 0;
};

}  // namespace reft
