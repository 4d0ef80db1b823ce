#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/attributes.hpp"
#include "reft/tokenizer/jinja/expressions.hpp"
#include "reft/tokenizer/jinja/runtime.hpp"

namespace reft::detail::jinja {

/// range(end) or range(begin, end, step), of at most 100,000 integers as in jinja2's sandbox.
inline Value range_function(Runtime& runtime, const Arguments& arguments) {
  constexpr std::size_t kMost = 100'000;
  const auto bound = bind(runtime, "range", arguments, {"begin", "end", "step"});
  if (!bound[0]) runtime.fail("range: expected an integer");
  const int64_t first = integer_or(runtime, "range", bound[0], 0);
  const int64_t begin = bound[1] ? first : 0, end = integer_or(runtime, "range", bound[1], first);
  const int64_t step = integer_or(runtime, "range", bound[2], 1);
  if (step == 0) runtime.fail("range: the step is 0");
  std::vector<Value> items;
  int64_t next = begin;
  bool overflow = false;
  for (; !overflow && (step > 0 ? next < end : next > end); overflow = __builtin_add_overflow(next, step, &next)) {
    if (items.size() == kMost) runtime.fail("range: more than {} integers", kMost);
    items.push_back(next);
  }
  return runtime.sequence(std::move(items), SequenceKind::view);
}

/// The pairs of a mapping given as argument, then those given by name.
inline std::vector<std::pair<Value, Value>> given_pairs(Runtime& runtime, const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> items;
  for (const Value& argument : arguments.positional) {
    if (!argument.mapping()) runtime.fail("expected a mapping, got a value of type {}", argument.type_name());
    for (const auto& [key, value] : argument.mapping()->items) put(runtime, items, key, value);
  }
  for (const auto& [key, value] : arguments.named) put(runtime, items, Value(key), value);
  return items;
}

inline Value namespace_function(Runtime& runtime, const Arguments& arguments) {
  auto fields = runtime.make_namespace();
  for (auto& [key, value] : given_pairs(runtime, arguments)) {
    if (key.text()) fields->fields.insert_or_assign(*key.text(), value);
  }
  return fields;
}

inline Value raise_function(Runtime& runtime, const Arguments& arguments) {
  runtime.fail("the template says: {}", arguments.positional.empty() ? "" : to_text(runtime, arguments.positional[0]));
}

/// What every template may call.
inline void add_globals(Scope& scope) {
  const auto add = [&](const char* name, auto* function) { scope.variables.insert_or_assign(name, Function{name, function}); };
  add("range", range_function);
  add("namespace", namespace_function);
  add("raise_exception", raise_function);
  add("dict", +[](Runtime& runtime, const Arguments& arguments) {
        return runtime.mapping(given_pairs(runtime, arguments));
      });
}

/// strftime_now(format), where now is `time`.
inline Function clock_function(const std::tm& time) {
  return {"strftime_now", [time](Runtime& runtime, const Arguments& arguments) {
            const auto bound = bind(runtime, "strftime_now", arguments, {"format"});
            const std::string& format = need_text(runtime, "strftime_now", bound[0]);
            char text[256];
            const std::size_t length = std::strftime(text, sizeof text, format.c_str(), &time);
            if (length == 0 && !format.empty()) runtime.fail("strftime_now: the format gives no text, or a long one");
            return runtime.text({text, length});
          }};
}

}  // namespace reft::detail::jinja
