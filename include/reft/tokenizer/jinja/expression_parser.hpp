#pragma once

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/expressions.hpp"
#include "reft/tokenizer/jinja/filters.hpp"
#include "reft/tokenizer/jinja/tests.hpp"
#include "reft/tokenizer/jinja/token_stream.hpp"

namespace reft::detail::jinja {

/// Expressions, from what binds least to what binds most. Unlike Python's, - binds more than **, which goes from left
/// to right, and ~ more than + but less than *.
/// Ref: jinja2 3.1, parser.py.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  /// One expression, or a tuple of several without brackets.
  ExpressionPointer tuple(bool conditional = true) {
    const int line = tokens_.line();
    ExpressionPointer first = conditional ? expression() : disjunction();
    if (!tokens_.at_sign(",")) return first;
    std::vector<ExpressionPointer> items;
    items.push_back(std::move(first));
    while (tokens_.skip_sign(",") && !ends_tuple()) items.push_back(conditional ? expression() : disjunction());
    return std::make_unique<SequenceDisplay>(line, SequenceKind::tuple, std::move(items));
  }

  /// a if b else c
  ExpressionPointer expression() {
    TokenStream::Level level(tokens_);
    const int line = tokens_.line();
    ExpressionPointer result = disjunction();
    while (tokens_.skip_word("if")) {
      level.deepen();
      ExpressionPointer condition = disjunction();
      ExpressionPointer otherwise = tokens_.skip_word("else") ? expression() : nullptr;
      result = std::make_unique<Conditional>(line, std::move(condition), std::move(result), std::move(otherwise));
    }
    return result;
  }

  ExpressionPointer disjunction() {
    return chain([&] { return tokens_.at_word("or"); }, [&] { return conjunction(); });
  }

  /// Filters behind a block set, applied to `input`.
  ExpressionPointer filtered(ExpressionPointer input) {
    TokenStream::Level level(tokens_);
    while (tokens_.at_sign("|")) {
      level.deepen();
      input = filter(std::move(input));
    }
    return input;
  }

 private:
  bool ends_tuple() const {
    return tokens_.at(TokenKind::variable_end) || tokens_.at(TokenKind::block_end) || tokens_.at_sign(")");
  }

  /// a op b op c, from left to right.
  template <class AtOperator, class Operand>
  ExpressionPointer chain(AtOperator&& at_operator, Operand&& operand) {
    TokenStream::Level level(tokens_);
    ExpressionPointer left = operand();
    while (at_operator()) {
      level.deepen();
      const Token operation = tokens_.take();
      left = std::make_unique<Binary>(operation.line, operation.text, std::move(left), operand());
    }
    return left;
  }

  ExpressionPointer conjunction() {
    return chain([&] { return tokens_.at_word("and"); }, [&] { return negation(); });
  }

  ExpressionPointer negation() {
    const TokenStream::Level level(tokens_);
    const int line = tokens_.line();
    if (tokens_.skip_word("not")) return std::make_unique<Unary>(line, "not", negation());
    return comparison();
  }

  std::optional<std::string> comparing_operator() {
    for (const std::string_view sign : {"==", "!=", "<", ">", "<=", ">="}) {
      if (tokens_.skip_sign(sign)) return std::string(sign);
    }
    if (tokens_.skip_word("in")) return "in";
    if (!tokens_.at_word("not") || tokens_.next().kind != TokenKind::name || tokens_.next().text != "in") return std::nullopt;
    tokens_.take();
    tokens_.take();
    return "not in";
  }

  ExpressionPointer comparison() {
    const int line = tokens_.line();
    ExpressionPointer first = sum();
    std::vector<Comparison::Operand> others;
    while (auto operation = comparing_operator()) others.emplace_back(*std::move(operation), sum());
    if (others.empty()) return first;
    return std::make_unique<Comparison>(line, std::move(first), std::move(others));
  }

  ExpressionPointer sum() {
    return chain([&] { return tokens_.at_sign("+") || tokens_.at_sign("-"); }, [&] { return concatenation(); });
  }

