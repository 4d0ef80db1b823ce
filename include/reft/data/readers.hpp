#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "reft/data/example.hpp"
#include "reft/data/row_file.hpp"

namespace reft {

namespace detail {

/// A number as it stands, anything else by its type: it may be long.
inline std::string shown(const nlohmann::ordered_json& value) { return value.is_number() ? value.dump() : value.type_name(); }

inline std::string key_list(const nlohmann::ordered_json& row) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.items()) keys.push_back(key);
  return fmt::format("{}", fmt::join(keys, ", "));
}

/// row[key] as text. A `null` counts as empty text where `optional`, and so does a missing key.
inline std::string row_text(const nlohmann::ordered_json& row, const RowPlace& place, const char* key, bool optional = false) {
  const auto found = row.find(key);
  if (optional && (found == row.end() || found->is_null())) return {};
  if (found == row.end()) place.refuse("\"{}\" is missing", key);
  if (!found->is_string()) place.refuse("expected \"{}\" to be a text, got {}", key, found->type_name());
  return found->get<std::string>();
}

/// row[key] as integers, none below `smallest` except kIgnoredLabel where `labels`.
inline std::vector<int64_t> row_tokens(const nlohmann::ordered_json& row, const RowPlace& place, const char* key, bool labels) {
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

inline Example pretokenized_row(const nlohmann::ordered_json& row, const RowPlace& place) {
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

/// Messages as chat templates take them. The other common spelling, {"from": "human", "value": …}, is read too.
inline nlohmann::ordered_json row_messages(const nlohmann::ordered_json& list, const RowPlace& place, const char* key) {
  if (!list.is_array() || list.empty())
    place.refuse("expected \"{}\" to be a list of messages, got {}", key,
                 list.empty() && list.is_array() ? "an empty one" : list.type_name());
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_object()) place.refuse("\"{}\"[{}]: expected a message with role and content, got {}", key, i, list[i].type_name());
    auto message = nlohmann::ordered_json(list[i]);
    if (message.contains("from") && message.contains("value")) {
      const std::string from = message["from"].is_string() ? message["from"].get<std::string>() : "";
      const std::string role = from == "human" ? "user" : from == "gpt" ? "assistant" : from;
      message = {{"role", role}, {"content", list[i]["value"]}};
    }
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string() || role->get_ref<const std::string&>().empty()) {
      place.refuse("\"{}\"[{}]: expected a message with role and content, got the keys [{}]", key, i, key_list(list[i]));
    }
    // Calls of tools have no content.
    if (!message.contains("content") && !message.contains("tool_calls")) place.refuse("\"{}\"[{}]: \"content\" is missing", key, i);
    if (const auto content = message.find("content");
        content != message.end() && !content->is_string() && !content->is_array() && !content->is_null()) {
      place.refuse("\"{}\"[{}]: expected \"content\" to be a text, got {}", key, i, content->type_name());
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

/// The key under which a row holds messages, or none.
inline const char* messages_key(const nlohmann::ordered_json& row) {
  for (const char* key : {"messages", "conversations"}) {
    if (row.contains(key)) return key;
  }
  return nullptr;
}

inline ChatExample chat_row(const nlohmann::ordered_json& row, const RowPlace& place) {
  const char* key = messages_key(row);
  ChatExample example{row_messages(row.at(key), place, key)};
  const auto is_assistant = [](const auto& message) { return message.at("role") == "assistant"; };
  if (std::none_of(example.messages.begin(), example.messages.end(), is_assistant))
    place.refuse("\"{}\": no message is the assistant's, so there is nothing to learn", key);
  return example;
}

inline RawExample raw_example(const nlohmann::ordered_json& row, const RowPlace& place) {
  if (!row.is_object()) place.refuse("expected an object, got {}", row.type_name());
  if (row.contains("input_ids")) return pretokenized_row(row, place);
  if (messages_key(row) != nullptr) return chat_row(row, place);
  if (row.contains("instruction")) {
    return TextExample{row_text(row, place, "instruction"), row_text(row, place, "input", /*optional=*/true),
                       row_text(row, place, "output")};
  }
  if (row.contains("prompt")) return PromptExample{row_text(row, place, "prompt"), row_text(row, place, "completion")};
  if (row.contains("text")) return PlainText{row_text(row, place, "text")};
  place.refuse(
      "expected instruction and output, prompt and completion, messages, text, or input_ids, labels and prompt_length, got "
      "the keys [{}]",
      key_list(row));
}

inline bool is_plain_text(const std::filesystem::path& path) { return path.extension() == ".txt"; }

}  // namespace detail

/// A data file's rows, of which `raw_example` reads one. A name that ends in .txt is plain text, any other JSON.
/// @throws DataError as RowFile.
inline RowFile open_examples(const std::filesystem::path& path) {
  return detail::is_plain_text(path) ? RowFile::open_lines(path) : RowFile::open_json(path);
}

/// @throws DataError naming the file, the line or row (from 1) and what is wrong.
inline RawExample raw_example(const RowFile& file, int64_t index) {
  if (detail::is_plain_text(file.path())) return PlainText{std::string(file.text(index))};
  return detail::raw_example(file.json(index), file.place(index));
}

/// Reads instruction data, as a JSON list or JSON Lines, each row by its keys:
///   instruction, [input], output         Alpaca
///   prompt, completion                   text in its final wording
///   messages: role, content              a chat; conversations: from, value are read as such
///   text                                 plain text
///   input_ids, labels, prompt_length     tokenized already
/// or lines of plain text, where the name ends in .txt.
/// @throws DataError naming the file, the line or row (from 1) and what is wrong.
inline std::vector<RawExample> read_examples(const std::filesystem::path& path) {
  const RowFile file = open_examples(path);
  std::vector<RawExample> examples;
  for (int64_t i = 0; i < file.size(); ++i) examples.push_back(raw_example(file, i));
  return examples;
}

}  // namespace reft
