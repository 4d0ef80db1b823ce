#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/io/mapped_file.hpp"

namespace reft::detail {

/// Largest token id a file may hold. Tables are as long as the largest id: one line must not fill the memory.
inline constexpr int64_t kLargestTokenId = (int64_t{1} << 24) - 1;

/// A JSON value that knows where it stands in its file, so that every complaint names the place.
class JsonNode {
 public:
  /// The whole of a file. `value` outlives the node and those reached from it.
  JsonNode(const nlohmann::json& value, std::string file) : JsonNode(value, std::move(file), ": ") {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }

  /// `value` as the member `key` of this node.
  JsonNode member(std::string_view key, const nlohmann::json& value) const {
    return {value, fmt::format("{}{}{}", path_, separator_, key), "."};
  }

  template <class... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> message, Args&&... args) const {
    fail<TokenizerError>("load_tokenizer", "{}: {}", path_, fmt::format(message, std::forward<Args>(args)...));
  }

  /// Present and not null.
  bool has(std::string_view key) const {
    if (!value_->is_object()) reject("expected an object, got {}", value_->type_name());
    const auto found = value_->find(key);
    return found != value_->end() && !found->is_null();
  }

  JsonNode at(std::string_view key) const {
    if (!has(key)) reject("\"{}\" is missing", key);
    return member(key, *value_->find(key));
  }

  std::vector<JsonNode> elements() const {
    if (!value_->is_array()) reject("expected an array, got {}", value_->type_name());
    std::vector<JsonNode> nodes;
    nodes.reserve(value_->size());
    for (std::size_t i = 0; i < value_->size(); ++i)
      nodes.push_back({(*value_)[i], fmt::format("{}[{}]", path_, i), "."});
    return nodes;
  }

  std::string string() const {
    if (!value_->is_string()) reject("expected a string, got {}", value_->type_name());
    return value_->get<std::string>();
  }

  bool boolean() const {
    if (!value_->is_boolean()) reject("expected true or false, got {}", value_->type_name());
    return value_->get<bool>();
  }

  /// A whole number in 0 .. `largest`.
  int64_t number(int64_t largest = kLargestTokenId) const {
    const bool negative = value_->is_number_integer() && !value_->is_number_unsigned() && value_->get<int64_t>() < 0;
    if (!value_->is_number_integer() || negative || value_->get<uint64_t>() > static_cast<uint64_t>(largest)) {
      reject("expected a whole number from 0 to {}, got {}", largest,
             value_->is_number() ? value_->dump() : value_->type_name());
    }
    return value_->get<int64_t>();
  }

  std::string string(std::string_view key) const { return at(key).string(); }
  std::string string(std::string_view key, std::string_view fallback) const {
    return has(key) ? at(key).string() : std::string(fallback);
  }
  bool boolean(std::string_view key, bool fallback) const { return has(key) ? at(key).boolean() : fallback; }

 private:
  JsonNode(const nlohmann::json& value, std::string path, std::string_view separator)
      : value_(&value), path_(std::move(path)), separator_(separator) {}

  const nlohmann::json* value_;
  std::string path_;            // "folder/tokenizer.json: model.vocab"
  std::string_view separator_;  // between the path and the key of a member
};

/// The content of a file. @throws TokenizerError if it cannot be read.
inline std::string read_tokenizer_file(const std::filesystem::path& path) {
  try {
    return std::string(MappedFile::open(path)->text());
  } catch (const CheckpointError& error) {
    throw TokenizerError(error.what());
  }
}

inline nlohmann::json parse_tokenizer_file(const std::filesystem::path& path) {
  try {
    return nlohmann::json::parse(read_tokenizer_file(path));
  } catch (const nlohmann::json::exception&) {
    fail<TokenizerError>("load_tokenizer", "{}: expected JSON, got something else or a part of it", path.string());
  }
}

/// A file of the folder that may be missing: then an empty object.
inline nlohmann::json parse_optional_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? parse_tokenizer_file(path) : nlohmann::json::object();
}

/// One row of a table of constructs: the "type" in the file and what builds it.
template <class Product>
struct Construct {
  std::string_view type;
  Product (*build)(const JsonNode&, int depth);
};

/// Builds `node` by the row of `table` its "type" names.
/// @throws TokenizerError for a type without a row, or for sequences nested beyond any sensible file.
template <class Product, std::size_t kRows>
Product build_construct(const JsonNode& node, const Construct<Product> (&table)[kRows], int depth) {
  if (depth > 8) node.reject("nested more than 8 deep");
  const std::string type = node.string("type");
  std::string known;
  for (const auto& row : table) {
    if (row.type == type) return row.build(node, depth);
    known.append(known.empty() ? "" : " ").append(row.type);
  }
  node.reject("\"{}\" is not supported (supported: {})", type, known);
}

}  // namespace reft::detail
