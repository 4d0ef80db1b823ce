#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/expression_parser.hpp"
#include "reft/tokenizer/jinja/globals.hpp"
#include "reft/tokenizer/jinja/lexer.hpp"
#include "reft/tokenizer/jinja/statements.hpp"
#include "reft/tokenizer/jinja/token_stream.hpp"

namespace reft::detail::jinja {

/// The statements of a template.
/// Ref: jinja2 3.1, parser.py.
class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(Lexer(source).tokens()) {}

  Block parsed() && {
    Block body = block({});
    if (!tokens_.at(TokenKind::end)) tokens_.reject("the end of the template");
    return body;
  }

 private:
  using Pointer = std::unique_ptr<const Statement>;
  using Words = std::initializer_list<std::string_view>;

  /// Up to a tag with one of the words, or to the end where there are none; then behind `{%`.
  Block block(Words ends) {
    const TokenStream::Level level(tokens_);
    Block body;
    while (!tokens_.at(TokenKind::end)) {
      const int line = tokens_.line();
      if (tokens_.at(TokenKind::data)) {
        body.push_back(std::make_unique<Text>(line, tokens_.take().text));
      } else if (tokens_.at(TokenKind::variable_begin)) {
        tokens_.take();
        body.push_back(std::make_unique<Output>(line, expressions_.tuple()));
        tokens_.expect(TokenKind::variable_end, "\"}}\"");
      } else {
        tokens_.expect(TokenKind::block_begin, "a tag");
        if (tokens_.at_word(ends)) return body;
        body.push_back(statement(ends));
        end_tag();
      }
    }
    if (ends.size() > 0) tokens_.reject(fmt::format("{{% {} %}}", fmt::join(ends, " %} or {% ")));
    return body;
  }

  void end_tag() { tokens_.expect(TokenKind::block_end, "\"%}\""); }

  /// The rest of a tag, then a block whose end is taken too, but for its "%}".
  Block body(Words ends) {
    end_tag();
    return block(ends);
  }

  Pointer statement(Words ends) {
    const Token word = tokens_.expect(TokenKind::name, "the name of a tag");
    if (word.text == "set") return set(word.line);
    if (word.text == "if") return if_statement(word.line);
    if (word.text == "for") return for_statement(word.line);
    if (word.text == "macro") return macro(word.line);
    if (word.text == "generation") return generation(word.line);
    if (word.text == "break" || word.text == "continue") return jump(word);
    if (word.text.starts_with("end") || word.text.starts_with("el")) {
      fail_at(word.line, "unexpected {{% {} %}}{}", word.text,
              ends.size() ? fmt::format("; expected {{% {} %}}", fmt::join(ends, " %} or {% ")) : "");
    }
    fail_at(word.line, "tag \"{}\" is not supported", word.text);
  }

  /// a, a.b, or a tuple of such.
  Target target(bool with_fields) {
    const bool bracket = tokens_.skip_sign("(");
    Target first = single_target(with_fields);
    if (tokens_.at_sign(",")) {
      Target tuple{.is_tuple = true};
      tuple.several.push_back(std::move(first));
      while (tokens_.skip_sign(",") && tokens_.at(TokenKind::name) && !tokens_.at_word("in")) {
        tuple.several.push_back(single_target(with_fields));
      }
      first = std::move(tuple);
    }
    if (bracket) tokens_.expect_sign(")");
    return first;
  }

