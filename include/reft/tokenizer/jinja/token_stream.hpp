#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/lexer.hpp"

namespace reft::detail::jinja {

/// The tokens of a template, read one after the other, and how deep the parser is in it.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }

  bool at(TokenKind kind) const { return current().kind == kind; }
  bool at_sign(std::string_view sign) const { return at(TokenKind::sign) && current().text == sign; }
  bool at_word(std::string_view word) const { return at(TokenKind::name) && current().text == word; }
  bool at_word(std::initializer_list<std::string_view> words) const {
    return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return at_word(word); });
  }

  /// The current token; then behind it.
  Token take() { return at(TokenKind::end) ? current() : tokens_[at_++]; }

  bool skip_sign(std::string_view sign) { return at_sign(sign) && (take(), true); }
  bool skip_word(std::string_view word) { return at_word(word) && (take(), true); }

  void expect_sign(std::string_view sign) {
    if (!skip_sign(sign)) reject(fmt::format("\"{}\"", sign));
  }

  Token expect(TokenKind kind, std::string_view what) {
    if (!at(kind)) reject(what);
    return take();
  }

  [[noreturn]] void reject(std::string_view expected) const {
    static constexpr std::string_view kNames[] = {"text outside of a tag", "{{", "}}", "{%", "%}"};
    const auto kind = static_cast<std::size_t>(current().kind);
    const std::string got = at(TokenKind::end)          ? "the end of the template"
                            : kind < std::size(kNames) ? std::string(kNames[kind])
                                                       : fmt::format("\"{}\"", current().text);
    fail_at(line(), "expected {}, got {}", expected, got);
  }

  /// A level of nesting. Trees are no deeper than can be walked and freed recursively.
  class Level {
   public:
    explicit Level(TokenStream& stream) : stream_(stream) { deepen(); }
    ~Level() { stream_.depth_ -= levels_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

    /// One more link of a chain: a + b + c is as deep as it is long.
    void deepen() {
      if (stream_.depth_ == kDeepest) fail_at(stream_.line(), "nested or chained more than {} times", kDeepest);
      ++stream_.depth_;
      ++levels_;
    }

   private:
    static constexpr int kDeepest = 200;
    TokenStream& stream_;
    int levels_ = 0;
  };

 private:
  std::vector<Token> tokens_;  // the last is the end
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace reft::detail::jinja
