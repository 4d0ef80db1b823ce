#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "reft/data/example.hpp"
#include "reft/data/json_rows.hpp"

namespace reft {

namespace detail {

/// A number as it stands, anything else by its type: it may be long.
inline std::string shown(const nlohmann::json& value) { return value.is_number() ? value.dump() : value.type_name(); }

/// row[key] as text. A `null` counts as empty text where `optional`, and so does a missing key.
inline std::string row_text(const nlohmann::json& row, const RowPlace& place, const char* key, bool optional = false) {
  const auto found = row.find(key);
  if (optional && (found == row.end() || found->is_null())) return {};
  if (found == row.end()) place.refuse("\"{}\" is missing", key);
  if (!found->is_string()) place.refuse("expected \"{}\" to be a text, got {}", key, found->type_name());
  return found->get<std::string>();
}

/// row[key] as integers, none below `smallest` except kIgnoredLabel where `labels`.
inline std::vector<int64_t> row_tokens(const nlohmann::json& row, const RowPlace& place, const char* key, bool labels) {
  const auto found = row.find(key);
  if (found == row.end()) place.refuse("\"{}\" is missing", key);
  if (!found->is_array()) place.refuse("expected \"{}\" to be a list, got {}", key, found->type_name());
  std::vector<int64_t> tokens;
  tokens.reserve(found->size());
  for (const auto& value : *found) {
    const int64_t token = value.is_number_integer() ? value.get<int64_t>() : -1;
    const bool ignored = labels && token == kIgnoredLabel && !value.is_number_unsigned();
    if (token < 0 && !ignored) {
      place.refuse("\"{}\" holds {}, which is no token{}", key, shown(value), labels ? " and not -100" : "");
    }
    tokens.push_back(token);
  }
  return tokens;
}

inline Example pretokenized_row(const nlohmann::json& row, const RowPlace& place) {
  Example example{row_tokens(row, place, "input_ids", false), row_tokens(row, place, "labels", true), 0};
  const auto length = std::ssize(example.input_ids);
  if (length == 0) place.refuse("\"input_ids\" is empty");
  if (std::ssize(example.labels) != length) {
    place.refuse("expected as many labels as input_ids, got {} and {}", example.labels.size(), length);
  }
  const auto prompt_length = row.find("prompt_length");
  if (prompt_length == row.end()) place.refuse("\"prompt_length\" is missing");
  example.prompt_length = prompt_length->is_number_integer() ? prompt_length->get<int64_t>() : -1;
  if (example.prompt_length < 0 || example.prompt_length > length) {
    place.refuse("expected \"prompt_length\" from 0 to {}, got {}", length, shown(*prompt_length));
  }
  return example;
}

inline RawExample raw_example(const nlohmann::json& row, const RowPlace& place) {
  if (!row.is_object()) place.refuse("expected an object, got {}", row.type_name());
  if (row.contains("input_ids")) return pretokenized_row(row, place);
  if (row.contains("instruction")) {
    return TextExample{row_text(row, place, "instruction"), row_text(row, place, "input", /*optional=*/true),
                       row_text(row, place, "output")};
  }
  if (row.contains("prompt")) return PromptExample{row_text(row, place, "prompt"), row_text(row, place, "completion")};
  if (row.contains("messages")) place.refuse("chat messages are not supported yet; give instruction and output");
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.items()) keys.push_back(key);
  place.refuse(
      "expected instruction and output, prompt and completion, or input_ids, labels and prompt_length, got the keys "
      "[{}]",
      fmt::join(keys, ", "));
}

}  // namespace detail

/// Reads instruction data, as a JSON list or JSON Lines, each row by its keys:
///   instruction, [input], output         Alpaca
///   prompt, completion                   text in its final wording
///   input_ids, labels, prompt_length     tokenized already
/// @throws DataError naming the file, the line or row (from 1) and what is wrong.
inline std::vector<RawExample> read_examples(const std::filesystem::path& path) {
  std::vector<RawExample> examples;
  detail::for_each_row(path, [&](const nlohmann::json& row, const detail::RowPlace& place) {
    examples.push_back(detail::raw_example(row, place));
  });
  if (examples.empty()) fail<DataError>("read_examples", "{}: the list is empty", path.string());
  return examples;
}

}  // namespace reft