  ExpressionPointer concatenation() {
    const int line = tokens_.line();
    std::vector<ExpressionPointer> parts;
    do parts.push_back(product());
    while (tokens_.skip_sign("~"));
    if (parts.size() == 1) return std::move(parts.front());
    return std::make_unique<Concatenation>(line, std::move(parts));
  }

  ExpressionPointer product() {
    const auto at_operator = [&] {
      return tokens_.at_sign("*") || tokens_.at_sign("/") || tokens_.at_sign("//") || tokens_.at_sign("%");
    };
    return chain(at_operator, [&] { return power(); });
  }

  ExpressionPointer power() {
    return chain([&] { return tokens_.at_sign("**"); }, [&] { return unary(true); });
  }

  ExpressionPointer unary(bool with_filters) {
    TokenStream::Level level(tokens_);
    const int line = tokens_.line();
    ExpressionPointer result;
    if (tokens_.at_sign("-") || tokens_.at_sign("+")) {
      const std::string sign = tokens_.take().text;
      result = std::make_unique<Unary>(line, sign, unary(false));
    } else {
      result = primary();
    }
    while (true) {
      level.deepen();
      if (tokens_.skip_sign(".")) result = attribute_of(std::move(result));
      else if (tokens_.skip_sign("[")) result = subscript(std::move(result));
      else if (tokens_.at_sign("(")) result = std::make_unique<Call>(tokens_.line(), std::move(result), arguments());
      else if (with_filters && tokens_.at_sign("|")) result = filter(std::move(result));
      else if (with_filters && tokens_.at_word("is")) result = test(std::move(result));
      else return result;
    }
  }

  ExpressionPointer primary() {
    const Token token = tokens_.current();
    if (token.kind == TokenKind::text) {
      std::string text;
      while (tokens_.at(TokenKind::text)) text += tokens_.take().text;
      return std::make_unique<Literal>(token.line, std::move(text));
    }
    if (token.kind == TokenKind::integer || token.kind == TokenKind::floating) return number();
    if (token.kind == TokenKind::name) {
      tokens_.take();
      if (token.text == "true" || token.text == "True") return std::make_unique<Literal>(token.line, true);
      if (token.text == "false" || token.text == "False") return std::make_unique<Literal>(token.line, false);
      if (token.text == "none" || token.text == "None") return std::make_unique<Literal>(token.line, None{});
      return std::make_unique<Name>(token.line, token.text);
    }
    if (tokens_.skip_sign("(")) {
      ExpressionPointer inner = tokens_.at_sign(")") ? no_items(token.line) : tuple();
      tokens_.expect_sign(")");
      return inner;
    }
    if (tokens_.skip_sign("[")) return list(token.line);
    if (tokens_.skip_sign("{")) return mapping(token.line);
    tokens_.reject("an expression");
  }

  ExpressionPointer number() {
    const Token token = tokens_.take();
    std::string digits = token.text;
    std::erase(digits, '_');
    if (token.kind == TokenKind::floating) return std::make_unique<Literal>(token.line, std::strtod(digits.c_str(), nullptr));
    const auto integer = parse_number<int64_t>(digits);
    if (!integer) fail_at(token.line, "{}: integers beyond 64 bits are not supported", digits);
    return std::make_unique<Literal>(token.line, *integer);
  }

  static ExpressionPointer no_items(int line) {
    return std::make_unique<SequenceDisplay>(line, SequenceKind::tuple, std::vector<ExpressionPointer>());
  }

  ExpressionPointer list(int line) {
    std::vector<ExpressionPointer> items;
    while (!tokens_.at_sign("]")) {
      items.push_back(expression());
      if (!tokens_.skip_sign(",")) break;
    }
    tokens_.expect_sign("]");
    return std::make_unique<SequenceDisplay>(line, SequenceKind::list, std::move(items));
  }

