#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/hook/parse_integer.hpp"

namespace reft {

/// How prefix and suffix groups shrink on a prompt of n tokens that is too short for them.
/// paper:  p <- min(p, n/2),  s <- min(s, (n+1)/2)      (integer division: the two never meet)
/// pyreft: p <- min(p, n/2),  s <- min(s, n/2)          (its `get_intervention_locations`)
/// pyreft_shifted: pyreft's on the prompt without its last token, as ReftSupervisedDataset, ReftGenerationDataset and
///   ReftClassificationDataset have it; ReftPreferenceDataset and make_multiple_position_… have `pyreft`.
/// What pyreft fills up with sinks is left out here. The pad token before each row, where most of its sinks are, is never
/// seen by another token; make_multiple_position_… edits the first answer token instead, once for every slot left over.
enum class PositionRule { paper, pyreft, pyreft_shifted };

/// Which positions share one intervention: all of them, those of one term, or none.
enum class Tie { all, group, position };

inline std::string_view to_string(PositionRule rule) {
  return rule == PositionRule::paper ? "paper" : rule == PositionRule::pyreft ? "pyreft" : "pyreft_shifted";
}

inline std::string_view to_string(Tie tie) {
  return tie == Tie::all ? "all" : tie == Tie::group ? "group" : "position";
}

/// @throws ConfigError.
inline PositionRule parse_position_rule(std::string_view text) {
  for (auto rule : {PositionRule::paper, PositionRule::pyreft, PositionRule::pyreft_shifted}) {
    if (text == to_string(rule)) return rule;
  }
  fail<ConfigError>("parse_position_rule", "\"{}\": expected paper, pyreft or pyreft_shifted", text);
}

/// @throws ConfigError.
inline Tie parse_tie(std::string_view text) {
  for (auto tie : {Tie::all, Tie::group, Tie::position}) {
    if (text == to_string(tie)) return tie;
  }
  fail<ConfigError>("parse_tie", "\"{}\": expected all, group or position", text);
}

/// One term of a position expression.
///   prefix f<count>   suffix l<count>   all   index <begin>   range <begin>:<end> (half open, as in Python)
/// Negative numbers count from the end of the prompt. `member` keeps only one position of a group: `f5[2]` is
/// the third of the five prefix positions, and exists only where the prompt is long enough for it.
struct PositionTerm {
  enum class Kind { prefix, suffix, all, index, range };

  Kind kind = Kind::all;
  int64_t count = 0;                // prefix, suffix
  int64_t begin = 0;                // index, range
  std::optional<int64_t> end = {};  // range; none = to the end of the prompt
  std::optional<int64_t> member = {};

