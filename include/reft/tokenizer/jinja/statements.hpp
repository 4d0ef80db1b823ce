#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/expressions.hpp"
#include "reft/tokenizer/jinja/runtime.hpp"

namespace reft::detail::jinja {

/// How a statement ends: break and continue pass through to their loop.
enum class Flow { next, break_loop, continue_loop };

/// A node of a parsed template that writes or sets something.
class Statement {
 public:
  explicit Statement(int line) : line_(line) {}
  virtual ~Statement() = default;

  Flow run(Runtime& runtime) const {
    const Runtime::Visit visit(runtime, line_);
    return execute(runtime);
  }

 private:
  virtual Flow execute(Runtime& runtime) const = 0;

  int line_;
};

using Block = std::vector<std::unique_ptr<const Statement>>;

inline Flow run_block(Runtime& runtime, const Block& block) {
  for (const auto& statement : block) {
    if (const Flow flow = statement->run(runtime); flow != Flow::next) return flow;
  }
  return Flow::next;
}

/// Variables set until it ends go with it.
class ScopeGuard {
 public:
  ScopeGuard(Runtime& runtime, std::shared_ptr<Scope> parent) : runtime_(runtime), previous_(runtime.scope) {
    runtime.scope = std::make_shared<Scope>(std::move(parent));
  }
  ~ScopeGuard() { runtime_.scope = std::move(previous_); }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Runtime& runtime_;
  std::shared_ptr<Scope> previous_;
};

class Text : public Statement {
 public:
  Text(int line, std::string text) : Statement(line), text_(std::move(text)) {}

 private:
  Flow execute(Runtime& runtime) const override { return runtime.append(runtime.output, text_), Flow::next; }
  std::string text_;
};

/// {{ expression }}
class Output : public Statement {
 public:
  Output(int line, ExpressionPointer expression) : Statement(line), expression_(std::move(expression)) {}

 private:
  Flow execute(Runtime& runtime) const override {
    return append_text(runtime, runtime.output, expression_->value(runtime)), Flow::next;
  }
  ExpressionPointer expression_;
};

/// What is set: a variable, a field of a namespace, or several at once.
struct Target {
  std::string name;
  std::string field;              // of the namespace `name`; empty for a variable
  std::vector<Target> several;    // instead of a name
  bool is_tuple = false;

  void set(Runtime& runtime, const Value& value) const {
    if (is_tuple) {
      const auto parts = elements(runtime, value);
      if (parts->items.size() != several.size()) {
        runtime.fail("expected {} values to unpack, got {}", several.size(), parts->items.size());
      }
      for (std::size_t i = 0; i < several.size(); ++i) several[i].set(runtime, parts->items[i]);
    } else if (field.empty()) {
      runtime.scope->variables.insert_or_assign(name, value);
    } else {
      const Value* found = runtime.find(name);
      Namespace* fields = found ? found->name_space() : nullptr;
      if (!fields) runtime.fail("{}.{}: only fields of a namespace can be set", name, field);
      fields->fields.insert_or_assign(field, value);
    }
  }
};

/// {% set target = expression %}
class Set : public Statement {
 public:
  Set(int line, Target target, ExpressionPointer expression)
      : Statement(line), target_(std::move(target)), expression_(std::move(expression)) {}

 private:
  Flow execute(Runtime& runtime) const override { return target_.set(runtime, expression_->value(runtime)), Flow::next; }
  Target target_;
  ExpressionPointer expression_;
};

/// The text a block writes, as the input of filters.
class Captured : public Expression {
 public:
  Captured(int line, std::shared_ptr<const Block> block) : Expression(line), block_(std::move(block)) {}

 private:
  Value evaluate(Runtime& runtime) const override {
    const ScopeGuard scope(runtime, runtime.scope);
    return runtime.captured([&] { run_block(runtime, *block_); });
  }
  std::shared_ptr<const Block> block_;
};

/// {% if %} {% elif %} {% else %}, whose condition is null.
class If : public Statement {
 public:
  using Branch = std::pair<ExpressionPointer, Block>;
  If(int line, std::vector<Branch> branches) : Statement(line), branches_(std::move(branches)) {}

 private:
  Flow execute(Runtime& runtime) const override {
    for (const auto& [condition, block] : branches_) {
      if (!condition || truth(condition->value(runtime))) return run_block(runtime, block);
    }
    return Flow::next;
  }
  std::vector<Branch> branches_;
};

/// {% for target in list if condition %} {% else %}
class For : public Statement {
 public:
  For(int line, Target target, ExpressionPointer list, ExpressionPointer condition, Block body, Block otherwise)
      : Statement(line), target_(std::move(target)), list_(std::move(list)), condition_(std::move(condition)),
        body_(std::move(body)), otherwise_(std::move(otherwise)) {}

