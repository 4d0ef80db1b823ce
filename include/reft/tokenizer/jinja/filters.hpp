#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/attributes.hpp"
#include "reft/tokenizer/jinja/sequence_filters.hpp"

namespace reft::detail::jinja {

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  text = stripped(text, true, true);
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

/// int(value), cut towards zero; the default for what is no number.
inline Value int_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = bind(runtime, "int", arguments, {"default"});
  if (value.is_undefined()) fail_undefined(runtime, value);
  if (const auto integer = as_integer(value)) return *integer;
  if (const auto integer = value.text() ? parse_number<int64_t>(*value.text()) : std::nullopt) return *integer;
  const auto number = value.text() ? parse_number<double>(*value.text()) : as_number(value);
  if (!number || !std::isfinite(*number)) return bound[0].value_or(int64_t{0});
  if (std::abs(*number) >= 0x1p63) runtime.fail("integers beyond 64 bits are not supported");
  return static_cast<int64_t>(*number);
}

inline Value float_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = bind(runtime, "float", arguments, {"default"});
  if (value.is_undefined()) fail_undefined(runtime, value);
  const auto number = value.text() ? parse_number<double>(*value.text()) : as_number(value);
  return number ? Value(*number) : bound[0].value_or(0.0);
}

inline Value default_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = bind(runtime, "default", arguments, {"default_value", "boolean"});
  const bool missing = value.is_undefined() || (bound[1] && truth(*bound[1]) && !truth(value));
  return missing ? bound[0].value_or(std::string()) : value;
}

/// Every line but the first (and empty ones) moved to the right.
inline Value indent_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = bind(runtime, "indent", arguments, {"width", "first", "blank"});
  const bool first = bound[1] && truth(*bound[1]), blank = bound[2] && truth(*bound[2]);
  const Value space = std::string(" ");
  const Value width = bound[0] && bound[0]->text() ? *bound[0]
                                                   : repeated(runtime, space, integer_or(runtime, "indent", bound[0], 4));
  const std::string text = to_text(runtime, value) + "\n";
  std::string result;
  bool begins = true;
  for (const std::string_view line : lines_of(text)) {
    if (!begins) runtime.append(result, "\n");
    if (begins ? first : blank || !line.empty()) runtime.append(result, *width.text());
    runtime.append(result, line);
    begins = false;
  }
  return result;
}

/// json.dumps, with non-ASCII characters as they are.
inline Value tojson_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = bind(runtime, "tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonWriter::Options options{.ensure_ascii = bound[0] && truth(*bound[0]), .sort_keys = bound[3] && truth(*bound[3])};
  if (bound[1] && !bound[1]->is_none()) {
    const Value space = std::string(" ");
    options.indent = bound[1]->text() ? *bound[1]->text()
                                      : *repeated(runtime, space, integer_or(runtime, "tojson", bound[1], 0)).text();
    options.item_separator = ",";
  }
  if (bound[2] && !bound[2]->is_none()) {
    const auto separators = elements(runtime, *bound[2]);
    if (separators->items.size() != 2) runtime.fail("tojson: expected two separators");
    options.item_separator = need_text(runtime, "tojson", separators->items[0]);
    options.key_separator = need_text(runtime, "tojson", separators->items[1]);
  }
  return std::move(JsonWriter(runtime, std::move(options)).written(value));
}

inline Value length_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  bind(runtime, "length", arguments, {});
  return length(runtime, value);
}

/// @return the filter `name`; null if there is none.
inline const Builtin* find_filter(std::string_view name);

