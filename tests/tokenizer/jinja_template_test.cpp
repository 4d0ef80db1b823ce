// What jinja2 itself says of expressions and statements is in chat_template_golden_test.cpp.
#include "reft/tokenizer/jinja/template.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::detail::jinja::Template;
using reft::detail::jinja::Value;

namespace {

std::string rendered(std::string_view source) {
  std::map<std::string, Value, std::less<>> variables;
  variables["l"] = reft::detail::jinja::from_json(nlohmann::ordered_json::array({3, 1, 2}));
  return Template(source).render(std::move(variables)).text;
}

/// Behind "[reft::ChatTemplate] "; "no error" where there is none.
std::string error(std::string_view source) {
  std::string text = reft::test::error_text([&] { rendered(source); });
  return text.starts_with("[reft::ChatTemplate] ") ? text.substr(21) : text;
}

std::string repeated(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

}  // namespace

TEST_CASE("unknown constructs are named with their line") {
  REQUIRE(error("\n{% extends 'a' %}") == "line 2: tag \"extends\" is not supported");
  REQUIRE(error("{{ l |\n wordwrap }}") == "line 2: filter \"wordwrap\" is not supported");
  REQUIRE(error("{{ l is escaped }}") == "line 1: test \"escaped\" is not supported");
  REQUIRE(error("{{ l | map('wordwrap') }}") == "line 1: filter \"wordwrap\" is not supported");
  REQUIRE(error("{{ range(*l) }}") == "line 1: unpacking arguments is not supported");
  REQUIRE(error("{% for a in l recursive %}{% endfor %}") == "line 1: recursive loops are not supported");
  REQUIRE(error("{{ l | join(foo=1) }}") == "line 1: join: argument \"foo\" is not supported");
  REQUIRE(error("{{ 'a'.center(3) }}") == "line 1: 'str object' has no attribute 'center'");
  REQUIRE(error("{{ l.append(1) }}") ==
          "line 1: append would change a value of type list; values do not change (use + or a namespace)");
}

TEST_CASE("statements that do not close are named") {
  REQUIRE(error("{% if l %}\na") == "line 2: expected {% elif %} or {% else %} or {% endif %}, got the end of the template");
  REQUIRE(error("{% for a in l %}{% endif %}") == "line 1: unexpected {% endif %}; expected {% endfor %} or {% else %}");
  REQUIRE(error("{% endif %}") == "line 1: unexpected {% endif %}");
  REQUIRE(error("{{ l l }}") == "line 1: expected \"}}\", got \"l\"");
  REQUIRE(error("{{ }}") == "line 1: expected an expression, got }}");
  REQUIRE(error("{% break %}") == "line 1: break outside of a loop");
  REQUIRE(error("{% for a in l %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}") ==
          "line 1: continue outside of a loop");
  REQUIRE(error("{% set true = 1 %}") == "line 1: true cannot be set");
}

TEST_CASE("errors name the line they come from, also behind a macro") {
  REQUIRE(error("{% macro m(a) %}\n{{ a.b.c }}\n{% endmacro %}\n\n{{ m({}) }}") == "line 2: 'dict object' has no attribute 'b'");
  REQUIRE(error("{% macro m() %}\n{% endmacro %}\n{{ m() + 1 }}") ==
          "line 3: '+' is not supported between a value of type str and one of type int");
  REQUIRE(error("a\n{{ raise_exception('no ' ~ 1) }}") == "line 2: the template says: no 1");
  REQUIRE(error("{{ x.y }}") == "line 1: 'x' is undefined");
  REQUIRE(error("{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}") == "line 1: m: argument \"a\" is given twice");
  REQUIRE(error("{% set x.y = 1 %}") == "line 1: x.y: only fields of a namespace can be set");
  REQUIRE(error("{% set a, b = l %}") == "line 1: expected 2 values to unpack, got 3");
}

TEST_CASE("numbers beyond 64 bits are refused") {
  REQUIRE(error("{{ 9223372036854775807 + 1 }}") == "line 1: integers beyond 64 bits are not supported");
  REQUIRE(error("{{ 9223372036854775808 }}") == "line 1: 9223372036854775808: integers beyond 64 bits are not supported");
  REQUIRE(error("{{ (-9223372036854775807 - 1) // -1 }}") == "line 1: integers beyond 64 bits are not supported");
  REQUIRE(error("{{ 1e300 | int }}") == "line 1: integers beyond 64 bits are not supported");
  REQUIRE(rendered("{{ (-9223372036854775807 - 1) % -2 }}") == "0");
}

TEST_CASE("templates that would not end are stopped") {
  const std::string many = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
  REQUIRE(error(many) == "line 1: the template takes more than 10000000 steps");
  REQUIRE(error("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}") == "line 1: nested more than 1000 deep");
  const std::string doubling = "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
  REQUIRE(error(doubling) == "line 1: the template makes more than 256 MiB of text");
  REQUIRE(error("{{ 'a' * 999999999999 }}") == "line 1: the template makes more than 256 MiB of text");
  REQUIRE(error("{{ range(100001) }}") == "line 1: range: more than 100000 integers");
  REQUIRE(error("{{ [1] * 99999999 }}") == "line 1: the template takes more than 10000000 steps");
}

TEST_CASE("deep values and deep templates are refused, not followed") {
  REQUIRE(error("{% set n = namespace(x=1) %}{% for i in range(999) %}{% set n.x = [n.x] %}{% endfor %}") ==
          "line 1: values are nested more than 100 deep");
  REQUIRE(error("{{ " + repeated("(", 5000) + repeated(")", 5000) + " }}") == "line 1: nested or chained more than 200 times");
  REQUIRE(error("{{ " + repeated("not ", 5000) + "1 }}") == "line 1: nested or chained more than 200 times");
  REQUIRE(error("{{ 1" + repeated(" + 1", 5000) + " }}") == "line 1: nested or chained more than 200 times");
  REQUIRE(error("{{ l" + repeated(".a", 5000) + " }}") == "line 1: nested or chained more than 200 times");
  REQUIRE(error(repeated("{% if 1 %}", 5000)) == "line 1: nested or chained more than 200 times");
  // A list that holds itself many times over is small, but not when it is written or compared.
  const std::string dense = "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
  REQUIRE(error(dense + "{{ n.x }}") == "line 1: the template takes more than 10000000 steps");
  REQUIRE(error(dense + "{% set m = n.x %}{{ [m] == [n.x] }}") == "line 1: the template takes more than 10000000 steps");
}

TEST_CASE("a namespace may hold itself, and macros one another") {
  REQUIRE(rendered("{% set n = namespace() %}{% set n.n = n %}{{ n.n.n is defined }}") == "True");
  REQUIRE(rendered("{% macro a(i) %}{{ b(i - 1) if i else 'end' }}{% endmacro %}{% macro b(i) %}.{{ a(i) }}{% endmacro %}{{ a(3) }}") ==
          "...end");
}

TEST_CASE("generation blocks say where they wrote") {
  const auto result = Template("a{% generation %}bc{% endgeneration %}{% set x %}{% generation %}d{% endgeneration %}{% endset %}{{ x }}").render({});
  REQUIRE(result.text == "abcd");
  REQUIRE(result.generations.size() == 2);
  REQUIRE((result.generations[0].begin == 1 && result.generations[0].end == 3 && result.generations[0].placed));
  REQUIRE_FALSE(result.generations[1].placed);
}
