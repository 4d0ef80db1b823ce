#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/arithmetic.hpp"
#include "reft/tokenizer/jinja/attributes.hpp"
#include "reft/tokenizer/jinja/runtime.hpp"

namespace reft::detail::jinja {

/// A node of a parsed template that has a value.
class Expression {
 public:
  explicit Expression(int line) : line_(line) {}
  virtual ~Expression() = default;

  Value value(Runtime& runtime) const {
    const Runtime::Visit visit(runtime, line_);
    return evaluate(runtime);
  }

  int line() const { return line_; }

 private:
  virtual Value evaluate(Runtime& runtime) const = 0;

  int line_;
};

using ExpressionPointer = std::unique_ptr<const Expression>;

inline std::vector<Value> values_of(Runtime& runtime, const std::vector<ExpressionPointer>& expressions) {
  std::vector<Value> values;
  for (const auto& expression : expressions) values.push_back(expression->value(runtime));
  return values;
}

class Literal : public Expression {
 public:
  Literal(int line, Value value) : Expression(line), value_(std::move(value)) {}

 private:
  Value evaluate(Runtime&) const override { return value_; }
  Value value_;
};

class Name : public Expression {
 public:
  Name(int line, std::string name) : Expression(line), name_(std::move(name)) {}
  const std::string& name() const { return name_; }

 private:
  Value evaluate(Runtime& runtime) const override {
    const Value* found = runtime.find(name_);
    if (found) return *found;
    const bool clock = name_ == "strftime_now";
    return undefined(fmt::format("'{}' is undefined{}", name_, clock ? "; give the time in ChatOptions::now" : ""));
  }
  std::string name_;
};

/// [a, b] or (a, b)
class SequenceDisplay : public Expression {
 public:
  SequenceDisplay(int line, SequenceKind kind, std::vector<ExpressionPointer> items)
      : Expression(line), kind_(kind), items_(std::move(items)) {}

 private:
  Value evaluate(Runtime& runtime) const override { return runtime.sequence(values_of(runtime, items_), kind_); }
  SequenceKind kind_;
  std::vector<ExpressionPointer> items_;
};

/// Puts a pair in; the last value of a key counts, in the place of the first.
inline void put(Runtime& runtime, std::vector<std::pair<Value, Value>>& items, Value key, Value value) {
  if (key.mapping() || key.is_undefined() || (key.sequence() && key.sequence()->kind != SequenceKind::tuple)) {
    runtime.fail("a value of type {} cannot be a key", key.type_name());
  }
  for (auto& [known, old] : items) {
    if (equal(runtime, known, key)) {
      old = std::move(value);
      return;
    }
  }
  items.emplace_back(std::move(key), std::move(value));
}

/// {a: b, c: d}
class MappingDisplay : public Expression {
 public:
  MappingDisplay(int line, std::vector<std::pair<ExpressionPointer, ExpressionPointer>> items)
      : Expression(line), items_(std::move(items)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    std::vector<std::pair<Value, Value>> items;
    for (const auto& [key, value] : items_) put(runtime, items, key->value(runtime), value->value(runtime));
    return runtime.mapping(std::move(items));
  }
  std::vector<std::pair<ExpressionPointer, ExpressionPointer>> items_;
};

/// a.name
class AttributeOf : public Expression {
 public:
  AttributeOf(int line, ExpressionPointer object, std::string name)
      : Expression(line), object_(std::move(object)), name_(std::move(name)) {}

 private:
  Value evaluate(Runtime& runtime) const override { return attribute(runtime, object_->value(runtime), name_); }
  ExpressionPointer object_;
  std::string name_;
};

/// a[key]
class ItemOf : public Expression {
 public:
  ItemOf(int line, ExpressionPointer object, ExpressionPointer key)
      : Expression(line), object_(std::move(object)), key_(std::move(key)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    const Value object = object_->value(runtime);
    return item(runtime, object, key_->value(runtime));
  }
  ExpressionPointer object_, key_;
};

/// a[begin:end:step]; bounds that are not written are null.
class SliceOf : public Expression {
 public:
  SliceOf(int line, ExpressionPointer object, ExpressionPointer begin, ExpressionPointer end, ExpressionPointer step)
      : Expression(line), object_(std::move(object)), begin_(std::move(begin)), end_(std::move(end)), step_(std::move(step)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    const auto bound = [&](const ExpressionPointer& expression) {
      return expression ? expression->value(runtime) : Value(None{});
    };
    const Value object = object_->value(runtime), begin = bound(begin_), end = bound(end_);
    return sliced(runtime, object, begin, end, bound(step_));
  }
  ExpressionPointer object_, begin_, end_, step_;
};

/// The arguments of a call, a filter or a test as they are written.
struct CallArguments {
  std::vector<ExpressionPointer> positional;
  std::vector<std::pair<std::string, ExpressionPointer>> named;

