#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "reft/error.hpp"
#include "reft/hook/parse_integer.hpp"

namespace reft {

/// When an intervention acts. Decoding step t is the forward that takes token t of the continuation, from 0.
///   prompt   on the prompt; decoding then runs the plain base: the edits live on in the KV cache
///   decode   on tokens being decoded
///   every    on both
/// The latter two may name steps: `decode:8` is the first 8, `every:2:8` the prompt and steps 2..7.
class Phase {
 public:
  static const Phase prompt, decode, every;

  /// The same in steps first..end-1 only.   @throws ConfigError unless 0 <= first < end, or for `prompt`, which has none.
  Phase in_steps(int64_t first, int64_t end) const {
    if (!decodes()) fail<ConfigError>("Phase", "prompt: it has no decoding steps; expected decode or every");
    if (first < 0 || first >= end) fail<ConfigError>("Phase", "expected steps first..end with 0 <= first < end, got {}..{}", first, end);
    return Phase(on_prompt_, first, end);
  }
  Phase first_steps(int64_t count) const { return in_steps(0, count); }

  constexpr bool on_prompt() const { return on_prompt_; }
  constexpr bool decodes() const { return first_step_ < end_step_; }
  constexpr bool at_step(int64_t step) const { return step >= first_step_ && step < end_step_; }

  /// Whether both act on the prompt, or in some decoding step.
  constexpr bool overlaps(const Phase& other) const {
    return (on_prompt_ && other.on_prompt_) || (first_step_ < other.end_step_ && other.first_step_ < end_step_);
  }

  /// Text that `parse_phase` reads back.
  std::string text() const {
    if (!decodes()) return "prompt";
    std::string text = on_prompt_ ? "every" : "decode";
    if (first_step_ > 0) text += fmt::format(":{}", first_step_);
    if (end_step_ < kNoEnd) text += fmt::format(":{}", end_step_);
    else if (first_step_ > 0) text += ":";
    return text;
  }

  bool operator==(const Phase&) const = default;

 private:
  static constexpr int64_t kNoEnd = std::numeric_limits<int64_t>::max();

  constexpr Phase(bool on_prompt, int64_t first_step, int64_t end_step)
      : on_prompt_(on_prompt), first_step_(first_step), end_step_(end_step) {}

  friend Phase parse_phase(std::string_view text);

  bool on_prompt_;
  int64_t first_step_, end_step_;
};

inline constexpr Phase Phase::prompt{true, 0, 0};
inline constexpr Phase Phase::decode{false, 0, Phase::kNoEnd};
inline constexpr Phase Phase::every{true, 0, Phase::kNoEnd};

inline std::string to_string(const Phase& phase) { return phase.text(); }

/// "prompt", "decode", "every", "decode:8" (the first 8 steps), "every:2:8" (steps 2..7), "decode:2:" (from step 2 on).
/// @throws ConfigError.
inline Phase parse_phase(std::string_view text) {
  const auto refuse = [&] {
    fail<ConfigError>("parse_phase", "\"{}\": expected prompt, decode or every, the latter with steps as in decode:8 or decode:2:8", text);
  };
  const auto number = [&](std::string_view digits) {
    const auto value = detail::parse_integer<int64_t>(digits);
    if (!value || *value < 0) refuse();
    return *value;
  };
  const auto colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const Phase& phase : {Phase::prompt, Phase::decode, Phase::every}) {
    if (phase.text() != name) continue;
    if (colon == std::string_view::npos) return phase;
    const std::string_view steps = text.substr(colon + 1);
    const auto second = steps.find(':');
    int64_t first = 0, end = Phase::kNoEnd;
    if (second == std::string_view::npos) {
      end = number(steps);
    } else {
      first = number(steps.substr(0, second));
      if (second + 1 < steps.size()) end = number(steps.substr(second + 1));
    }
    if (!phase.decodes() || first >= end) refuse();
    return phase.in_steps(first, end);
  }
  refuse();
  return Phase::prompt;
}

}  // namespace reft
