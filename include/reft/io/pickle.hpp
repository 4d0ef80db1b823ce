#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "reft/error.hpp"

namespace reft {

// Note [Restricted pickles]
// A pickle is a program for a stack machine that may import and call anything. This reader runs none of it: it knows the
// opcodes that build plain data, takes a global for its name alone and only if the caller listed that name, and records
// a call instead of making it. Any other opcode or global is a CheckpointError. Values live in one arena and refer to
// each other by pointer, so loops and deep nesting need no recursion, and a shared value is never copied: memory is
// proportional to the pickle's length, which is bounded.
// Ref: CPython Lib/pickletools.py; torch/_weights_only_unpickler.py allows the same opcodes.

struct PickleValue;
using PickleItems = std::vector<const PickleValue*>;

/// A name such as "torch.FloatStorage".
struct PickleGlobal {
  std::string name;
};
struct PickleTuple {
  PickleItems items;
};
struct PickleList {
  PickleItems items;
};
struct PickleDict {
  std::map<std::string_view, const PickleValue*> items;
};
/// A call that Python would make: of a listed global, with a tuple.
struct PickleCall {
  std::string function;
  PickleItems arguments;
};
/// What the file's owner finds by an id of its own, as torch does storages.
struct PicklePersistent {
  const PickleValue* id;
};

/// One value; texts are views of the pickle's bytes.
struct PickleValue {
  std::variant<std::monostate, bool, int64_t, double, std::string_view, PickleGlobal, PickleTuple, PickleList, PickleDict,
               PickleCall, PicklePersistent>
      data;

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data);
  }
  std::string_view kind() const {
    constexpr std::array<std::string_view, 11> kNames{"None",    "a boolean", "an integer", "a number", "a text",       "a global",
                                                      "a tuple", "a list",    "a dict",     "a call",   "a persistent id"};
    return kNames[data.index()];
  }
};

namespace detail {

/// The stack machine; `root` is its result and lives in `arena`.
class Unpickler {
 public:
  static constexpr std::size_t kLongestPickle = std::size_t{1} << 20;  // a tensor of a state dict takes 100 to 200 bytes

  Unpickler(std::span<const std::byte> bytes, std::string_view file, std::span<const std::string_view> globals)
      : bytes_(bytes), file_(file), globals_(globals) {
    if (bytes.size() > kLongestPickle) refuse("expected at most {} bytes, got {}", kLongestPickle, bytes.size());
    while (step(take<uint8_t>())) continue;
    if (stack_.size() != 1 || !marks_.empty()) refuse("{} values are left at its end, expected one", stack_.size());
    if (at_ != bytes_.size()) refuse("{} bytes follow its end", bytes_.size() - at_);
    root = stack_.back();
  }

  std::deque<PickleValue> arena;
  const PickleValue* root = nullptr;

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<CheckpointError>("read_pickle", "{}: {}", file_, fmt::format(message, std::forward<Args>(args)...));
  }

  /// Runs one opcode.   @return false for the last one.
  bool step(uint8_t opcode) {
    switch (opcode) {
      case 0x80: check_protocol(take<uint8_t>()); break;                                         // PROTO
      case '.': return false;                                                                    // STOP
      case '(': marks_.push_back(stack_.size()); break;                                          // MARK
      case 'N': push(std::monostate{}); break;                                                   // NONE
      case 0x88: push(true); break;                                                              // NEWTRUE
      case 0x89: push(false); break;                                                             // NEWFALSE
      case 'K': push(int64_t{take<uint8_t>()}); break;                                           // BININT1
      case 'M': push(int64_t{take<uint16_t>()}); break;                                          // BININT2
      case 'J': push(int64_t{take<int32_t>()}); break;                                           // BININT
      case 0x8A: push(take_long(take<uint8_t>())); break;                                        // LONG1
      case 'G': push(std::bit_cast<double>(__builtin_bswap64(take<uint64_t>()))); break;         // BINFLOAT
      case 'X': push(take_text(take<uint32_t>())); break;                                        // BINUNICODE
      case ')': push(PickleTuple{}); break;                                                      // EMPTY_TUPLE
      case 't': push(PickleTuple{pop_to_mark()}); break;                                         // TUPLE
      case 0x85: case 0x86: case 0x87: push(PickleTuple{pop(opcode - 0x84)}); break;             // TUPLE1, 2, 3
      case ']': push(PickleList{}); break;                                                       // EMPTY_LIST
      case 'a': append(pop(1)); break;                                                           // APPEND
      case 'e': append(pop_to_mark()); break;                                                    // APPENDS
      case '}': push(PickleDict{}); break;                                                       // EMPTY_DICT
      case 's': set_items(pop(2)); break;                                                        // SETITEM
      case 'u': set_items(pop_to_mark()); break;                                                 // SETITEMS
      case 'q': memo_[take<uint8_t>()] = top(); break;                                           // BINPUT
      case 'r': memo_[take<uint32_t>()] = top(); break;                                          // LONG_BINPUT
      case 'h': recall(take<uint8_t>()); break;                                                  // BINGET
      case 'j': recall(take<uint32_t>()); break;                                                 // LONG_BINGET
      case 'c': push_global(); break;                                                            // GLOBAL
      case 'Q': push(PicklePersistent{pop(1).front()}); break;                                   // BINPERSID
      case 'R': reduce(pop(2)); break;                                                           // REDUCE
      case 'b': build(pop(1).front()); break;                                                    // BUILD
      default: refuse("opcode {} at byte {} has no place in a file of tensors", opcode_name(opcode), at_ - 1);
    }
    return true;
  }

