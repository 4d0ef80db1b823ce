#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "reft/tokenizer/jinja/methods.hpp"

namespace reft::detail::jinja {

/// What the sandbox of transformers refuses too: values do not change.
inline bool changes_value(std::string_view name) {
  static constexpr std::string_view kNames[] = {"append", "clear",   "extend",     "insert", "pop",   "popitem",
                                                "remove", "reverse", "setdefault", "sort",   "update"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

/// `value.name` as a method bound to the value.
inline std::optional<Value> bound_method(Runtime& runtime, const Value& value, std::string_view name) {
  const Builtin* method = value.text()       ? text_method(name)
                          : value.mapping()  ? mapping_method(name)
                          : value.sequence() ? list_method(name)
                                             : nullptr;
  if (!method) {
    if ((value.mapping() || value.sequence()) && changes_value(name)) {
      runtime.fail("{} would change a value of type {}; values do not change (use + or a namespace)", name, value.type_name());
    }
    return std::nullopt;
  }
  return Function{std::string(name), [value, method](Runtime& caller, const Arguments& arguments) {
                    return method->call(caller, value, arguments);
                  }};
}

inline Value no_attribute(const Value& value, std::string_view name) {
  const std::string type(value.type_name());
  return undefined(value.is_none() ? fmt::format("'None' has no attribute '{}'", name)
                                   : fmt::format("'{} object' has no attribute '{}'", type, name));
}

inline Value loop_attribute(const Loop& loop, const Value& self, std::string_view name) {
  const auto size = static_cast<int64_t>(loop.sequence->items.size()), index = static_cast<int64_t>(loop.index);
  const auto item = [&](int64_t at, const char* missing) {
    return at < 0 || at >= size ? undefined(missing) : loop.sequence->items[static_cast<std::size_t>(at)];
  };
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return size - index;
  if (name == "revindex0") return size - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index == size - 1;
  if (name == "length") return size;
  if (name == "previtem") return item(index - 1, "there is no previous item");
  if (name == "nextitem") return item(index + 1, "there is no next item");
  if (name == "cycle") {
    return Function{"cycle", [index](Runtime& runtime, const Arguments& arguments) {
                      if (arguments.positional.empty()) runtime.fail("cycle: expected items");
                      return arguments.positional[static_cast<std::size_t>(index) % arguments.positional.size()];
                    }};
  }
  return no_attribute(self, name);
}

/// value.name: an attribute or a method, else an item.
inline Value attribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (value.is_undefined()) fail_undefined(runtime, value);
  if (const auto* loop = value.loop()) return loop_attribute(*loop, value, name);
  if (auto* fields = value.name_space()) {
    const auto found = fields->fields.find(name);
    return found != fields->fields.end() ? found->second : no_attribute(value, name);
  }
  if (auto method = bound_method(runtime, value, name)) return *std::move(method);
  if (value.mapping()) {
    if (const Value* found = find_key(runtime, *value.mapping(), std::string(name))) return *found;
  }
  return no_attribute(value, name);
}

/// value[key]: an item, else an attribute or a method.
inline Value item(Runtime& runtime, const Value& value, const Value& key) {
  if (value.is_undefined()) fail_undefined(runtime, value);
  if (value.mapping()) {
    if (const Value* found = find_key(runtime, *value.mapping(), key)) return *found;
  } else if (const auto index = as_integer(key); index && (value.text() || value.sequence())) {
    if (value.sequence() && value.sequence()->kind == SequenceKind::iterator) {
      runtime.fail("a generator has no items; make a list of it first");
    }
    const int64_t size = length(runtime, value), at = *index < 0 ? *index + size : *index;
    if (at < 0 || at >= size) return undefined(fmt::format("{} object has no element {}", value.type_name(), *index));
    if (const auto* list = value.sequence()) return list->items[static_cast<std::size_t>(at)];
    runtime.work(value.text()->size() / 16);
    return runtime.text(characters(*value.text())[static_cast<std::size_t>(at)]);
  }
  if (key.text()) {
    return value.mapping() && !mapping_method(*key.text()) ? no_attribute(value, *key.text())
                                                           : attribute(runtime, value, *key.text());
  }
  return undefined(fmt::format("{} object has no element {}", value.type_name(), to_text(runtime, key)));
}

/// What `attribute="a.b.0"` of a filter reads from a value.
inline Value dotted_item(Runtime& runtime, Value value, std::string_view path) {
  while (true) {
    const std::size_t dot = path.find('.');
    const std::string part(path.substr(0, dot));
    const bool index = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    value = item(runtime, value, index ? Value(int64_t{std::stoi(part)}) : Value(part));
    if (dot == std::string_view::npos) return value;
    path.remove_prefix(dot + 1);
  }
}

/// callee(arguments)
inline Value call(Runtime& runtime, const Value& callee, const Arguments& arguments) {
  if (callee.is_undefined()) fail_undefined(runtime, callee);
  const Function* function = callee.function();
  if (!function) runtime.fail("a value of type {} cannot be called", callee.type_name());
  return function->call(runtime, arguments);
}

}  // namespace reft::detail::jinja
