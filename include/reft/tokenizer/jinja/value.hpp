#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/unicode.hpp"

/// A Jinja engine for chat templates: Python's values and operators, the statements, filters, tests and methods that
/// published templates use, with the whitespace rules transformers sets (trim_blocks, lstrip_blocks).
/// Ref: jinja2 3.1 in its immutable sandbox, as transformers 4.57 calls it.
namespace reft::detail::jinja {

class Runtime;
class Value;

/// A variable, attribute or item that is not there; `reason` is what is said when it is used.
struct Undefined {
  std::shared_ptr<const std::string> reason;
};

struct None {};

/// list and tuple are Python's; a view has a length but no brackets (range, dict.items()); an iterator not even that.
enum class SequenceKind { list, tuple, view, iterator };

struct Sequence {
  SequenceKind kind;
  std::vector<Value> items;
  int depth;  // 1 for a sequence of scalars
};

/// Pairs in the order they were put in, no key twice.
struct Mapping {
  std::vector<std::pair<Value, Value>> items;
  int depth;
};

/// What a call passes.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Function {
  std::string name;
  std::function<Value(Runtime&, const Arguments&)> call;
};

/// The one value that changes: what `namespace()` makes.
struct Namespace {
  std::map<std::string, Value, std::less<>> fields;
};

/// `loop` in one turn of a for statement.
struct Loop {
  std::shared_ptr<const Sequence> sequence;
  std::size_t index;  // from 0
};

/// Containers in containers; what is deeper could not be freed or printed without recursing as deep.
inline constexpr int kDeepestValue = 100;

/// A Python value. Copies are cheap and share what they hold.
class Value {
 public:
  using Text = std::shared_ptr<const std::string>;

  Value() : value_(Undefined{}) {}
  Value(Undefined value) : value_(std::move(value)) {}
  Value(None value) : value_(value) {}
  Value(bool value) : value_(value) {}
  Value(int64_t value) : value_(value) {}
  Value(double value) : value_(value) {}
  Value(std::string text) : value_(std::make_shared<const std::string>(std::move(text))) {}
  Value(const char*) = delete;  // would be a bool
  Value(Function function) : value_(std::make_shared<const Function>(std::move(function))) {}
  Value(std::shared_ptr<const Sequence> value) : value_(std::move(value)) {}
  Value(std::shared_ptr<const Mapping> value) : value_(std::move(value)) {}
  Value(std::shared_ptr<Namespace> value) : value_(std::move(value)) {}
  Value(std::shared_ptr<const Loop> value) : value_(std::move(value)) {}

  template <class Alternative>
  const Alternative* as() const {
    return std::get_if<Alternative>(&value_);
  }

  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<None>() != nullptr; }

  /// Null if the value is something else.
  const std::string* text() const { return pointee<const std::string>(); }
  const Sequence* sequence() const { return pointee<const Sequence>(); }
  const Mapping* mapping() const { return pointee<const Mapping>(); }
  const Function* function() const { return pointee<const Function>(); }
  Namespace* name_space() const { return pointee<Namespace>(); }
  const Loop* loop() const { return pointee<const Loop>(); }

  int depth() const { return sequence() ? sequence()->depth : mapping() ? mapping()->depth : 0; }

  /// Its type as Python's messages name it.
  std::string_view type_name() const {
    static constexpr std::string_view kNames[] = {"Undefined", "NoneType", "bool",     "int",       "float",      "str",
                                                  "list",      "dict",     "function", "Namespace", "LoopContext"};
    static constexpr std::string_view kSequences[] = {"list", "tuple", "view", "generator"};
    return sequence() ? kSequences[static_cast<int>(sequence()->kind)] : kNames[value_.index()];
  }

  /// Whether both are one object.
  bool same_object(const Value& other) const {
    return address() != nullptr && address() == other.address();
  }

 private:
  template <class T>
  T* pointee() const {
    const auto* pointer = as<std::shared_ptr<T>>();
    return pointer ? pointer->get() : nullptr;
  }

  const void* address() const {
    if (const auto* call = function()) return call;
    if (const auto* fields = name_space()) return fields;
    return loop();
  }

  std::variant<Undefined, None, bool, int64_t, double, Text, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Mapping>, std::shared_ptr<const Function>, std::shared_ptr<Namespace>,
               std::shared_ptr<const Loop>>
      value_;
};

inline Value undefined(std::string reason) {
  return Undefined{std::make_shared<const std::string>(std::move(reason))};
}

/// @throws TokenizerError for containers nested deeper than `kDeepestValue`, and for integers beyond 64 bits.
inline Value from_json(const nlohmann::ordered_json& json, int depth = 0) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth > kDeepestValue) fail<TokenizerError>("ChatTemplate", "values are nested more than {} deep", kDeepestValue);
  const auto deepest = [](int so_far, const Value& value) { return std::max(so_far, value.depth() + 1); };
  switch (json.type()) {
    case Type::boolean: return json.get<bool>();
    case Type::number_integer: return json.get<int64_t>();
    case Type::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) {
        fail<TokenizerError>("ChatTemplate", "expected integers of 64 bits, got {}", json.dump());
      }
      return json.get<int64_t>();
    case Type::number_float: return json.get<double>();
    case Type::string: return to_valid_utf8(json.get_ref<const std::string&>());
    case Type::array: {
      Sequence list{SequenceKind::list, {}, 1};
      for (const auto& element : json) {
        list.items.push_back(from_json(element, depth + 1));
        list.depth = deepest(list.depth, list.items.back());
      }
      return std::make_shared<const Sequence>(std::move(list));
    }
    case Type::object: {
      Mapping mapping{{}, 1};
      for (const auto& [key, value] : json.items()) {
        mapping.items.emplace_back(to_valid_utf8(key), from_json(value, depth + 1));
        mapping.depth = deepest(mapping.depth, mapping.items.back().second);
      }
      return std::make_shared<const Mapping>(std::move(mapping));
    }
    case Type::null: return None{};
    default: fail<TokenizerError>("ChatTemplate", "expected JSON values, got {}", json.type_name());
  }
}

}  // namespace reft::detail::jinja
