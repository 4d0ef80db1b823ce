#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/token_trie.hpp"
#include "reft/tokenizer/unicode.hpp"
#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

struct WordPieceOptions {
  std::string unknown_token = "[UNK]";
  std::string continuing_subword_prefix = "##";  // begins every token of a word but the first
  int64_t longest_word = 100;                    // in characters; a longer one is unknown
};

/// WordPiece of one word: the longest token it begins with, then of the rest, and so on; a word that cannot be written
/// so is one unknown token as a whole.
/// Ref: Wu et al. 2016, arXiv:1609.08144; Song et al. 2021, arXiv:2012.15524.
class WordPiece {
 public:
  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, WordPieceOptions options)
      : trie_(make_token_trie(*vocabulary)),
        continuing_(trie_.descend(options.continuing_subword_prefix)),
        unknown_(vocabulary->find(options.unknown_token)),
        options_(std::move(options)) {}

  /// Appends the ids of `word`, well-formed UTF-8.
  /// @throws TokenizerError for an unknown word when the unknown token has no id.
  void encode(std::string_view word, std::vector<int64_t>& ids) const {
    const std::size_t before = ids.size();
    if (!is_longer(word) && append_tokens(word, ids)) return;
    if (unknown_ < 0) {
      fail<TokenizerError>("encode", "the word \"{}\" is unknown, and the vocabulary lacks the unknown token \"{}\"", word,
                           options_.unknown_token);
    }
    ids.resize(before);
    ids.push_back(unknown_);
  }

 private:
  bool is_longer(std::string_view word) const {
    if (word.size() <= static_cast<std::size_t>(options_.longest_word)) return false;
    int64_t length = 0;
    for_each_character(word, [&](char32_t, std::string_view) { ++length; });
    return length > options_.longest_word;
  }

  /// @return whether the whole word could be written.
  bool append_tokens(std::string_view word, std::vector<int64_t>& ids) const {
    TokenTrie::Node from = TokenTrie::kRoot;
    while (!word.empty()) {
      std::size_t longest = 0;
      int32_t id = -1;
      if (from != TokenTrie::kNone) {
        trie_.for_each_prefix(word, [&](std::size_t length, int32_t token) { longest = length, id = token; }, from);
      }
      if (longest == 0) return false;
      ids.push_back(id);
      word.remove_prefix(longest);
      from = continuing_;
    }
    return true;
  }

  TokenTrie trie_;
  TokenTrie::Node continuing_;  // where the tokens that continue a word begin
  int32_t unknown_;
  WordPieceOptions options_;
};

}  // namespace reft::detail
