#pragma once

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "reft/tokenizer/normalizer.hpp"
#include "reft/tokenizer/unicode.hpp"
#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

/// A token that is looked for in the text itself, before the model sees it.
struct AddedToken {
  int64_t id = -1;
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space after it along
  bool normalized = true;    // looked for in the normalized text, in its own normalized form
  bool special = false;      // left out by decode(…, skip_special_tokens = true)
};

/// Finds the leftmost, then longest, of many literal strings.
class LiteralMatcher {
 public:
  struct Match {
    std::size_t begin;
    std::size_t end;
    int64_t id;
  };

  /// The first of equal strings counts; empty ones match nothing.
  void add(std::string literal, int64_t id) {
    if (literal.empty()) return;
    const auto place = std::lower_bound(literals_.begin(), literals_.end(), literal,
                                        [](const auto& entry, const std::string& key) { return entry.first < key; });
    if (place != literals_.end() && place->first == literal) return;
    first_bytes_.set(static_cast<unsigned char>(literal[0]));
    literals_.emplace(place, std::move(literal), id);
  }

  bool empty() const { return literals_.empty(); }

  std::optional<Match> find(std::string_view text, std::size_t from) const {
    for (std::size_t begin = from; begin < text.size(); ++begin) {
      if (!first_bytes_.test(static_cast<unsigned char>(text[begin]))) continue;
      if (const auto match = longest_at(text, begin)) return match;
    }
    return std::nullopt;
  }

 private:
  std::optional<Match> longest_at(std::string_view text, std::size_t begin) const {
    std::optional<Match> longest;
    auto first = literals_.begin(), last = literals_.end();
    // Narrows the sorted list to the strings that go on as the text does, one byte at a time.
    for (std::size_t length = 0; first != last && begin + length < text.size(); ++length) {
      const auto byte = static_cast<unsigned char>(text[begin + length]);
      const auto byte_at = [length](const auto& entry) {
        return length < entry.first.size() ? int{static_cast<unsigned char>(entry.first[length])} : -1;
      };
      first = std::partition_point(first, last, [&](const auto& entry) { return byte_at(entry) < byte; });
      last = std::partition_point(first, last, [&](const auto& entry) { return byte_at(entry) == byte; });
      if (first != last && first->first.size() == length + 1) longest = Match{begin, begin + length + 1, first->second};
    }
    return longest;
  }

  std::vector<std::pair<std::string, int64_t>> literals_;
  std::bitset<256> first_bytes_;
};

/// The added tokens of a tokenizer: their ids, and where they stand in a text.
class AddedTokens {
 public:
  /// A stretch of text, or an added token.
  struct Segment {
    std::size_t begin;
    std::size_t end;
    std::optional<int64_t> id;
  };

  AddedTokens() = default;

  /// @throws TokenizerError, speaking of `place`, for a string or an id that is there twice.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer, std::string_view place) {
    std::stable_partition(tokens.begin(), tokens.end(), [](const AddedToken& token) { return token.special; });
    for (AddedToken& token : tokens) {
      if (token.content.empty()) continue;
      names_.add(token.content, token.id, place);
      if (token.normalized) in_normalized_text_.add(normalizer ? normalizer(token.content) : token.content, token.id);
      else in_raw_text_.add(token.content, token.id);
      tokens_.emplace(token.id, std::move(token));
    }
  }

  std::vector<Segment> split_raw(std::string_view text) const { return split(text, in_raw_text_); }
  std::vector<Segment> split_normalized(std::string_view text) const { return split(text, in_normalized_text_); }

  const Vocabulary& names() const { return names_; }
  bool is_special(int64_t id) const {
    const auto token = tokens_.find(id);
    return token != tokens_.end() && token->second.special;
  }

 private:
  std::vector<Segment> split(std::string_view text, const LiteralMatcher& matcher) const {
    std::vector<Segment> segments;
    std::size_t covered = 0, from = 0;
    while (const auto match = matcher.empty() ? std::nullopt : matcher.find(text, from)) {
      from = match->end;
      const AddedToken& token = tokens_.at(match->id);
      auto [begin, end, id] = *match;
      if (token.single_word && touches_word(text, begin, end)) continue;
      if (token.lstrip) begin = std::max(covered, stripped(text.substr(0, begin), false, true).size());
      if (token.rstrip) end = text.size() - stripped(text.substr(end), true, false).size();
      if (covered < begin) segments.push_back({covered, begin, std::nullopt});
      segments.push_back({begin, end, id});
      covered = end;
    }
    if (covered < text.size()) segments.push_back({covered, text.size(), std::nullopt});
    return segments;
  }

  static bool touches_word(std::string_view text, std::size_t begin, std::size_t end) {
    const std::string_view before = text.substr(0, begin), after = text.substr(end);
    return (!before.empty() && is_word_character(first_code_point(before.substr(last_character_begin(before))))) ||
           (!after.empty() && is_word_character(first_code_point(after)));
  }

  Vocabulary names_;
  std::unordered_map<int64_t, AddedToken> tokens_;
  LiteralMatcher in_raw_text_;
  LiteralMatcher in_normalized_text_;
};

}  // namespace reft::detail