  Target single_target(bool with_fields) {
    const Token name = tokens_.expect(TokenKind::name, "the name of a variable");
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (name.text == constant) fail_at(name.line, "{} cannot be set", constant);
    }
    Target target{.name = name.text};
    if (with_fields && tokens_.skip_sign(".")) target.field = tokens_.expect(TokenKind::name, "the name of a field").text;
    return target;
  }

  Pointer set(int line) {
    Target place = target(true);
    if (tokens_.skip_sign("=")) return std::make_unique<Set>(line, std::move(place), expressions_.tuple());
    // The filters are written before the block, and applied after it.
    auto content = std::make_shared<Block>();
    ExpressionPointer value = expressions_.filtered(std::make_unique<Captured>(line, content));
    const LoopsAround none(loops_, 0);
    *content = body({"endset"});
    tokens_.take();
    return std::make_unique<Set>(line, std::move(place), std::move(value));
  }

  Pointer if_statement(int line) {
    std::vector<If::Branch> branches;
    do {
      ExpressionPointer condition = expressions_.tuple(false);
      branches.emplace_back(std::move(condition), body({"elif", "else", "endif"}));
    } while (tokens_.skip_word("elif"));
    if (tokens_.take().text == "else") {
      branches.emplace_back(nullptr, body({"endif"}));
      tokens_.take();
    }
    return std::make_unique<If>(line, std::move(branches));
  }

  Pointer for_statement(int line) {
    Target item = target(false);
    if (!tokens_.skip_word("in")) tokens_.reject("\"in\"");
    ExpressionPointer list = expressions_.tuple(false);
    ExpressionPointer condition = tokens_.skip_word("if") ? expressions_.expression() : nullptr;
    if (tokens_.at_word("recursive")) fail_at(line, "recursive loops are not supported");
    Block inner, otherwise;
    {
      const LoopsAround one_more(loops_, loops_ + 1);
      inner = body({"endfor", "else"});
    }
    if (tokens_.take().text == "else") {
      otherwise = body({"endfor"});
      tokens_.take();
    }
    return std::make_unique<For>(line, std::move(item), std::move(list), std::move(condition), std::move(inner),
                                 std::move(otherwise));
  }

  Pointer macro(int line) {
    std::string name = tokens_.expect(TokenKind::name, "the name of a macro").text;
    std::vector<Macro::Parameter> parameters;
    tokens_.expect_sign("(");
    while (!tokens_.at_sign(")")) {
      std::string parameter = tokens_.expect(TokenKind::name, "the name of a parameter").text;
      ExpressionPointer fallback = tokens_.skip_sign("=") ? expressions_.expression() : nullptr;
      parameters.emplace_back(std::move(parameter), std::move(fallback));
      if (!tokens_.skip_sign(",")) break;
    }
    tokens_.expect_sign(")");
    const LoopsAround none(loops_, 0);
    Block inner = body({"endmacro"});
    tokens_.take();
    return std::make_unique<Macro>(line, std::move(name), std::move(parameters), std::move(inner));
  }

  Pointer generation(int line) {
    const LoopsAround none(loops_, 0);
    Block inner = body({"endgeneration"});
    tokens_.take();
    return std::make_unique<Generation>(line, std::move(inner));
  }

  Pointer jump(const Token& word) {
    if (loops_ == 0) fail_at(word.line, "{} outside of a loop", word.text);
    return std::make_unique<Jump>(word.line, word.text == "break" ? Flow::break_loop : Flow::continue_loop);
  }

  /// How many loops break and continue can mean, until it ends.
  class LoopsAround {
   public:
    LoopsAround(int& loops, int now) : loops_(loops), before_(loops) { loops = now; }
    ~LoopsAround() { loops_ = before_; }
    LoopsAround(const LoopsAround&) = delete;
    LoopsAround& operator=(const LoopsAround&) = delete;

   private:
    int& loops_;
    int before_;
  };

  TokenStream tokens_;
  ExpressionParser expressions_{tokens_};
  int loops_ = 0;
};

/// A parsed template. Immutable: many threads may render it at once.
class Template {
 public:
  /// @throws TokenizerError naming the line, for what is malformed or not supported.
  explicit Template(std::string_view source) : body_(Parser(source).parsed()) {}

  struct Rendered {
    std::string text;
    std::vector<GeneratedRange> generations;
  };

  /// @throws TokenizerError naming the line, for what goes wrong, and for what would take too much time or memory.
  Rendered render(std::map<std::string, Value, std::less<>> variables) const {
    auto globals = std::make_shared<Scope>();
    add_globals(*globals);
    for (auto& [name, value] : variables) globals->variables.insert_or_assign(name, std::move(value));
    Runtime runtime(std::make_shared<Scope>(std::move(globals)));
    run_block(runtime, body_);
    return {std::move(runtime.output), std::move(runtime.generations)};
  }

 private:
  Block body_;
};

}  // namespace reft::detail::jinja