  /// "STACK_GLOBAL (0x93)" for those that lead to code, "0x42" for others.
  static std::string opcode_name(uint8_t opcode) {
    constexpr std::array<std::pair<uint8_t, std::string_view>, 9> kNames{{{'i', "INST"}, {'o', "OBJ"}, {0x81, "NEWOBJ"}, {0x82, "EXT1"},
        {0x83, "EXT2"}, {0x84, "EXT4"}, {0x92, "NEWOBJ_EX"}, {0x93, "STACK_GLOBAL"}, {'P', "PERSID"}}};
    for (const auto& [code, name] : kNames) {
      if (code == opcode) return fmt::format("{} (0x{:02x})", name, opcode);
    }
    return fmt::format("0x{:02x}", opcode);
  }

  // BYTES

  template <class Number>
  Number take() {
    Number value;
    const std::string_view text = take_text(sizeof value);
    std::memcpy(&value, text.data(), sizeof value);
    return value;
  }

  std::string_view take_text(std::size_t length) {
    if (length > bytes_.size() - at_) refuse("it ends at byte {}, inside a value", bytes_.size());
    at_ += length;
    return {reinterpret_cast<const char*>(bytes_.data()) + at_ - length, length};
  }

  /// A little-endian two's complement number of up to eight bytes.
  int64_t take_long(std::size_t length) {
    if (length > sizeof(int64_t)) refuse("an integer of {} bytes, expected at most 8", length);
    const std::string_view text = take_text(length);
    int64_t value = !text.empty() && (text.back() & 0x80) ? -1 : 0;
    std::memcpy(&value, text.data(), length);
    return value;
  }

