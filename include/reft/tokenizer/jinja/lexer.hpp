#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/jinja/text.hpp"
#include "reft/tokenizer/unicode.hpp"

namespace reft::detail::jinja {

enum class TokenKind { data, variable_begin, variable_end, block_begin, block_end, name, text, integer, floating, sign, end };

struct Token {
  TokenKind kind;
  std::string text;  // of a text: its characters; of the others: as written
  int line;
};

template <class... Args>
[[noreturn]] void fail_at(int line, fmt::format_string<Args...> message, Args&&... args) {
  fail<TokenizerError>("ChatTemplate", "line {}: {}", line, fmt::format(message, std::forward<Args>(args)...));
}

/// Cuts a template into tokens, with the whitespace rules of trim_blocks and lstrip_blocks: the line break after a
/// block or comment goes, and so do the blanks before one that begins its line; `-` takes all white space on its side,
/// `+` none.
/// Ref: jinja2 3.1, lexer.py.
class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_plain_line_breaks(to_valid_utf8(source))) {}

  std::vector<Token> tokens() && {
    while (at_ < source_.size()) {
      const std::size_t begin = next_opening();
      const std::string_view opening = std::string_view(source_).substr(begin, 2);
      if (opening.empty()) {
        add_data(rest().substr(0, begin - at_));
        at_ = begin;
        break;
      }
      const char sign = begin + 2 < source_.size() ? source_[begin + 2] : ' ';
      add_data(before_opening(begin, opening, sign));
      at_ = begin + (sign == '-' || sign == '+' ? 3 : 2);
      if (opening == "{#") skip_comment();
      else if (opening == "{{") read_tag(TokenKind::variable_begin, TokenKind::variable_end, "}}");
      else if (!skip_word_tag("raw")) read_tag(TokenKind::block_begin, TokenKind::block_end, "%}");
      else read_raw();
    }
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  /// Line breaks as \n; one at the very end goes.
  static std::string with_plain_line_breaks(std::string_view source) {
    std::string text;
    for (std::size_t i = 0; i < source.size(); ++i) {
      if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
      text += source[i] == '\r' ? '\n' : source[i];
    }
    if (text.ends_with('\n')) text.pop_back();
    return text;
  }

  template <class... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> message, Args&&... args) const {
    fail_at(line(), message, std::forward<Args>(args)...);
  }

  std::string_view rest() const { return std::string_view(source_).substr(at_); }

  int line() const {
    for (; counted_ < at_; ++counted_) line_ += source_[counted_] == '\n';
    return line_;
  }

  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line()}); }

  void add_data(std::string_view text) {
    if (!text.empty()) add(TokenKind::data, std::string(text));
  }

  std::size_t next_opening() const {
    for (std::size_t i = source_.find('{', at_); i != std::string::npos; i = source_.find('{', i + 1)) {
      const char next = i + 1 < source_.size() ? source_[i + 1] : ' ';
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return source_.size();
  }

  /// The text before a tag, without what its sign or the rules for blocks take.
  std::string_view before_opening(std::size_t begin, std::string_view opening, char sign) const {
    const std::string_view text = rest().substr(0, begin - at_);
    if (sign == '-') return stripped(text, false, true);
    if (sign == '+' || opening == "{{") return text;
    const std::size_t line_break = text.rfind('\n');
    const std::size_t line_begin = line_break == std::string_view::npos ? 0 : line_break + 1;
    const bool begins_line = line_begin > 0 || at_ == 0 || source_[at_ - 1] == '\n';
    return begins_line && stripped(text.substr(line_begin), true, false).empty() ? text.substr(0, line_begin) : text;
  }

  /// After the end of a tag whose last sign is `sign`.
  void trim_after(char sign, bool block) {
    if (sign == '-') at_ = source_.size() - stripped(rest(), true, false).size();
    else if (sign != '+' && block && rest().starts_with('\n')) ++at_;
  }

  void skip_comment() {
    const std::size_t end = source_.find("#}", at_);
    if (end == std::string::npos) reject("a comment has no end");
    const char sign = end > at_ ? source_[end - 1] : ' ';
    at_ = end + 2;
    trim_after(sign, true);
  }

  void skip_spaces() { at_ = source_.size() - stripped(rest(), true, false).size(); }

  /// Whether the tag that begins here is `word` alone; then behind it.
  bool skip_word_tag(std::string_view word) {
    const std::size_t begin = at_;
    skip_spaces();
    if (rest().starts_with(word)) {
      at_ += word.size();
      skip_spaces();
      const char sign = rest().empty() ? ' ' : rest()[0];
      if (sign == '-' || (sign == '+' && word == "endraw")) ++at_;
      if (rest().starts_with("%}")) {
        at_ += 2;
        trim_after(sign, word == "endraw");
        return true;
      }
    }
    at_ = begin;
    return false;
  }

  void read_raw() {
    const std::size_t begin = at_;
    for (std::size_t i = source_.find("{%", begin); i != std::string::npos; i = source_.find("{%", i + 1)) {
      const char sign = i + 2 < source_.size() ? source_[i + 2] : ' ';
      at_ = begin;
      const std::string_view text = before_opening(i, "{%", sign);
      at_ = i + (sign == '-' || sign == '+' ? 3 : 2);
      if (skip_word_tag("endraw")) return add_data(text);
    }
    at_ = begin;
    reject("a raw block has no end");
  }

  /// Whether the tag ends here; then behind it. Within brackets nothing ends it.
  bool skip_end(std::string_view closing) {
    const char sign = rest().empty() ? ' ' : rest()[0];
    const bool block = closing == "%}", has_sign = sign == '-' || (sign == '+' && block);
    if (!brackets_.empty() || !rest().substr(has_sign ? 1 : 0).starts_with(closing)) return false;
    at_ += closing.size() + (has_sign ? 1 : 0);
    trim_after(sign, block);
    return true;
  }

  void read_tag(TokenKind begin, TokenKind end, std::string_view closing) {
    add(begin, "");
    brackets_.clear();
    while (true) {
      skip_spaces();
      const int end_line = line();
      if (skip_end(closing)) {
        tokens_.push_back({end, "", end_line});
        return;
      }
      if (rest().empty()) reject("a tag has no end; expected \"{}\"", closing);
      read_token();
    }
  }

  void read_token() {
    const char c = source_[at_];
    if (c == '"' || c == '\'') return read_text(c);
    if (c >= '0' && c <= '9') return read_number();
    std::size_t length = 0;
    while (at_ + length < source_.size() && is_name_part(rest().substr(length))) length += utf8_length(source_[at_ + length]);
    if (length > 0) return take(TokenKind::name, length);
    for (const std::string_view sign : {"//", "**", "==", "!=", ">=", "<="}) {
      if (rest().starts_with(sign)) return take(TokenKind::sign, 2);
    }
    if (std::string_view("+-*/%~[](){}<>=.:|,").find(c) == std::string_view::npos) {
      reject("unexpected character \"{}\"", rest().substr(0, utf8_length(c)));
    }
    match_bracket(c);
    take(TokenKind::sign, 1);
  }

  static bool is_name_part(std::string_view text) {
    const char32_t c = first_code_point(text);
    return c == '_' || is_word_character(c);
  }

  void take(TokenKind kind, std::size_t length) {
    add(kind, std::string(rest().substr(0, length)));
    at_ += length;
  }

  void match_bracket(char c) {
    static constexpr std::string_view kOpening = "([{", kClosing = ")]}";
    if (kOpening.find(c) != std::string_view::npos) brackets_ += c;
    const std::size_t closing = kClosing.find(c);
    if (closing == std::string_view::npos) return;
    if (brackets_.empty() || brackets_.back() != kOpening[closing]) reject("unexpected \"{}\"", c);
    brackets_.pop_back();
  }

  void read_number() {
    const auto digits = [&](std::size_t from) {
      std::size_t end = from;
      const auto digit = [&](std::size_t i) { return i < source_.size() && source_[i] >= '0' && source_[i] <= '9'; };
      while (digit(end) || (end > from && source_[end] == '_' && digit(end + 1))) ++end;
      return end;
    };
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    std::size_t end = digits(at_);
    TokenKind kind = TokenKind::integer;
    if (!after_dot && end < source_.size() && source_[end] == '.' && digits(end + 1) > end + 1) {
      end = digits(end + 1);
      kind = TokenKind::floating;
    }
    if (!after_dot && end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const std::size_t sign = end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
      if (digits(end + 1 + sign) > end + 1 + sign) end = digits(end + 1 + sign), kind = TokenKind::floating;
    }
    take(kind, end - at_);
  }

  void read_text(char quote);

  std::string source_;
  std::size_t at_ = 0;
  std::string brackets_;  // open ones of the tag
  std::vector<Token> tokens_;
  mutable std::size_t counted_ = 0;  // where line_ is
  mutable int line_ = 1;
};

