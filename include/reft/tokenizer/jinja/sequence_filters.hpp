#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/arithmetic.hpp"
#include "reft/tokenizer/jinja/attributes.hpp"
#include "reft/tokenizer/jinja/tests.hpp"

namespace reft::detail::jinja {

/// What select, reject, selectattr and rejectattr differ in.
struct Selection {
  bool by_attribute;
  bool keep;  // what passes the test, or what does not
};

/// Arguments: the attribute if there is one, then a test (truth if there is none) and its arguments.
inline Value select_elements(Runtime& runtime, const Value& list, const Arguments& arguments, Selection selection) {
  auto rest = arguments.positional.begin();
  const auto end = arguments.positional.end();
  if (selection.by_attribute && rest == end) runtime.fail("selectattr: expected the name of an attribute");
  const std::string path = selection.by_attribute ? to_text(runtime, *rest++) : "";
  const std::string name = rest == end ? "" : to_text(runtime, *rest++);
  const Builtin* test = find_test(name);
  if (!test && !name.empty()) runtime.fail("test \"{}\" is not supported", name);
  const Arguments operands{{rest, end}, arguments.named};
  std::vector<Value> result;
  const auto all = elements_if_true(runtime, list);
  for (const Value& element : all->items) {
    const Value tested = selection.by_attribute ? dotted_item(runtime, element, path) : element;
    if (truth(test ? test->call(runtime, tested, operands) : tested) == selection.keep) result.push_back(element);
  }
  return runtime.sequence(std::move(result), SequenceKind::iterator);
}

inline Value first_filter(Runtime& runtime, const Value& list, const Arguments& arguments) {
  bind(runtime, "first", arguments, {});
  const auto all = elements(runtime, list);
  return all->items.empty() ? undefined("No first item, sequence was empty.") : all->items.front();
}

inline Value last_filter(Runtime& runtime, const Value& list, const Arguments& arguments) {
  bind(runtime, "last", arguments, {});
  const auto all = elements(runtime, list);
  return all->items.empty() ? undefined("No last item, sequence was empty.") : all->items.back();
}

inline Value join_filter(Runtime& runtime, const Value& list, const Arguments& arguments) {
  const auto bound = bind(runtime, "join", arguments, {"d", "attribute"});
  const std::string separator = bound[0] ? to_text(runtime, *bound[0]) : "";
  if (!bound[1] || bound[1]->is_none()) return join_texts(runtime, list, separator);
  const std::string path = to_text(runtime, *bound[1]);
  std::vector<Value> items;
  const auto all = elements(runtime, list);
  for (const Value& element : all->items) items.push_back(dotted_item(runtime, element, path));
  return join_texts(runtime, runtime.sequence(std::move(items)), separator);
}

inline Value reverse_filter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  bind(runtime, "reverse", arguments, {});
  auto items = elements(runtime, value)->items;
  std::reverse(items.begin(), items.end());
  const Value reversed = runtime.sequence(std::move(items), SequenceKind::iterator);
  return value.text() ? join_texts(runtime, reversed, "") : reversed;
}

/// What elements are sorted or told apart by: one of their attributes, without regard to case unless told.
class SortKey {
 public:
  SortKey(Runtime& runtime, const std::optional<Value>& attribute, bool case_sensitive)
      : runtime_(runtime), case_sensitive_(case_sensitive) {
    if (attribute && !attribute->is_none()) path_ = to_text(runtime, *attribute);
    if (path_ && path_->find(',') != std::string::npos) runtime.fail("sorting by several attributes is not supported");
  }

  Value operator()(const Value& element) const {
    const Value key = path_ ? dotted_item(runtime_, element, *path_) : element;
    return key.text() && !case_sensitive_ ? Value(lowercased(*key.text())) : key;
  }

 private:
  Runtime& runtime_;
  bool case_sensitive_;
  std::optional<std::string> path_;
};

/// Stable: equal elements keep their order, also when sorted backwards.
inline std::vector<Value> sorted(Runtime& runtime, const std::vector<Value>& items, bool backwards,
                                 const std::function<Value(const Value&)>& key) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) keyed.emplace_back(key(item), item);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return backwards ? less(runtime, b.first, a.first) : less(runtime, a.first, b.first);
  });
  std::vector<Value> result;
  for (auto& [ignored, item] : keyed) result.push_back(std::move(item));
  return result;
}

inline Value sort_filter(Runtime& runtime, const Value& list, const Arguments& arguments) {
  const auto bound = bind(runtime, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const SortKey key(runtime, bound[2], bound[1] && truth(*bound[1]));
  return runtime.sequence(sorted(runtime, elements(runtime, list)->items, bound[0] && truth(*bound[0]), key));
}

inline Value dictsort_filter(Runtime& runtime, const Value& mapping, const Arguments& arguments) {
  const auto bound = bind(runtime, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  if (!mapping.mapping()) runtime.fail("dictsort: expected a mapping, got a value of type {}", mapping.type_name());
  const std::string by = bound[1] ? to_text(runtime, *bound[1]) : "key";
  if (by != "key" && by != "value") runtime.fail("dictsort: expected by=\"key\" or \"value\", got \"{}\"", by);
  const SortKey key(runtime, Value(std::string(by == "key" ? "0" : "1")), bound[0] && truth(*bound[0]));
  return runtime.sequence(
      sorted(runtime, pairs_of(runtime, *mapping.mapping()), bound[2] && truth(*bound[2]), key));
}

/// The first of each kind, in their order.
inline Value unique_filter(Runtime& runtime, const Value& list, const Arguments& arguments) {
  const auto bound = bind(runtime, "unique", arguments, {"case_sensitive", "attribute"});
  const SortKey key(runtime, bound[1], bound[0] && truth(*bound[0]));
  std::vector<Value> keys, result;
  const auto all = elements(runtime, list);
  for (const Value& element : all->items) {
    const Value mine = key(element);
    if (std::any_of(keys.begin(), keys.end(), [&](const Value& other) { return equal(runtime, other, mine); })) continue;
    keys.push_back(mine);
    result.push_back(element);
  }
  return runtime.sequence(std::move(result), SequenceKind::iterator);
}

}  // namespace reft::detail::jinja