  ExpressionPointer mapping(int line) {
    std::vector<std::pair<ExpressionPointer, ExpressionPointer>> items;
    while (!tokens_.at_sign("}")) {
      ExpressionPointer key = expression();
      tokens_.expect_sign(":");
      items.emplace_back(std::move(key), expression());
      if (!tokens_.skip_sign(",")) break;
    }
    tokens_.expect_sign("}");
    return std::make_unique<MappingDisplay>(line, std::move(items));
  }

  ExpressionPointer attribute_of(ExpressionPointer object) {
    const int line = tokens_.line();
    if (tokens_.at(TokenKind::integer)) return std::make_unique<ItemOf>(line, std::move(object), number());
    return std::make_unique<AttributeOf>(line, std::move(object), tokens_.expect(TokenKind::name, "a name or a number").text);
  }

  /// [key] or [begin:end:step], behind the first bracket.
  ExpressionPointer subscript(ExpressionPointer object) {
    const int line = tokens_.line();
    const auto bound = [&]() -> ExpressionPointer {
      return tokens_.at_sign(":") || tokens_.at_sign("]") ? nullptr : expression();
    };
    ExpressionPointer first = bound(), end, step;
    if (!tokens_.at_sign(":")) {
      if (!first) tokens_.reject("an expression");
      tokens_.expect_sign("]");
      return std::make_unique<ItemOf>(line, std::move(object), std::move(first));
    }
    tokens_.take();
    end = bound();
    if (tokens_.skip_sign(":")) step = bound();
    tokens_.expect_sign("]");
    return std::make_unique<SliceOf>(line, std::move(object), std::move(first), std::move(end), std::move(step));
  }

  CallArguments arguments() {
    CallArguments result;
    tokens_.expect_sign("(");
    while (!tokens_.at_sign(")")) {
      const bool named = tokens_.at(TokenKind::name) && tokens_.next().kind == TokenKind::sign && tokens_.next().text == "=";
      if (named) {
        std::string name = tokens_.take().text;
        tokens_.take();
        result.named.emplace_back(std::move(name), expression());
      } else if (tokens_.at_sign("*") || tokens_.at_sign("**")) {
        fail_at(tokens_.line(), "unpacking arguments is not supported");
      } else if (!result.named.empty()) {
        tokens_.reject("an argument with a name");
      } else {
        result.positional.push_back(expression());
      }
      if (!tokens_.skip_sign(",")) break;
    }
    tokens_.expect_sign(")");
    return result;
  }

  ExpressionPointer filter(ExpressionPointer self) {
    tokens_.expect_sign("|");
    const Token name = tokens_.expect(TokenKind::name, "the name of a filter");
    const Builtin* builtin = find_filter(name.text);
    if (!builtin) fail_at(name.line, "filter \"{}\" is not supported", name.text);
    CallArguments given;
    if (tokens_.at_sign("(")) given = arguments();
    return std::make_unique<BuiltinCall>(name.line, *builtin, std::move(self), std::move(given));
  }

  ExpressionPointer test(ExpressionPointer self) {
    tokens_.take();
    const int line = tokens_.line();
    const bool negated = tokens_.skip_word("not");
    const Token name = tokens_.expect(TokenKind::name, "the name of a test");
    const Builtin* builtin = find_test(name.text);
    if (!builtin) fail_at(name.line, "test \"{}\" is not supported", name.text);
    CallArguments given;
    if (tokens_.at_sign("(")) given = arguments();
    else if (begins_operand()) given.positional.push_back(unary(false));
    ExpressionPointer result = std::make_unique<BuiltinCall>(line, *builtin, std::move(self), std::move(given));
    return negated ? std::make_unique<Unary>(line, "not", std::move(result)) : std::move(result);
  }

  /// Whether a test's operand follows without brackets.
  bool begins_operand() const {
    if (tokens_.at(TokenKind::name)) return !tokens_.at_word({"and", "else", "if", "in", "is", "not", "or"});
    return tokens_.at(TokenKind::text) || tokens_.at(TokenKind::integer) || tokens_.at(TokenKind::floating) ||
           tokens_.at_sign("[") || tokens_.at_sign("{");
  }

  TokenStream& tokens_;
};

}  // namespace reft::detail::jinja