/// A quoted text with Python's escapes.
inline void Lexer::read_text(char quote) {
  const int first_line = line();
  std::string text;
  const auto hex = [&](std::size_t count) {
    const std::string digits(rest().substr(0, count));
    if (digits.size() < count || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
      reject("expected {} hexadecimal digits in a text", count);
    }
    at_ += count;
    const auto c = static_cast<char32_t>(std::stoul(digits, nullptr, 16));
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) reject("U+{} is no character", digits);
    append_code_point(text, c);
  };
  for (++at_; at_ < source_.size() && source_[at_] != quote;) {
    const char c = source_[at_++];
    if (c != '\\') {
      text += c;
      continue;
    }
    static constexpr std::string_view kNames = "abfnrtv\\'\"", kCharacters = "\a\b\f\n\r\t\v\\'\"";
    const char name = at_ < source_.size() ? source_[at_++] : ' ';
    if (const std::size_t found = kNames.find(name); found != std::string_view::npos) text += kCharacters[found];
    else if (name == 'x') hex(2);
    else if (name == 'u') hex(4);
    else if (name == 'U') hex(8);
    else if (name == 'N' || (name >= '0' && name <= '7')) reject("the escape \"\\{}\" is not supported", name);
    else if (name != '\n') text.append("\\") += name;
  }
  if (at_ == source_.size()) fail_at(first_line, "a text has no end; expected {}", quote);
  ++at_;
  tokens_.push_back({TokenKind::text, std::move(text), first_line});
}

}  // namespace reft::detail::jinja
