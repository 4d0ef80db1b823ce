#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/operators.hpp"

namespace reft::detail::jinja {

/// A filter, a method or a function of the engine, called on `self`.
struct Builtin {
  std::string_view name;
  Value (*call)(Runtime& runtime, const Value& self, const Arguments& arguments);
};

template <std::size_t kRows>
const Builtin* find_builtin(const Builtin (&table)[kRows], std::string_view name) {
  const auto found = std::find_if(std::begin(table), std::end(table), [&](const Builtin& row) { return row.name == name; });
  return found == std::end(table) ? nullptr : found;
}

/// The text an argument must be.
inline const std::string& need_text(Runtime& runtime, std::string_view function, const std::optional<Value>& value) {
  if (!value || !value->text()) {
    runtime.fail("{}: expected a text, got {}", function, value ? value->type_name() : "nothing");
  }
  return *value->text();
}

/// The integer an argument must be, if it is there.
inline int64_t integer_or(Runtime& runtime, std::string_view function, const std::optional<Value>& value, int64_t fallback) {
  if (!value) return fallback;
  const auto integer = as_integer(*value);
  if (!integer) runtime.fail("{}: expected an integer, got {}", function, value->type_name());
  return *integer;
}

/// str.replace; a negative count is none.
inline Value replaced(Runtime& runtime, std::string_view text, std::string_view from, std::string_view to, int64_t count) {
  std::string result;
  while (count != 0) {
    // The empty text is found before every character and at the end.
    const std::size_t at = from.empty() ? 0 : text.find(from);
    if (at == std::string_view::npos) break;
    const std::size_t kept = !from.empty() ? at : text.empty() ? 0 : utf8_length(text[0]);
    if (from.empty()) runtime.append(result, to);
    runtime.append(result, text.substr(0, kept));
    if (!from.empty()) runtime.append(result, to);
    const bool done = from.empty() && text.empty();
    text.remove_prefix(kept + from.size());
    if (count > 0) --count;
    runtime.work(1);
    if (done) break;
  }
  runtime.append(result, text);
  return result;
}

/// str.split, or str.rsplit where `from_right`.
inline Value split(Runtime& runtime, std::string_view text, const Arguments& arguments, bool from_right) {
  const auto bound = bind(runtime, "split", arguments, {"sep", "maxsplit"});
  const bool by_space = !bound[0] || bound[0]->is_none();
  const std::string separator = by_space ? "" : need_text(runtime, "split", bound[0]);
  if (!by_space && separator.empty()) runtime.fail("split: the separator is empty");
  int64_t left = integer_or(runtime, "split", bound[1], -1);
  std::vector<Value> parts;
  const auto trim_near = [&] {
    if (by_space) text = stripped(text, !from_right, from_right);
  };
  trim_near();
  while (left != 0 && !(by_space && text.empty())) {
    std::size_t at = std::string_view::npos, length = separator.size();
    if (!by_space) {
      at = from_right ? text.rfind(separator) : text.find(separator);
    } else {
      std::size_t place = 0;
      for_each_character(text, [&](char32_t c, std::string_view bytes) {
        if (is_space(c) && (from_right || at == std::string_view::npos)) at = place, length = bytes.size();
        place += bytes.size();
      });
      if (from_right) runtime.work(text.size() / 8);
    }
    if (at == std::string_view::npos) break;
    parts.push_back(runtime.text(from_right ? text.substr(at + length) : text.substr(0, at)));
    text = from_right ? text.substr(0, at) : text.substr(at + length);
    trim_near();
    if (left > 0) --left;
  }
  if (!by_space || !text.empty()) parts.push_back(runtime.text(text));
  if (from_right) std::reverse(parts.begin(), parts.end());
  return runtime.sequence(std::move(parts));
}

inline Value strip_method(Runtime& runtime, const Value& self, const Arguments& arguments, bool left, bool right) {
  const auto bound = bind(runtime, "strip", arguments, {"chars"});
  std::optional<std::string_view> set;
  if (bound[0] && !bound[0]->is_none()) set = need_text(runtime, "strip", bound[0]);
  return runtime.text(stripped(*self.text(), left, right, set));
}

/// str.startswith or str.endswith: of one text, or of any in a tuple.
inline Value affix_method(Runtime& runtime, const Value& self, const Arguments& arguments, bool start) {
  const auto bound = bind(runtime, "startswith", arguments, {"prefix"});
  const auto fits = [&](const Value& affix) {
    const std::string& text = need_text(runtime, "startswith", affix);
    return start ? self.text()->starts_with(text) : self.text()->ends_with(text);
  };
  if (bound[0] && bound[0]->sequence()) {
    const auto& items = bound[0]->sequence()->items;
    return std::any_of(items.begin(), items.end(), fits);
  }
  return fits(bound[0].value_or(Value()));
}

/// Position of a text in characters, or -1.
inline Value find_method(Runtime& runtime, const Value& self, const Arguments& arguments, bool last) {
  const auto bound = bind(runtime, "find", arguments, {"sub"});
  const std::string& part = need_text(runtime, "find", bound[0]);
  const std::size_t at = last ? self.text()->rfind(part) : self.text()->find(part);
  if (at == std::string::npos) return int64_t{-1};
  return static_cast<int64_t>(character_count(std::string_view(*self.text()).substr(0, at)));
}

inline Value count_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind(runtime, "count", arguments, {"sub"});
  const std::string& part = need_text(runtime, "count", bound[0]);
  if (part.empty()) return static_cast<int64_t>(character_count(*self.text()) + 1);
  int64_t count = 0;
  for (std::size_t at = 0; (at = self.text()->find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

/// Whether there are characters and all of them have the property.
template <class Property>
Value all_characters(const Value& self, Property&& property) {
  bool all = !self.text()->empty();
  for_each_character(*self.text(), [&](char32_t c, std::string_view) { all = all && property(c); });
  return all;
}

inline Value join_texts(Runtime& runtime, const Value& list, std::string_view separator) {
  std::string text;
  const auto all = elements(runtime, list);
  for (std::size_t i = 0; i < all->items.size(); ++i) {
    if (i > 0) runtime.append(text, separator);
    append_text(runtime, text, all->items[i]);
  }
  return text;
}

/// @return the method `name` of texts; null if there is none.
inline const Builtin* text_method(std::string_view name) {
  using A = const Arguments&;
  using V = const Value&;
  using R = Runtime&;
  static constexpr Builtin kMethods[] = {
      {"strip", [](R r, V v, A a) { return strip_method(r, v, a, true, true); }},
      {"lstrip", [](R r, V v, A a) { return strip_method(r, v, a, true, false); }},
      {"rstrip", [](R r, V v, A a) { return strip_method(r, v, a, false, true); }},
      {"split", [](R r, V v, A a) { return split(r, *v.text(), a, false); }},
      {"rsplit", [](R r, V v, A a) { return split(r, *v.text(), a, true); }},
      {"splitlines",
       [](R r, V v, A a) {
         bind(r, "splitlines", a, {});
         std::vector<Value> lines;
         for (const std::string_view line : lines_of(*v.text())) lines.push_back(r.text(line));
         return r.sequence(std::move(lines));
       }},
      {"startswith", [](R r, V v, A a) { return affix_method(r, v, a, true); }},
      {"endswith", [](R r, V v, A a) { return affix_method(r, v, a, false); }},
      {"upper", [](R r, V v, A a) { return bind(r, "upper", a, {}), r.text(uppercased(*v.text())); }},
      {"lower", [](R r, V v, A a) { return bind(r, "lower", a, {}), r.text(lowercased(*v.text())); }},
      {"title", [](R r, V v, A a) { return bind(r, "title", a, {}), r.text(titled(*v.text())); }},
      {"capitalize", [](R r, V v, A a) { return bind(r, "capitalize", a, {}), r.text(capitalized(*v.text())); }},
      {"replace",
       [](R r, V v, A a) {
         const auto bound = bind(r, "replace", a, {"old", "new", "count"});
         return replaced(r, *v.text(), need_text(r, "replace", bound[0]), need_text(r, "replace", bound[1]),
                         integer_or(r, "replace", bound[2], -1));
       }},
      {"find", [](R r, V v, A a) { return find_method(r, v, a, false); }},
      {"rfind", [](R r, V v, A a) { return find_method(r, v, a, true); }},
      {"count", count_method},
      {"join",
       [](R r, V v, A a) {
         const auto bound = bind(r, "join", a, {"iterable"});
         return join_texts(r, bound[0].value_or(Value()), *v.text());
       }},
      {"removeprefix",
       [](R r, V v, A a) {
         const std::string prefix = need_text(r, "removeprefix", bind(r, "removeprefix", a, {"prefix"})[0]);
         return r.text(std::string_view(*v.text()).substr(v.text()->starts_with(prefix) ? prefix.size() : 0));
       }},
      {"removesuffix",
       [](R r, V v, A a) {
         const std::string suffix = need_text(r, "removesuffix", bind(r, "removesuffix", a, {"suffix"})[0]);
         const std::size_t cut = v.text()->ends_with(suffix) ? suffix.size() : 0;
         return r.text(std::string_view(*v.text()).substr(0, v.text()->size() - cut));
       }},
      {"isspace", [](R r, V v, A a) { return bind(r, "isspace", a, {}), all_characters(v, is_space); }},
      {"isdigit",
       [](R r, V v, A a) {
         return bind(r, "isdigit", a, {}), all_characters(v, [](char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; });
       }},
  };
  return find_builtin(kMethods, name);
}

/// The pairs of a mapping as tuples.
inline std::vector<Value> pairs_of(Runtime& runtime, const Mapping& mapping) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : mapping.items) pairs.push_back(runtime.sequence({key, value}, SequenceKind::tuple));
  return pairs;
}

/// @return the method `name` of dicts; null if there is none.
inline const Builtin* mapping_method(std::string_view name) {
  using A = const Arguments&;
  using V = const Value&;
  using R = Runtime&;
  static constexpr Builtin kMethods[] = {
      {"get",
       [](R r, V v, A a) {
         const auto bound = bind(r, "get", a, {"key", "default"});
         const Value* found = bound[0] ? find_key(r, *v.mapping(), *bound[0]) : nullptr;
         return found ? *found : bound[1].value_or(None{});
       }},
      {"items", [](R r, V v, A a) { return bind(r, "items", a, {}), r.sequence(pairs_of(r, *v.mapping()), SequenceKind::view); }},
      {"keys", [](R r, V v, A a) { return bind(r, "keys", a, {}), Value(elements(r, v)); }},
      {"values",
       [](R r, V v, A a) {
         bind(r, "values", a, {});
         std::vector<Value> values;
         for (const auto& item : v.mapping()->items) values.push_back(item.second);
         return r.sequence(std::move(values), SequenceKind::view);
       }},
  };
  return find_builtin(kMethods, name);
}

/// @return the method `name` of lists; null if there is none.
inline const Builtin* list_method(std::string_view name) {
  using A = const Arguments&;
  using V = const Value&;
  using R = Runtime&;
  static constexpr Builtin kMethods[] = {
      {"count",
       [](R r, V v, A a) {
         const Value item = bind(r, "count", a, {"value"})[0].value_or(Value());
         const auto& items = v.sequence()->items;
         return Value(static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](V e) { return equal(r, e, item); })));
       }},
      {"index",
       [](R r, V v, A a) {
         const Value item = bind(r, "index", a, {"value"})[0].value_or(Value());
         const auto& items = v.sequence()->items;
         const auto found = std::find_if(items.begin(), items.end(), [&](V e) { return equal(r, e, item); });
         if (found == items.end()) r.fail("index: the value is not in the list");
         return Value(static_cast<int64_t>(found - items.begin()));
       }},
  };
  return find_builtin(kMethods, name);
}

}  // namespace reft::detail::jinja