/// The elements of `list` as another filter or an attribute of them.
inline Value map_filter(Runtime& runtime, const Value& list, const Arguments& arguments) {
  std::vector<Value> result;
  if (arguments.positional.empty()) {
    const auto bound = bind(runtime, "map", arguments, {"attribute", "default"});
    const std::string path = to_text(runtime, bound[0].value_or(Value()));
    const auto all = elements_if_true(runtime, list);
    for (const Value& element : all->items) {
      Value item = dotted_item(runtime, element, path);
      result.push_back(item.is_undefined() && bound[1] ? *bound[1] : std::move(item));
    }
    return runtime.sequence(std::move(result), SequenceKind::iterator);
  }
  Arguments rest = arguments;
  const std::string name = to_text(runtime, rest.positional.front());
  rest.positional.erase(rest.positional.begin());
  const Builtin* filter = find_filter(name);
  if (!filter) runtime.fail("filter \"{}\" is not supported", name);
  const auto all = elements_if_true(runtime, list);
  for (const Value& element : all->items) result.push_back(filter->call(runtime, element, rest));
  return runtime.sequence(std::move(result), SequenceKind::iterator);
}

inline const Builtin* find_filter(std::string_view name) {
  using A = const Arguments&;
  using V = const Value&;
  using R = Runtime&;
  static constexpr Builtin kFilters[] = {
      {"abs",
       [](R r, V v, A a) {
         bind(r, "abs", a, {});
         const auto number = as_number(v);
         if (!number) r.fail("abs: expected a number, got a value of type {}", v.type_name());
         return *number < 0 ? arithmetic(r, "*", v, int64_t{-1}) : v;
       }},
      {"capitalize", [](R r, V v, A a) { return bind(r, "capitalize", a, {}), Value(capitalized(to_text(r, v))); }},
      {"count", length_filter},
      {"d", default_filter},
      {"default", default_filter},
      {"dictsort", dictsort_filter},
      {"first", first_filter},
      {"float", float_filter},
      {"indent", indent_filter},
      {"int", int_filter},
      {"items",
       [](R r, V v, A a) {
         bind(r, "items", a, {});
         if (!v.mapping() && !v.is_undefined()) r.fail("items: expected a mapping, got a value of type {}", v.type_name());
         return r.sequence(v.mapping() ? pairs_of(r, *v.mapping()) : std::vector<Value>(), SequenceKind::iterator);
       }},
      {"join", join_filter},
      {"last", last_filter},
      {"length", length_filter},
      {"list", [](R r, V v, A a) { return bind(r, "list", a, {}), r.sequence(elements(r, v)->items); }},
      {"lower", [](R r, V v, A a) { return bind(r, "lower", a, {}), Value(lowercased(to_text(r, v))); }},
      {"map", map_filter},
      {"reject", [](R r, V v, A a) { return select_elements(r, v, a, {.by_attribute = false, .keep = false}); }},
      {"rejectattr", [](R r, V v, A a) { return select_elements(r, v, a, {.by_attribute = true, .keep = false}); }},
      {"replace",
       [](R r, V v, A a) {
         const auto bound = bind(r, "replace", a, {"old", "new", "count"});
         const bool all = bound[2] && bound[2]->is_none();
         return replaced(r, to_text(r, v), to_text(r, bound[0].value_or(Value())), to_text(r, bound[1].value_or(Value())),
                         all ? -1 : integer_or(r, "replace", bound[2], -1));
       }},
      {"reverse", reverse_filter},
      {"safe", [](R r, V v, A a) { return bind(r, "safe", a, {}), Value(to_text(r, v)); }},
      {"select", [](R r, V v, A a) { return select_elements(r, v, a, {.by_attribute = false, .keep = true}); }},
      {"selectattr", [](R r, V v, A a) { return select_elements(r, v, a, {.by_attribute = true, .keep = true}); }},
      {"sort", sort_filter},
      {"string", [](R r, V v, A a) { return bind(r, "string", a, {}), Value(to_text(r, v)); }},
      {"title", [](R r, V v, A a) { return bind(r, "title", a, {}), Value(words_titled(to_text(r, v))); }},
      {"tojson", tojson_filter},
      {"trim", [](R r, V v, A a) { return strip_method(r, Value(to_text(r, v)), a, true, true); }},
      {"unique", unique_filter},
      {"upper", [](R r, V v, A a) { return bind(r, "upper", a, {}), Value(uppercased(to_text(r, v))); }},
  };
  return find_builtin(kFilters, name);
}

}  // namespace reft::detail::jinja
