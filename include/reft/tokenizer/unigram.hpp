#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/token_trie.hpp"
#include "reft/tokenizer/unicode.hpp"
#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

struct UnigramOptions {
  std::optional<int64_t> unknown_id;
  bool byte_fallback = false;  // what is unknown becomes its bytes, as tokens <0x00> … <0xFF>
};

/// Unigram language model: of all ways to write a word as tokens, the one with the largest sum of scores,
///   best(e) = max over tokens w that end at e of best(e − |w|) + score(w),
/// found by Viterbi in one pass over the characters. A character that is no token itself may be written as unknown, with
/// the smallest score less 10; neighbouring unknown ones are one token.
/// Ref: Kudo 2018, arXiv:1804.10959.
class Unigram {
 public:
  /// @param scores  by id; as many as the vocabulary has.
  Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores, UnigramOptions options)
      : vocabulary_(std::move(vocabulary)), trie_(make_token_trie(*vocabulary_)), scores_(std::move(scores)),
        options_(options) {
    if (!scores_.empty()) unknown_score_ = *std::min_element(scores_.begin(), scores_.end()) - 10.0;
    for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
      byte_tokens_[byte] = options_.byte_fallback ? vocabulary_->find(fmt::format("<0x{:02X}>", byte)) : -1;
    }
  }

  /// Appends the ids of `word`, well-formed UTF-8.
  /// @throws TokenizerError for an unknown character when there is no unknown token.
  void encode(std::string_view word, std::vector<int64_t>& ids) const {
    const std::vector<Step> best = best_path(word);
    std::vector<Piece> pieces;  // from the last to the first
    for (std::size_t end = word.size(); end > 0;) {
      const auto [score, id, begin] = best[end];
      const bool unknown = id == options_.unknown_id;
      if (unknown && !pieces.empty() && pieces.back().unknown) pieces.back().begin = begin;
      else pieces.push_back({begin, end, id, unknown});
      end = begin;
    }
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      if (piece->unknown) append_unknown(word.substr(piece->begin, piece->end - piece->begin), ids);
      else ids.push_back(piece->id);
    }
  }

 private:
  static constexpr int32_t kUnreached = -1;

  /// The best way to write the word up to some place: its score, and its last token.
  struct Step {
    double score = 0.0;
    int32_t id = kUnreached;
    std::size_t begin = 0;
  };

  struct Piece {
    std::size_t begin, end;
    int32_t id;
    bool unknown;
  };

  std::vector<Step> best_path(std::string_view word) const {
    std::vector<Step> best(word.size() + 1);
    const auto offer = [&](std::size_t begin, std::size_t end, double score, int32_t id) {
      const double total = score + best[begin].score;
      if (best[end].id == kUnreached || total > best[end].score) best[end] = {total, id, begin};
    };
    for (std::size_t begin = 0, length = 0; begin < word.size(); begin += length) {
      length = utf8_length(word[begin]);
      bool is_token = false;
      trie_.for_each_prefix(word.substr(begin), [&](std::size_t size, int32_t id) {
        offer(begin, begin + size, scores_[static_cast<std::size_t>(id)], id);
        is_token = is_token || size == length;
      });
      if (is_token) continue;
      if (!options_.unknown_id) {
        fail<TokenizerError>("encode", "\"{}\" is not in the vocabulary, and there is no unknown token",
                             word.substr(begin, length));
      }
      offer(begin, begin + length, unknown_score_, static_cast<int32_t>(*options_.unknown_id));
    }
    return best;
  }

  void append_unknown(std::string_view text, std::vector<int64_t>& ids) const {
    const auto byte_token = [&](char byte) { return byte_tokens_[static_cast<unsigned char>(byte)]; };
    if (const int32_t id = vocabulary_->find(text); id >= 0) {
      ids.push_back(id);
    } else if (std::all_of(text.begin(), text.end(), [&](char byte) { return byte_token(byte) >= 0; })) {
      for (const char byte : text) ids.push_back(byte_token(byte));
    } else {
      ids.push_back(*options_.unknown_id);
    }
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  TokenTrie trie_;
  std::vector<double> scores_;
  UnigramOptions options_;
  double unknown_score_ = 0.0;
  std::array<int32_t, 256> byte_tokens_{};
};

}  // namespace reft::detail
