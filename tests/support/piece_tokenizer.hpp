#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reft/tokenizer/tokenizer.hpp"

namespace reft::test {

/// Token i is `pieces[i]`, any bytes; text is encoded by the longest piece that fits.
class PieceTokenizer : public TokenizerInterface {
 public:
  explicit PieceTokenizer(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}

  std::vector<int64_t> encode(std::string_view text, bool) const override {
    std::vector<int64_t> ids;
    while (!text.empty()) {
      size_t longest = 0;
      int64_t id = -1;
      for (size_t i = 0; i < pieces_.size(); ++i) {
        if (pieces_[i].size() <= longest || !text.starts_with(pieces_[i])) continue;
        longest = pieces_[i].size();
        id = static_cast<int64_t>(i);
      }
      if (id < 0) fail<TokenizerError>("PieceTokenizer", "no piece begins \"{}\"", text);
      ids.push_back(id);
      text.remove_prefix(longest);
    }
    return ids;
  }
  std::string decode(std::span<const int64_t> ids, bool) const override {
    std::string bytes;
    for (const int64_t id : ids) bytes += pieces_.at(static_cast<size_t>(id));
    return detail::to_valid_utf8(bytes);
  }
  std::optional<int64_t> id_of(std::string_view token) const override {
    for (size_t i = 0; i < pieces_.size(); ++i) {
      if (pieces_[i] == token) return static_cast<int64_t>(i);
    }
    return std::nullopt;
  }
  std::optional<std::string> token_of(int64_t id) const override { return pieces_.at(static_cast<size_t>(id)); }
  int64_t vocabulary_size() const override { return static_cast<int64_t>(pieces_.size()); }

 private:
  std::vector<std::string> pieces_;
};

inline Tokenizer piece_tokenizer(std::vector<std::string> pieces) {
  return Tokenizer(std::make_shared<PieceTokenizer>(std::move(pieces)));
}

/// 50 tokens, as many as the tiny model has: "a" to "z", "ab" to "xy" by twos, the halves of "é".
inline Tokenizer letter_tokenizer() {
  std::vector<std::string> pieces;
  for (char c = 'a'; c <= 'z'; ++c) pieces.emplace_back(1, c);
  for (char c = 'a'; pieces.size() < 48; ++c) pieces.push_back({c, static_cast<char>(c + 1)});
  pieces.push_back("\xC3");
  pieces.push_back("\xA9");
  return piece_tokenizer(std::move(pieces));
}

}  // namespace reft::test
