#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "reft/hook/phase.hpp"
#include "reft/hook/positions.hpp"
#include "reft/hook/site.hpp"
#include "reft/intervention/intervention.hpp"

namespace reft {

/// Where and when an intervention acts. `tie` says who shares one intervention: all positions, each group of the
/// expression ("f5" and "l5" apart), or nobody.
struct AttachOptions {
  std::optional<int> layer = {};
  Component component = Component::block_output;
  std::optional<int> head = {};
  std::string positions = "f1+l1";
  Tie tie = Tie::group;
  Phase phase = Phase::prompt;
  PositionRule position_rule = PositionRule::paper;
  std::vector<int64_t> token_ids = {};  ///< only where the token is one of these; empty: any

  Site site() const { return {layer, component, head}; }
};

/// One intervention and everywhere it acts.
struct Attachment {
  std::shared_ptr<InterventionBase> intervention;
  std::vector<Site> sites;  // more than one: shared across sites
  Positions positions;
  Phase phase = Phase::prompt;
  PositionRule position_rule = PositionRule::paper;
  std::string expression = positions.text();  // the positions of all that were attached together, "f1+l1"
  Tie tie = Tie::all;                          // and how they were split among them
  std::vector<int64_t> token_ids = {};         // only where the token is one of these; empty: any

  bool acts_on_token(int64_t id) const { return token_ids.empty() || std::find(token_ids.begin(), token_ids.end(), id) != token_ids.end(); }

  /// Whether the two can never want the same token, whatever their positions.
  bool wants_other_tokens(const Attachment& other) const {
    if (token_ids.empty() || other.token_ids.empty()) return false;
    return std::none_of(token_ids.begin(), token_ids.end(), [&](int64_t id) { return other.acts_on_token(id); });
  }
};

}  // namespace reft