  std::string_view take_line() {
    const auto rest = std::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size()).substr(at_);
    const auto end = rest.find('\n');
    if (end == std::string_view::npos) refuse("it ends at byte {}, inside a name", bytes_.size());
    at_ += end + 1;
    return rest.substr(0, end);
  }

  void check_protocol(uint8_t protocol) const {
    if (protocol != 2) refuse("expected pickle protocol 2, as torch.save writes, got {}", protocol);
  }

  // STACK

  template <class T>
  void push(T value) {
    stack_.push_back(&arena.emplace_back(PickleValue{std::move(value)}));
  }

  std::size_t stack_floor() const { return marks_.empty() ? 0 : marks_.back(); }

  PickleValue* top() const {
    if (stack_.size() <= stack_floor()) refuse("it takes a value where there is none, at byte {}", at_ - 1);
    return stack_.back();
  }

  PickleItems pop(std::size_t count) {
    if (stack_.size() - stack_floor() < count) refuse("it takes {} values where there are fewer, at byte {}", count, at_ - 1);
    PickleItems items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }

  PickleItems pop_to_mark() {
    if (marks_.empty()) refuse("it closes a group that was never opened, at byte {}", at_ - 1);
    PickleItems items = pop(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }

  void recall(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) refuse("it recalls value {}, which was never kept", index);
    stack_.push_back(found->second);
  }

  // CONTAINERS AND CALLS

  void append(const PickleItems& items) {
    auto* list = std::get_if<PickleList>(&top()->data);
    if (list == nullptr) refuse("it appends to {}", top()->kind());
    list->items.insert(list->items.end(), items.begin(), items.end());
  }

  void set_items(const PickleItems& items) {
    auto* dict = std::get_if<PickleDict>(&top()->data);
    if (dict == nullptr) refuse("it sets an item of {}", top()->kind());
    if (items.size() % 2 != 0) refuse("a dict has a key without a value");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const auto* key = items[i]->as<std::string_view>();
      if (key == nullptr) refuse("a dict has {} as a key, expected a text", items[i]->kind());
      if (!dict->items.emplace(*key, items[i + 1]).second) refuse("a dict has the key \"{}\" twice", *key);
    }
  }

  void push_global() {
    const std::string_view module = take_line(), member = take_line();
    const std::string name = fmt::format("{}.{}", module, member);
    if (name != kOrderedDict && std::find(globals_.begin(), globals_.end(), name) == globals_.end()) {
      refuse("global \"{}\" has no place in a file of tensors; nothing was run", name);
    }
    push(PickleGlobal{name});
  }

  void reduce(const PickleItems& call) {
    const auto* function = call[0]->as<PickleGlobal>();
    const auto* arguments = call[1]->as<PickleTuple>();
    if (function == nullptr || arguments == nullptr) refuse("it calls {} with {}", call[0]->kind(), call[1]->kind());
    if (function->name != kOrderedDict) return push(PickleCall{function->name, arguments->items});
    if (!arguments->items.empty()) refuse("an OrderedDict is made from something, expected nothing");
    push(PickleDict{});
  }

  /// Python would set attributes; those of a state dict are the versions of its modules, which nothing here needs.
  void build(const PickleValue* attributes) const {
    const auto* dict = attributes->as<PickleDict>();
    if (top()->as<PickleDict>() == nullptr || dict == nullptr || dict->items.size() != 1 || !dict->items.contains("_metadata")) {
      refuse("BUILD (0x62) sets attributes other than a state dict's _metadata");
    }
  }

  static constexpr std::string_view kOrderedDict = "collections.OrderedDict";

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  std::string_view file_;
  std::span<const std::string_view> globals_;
  std::vector<PickleValue*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<uint32_t, PickleValue*> memo_;
};

}  // namespace detail

/// A pickle as data; see Note [Restricted pickles].
class Pickle {
 public:
  /// @param bytes    must outlive the result.
  /// @param file     for error texts.
  /// @param globals  names it may use beside collections.OrderedDict, which is read as a dict.
  /// @throws CheckpointError naming the opcode or global that is not allowed, or what is malformed.
  static Pickle parse(std::span<const std::byte> bytes, std::string_view file, std::span<const std::string_view> globals) {
    detail::Unpickler unpickler(bytes, file, globals);
    return Pickle(std::move(unpickler.arena), unpickler.root);
  }

  const PickleValue& root() const { return *root_; }

 private:
  Pickle(std::deque<PickleValue> arena, const PickleValue* root) : arena_(std::move(arena)), root_(root) {}

  std::deque<PickleValue> arena_;  // moving it moves no value
  const PickleValue* root_;
};

/// Writes the opcodes that `Pickle` reads.
class PickleWriter {
 public:
  PickleWriter() { opcode(0x80).bytes<uint8_t>(2); }

  PickleWriter& opcode(int code) { return bytes(static_cast<uint8_t>(code)); }

  PickleWriter& text(std::string_view value) {
    opcode('X').bytes(static_cast<uint32_t>(value.size()));
    content_ += value;
    return *this;
  }

  PickleWriter& integer(int64_t value) {
    if (value == static_cast<int32_t>(value)) return opcode('J').bytes(static_cast<int32_t>(value));
    return opcode(0x8A).bytes<uint8_t>(sizeof value).bytes(value);
  }

  PickleWriter& integers(std::span<const int64_t> values) {
    opcode('(');
    for (const int64_t value : values) integer(value);
    return opcode('t');
  }

  PickleWriter& global(std::string_view module, std::string_view name) {
    content_ += fmt::format("c{}\n{}\n", module, name);
    return *this;
  }

  PickleWriter& empty_ordered_dict() { return global("collections", "OrderedDict").opcode(')').opcode('R'); }

  /// The finished pickle.
  std::string finish() { return std::move(opcode('.').content_); }

 private:
  template <class Number>
  PickleWriter& bytes(Number value) {
    content_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }

  std::string content_;
};

}  // namespace reft
