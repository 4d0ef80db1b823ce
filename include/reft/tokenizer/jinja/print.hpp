#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/tokenizer/jinja/runtime.hpp"
#include "reft/tokenizer/jinja/text.hpp"
#include "reft/tokenizer/jinja/value.hpp"

namespace reft::detail::jinja {

/// Appends repr(value).
inline void append_repr(Runtime& runtime, std::string& out, const Value& value) {
  runtime.work(1);
  if (const auto* text = value.text()) {
    runtime.append(out, repr_of(*text));
  } else if (value.is_undefined()) {
    runtime.append(out, "Undefined");
  } else if (value.is_none()) {
    runtime.append(out, "None");
  } else if (const auto* flag = value.as<bool>()) {
    runtime.append(out, *flag ? "True" : "False");
  } else if (const auto* integer = value.as<int64_t>()) {
    runtime.append(out, std::to_string(*integer));
  } else if (const auto* number = value.as<double>()) {
    runtime.append(out, float_text(*number));
  } else if (const auto* mapping = value.mapping()) {
    std::string_view between = "{";
    for (const auto& [key, member] : mapping->items) {
      runtime.append(out, std::exchange(between, ", "));
      append_repr(runtime, out, key);
      runtime.append(out, ": ");
      append_repr(runtime, out, member);
    }
    runtime.append(out, mapping->items.empty() ? "{}" : "}");
  } else if (const auto* sequence = value.sequence(); sequence && sequence->kind <= SequenceKind::tuple) {
    const bool tuple = sequence->kind == SequenceKind::tuple;
    runtime.append(out, tuple ? "(" : "[");
    for (std::size_t i = 0; i < sequence->items.size(); ++i) {
      if (i > 0) runtime.append(out, ", ");
      append_repr(runtime, out, sequence->items[i]);
    }
    runtime.append(out, !tuple ? "]" : sequence->items.size() == 1 ? ",)" : ")");
  } else {
    runtime.fail("a {} cannot be written as text", value.type_name());
  }
}

/// Appends str(value); an undefined value is the empty text.
inline void append_text(Runtime& runtime, std::string& out, const Value& value) {
  if (const auto* text = value.text()) runtime.append(out, *text);
  else if (!value.is_undefined()) append_repr(runtime, out, value);
}

/// str(value)
inline std::string to_text(Runtime& runtime, const Value& value) {
  std::string text;
  append_text(runtime, text, value);
  return text;
}

/// json.dumps with its options.
class JsonWriter {
 public:
  struct Options {
    bool ensure_ascii = false;
    bool sort_keys = false;
    std::optional<std::string> indent;  // of one level
    std::string item_separator = ", ";
    std::string key_separator = ": ";
  };

  JsonWriter(Runtime& runtime, Options options) : runtime_(runtime), options_(std::move(options)) {}

  std::string written(const Value& value) && {
    write(value, 1);
    return std::move(out_);
  }

 private:
  void write(const Value& value, int depth) {
    runtime_.work(1);
    if (const auto* text = value.text()) write_string(*text);
    else if (const auto* mapping = value.mapping()) write_mapping(*mapping, depth);
    else if (const auto* list = value.sequence(); list && list->kind <= SequenceKind::tuple) write_list(*list, depth);
    else if (const auto scalar = scalar_text(value)) runtime_.append(out_, *scalar);
    else runtime_.fail("tojson: a value of type {} is no JSON", value.type_name());
  }

  static std::optional<std::string> scalar_text(const Value& value) {
    if (value.is_none()) return "null";
    if (const auto* flag = value.as<bool>()) return *flag ? "true" : "false";
    if (const auto* integer = value.as<int64_t>()) return std::to_string(*integer);
    const auto* number = value.as<double>();
    if (!number) return std::nullopt;
    if (std::isnan(*number)) return "NaN";
    if (std::isinf(*number)) return *number < 0 ? "-Infinity" : "Infinity";
    return float_text(*number);
  }

  void write_list(const Sequence& list, int depth) {
    open('[');
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      separate(i > 0, depth);
      write(list.items[i], depth + 1);
    }
    close(']', !list.items.empty(), depth);
  }

  void write_mapping(const Mapping& mapping, int depth) {
    std::vector<std::pair<std::string, const Value*>> members;
    for (const auto& [key, value] : mapping.items) {
      const auto name = key.text() ? *key.text() : scalar_text(key);
      if (!name) runtime_.fail("tojson: a value of type {} is no key", key.type_name());
      members.emplace_back(*name, &value);
    }
    if (options_.sort_keys) {
      std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    open('{');
    for (std::size_t i = 0; i < members.size(); ++i) {
      separate(i > 0, depth);
      write_string(members[i].first);
      runtime_.append(out_, options_.key_separator);
      write(*members[i].second, depth + 1);
    }
    close('}', !members.empty(), depth);
  }

  void open(char bracket) { runtime_.append(out_, {&bracket, 1}); }

  void separate(bool comma, int depth) {
    if (comma) runtime_.append(out_, options_.item_separator);
    if (options_.indent) break_line(depth);
  }

  void close(char bracket, bool has_members, int depth) {
    if (options_.indent && has_members) break_line(depth - 1);
    runtime_.append(out_, {&bracket, 1});
  }

  void break_line(int depth) {
    runtime_.append(out_, "\n");
    for (int i = 0; i < depth; ++i) runtime_.append(out_, *options_.indent);
  }

  void write_string(std::string_view text) {
    std::string escaped = "\"";
    for_each_character(text, [&](char32_t c, std::string_view bytes) {
      static constexpr std::string_view kNamed = "\b\f\n\r\t\"\\", kNames = "bfnrt\"\\";
      const std::size_t named = c < 0x80 ? kNamed.find(static_cast<char>(c)) : std::string_view::npos;
      if (named != std::string_view::npos) escaped.append("\\").push_back(kNames[named]);
      else if (c < 0x20 || (options_.ensure_ascii && c > 0x7E && c < 0x10000)) escaped += escape(c);
      else if (options_.ensure_ascii && c >= 0x10000) {
        escaped += escape(0xD800 + ((c - 0x10000) >> 10)) + escape(0xDC00 + ((c - 0x10000) & 0x3FF));
      } else escaped += bytes;
    });
    runtime_.append(out_, escaped += '"');
  }

  static std::string escape(char32_t c) { return fmt::format("\\u{:04x}", static_cast<uint32_t>(c)); }

  Runtime& runtime_;
  Options options_;
  std::string out_;
};

}  // namespace reft::detail::jinja