  bool operator==(const PositionTerm&) const = default;
};

/// "f5", "l5[4]", "all", "-1", "0:4", "-4:".
inline std::string to_string(const PositionTerm& term) {
  using Kind = PositionTerm::Kind;
  std::string text;
  switch (term.kind) {
    case Kind::prefix:
      text = fmt::format("f{}", term.count);
      break;
    case Kind::suffix:
      text = fmt::format("l{}", term.count);
      break;
    case Kind::all:
      text = "all";
      break;
    case Kind::index:
      text = fmt::format("{}", term.begin);
      break;
    case Kind::range:
      text = fmt::format("{}:{}", term.begin, term.end ? fmt::format("{}", *term.end) : "");
      break;
  }
  if (term.member) text += fmt::format("[{}]", *term.member);
  return text;
}

namespace detail {

/// Half-open range of prompt positions; it may reach outside the prompt.
struct Span {
  int64_t begin = 0, end = 0;
};

/// The positions a term means on a prompt of n tokens, after the rule's cap.
inline Span span_of(const PositionTerm& term, int64_t n, PositionRule rule) {
  using Kind = PositionTerm::Kind;
  if (rule == PositionRule::pyreft_shifted) n = std::max<int64_t>(n - 1, 0);
  const auto absolute = [&](int64_t index) { return index < 0 ? n + index : index; };
  Span whole, kept;
  switch (term.kind) {
    case Kind::prefix:
      whole = {0, term.count};
      kept = {0, std::min(term.count, n / 2)};
      break;
    case Kind::suffix:
      whole = {n - term.count, n};
      kept = {n - std::min(term.count, rule == PositionRule::paper ? (n + 1) / 2 : n / 2), n};
      break;
    case Kind::all:
      kept = whole = {0, n};
      break;
    case Kind::index:
      kept = whole = {absolute(term.begin), absolute(term.begin) + 1};
      break;
    case Kind::range:
      kept = whole = {absolute(term.begin), term.end ? absolute(*term.end) : n};
      break;
  }
  if (term.member) {
    const int64_t position = whole.begin + *term.member;
    return position >= kept.begin && position < kept.end ? Span{position, position + 1} : Span{position, position};
  }
  return kept;
}

/// How many positions a group has on a long enough prompt; none where that depends on the prompt's length.
inline std::optional<int64_t> group_size(const PositionTerm& term) {
  using Kind = PositionTerm::Kind;
  switch (term.kind) {
    case Kind::prefix:
    case Kind::suffix:
      return term.count;
    case Kind::index:
      return 1;
    case Kind::all:
      return std::nullopt;
    case Kind::range:
      break;
  }
  if (!term.end) return term.begin < 0 ? std::optional<int64_t>(-term.begin) : std::nullopt;
  return (term.begin < 0) == (*term.end < 0) ? std::optional<int64_t>(*term.end - term.begin) : std::nullopt;
}

// Numbers stay far below this prompt length, so what two terms share there, they share on every long prompt.
inline constexpr int64_t kLongPrompt = int64_t{1} << 40;
inline constexpr int64_t kLargestPosition = int64_t{1} << 31;

/// One term, or nothing if the text is not one.
inline std::optional<PositionTerm> parse_position_term(std::string_view text) {
  using Kind = PositionTerm::Kind;
  const auto number = [](std::string_view digits) {
    const auto value = parse_integer<int64_t>(digits);
    return value && *value < kLargestPosition && *value > -kLargestPosition ? value : std::nullopt;
  };
  PositionTerm term;
  if (text.ends_with(']')) {
    const auto bracket = text.find('[');
    if (bracket == std::string_view::npos) return std::nullopt;
    term.member = number(text.substr(bracket + 1, text.size() - bracket - 2));
    if (!term.member || *term.member < 0) return std::nullopt;
    text = text.substr(0, bracket);
  }
  if (text == "all") {
    if (term.member) return std::nullopt;
    return term;
  }
  if (text.starts_with('f') || text.starts_with('l')) {
    const auto count = number(text.substr(1));
    if (!count || *count < 1) return std::nullopt;
    term.kind = text[0] == 'f' ? Kind::prefix : Kind::suffix;
    term.count = *count;
  } else if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    const auto begin = colon == 0 ? 0 : number(text.substr(0, colon));
    if (!begin) return std::nullopt;
    term.kind = Kind::range;
    term.begin = *begin;
    if (colon + 1 < text.size() && !(term.end = number(text.substr(colon + 1)))) return std::nullopt;
  } else {
    const auto index = number(text);
    if (!index || term.member) return std::nullopt;
    term.kind = Kind::index;
    term.begin = *index;
  }
  if (term.member && !(group_size(term) > *term.member)) return std::nullopt;
  return term;
}

}  // namespace detail

/// A parsed position expression: `f<n>`, `l<n>`, `all`, an index (`3`, `-1`) or a range (`0:4`, `-4:`), joined by '+'.
class Positions {
 public:
  /// @throws ConfigError where the text is malformed, a range is empty, or two terms share a token of every long
  ///   enough prompt ("f3+0:2", "all+f1", "3+3"). f and l never do.
  static Positions parse(std::string_view text);

  const std::vector<PositionTerm>& terms() const { return terms_; }

  /// Canonical text: `parse(text())` equals this.
  std::string text() const {
    std::vector<std::string> parts;
    for (const auto& term : terms_) parts.push_back(to_string(term));
    return fmt::format("{}", fmt::join(parts, "+"));
  }

  /// One Positions per intervention: all = {this}, group = one per term, position = one per single position.
  /// @throws ConfigError for `position` where a term's length depends on the prompt (`all`, `1:-1`) or is huge.
  std::vector<Positions> split(Tie tie) const;

  /// Token indices (0 = the prompt's first token) on a prompt of that many tokens: term by term, ascending inside
  /// a term, no index twice (the first term keeps it). An index outside the prompt is dropped and added to *dropped.
  std::vector<int64_t> resolve(int64_t prompt_length, PositionRule rule, int64_t* dropped = nullptr) const;

