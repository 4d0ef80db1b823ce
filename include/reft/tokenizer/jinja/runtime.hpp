#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/tokenizer/jinja/value.hpp"

namespace reft::detail::jinja {

/// Variables of a template, a turn of a loop or a call of a macro, and those around them.
struct Scope : std::enable_shared_from_this<Scope> {
  explicit Scope(std::shared_ptr<Scope> around = nullptr) : parent(std::move(around)) {}

  std::map<std::string, Value, std::less<>> variables;
  std::shared_ptr<Scope> parent;
};

/// What a generation block wrote: bytes [begin, end) of the output, if it was written there and not, as within macros
/// and block sets, into a text that may get there later.
struct GeneratedRange {
  std::size_t begin;
  std::size_t end;
  bool placed;
};

/// One rendering: where it is, what it has written, and what it may still cost. Templates come with models from
/// anywhere: each ends with a text or a TokenizerError, in bounded time, memory and stack.
class Runtime {
 public:
  static constexpr std::size_t kMostSteps = 10'000'000;
  static constexpr std::size_t kMostBytes = std::size_t{256} << 20;  // of all texts made on the way
  static constexpr int kDeepestVisit = 1000;

  explicit Runtime(std::shared_ptr<Scope> globals) : scope(std::move(globals)) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Macros hold the scope that holds them, and a namespace may hold itself.
  ~Runtime() {
    for (const auto& kept : scopes_) kept->variables.clear();
    for (const auto& kept : namespaces_) kept->fields.clear();
  }

  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> message, Args&&... args) const {
    reft::fail<TokenizerError>("ChatTemplate", "line {}: {}", line_,
                               fmt::format(message, std::forward<Args>(args)...));
  }

  /// Accounts for `steps` of work.
  void work(std::size_t steps) {
    if (steps > kMostSteps - steps_) fail("the template takes more than {} steps", kMostSteps);
    steps_ += steps;
  }

  /// Accounts for `bytes` of text.
  void make(std::size_t bytes) {
    if (bytes > kMostBytes - bytes_) fail("the template makes more than {} MiB of text", kMostBytes >> 20);
    bytes_ += bytes;
  }

  void append(std::string& text, std::string_view more) {
    make(more.size());
    text += more;
  }

  Value text(std::string_view text) {
    make(text.size());
    return std::string(text);
  }

  Value sequence(std::vector<Value> items, SequenceKind kind = SequenceKind::list) {
    work(items.size());
    int depth = 1;
    for (const Value& item : items) depth = std::max(depth, item.depth() + 1);
    check_depth(depth);
    return std::make_shared<const Sequence>(Sequence{kind, std::move(items), depth});
  }

  /// `items` have no key twice.
  Value mapping(std::vector<std::pair<Value, Value>> items) {
    work(items.size());
    int depth = 1;
    for (const auto& [key, value] : items) depth = std::max({depth, key.depth() + 1, value.depth() + 1});
    check_depth(depth);
    return std::make_shared<const Mapping>(Mapping{std::move(items), depth});
  }

  std::shared_ptr<Namespace> make_namespace() { return namespaces_.emplace_back(std::make_shared<Namespace>()); }

  /// The scope outlives the values in it until the rendering ends.
  void keep(const std::shared_ptr<Scope>& kept) { scopes_.push_back(kept); }

  const Value* find(std::string_view name) const {
    for (const Scope* at = scope.get(); at != nullptr; at = at->parent.get()) {
      if (const auto found = at->variables.find(name); found != at->variables.end()) return &found->second;
    }
    return nullptr;
  }

  /// Writes what `body()` writes into a text of its own.
  template <class Body>
  Value captured(Body&& body) {
    std::string whole;
    std::swap(whole, output);
    ++captures;
    body();
    --captures;
    std::swap(whole, output);
    return whole;
  }

  /// Within a node of the template.
  class Visit {
   public:
    Visit(Runtime& runtime, int line) : runtime_(runtime), previous_line_(runtime.line_) {
      runtime.line_ = line;
      runtime.work(1);
      if (runtime.depth_ == kDeepestVisit) runtime.fail("nested more than {} deep", kDeepestVisit);
      ++runtime.depth_;
    }
    ~Visit() {
      --runtime_.depth_;
      runtime_.line_ = previous_line_;
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    Runtime& runtime_;
    int previous_line_;
  };

  std::shared_ptr<Scope> scope;
  std::string output;
  int captures = 0;  // around the output: macros and block sets
  std::vector<GeneratedRange> generations;

 private:
  void check_depth(int depth) const {
    if (depth > kDeepestValue) fail("values are nested more than {} deep", kDeepestValue);
  }

  int line_ = 1;
  int depth_ = 0;
  std::size_t steps_ = 0;
  std::size_t bytes_ = 0;
  std::vector<std::shared_ptr<Scope>> scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

/// The arguments of `function` by the names of its parameters.
/// @throws TokenizerError for more of them, and for names it does not have.
inline std::vector<std::optional<Value>> bind(Runtime& runtime, std::string_view function, const Arguments& arguments,
                                              std::initializer_list<std::string_view> parameters) {
  if (arguments.positional.size() > parameters.size()) {
    runtime.fail("{}: expected at most {} arguments, got {}", function, parameters.size(), arguments.positional.size());
  }
  std::vector<std::optional<Value>> bound(arguments.positional.begin(), arguments.positional.end());
  bound.resize(parameters.size());
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(parameters.begin(), parameters.end(), name);
    auto* place = found == parameters.end() ? nullptr : &bound[static_cast<std::size_t>(found - parameters.begin())];
    if (place == nullptr || *place) {
      runtime.fail("{}: argument \"{}\" is {}", function, name, place == nullptr ? "not supported" : "given twice");
    }
    *place = value;
  }
  return bound;
}

}  // namespace reft::detail::jinja
