#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/vocabulary.hpp"

namespace reft::detail {

/// The tokens of a vocabulary as a tree of bytes: finds all tokens a text begins with in one walk.
/// Cost: one search among at most 256 bytes for each byte of the text; 9 bytes of memory a node.
class TokenTrie {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr Node kNone = ~Node{0};

  /// The strings that `tokens` points to are needed only here.
  explicit TokenTrie(std::vector<std::pair<std::string_view, int32_t>> tokens) {
    std::sort(tokens.begin(), tokens.end());
    std::vector<Range> ranges{{0, tokens.size(), 0}};
    labels_.push_back('\0');
    // Breadth first, so that the children of a node are neighbours.
    for (Node node = 0; node < ranges.size(); ++node) {
      auto [begin, end, depth] = ranges[node];
      ids_.push_back(-1);
      first_child_.push_back(static_cast<Node>(ranges.size()));
      for (; begin < end && tokens[begin].first.size() == depth; ++begin) ids_.back() = tokens[begin].second;
      while (begin < end) {
        const char label = tokens[begin].first[depth];
        const std::size_t first = begin;
        while (begin < end && tokens[begin].first[depth] == label) ++begin;
        ranges.push_back({first, begin, depth + 1});
        labels_.push_back(label);
      }
    }
    first_child_.push_back(static_cast<Node>(ranges.size()));
  }

  /// The child of `node` by the next byte, or kNone.
  Node child(Node node, char byte) const {
    const Node first = first_child_[node];
    const std::size_t count = first_child_[node + 1] - first;
    if (count == 0) return kNone;
    const void* found = std::memchr(labels_.data() + first, static_cast<unsigned char>(byte), count);
    return found ? static_cast<Node>(static_cast<const char*>(found) - labels_.data()) : kNone;
  }

  /// The node that the bytes of `text` lead to, or kNone.
  Node descend(std::string_view text) const {
    Node node = kRoot;
    for (std::size_t i = 0; i < text.size() && node != kNone; ++i) node = child(node, text[i]);
    return node;
  }

  /// Calls `visit(length, id)` for every token that `text` begins with, shortest first; the empty one is left out.
  /// Tokens are read from `from` on: their first bytes are those that led there.
  template <class Visit>
  void for_each_prefix(std::string_view text, Visit&& visit, Node from = kRoot) const {
    Node node = from;
    for (std::size_t length = 0; length < text.size();) {
      node = child(node, text[length++]);
      if (node == kNone) return;
      if (ids_[node] >= 0) visit(length, ids_[node]);
    }
  }

 private:
  /// Tokens that begin with the same `depth` bytes.
  struct Range {
    std::size_t begin, end, depth;
  };

  std::vector<char> labels_;       // the byte that leads to a node
  std::vector<Node> first_child_;  // those of node i end where those of i + 1 begin
  std::vector<int32_t> ids_;       // of the token that ends at a node, or -1
};

/// All tokens of a vocabulary.
inline TokenTrie make_token_trie(const Vocabulary& vocabulary) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  vocabulary.for_each([&](std::string_view token, int32_t id) { tokens.emplace_back(token, id); });
  return TokenTrie(std::move(tokens));
}

}  // namespace reft::detail