  /// Whether a token being decoded belongs to these positions. It is the newest last position, so `all`, `l<n>` and
  /// the last member of `l<n>` act on it; prefixes, indices and ranges name tokens of the prompt.
  bool acts_on_decoded_tokens() const {
    return std::any_of(terms_.begin(), terms_.end(), [](const PositionTerm& term) {
      return term.kind == PositionTerm::Kind::all ||
             (term.kind == PositionTerm::Kind::suffix && term.member.value_or(term.count - 1) == term.count - 1);
    });
  }

  bool operator==(const Positions&) const = default;

 private:
  explicit Positions(std::vector<PositionTerm> terms) : terms_(std::move(terms)) {}

  std::vector<PositionTerm> terms_;
};

inline Positions Positions::parse(std::string_view text) {
  std::vector<PositionTerm> terms;
  for (std::size_t start = 0; start <= text.size();) {
    const auto plus = std::min(text.find('+', start), text.size());
    const auto term = detail::parse_position_term(text.substr(start, plus - start));
    if (!term) {
      fail<ConfigError>("parse_positions", "\"{}\": expected f<n>, l<n>, all, an index or a range, joined by '+'",
                        text);
    }
    terms.push_back(*term);
    start = plus + 1;
  }
  const auto far_span = [](const PositionTerm& term) {
    return detail::span_of(term, detail::kLongPrompt, PositionRule::paper);
  };
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto span = far_span(terms[i]);
    if (span.begin >= span.end) fail<ConfigError>("parse_positions", "\"{}\": {} is empty", text, to_string(terms[i]));
    for (std::size_t j = 0; j < i; ++j) {
      const auto earlier = far_span(terms[j]);
      if (span.begin < earlier.end && earlier.begin < span.end) {
        fail<ConfigError>("parse_positions", "\"{}\": {} and {} overlap; name each token once", text,
                          to_string(terms[j]), to_string(terms[i]));
      }
    }
  }
  return Positions(std::move(terms));
}

inline std::vector<Positions> Positions::split(Tie tie) const {
  if (tie == Tie::all) return {*this};
  constexpr int64_t kMostMembers = 65536;
  std::vector<Positions> parts;
  for (const auto& term : terms_) {
    if (tie == Tie::group || term.member || term.kind == PositionTerm::Kind::index) {
      parts.push_back(Positions({term}));
      continue;
    }
    const auto size = detail::group_size(term);
    if (!size || *size > kMostMembers) {
      fail<ConfigError>("split_positions", "\"{}\": {} has {} positions, so it cannot be tied by position; use group",
                        text(), to_string(term), size ? "too many" : "as many as the prompt");
    }
    for (int64_t k = 0; k < *size; ++k) {
      auto member = term;
      member.member = k;
      parts.push_back(Positions({member}));
    }
  }
  return parts;
}

/// The same for several expressions of one site, each with its rule: part i's indices, where an earlier part keeps a
/// shared index.
/// @param wants  whether a part takes a position that is its own by the expression; by default it does.
inline std::vector<std::vector<int64_t>> resolve_disjoint(const std::vector<Positions>& parts, int64_t prompt_length,
                                                          const std::vector<PositionRule>& rules, int64_t* dropped = nullptr,
                                                          const std::function<bool(std::size_t part, int64_t position)>& wants = {}) {
  if (prompt_length < 0) fail<ConfigError>("resolve_positions", "expected a prompt length, got {}", prompt_length);
  std::vector<std::vector<int64_t>> rows(parts.size());
  std::vector<bool> taken(static_cast<std::size_t>(prompt_length), false);
  int64_t outside = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const auto& term : parts[i].terms()) {
      const auto span = detail::span_of(term, prompt_length, rules[i]);
      const int64_t begin = std::clamp<int64_t>(span.begin, 0, prompt_length);
      const int64_t end = std::clamp<int64_t>(span.end, begin, prompt_length);
      outside += std::max<int64_t>(span.end - span.begin, 0) - (end - begin);
      for (int64_t position = begin; position < end; ++position) {
        if (taken[position] || (wants && !wants(i, position))) continue;
        taken[position] = true;
        rows[i].push_back(position);
      }
    }
  }
  if (dropped) *dropped += outside;
  return rows;
}

inline std::vector<int64_t> Positions::resolve(int64_t prompt_length, PositionRule rule, int64_t* dropped) const {
  return resolve_disjoint({*this}, prompt_length, {rule}, dropped).front();
}

}  // namespace reft
