#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "reft/tokenizer/jinja/methods.hpp"

namespace reft::detail::jinja {

/// The one argument of a test.
inline Value operand(Runtime& runtime, std::string_view test, const Arguments& arguments) {
  const auto bound = bind(runtime, test, arguments, {"other"});
  if (!bound[0]) runtime.fail("test {}: expected an argument", test);
  return *bound[0];
}

inline int64_t remainder_of(Runtime& runtime, std::string_view test, const Value& value, int64_t divisor) {
  const auto integer = as_integer(value);
  if (!integer || divisor == 0) runtime.fail("test {}: expected an integer", test);
  return divisor == -1 ? 0 : *integer % divisor;
}

/// Whether a text has cased letters, and all are as `change` makes them.
inline bool is_cased(Runtime& runtime, const Value& value, std::string (*change)(std::string_view)) {
  const std::string text = to_text(runtime, value);
  return change(text) == text && uppercased(text) != lowercased(text);
}

/// @return the test `name`, which gives a bool; null if there is none.
inline const Builtin* find_test(std::string_view name) {
  using A = const Arguments&;
  using V = const Value&;
  using R = Runtime&;
  static constexpr Builtin kTests[] = {
      {"defined", [](R, V v, A) { return Value(!v.is_undefined()); }},
      {"undefined", [](R, V v, A) { return Value(v.is_undefined()); }},
      {"none", [](R, V v, A) { return Value(v.is_none()); }},
      {"string", [](R, V v, A) { return Value(v.text() != nullptr); }},
      {"mapping", [](R, V v, A) { return Value(v.mapping() != nullptr); }},
      {"iterable",
       [](R, V v, A) { return Value(v.text() || v.mapping() || v.sequence() || v.loop() || v.is_undefined()); }},
      {"sequence",
       [](R, V v, A) {
         const bool list = v.sequence() && v.sequence()->kind <= SequenceKind::tuple;
         return Value(v.text() || v.mapping() || list || v.is_undefined());
       }},
      {"number", [](R, V v, A) { return Value(as_number(v).has_value()); }},
      {"integer", [](R, V v, A) { return Value(v.as<int64_t>() != nullptr); }},
      {"float", [](R, V v, A) { return Value(v.as<double>() != nullptr); }},
      {"boolean", [](R, V v, A) { return Value(v.as<bool>() != nullptr); }},
      {"true", [](R, V v, A) { return Value(v.as<bool>() && *v.as<bool>()); }},
      {"false", [](R, V v, A) { return Value(v.as<bool>() && !*v.as<bool>()); }},
      {"callable", [](R, V v, A) { return Value(v.function() != nullptr); }},
      {"odd", [](R r, V v, A) { return Value(remainder_of(r, "odd", v, 2) != 0); }},
      {"even", [](R r, V v, A) { return Value(remainder_of(r, "even", v, 2) == 0); }},
      {"divisibleby",
       [](R r, V v, A a) {
         return Value(remainder_of(r, "divisibleby", v, as_integer(operand(r, "divisibleby", a)).value_or(0)) == 0);
       }},
      {"lower", [](R r, V v, A) { return Value(is_cased(r, v, lowercased)); }},
      {"upper", [](R r, V v, A) { return Value(is_cased(r, v, uppercased)); }},
      {"in", [](R r, V v, A a) { return Value(contains(r, operand(r, "in", a), v)); }},
      {"sameas",
       [](R r, V v, A a) {
         const Value other = operand(r, "sameas", a);
         return Value(v.type_name() == other.type_name() && equal(r, v, other));
       }},
      {"eq", [](R r, V v, A a) { return Value(equal(r, v, operand(r, "eq", a))); }},
      {"equalto", [](R r, V v, A a) { return Value(equal(r, v, operand(r, "equalto", a))); }},
      {"==", [](R r, V v, A a) { return Value(equal(r, v, operand(r, "==", a))); }},
      {"ne", [](R r, V v, A a) { return Value(!equal(r, v, operand(r, "ne", a))); }},
      {"!=", [](R r, V v, A a) { return Value(!equal(r, v, operand(r, "!=", a))); }},
      {"lt", [](R r, V v, A a) { return Value(less(r, v, operand(r, "lt", a))); }},
      {"lessthan", [](R r, V v, A a) { return Value(less(r, v, operand(r, "lessthan", a))); }},
      {"gt", [](R r, V v, A a) { return Value(less(r, operand(r, "gt", a), v)); }},
      {"greaterthan", [](R r, V v, A a) { return Value(less(r, operand(r, "greaterthan", a), v)); }},
      {"le", [](R r, V v, A a) { return Value(!less(r, operand(r, "le", a), v)); }},
      {"ge", [](R r, V v, A a) { return Value(!less(r, v, operand(r, "ge", a))); }},
  };
  return find_builtin(kTests, name);
}

}  // namespace reft::detail::jinja
