#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/print.hpp"
#include "reft/tokenizer/jinja/runtime.hpp"
#include "reft/tokenizer/jinja/text.hpp"
#include "reft/tokenizer/jinja/value.hpp"

namespace reft::detail::jinja {

[[noreturn]] inline void fail_undefined(const Runtime& runtime, const Value& value) {
  const auto& reason = value.as<Undefined>()->reason;
  runtime.fail("{}", reason ? *reason : "the value is undefined");
}

/// bool(value)
inline bool truth(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (const auto* flag = value.as<bool>()) return *flag;
  if (const auto* integer = value.as<int64_t>()) return *integer != 0;
  if (const auto* number = value.as<double>()) return *number != 0;
  if (const auto* text = value.text()) return !text->empty();
  if (const auto* mapping = value.mapping()) return !mapping->items.empty();
  if (const auto* list = value.sequence()) return list->kind == SequenceKind::iterator || !list->items.empty();
  return true;
}

/// An int; True is 1.
inline std::optional<int64_t> as_integer(const Value& value) {
  if (const auto* flag = value.as<bool>()) return *flag ? 1 : 0;
  const auto* integer = value.as<int64_t>();
  return integer ? std::optional(*integer) : std::nullopt;
}

/// An int or a float.
inline std::optional<double> as_number(const Value& value) {
  if (const auto integer = as_integer(value)) return static_cast<double>(*integer);
  const auto* number = value.as<double>();
  return number ? std::optional(*number) : std::nullopt;
}

inline bool equal(Runtime& runtime, const Value& a, const Value& b);

inline const Value* find_key(Runtime& runtime, const Mapping& mapping, const Value& key) {
  for (const auto& [candidate, value] : mapping.items) {
    if (equal(runtime, candidate, key)) return &value;
  }
  return nullptr;
}

inline bool equal_mappings(Runtime& runtime, const Mapping& a, const Mapping& b) {
  return a.items.size() == b.items.size() && std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
           const Value* other = find_key(runtime, b, item.first);
           return other && equal(runtime, item.second, *other);
         });
}

/// a == b
inline bool equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.work(1);
  if (const auto x = as_integer(a), y = as_integer(b); x && y) return *x == *y;
  if (const auto x = as_number(a), y = as_number(b); x && y) return *x == *y;
  if (a.text() && b.text()) return *a.text() == *b.text();
  if (a.mapping() && b.mapping()) return equal_mappings(runtime, *a.mapping(), *b.mapping());
  if (const auto *x = a.sequence(), *y = b.sequence(); x && y) {
    return x->kind == y->kind && std::equal(x->items.begin(), x->items.end(), y->items.begin(), y->items.end(),
                                            [&](const Value& p, const Value& q) { return equal(runtime, p, q); });
  }
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined()) || a.same_object(b);
}

/// a < b
inline bool less(Runtime& runtime, const Value& a, const Value& b) {
  runtime.work(1);
  if (const auto x = as_integer(a), y = as_integer(b); x && y) return *x < *y;
  if (const auto x = as_number(a), y = as_number(b); x && y) return *x < *y;
  if (a.text() && b.text()) return *a.text() < *b.text();  // the order of UTF-8 is that of the code points
  if (const auto *x = a.sequence(), *y = b.sequence(); x && y && x->kind == y->kind) {
    for (std::size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
      if (!equal(runtime, x->items[i], y->items[i])) return less(runtime, x->items[i], y->items[i]);
    }
    return x->items.size() < y->items.size();
  }
  for (const Value& value : {a, b}) {
    if (value.is_undefined()) fail_undefined(runtime, value);
  }
  runtime.fail("cannot order a value of type {} and one of type {}", a.type_name(), b.type_name());
}

/// What `for` goes through: elements, characters or keys; nothing of an undefined value.
inline std::shared_ptr<const Sequence> elements(Runtime& runtime, const Value& value) {
  if (const auto* shared = value.as<std::shared_ptr<const Sequence>>()) return *shared;
  Sequence result{SequenceKind::view, {}, 1};
  if (const auto* text = value.text()) {
    for (const std::string_view character : characters(*text)) result.items.push_back(runtime.text(character));
  } else if (const auto* mapping = value.mapping()) {
    for (const auto& [key, member] : mapping->items) result.items.push_back(key);
    result.depth = mapping->depth;
  } else if (!value.is_undefined()) {
    runtime.fail("a value of type {} has no elements", value.type_name());
  }
  runtime.work(result.items.size());
  return std::make_shared<const Sequence>(std::move(result));
}

/// What select and map go through: also nothing of None, False and 0.
inline std::shared_ptr<const Sequence> elements_if_true(Runtime& runtime, const Value& value) {
  return elements(runtime, truth(value) ? value : Value());
}

/// len(value)
inline int64_t length(Runtime& runtime, const Value& value) {
  if (const auto* text = value.text()) return static_cast<int64_t>(character_count(*text));
  if (const auto* mapping = value.mapping()) return static_cast<int64_t>(mapping->items.size());
  if (const auto* list = value.sequence(); list && list->kind != SequenceKind::iterator) {
    return static_cast<int64_t>(list->items.size());
  }
  if (value.is_undefined()) return 0;
  runtime.fail("a value of type {} has no length", value.type_name());
}

/// item in container
inline bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (const auto* text = container.text()) {
    if (item.is_undefined()) fail_undefined(runtime, item);
    if (!item.text()) runtime.fail("'in' of a text: expected a text, got a value of type {}", item.type_name());
    runtime.work(text->size() / 16);
    return text->find(*item.text()) != std::string::npos;
  }
  if (const auto* mapping = container.mapping()) return find_key(runtime, *mapping, item) != nullptr;
  const auto list = elements(runtime, container);
  return std::any_of(list->items.begin(), list->items.end(),
                     [&](const Value& element) { return equal(runtime, element, item); });
}

/// container[begin:end:step]
inline Value sliced(Runtime& runtime, const Value& container, const Value& begin, const Value& end, const Value& step) {
  const auto bound = [&](const Value& value, int64_t fallback) {
    const auto integer = as_integer(value);
    if (!integer && !value.is_none()) runtime.fail("a slice takes integers, got a value of type {}", value.type_name());
    return integer.value_or(fallback);
  };
  if (container.is_undefined()) fail_undefined(runtime, container);
  const auto* list = container.sequence();
  if (!container.text() && (!list || list->kind == SequenceKind::iterator)) {
    runtime.fail("a value of type {} has no slices", container.type_name());
  }
  const auto all = elements(runtime, container);
  const auto size = static_cast<int64_t>(all->items.size());
  const int64_t stride = std::clamp<int64_t>(bound(step, 1), -size - 1, size + 1);
  if (stride == 0) runtime.fail("the step of a slice is 0");
  const auto place = [&](const Value& value, int64_t fallback) {  // -1 and size stand for the two ends
    if (value.is_none()) return fallback;
    int64_t at = bound(value, 0);
    if (at < 0) at = std::max<int64_t>(at, -size - 1) + size;
    return stride > 0 ? std::clamp<int64_t>(at, 0, size) : std::clamp<int64_t>(at, -1, size - 1);
  };
  const int64_t first = place(begin, stride > 0 ? 0 : size - 1), last = place(end, stride > 0 ? size : -1);
  std::vector<Value> items;
  for (int64_t i = first; stride > 0 ? i < last : i > last; i += stride) items.push_back(all->items[static_cast<std::size_t>(i)]);
  if (list) return runtime.sequence(std::move(items), list->kind);
  std::string text;
  for (const Value& item : items) runtime.append(text, *item.text());
  return text;
}

}  // namespace reft::detail::jinja