 private:
  Flow execute(Runtime& runtime) const override {
    auto items = elements(runtime, list_->value(runtime));
    if (condition_) items = filtered(runtime, *items);
    for (std::size_t i = 0; i < items->items.size(); ++i) {
      const ScopeGuard scope(runtime, runtime.scope);
      target_.set(runtime, items->items[i]);
      runtime.scope->variables.insert_or_assign("loop", std::make_shared<const Loop>(Loop{items, i}));
      if (run_block(runtime, body_) == Flow::break_loop) break;
    }
    if (!items->items.empty()) return Flow::next;
    const ScopeGuard scope(runtime, runtime.scope);
    return run_block(runtime, otherwise_);
  }

  std::shared_ptr<const Sequence> filtered(Runtime& runtime, const Sequence& all) const {
    Sequence kept{SequenceKind::view, {}, all.depth};
    for (const Value& item : all.items) {
      const ScopeGuard scope(runtime, runtime.scope);
      target_.set(runtime, item);
      if (truth(condition_->value(runtime))) kept.items.push_back(item);
    }
    return std::make_shared<const Sequence>(std::move(kept));
  }

  Target target_;
  ExpressionPointer list_, condition_;
  Block body_, otherwise_;
};

/// {% break %}, {% continue %}
class Jump : public Statement {
 public:
  Jump(int line, Flow flow) : Statement(line), flow_(flow) {}

 private:
  Flow execute(Runtime&) const override { return flow_; }
  Flow flow_;
};

/// {% generation %}: what the model is to learn to write.
class Generation : public Statement {
 public:
  Generation(int line, Block body) : Statement(line), body_(std::move(body)) {}

 private:
  Flow execute(Runtime& runtime) const override {
    const ScopeGuard scope(runtime, runtime.scope);
    const std::size_t begin = runtime.output.size();
    const Flow flow = run_block(runtime, body_);
    runtime.generations.push_back({begin, runtime.output.size(), runtime.captures == 0});
    return flow;
  }
  Block body_;
};

/// {% macro name(parameter, other=default) %}: a function whose value is what its body writes.
class Macro : public Statement {
 public:
  using Parameter = std::pair<std::string, ExpressionPointer>;  // the default may be null

  Macro(int line, std::string name, std::vector<Parameter> parameters, Block body)
      : Statement(line), name_(std::move(name)), parameters_(std::move(parameters)), body_(std::move(body)) {}

 private:
  Flow execute(Runtime& runtime) const override {
    runtime.keep(runtime.scope);
    Scope* home = runtime.scope.get();  // not shared: it will hold the function
    runtime.scope->variables.insert_or_assign(
        name_, Function{name_, [this, home](Runtime& caller, const Arguments& arguments) {
                          return invoke(caller, home, arguments);
                        }});
    return Flow::next;
  }

  Value invoke(Runtime& runtime, Scope* home, const Arguments& arguments) const {
    if (arguments.positional.size() > parameters_.size()) {
      runtime.fail("{}: expected at most {} arguments, got {}", name_, parameters_.size(), arguments.positional.size());
    }
    // The scope is kept until the rendering ends.
    const ScopeGuard scope(runtime, home->shared_from_this());
    auto& variables = runtime.scope->variables;
    for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
      variables.insert_or_assign(parameters_[i].first, arguments.positional[i]);
    }
    for (const auto& [name, value] : arguments.named) {
      const auto has_name = [&](const Parameter& parameter) { return parameter.first == name; };
      const bool known = std::any_of(parameters_.begin(), parameters_.end(), has_name);
      if (!known || variables.contains(name)) {
        runtime.fail("{}: argument \"{}\" is {}", name_, name, known ? "given twice" : "none of its own");
      }
      variables.insert_or_assign(name, value);
    }
    for (const auto& [name, fallback] : parameters_) {
      if (variables.contains(name)) continue;
      Value value = fallback ? fallback->value(runtime) : undefined(fmt::format("parameter '{}' was not provided", name));
      runtime.scope->variables.insert_or_assign(name, std::move(value));
    }
    return runtime.captured([&] { run_block(runtime, body_); });
  }

  std::string name_;
  std::vector<Parameter> parameters_;
  Block body_;
};

}  // namespace reft::detail::jinja
