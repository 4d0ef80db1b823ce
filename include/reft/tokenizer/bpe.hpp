#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/unicode.hpp"
#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

/// Two neighbouring tokens that become one; the lowest rank goes first, then the leftmost.
struct BpeMerge {
  int32_t left;
  int32_t right;
  int32_t rank;
  int32_t merged;
};

struct BpeOptions {
  std::optional<std::string> unknown_token;
  std::string continuing_subword_prefix;  // put before every character of a word but the first
  std::string end_of_word_suffix;         // put after the last character of a word
  bool fuse_unknown = false;              // neighbouring unknown characters give one unknown token
  bool byte_fallback = false;             // an unknown character becomes its bytes, as tokens <0x00> … <0xFF>
  bool ignore_merges = false;             // a word that is a token as a whole stays one
};

/// Byte pair encoding of one word: its characters, merged pairwise until no pair of the list is left.
/// Cost: O(n log n) for a word of n characters, so that a text may be one word.
/// Ref: Sennrich et al. 2016, arXiv:1508.07909.
class Bpe {
 public:
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::vector<BpeMerge> merges, BpeOptions options)
      : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(std::move(options)) {
    index_merges();
    index_neighbours();
    for (int byte = 0; byte < 256; ++byte) {
      byte_tokens_[static_cast<std::size_t>(byte)] =
          options_.byte_fallback ? vocabulary_->find(fmt::format("<0x{:02X}>", byte)) : -1;
    }
    unknown_ = options_.unknown_token ? vocabulary_->find(*options_.unknown_token) : -1;
  }

  /// Appends the ids of `word`, well-formed UTF-8.
  /// @throws TokenizerError for an unknown character when the unknown token has no id.
  void encode(std::string_view word, std::vector<int64_t>& ids) const {
    if (word.size() > static_cast<std::size_t>(std::numeric_limits<int32_t>::max())) {
      fail<TokenizerError>("encode", "a word of {} bytes is longer than 2 GiB", word.size());
    }
    if (options_.ignore_merges) {
      if (const int32_t id = vocabulary_->find(word); id >= 0) return ids.push_back(id);
    }
    for_each_part(word, [&](std::string_view part) {
      std::vector<Symbol> symbols = characters(part);
      merge(symbols);
      for (const Symbol& symbol : symbols) {
        if (symbol.id != kMergedAway) ids.push_back(symbol.id);
      }
    });
  }

 private:
  static constexpr int32_t kMergedAway = -1;
  static constexpr int32_t kNone = -1;

  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;
  };

  struct Candidate {
    uint64_t order;  // rank, then position: the smallest goes first
    int32_t merged;
    bool operator>(const Candidate& other) const { return order > other.order; }
  };

  void index_merges() {
    // A pair that is listed twice counts by its last line.
    std::stable_sort(merges_.begin(), merges_.end(), [](const BpeMerge& a, const BpeMerge& b) {
      return std::pair(a.left, a.right) < std::pair(b.left, b.right);
    });
    const auto same_pair = [](const BpeMerge& a, const BpeMerge& b) {
      return a.left == b.left && a.right == b.right;
    };
    merges_.erase(merges_.begin(), std::unique(merges_.rbegin(), merges_.rend(), same_pair).base());
    first_merge_.assign(static_cast<std::size_t>(vocabulary_->end_id()) + 1, 0);
    for (const BpeMerge& m : merges_) ++first_merge_[static_cast<std::size_t>(m.left) + 1];
    for (std::size_t i = 1; i < first_merge_.size(); ++i) first_merge_[i] += first_merge_[i - 1];
  }

  static uint64_t neighbours(char32_t left, char32_t right) { return uint64_t{left} << 32 | right; }

  static bool is_byte_name(std::string_view token) { return token.size() == 6 && token.starts_with("<0x"); }

  /// The characters that meet in some merge: only between such can a token reach from one to the other.
  void index_neighbours() {
    separates_ = options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty();
    for (const BpeMerge& m : merges_) {
      const std::string &left = *vocabulary_->token(m.left), &right = *vocabulary_->token(m.right);
      separates_ = separates_ && !left.empty() && !right.empty() && !is_byte_name(left) && !is_byte_name(right);
      if (!separates_) return;
      meeting_.insert(neighbours(first_code_point(std::string_view(left).substr(last_character_begin(left))),
                                 first_code_point(right)));
    }
    vocabulary_->for_each([&](std::string_view token, int32_t) {
      if (!token.empty() && token.size() == utf8_length(token[0])) known_.insert(first_code_point(token));
    });
  }

  /// Cuts a long word between known characters that no merge brings together, which changes no id: a text that is one
  /// word then costs what its words cost.
  template <class Visit>
  void for_each_part(std::string_view word, Visit&& visit) const {
    constexpr std::size_t kLongWord = 64;
    if (!separates_ || word.size() <= kLongWord) return visit(word);
    std::size_t begin = 0, end = 0;
    char32_t previous = 0;
    bool previous_known = false;
    for_each_character(word, [&](char32_t c, std::string_view bytes) {
      const bool is_known = known_.contains(c);
      if (end > begin && is_known && previous_known && !meeting_.contains(neighbours(previous, c))) {
        visit(word.substr(begin, end - begin));
        begin = end;
      }
      previous = c, previous_known = is_known;
      end += bytes.size();
    });
    visit(word.substr(begin));
  }

  const BpeMerge* find_merge(int32_t left, int32_t right) const {
    const auto begin = merges_.begin() + first_merge_[static_cast<std::size_t>(left)];
    const auto end = merges_.begin() + first_merge_[static_cast<std::size_t>(left) + 1];
    const auto found = std::lower_bound(begin, end, right, [](const BpeMerge& m, int32_t id) { return m.right < id; });
    return found != end && found->right == right ? &*found : nullptr;
  }

  std::vector<Symbol> characters(std::string_view word) const {
    std::vector<Symbol> symbols;
    symbols.reserve(word.size());
    const auto add = [&](int32_t id) {
      const auto position = static_cast<int32_t>(symbols.size());
      symbols.push_back({id, position - 1, position + 1});
    };
    int32_t pending_unknown = kNone;
    const auto flush_unknown = [&] {
      if (pending_unknown != kNone) add(std::exchange(pending_unknown, kNone));
    };
    std::string decorated;
    for (std::size_t begin = 0, length = 0; begin < word.size(); begin += length) {
      length = utf8_length(word[begin]);
      const std::string_view text = with_affixes(word, begin, length, decorated);
      if (const int32_t id = vocabulary_->find(text); id >= 0) {
        flush_unknown();
        add(id);
      } else if (has_byte_tokens(text)) {
        for (const char byte : text) add(byte_tokens_[static_cast<unsigned char>(byte)]);
      } else if (options_.unknown_token) {
        if (unknown_ < 0) {
          fail<TokenizerError>("encode", "\"{}\" is not in the vocabulary, nor is the unknown token \"{}\"", text,
                               *options_.unknown_token);
        }
        if (!options_.fuse_unknown) flush_unknown();
        pending_unknown = unknown_;
      }
    }
    flush_unknown();
    if (!symbols.empty()) symbols.back().next = kNone;
    return symbols;
  }

  std::string_view with_affixes(std::string_view word, std::size_t begin, std::size_t length,
                                std::string& decorated) const {
    const std::string_view text = word.substr(begin, length);
    const bool continues = begin > 0 && !options_.continuing_subword_prefix.empty();
    const bool ends = begin + length == word.size() && !options_.end_of_word_suffix.empty();
    if (!continues && !ends) return text;
    decorated = continues ? options_.continuing_subword_prefix : "";
    decorated += text;
    if (ends) decorated += options_.end_of_word_suffix;
    return decorated;
  }

  bool has_byte_tokens(std::string_view text) const {
    return std::all_of(text.begin(), text.end(),
                       [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)] >= 0; });
  }

  void merge(std::vector<Symbol>& symbols) const {
    std::vector<Candidate> heap;
    const auto candidate_at = [&](int32_t position) -> std::optional<Candidate> {
      const Symbol& left = symbols[static_cast<std::size_t>(position)];
      if (left.next == kNone) return std::nullopt;
      const BpeMerge* pair = find_merge(left.id, symbols[static_cast<std::size_t>(left.next)].id);
      if (!pair) return std::nullopt;
      return Candidate{static_cast<uint64_t>(pair->rank) << 32 | static_cast<uint32_t>(position), pair->merged};
    };
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      if (const auto candidate = candidate_at(static_cast<int32_t>(i))) heap.push_back(*candidate);
    }
    std::make_heap(heap.begin(), heap.end(), std::greater{});
    const auto push = [&](int32_t position) {
      const auto candidate = candidate_at(position);
      if (!candidate) return;
      heap.push_back(*candidate);
      std::push_heap(heap.begin(), heap.end(), std::greater{});
    };
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), std::greater{});
      const Candidate top = heap.back();
      heap.pop_back();
      const auto position = static_cast<int32_t>(top.order & 0xFFFFFFFF);
      Symbol& left = symbols[static_cast<std::size_t>(position)];
      if (left.id == kMergedAway || left.next == kNone) continue;
      Symbol& right = symbols[static_cast<std::size_t>(left.next)];
      const BpeMerge* pair = find_merge(left.id, right.id);
      if (!pair || pair->merged != top.merged) continue;  // one of the two has merged elsewhere since
      left.id = top.merged;
      right.id = kMergedAway;
      left.next = right.next;
      if (left.next != kNone) symbols[static_cast<std::size_t>(left.next)].previous = position;
      if (left.previous != kNone) push(left.previous);
      push(position);
    }
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<BpeMerge> merges_;       // sorted by left, then right
  std::vector<uint32_t> first_merge_;  // where the merges of a left id begin
  BpeOptions options_;
  std::unordered_set<uint64_t> meeting_;   // see neighbours()
  std::unordered_set<char32_t> known_;     // characters that are tokens
  bool separates_ = false;                 // whether these say where a word may be cut
  std::array<int32_t, 256> byte_tokens_{};
  int32_t unknown_ = -1;
};

}  // namespace reft::detail