  Arguments values(Runtime& runtime) const {
    Arguments arguments{values_of(runtime, positional), {}};
    for (const auto& [name, expression] : named) arguments.named.emplace_back(name, expression->value(runtime));
    return arguments;
  }
};

/// f(a, name=b)
class Call : public Expression {
 public:
  Call(int line, ExpressionPointer callee, CallArguments arguments)
      : Expression(line), callee_(std::move(callee)), arguments_(std::move(arguments)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    const Value callee = callee_->value(runtime);
    if (callee.is_undefined()) fail_undefined(runtime, callee);
    return call(runtime, callee, arguments_.values(runtime));
  }
  ExpressionPointer callee_;
  CallArguments arguments_;
};

/// a | filter(b), or a is test(b)
class BuiltinCall : public Expression {
 public:
  BuiltinCall(int line, const Builtin& builtin, ExpressionPointer self, CallArguments arguments)
      : Expression(line), builtin_(builtin), self_(std::move(self)), arguments_(std::move(arguments)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    const Value self = self_->value(runtime);
    return builtin_.call(runtime, self, arguments_.values(runtime));
  }
  const Builtin& builtin_;
  ExpressionPointer self_;
  CallArguments arguments_;
};

/// not a, -a, +a
class Unary : public Expression {
 public:
  Unary(int line, std::string operation, ExpressionPointer operand)
      : Expression(line), operation_(std::move(operation)), operand_(std::move(operand)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    const Value operand = operand_->value(runtime);
    if (operation_ == "not") return !truth(operand);
    return arithmetic(runtime, "*", operand.text() || operand.sequence() ? Value(None{}) : operand,
                      int64_t{operation_ == "-" ? -1 : 1});
  }
  std::string operation_;
  ExpressionPointer operand_;
};

/// and, or: the operand that decides, not a bool. + - * / // % **.
class Binary : public Expression {
 public:
  Binary(int line, std::string operation, ExpressionPointer left, ExpressionPointer right)
      : Expression(line), operation_(std::move(operation)), left_(std::move(left)), right_(std::move(right)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    const Value left = left_->value(runtime);
    if (operation_ == "and") return truth(left) ? right_->value(runtime) : left;
    if (operation_ == "or") return truth(left) ? left : right_->value(runtime);
    return arithmetic(runtime, operation_, left, right_->value(runtime));
  }
  std::string operation_;
  ExpressionPointer left_, right_;
};

/// a ~ b ~ c: all as texts.
class Concatenation : public Expression {
 public:
  Concatenation(int line, std::vector<ExpressionPointer> parts) : Expression(line), parts_(std::move(parts)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    std::string text;
    for (const auto& part : parts_) append_text(runtime, text, part->value(runtime));
    return text;
  }
  std::vector<ExpressionPointer> parts_;
};

/// a < b <= c: each with its neighbour.
class Comparison : public Expression {
 public:
  using Operand = std::pair<std::string, ExpressionPointer>;

  Comparison(int line, ExpressionPointer first, std::vector<Operand> others)
      : Expression(line), first_(std::move(first)), others_(std::move(others)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    Value left = first_->value(runtime);
    for (const auto& [operation, expression] : others_) {
      Value right = expression->value(runtime);
      if (!compare(runtime, operation, left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  static bool compare(Runtime& runtime, std::string_view operation, const Value& a, const Value& b) {
    if (operation == "==") return equal(runtime, a, b);
    if (operation == "!=") return !equal(runtime, a, b);
    if (operation == "<") return less(runtime, a, b);
    if (operation == ">") return less(runtime, b, a);
    if (operation == "<=") return less(runtime, a, b) || equal(runtime, a, b);
    if (operation == ">=") return less(runtime, b, a) || equal(runtime, a, b);
    return contains(runtime, b, a) == (operation == "in");
  }

  ExpressionPointer first_;
  std::vector<Operand> others_;
};

/// a if condition else b; undefined where there is no else.
class Conditional : public Expression {
 public:
  Conditional(int line, ExpressionPointer condition, ExpressionPointer yes, ExpressionPointer no)
      : Expression(line), condition_(std::move(condition)), yes_(std::move(yes)), no_(std::move(no)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    if (truth(condition_->value(runtime))) return yes_->value(runtime);
    return no_ ? no_->value(runtime) : undefined("the inline if has no else, and its condition is false");
  }
  ExpressionPointer condition_, yes_, no_;
};

}  // namespace reft::detail::jinja
