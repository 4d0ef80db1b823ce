#pragma once

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <memory>
#include <string>
#include <string_view>

#include "reft/error.hpp"

namespace reft::detail {

/// Note [Pattern dialect]
/// Patterns in tokenizer files are written for Oniguruma, where \s is the property White_Space, \w has letters, marks,
/// decimal digits, connectors and the six Latin-1 superscripts and fractions, \h is a hexadecimal digit and ^ $ match
/// at every line. PCRE2 differs in each, so those are spelled out.
/// PCRE2's own \s has U+180E, its \w (before 10.43) lacks marks: both would change ids.
inline std::string to_pcre2_pattern(std::string_view pattern) {
  constexpr std::string_view space = R"(\p{White_Space})";
  constexpr std::string_view word = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
  std::string result;
  bool in_class = false;
  const auto append_set = [&](std::string_view members, bool negated) {
    if (in_class && negated) {
      fail<TokenizerError>("load_tokenizer", "pattern \"{}\": a negated \\S, \\W or \\H inside [ ] is not supported",
                           pattern);
    }
    if (in_class) result += members;
    else result.append(negated ? "[^" : "[").append(members).append("]");
  };
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      switch (const char escaped = pattern[++i]) {
        case 's':
        case 'S':
          append_set(space, escaped == 'S');
          break;
        case 'w':
        case 'W':
          append_set(word, escaped == 'W');
          break;
        case 'h':
        case 'H':
          append_set("0-9a-fA-F", escaped == 'H');
          break;
        default:
          result.append({c, escaped});
      }
      continue;
    }
    if (in_class && pattern.substr(i, 2) == "&&") {
      fail<TokenizerError>("load_tokenizer", "pattern \"{}\": set intersection && is not supported", pattern);
    }
    if (c == '[' && !in_class) in_class = true;
    else if (c == ']') in_class = false;
    result += c;
  }
  return result;
}

/// A pattern that matches `text` and nothing else.
inline std::string quoted_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view(R"(\^$.[]|()?*+{}-#)").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

/// A compiled pattern; cheap to copy, safe to share between threads.
class Regex {
 public:
  /// @throws TokenizerError if the pattern is not well-formed.
  explicit Regex(std::string_view pattern) : pattern_(pattern) {
    const std::string translated = to_pcre2_pattern(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
        pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context.get(), 100);
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get()),
                &pcre2_code_free);
    if (!code_) fail<TokenizerError>("load_tokenizer", "pattern \"{}\": {}", pattern, message(error));
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // without it matching is slower, not different
  }

  /// Calls `visit(begin, end)` for each match in the well-formed UTF-8 `text`, left to right.
  /// @throws TokenizerError if matching needs more steps or memory than PCRE2 allows.
  template <class Visit>
  void for_each_match(std::string_view text, Visit&& visit) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr), &pcre2_match_data_free);
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(match.get());
    std::size_t from = 0;
    while (from <= text.size() && find(text, from, match.get())) {
      visit(offsets[0], offsets[1]);
      from = offsets[1];
      if (offsets[0] == offsets[1]) {
        do ++from;
        while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80);
      }
    }
  }

 private:
  bool find(std::string_view text, std::size_t from, pcre2_match_data* match) const {
    const auto attempt = [&](uint32_t options) {
      return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                         PCRE2_NO_UTF_CHECK | options, match, nullptr);
    };
    int result = attempt(0);
    // The interpreter's stack is on the heap and larger.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = attempt(PCRE2_NO_JIT);
    if (result < 0 && result != PCRE2_ERROR_NOMATCH) {
      fail<TokenizerError>("encode", "pattern \"{}\": {}", pattern_, message(result));
    }
    return result >= 0;
  }

  static std::string message(int error) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(error, text, sizeof text);
    return reinterpret_cast<const char*>(text);
  }

  std::string pattern_;
  std::shared_ptr<pcre2_code> code_;
};

}  // namespace reft::detail
