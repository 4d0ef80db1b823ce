#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/operators.hpp"

namespace reft::detail::jinja {

/// + - * / // % ** of two ints, as Python has them: / is a float, // rounds down, % has the sign of the divisor.
inline Value integer_arithmetic(Runtime& runtime, std::string_view operation, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (operation == "+") overflow = __builtin_add_overflow(a, b, &result);
  else if (operation == "-") overflow = __builtin_sub_overflow(a, b, &result);
  else if (operation == "*") overflow = __builtin_mul_overflow(a, b, &result);
  else if (operation == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    result = b == 0 ? 1 : (a == -1 && b % 2 == 0) ? 1 : a;
    if (a != 0 && a != 1 && a != -1) {
      for (int64_t i = 1; i < b && !overflow; ++i) overflow = __builtin_mul_overflow(result, a, &result);
    }
  } else {
    if (b == 0) runtime.fail("division by zero");
    if (operation == "/") return static_cast<double>(a) / static_cast<double>(b);
    overflow = a == INT64_MIN && b == -1;
    if (!overflow) {
      const int64_t remainder = a % b;
      const bool rounds = remainder != 0 && (remainder < 0) != (b < 0);
      result = operation == "//" ? a / b - (rounds ? 1 : 0) : remainder + (rounds ? b : 0);
    }
  }
  if (overflow) runtime.fail("integers beyond 64 bits are not supported");
  return result;
}

inline Value float_arithmetic(Runtime& runtime, std::string_view operation, double a, double b) {
  if (operation == "+") return a + b;
  if (operation == "-") return a - b;
  if (operation == "*") return a * b;
  if (operation == "**") return std::pow(a, b);
  if (b == 0) runtime.fail("division by zero");
  if (operation == "/") return a / b;
  if (operation == "//") return std::floor(a / b);
  const double remainder = std::fmod(a, b);
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

/// A text or a list `times` times over.
inline Value repeated(Runtime& runtime, const Value& value, int64_t times) {
  if (const auto* text = value.text()) {
    std::string result;
    for (int64_t i = 0; i < times && !text->empty(); ++i) runtime.append(result, *text);
    return result;
  }
  const Sequence& list = *value.sequence();
  std::vector<Value> items;
  for (int64_t i = 0; i < times && !list.items.empty(); ++i) {
    runtime.work(list.items.size());
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return runtime.sequence(std::move(items), list.kind);
}

/// a `operation` b for one of + - * / // % **.
inline Value arithmetic(Runtime& runtime, std::string_view operation, const Value& a, const Value& b) {
  for (const Value& value : {a, b}) {
    if (value.is_undefined()) fail_undefined(runtime, value);
  }
  if (const auto x = as_integer(a), y = as_integer(b); x && y) return integer_arithmetic(runtime, operation, *x, *y);
  if (const auto x = as_number(a), y = as_number(b); x && y) return float_arithmetic(runtime, operation, *x, *y);
  const auto concrete = [](const Value& value) {
    return value.text() || (value.sequence() && value.sequence()->kind <= SequenceKind::tuple);
  };
  if (operation == "+" && a.text() && b.text()) {
    std::string joined;
    runtime.append(joined, *a.text());
    runtime.append(joined, *b.text());
    return joined;
  }
  if (operation == "+" && a.sequence() && b.sequence() && concrete(a) && a.sequence()->kind == b.sequence()->kind) {
    std::vector<Value> items = a.sequence()->items;
    items.insert(items.end(), b.sequence()->items.begin(), b.sequence()->items.end());
    return runtime.sequence(std::move(items), a.sequence()->kind);
  }
  if (operation == "*" && concrete(a) && as_integer(b)) return repeated(runtime, a, *as_integer(b));
  if (operation == "*" && concrete(b) && as_integer(a)) return repeated(runtime, b, *as_integer(a));
  runtime.fail("'{}' is not supported between a value of type {} and one of type {}", operation, a.type_name(),
               b.type_name());
}

}  // namespace reft::detail::jinja
