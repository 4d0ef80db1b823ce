#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "reft/data/readers.hpp"

namespace reft {

namespace detail {

/// The prompt's messages and one answer: a text, a message, or a list that may repeat the prompt.
inline ChatExample chat_answer(nlohmann::ordered_json prompt, const nlohmann::ordered_json& row, const RowPlace& place, const char* key) {
  const nlohmann::ordered_json& answer = row.at(key);
  if (answer.is_string()) {
    prompt.push_back({{"role", "assistant"}, {"content", answer}});
    return {std::move(prompt)};
  }
  const auto messages = row_messages(answer.is_object() ? nlohmann::ordered_json::array({answer}) : answer, place, key);
  const bool repeats = messages.size() > prompt.size() && std::equal(prompt.begin(), prompt.end(), messages.begin());
  if (repeats) return {messages};
  for (const auto& message : messages) prompt.push_back(message);
  return {std::move(prompt)};
}

inline PreferenceExample preference_row(const nlohmann::ordered_json& row, const RowPlace& place) {
  if (!row.is_object()) place.refuse("expected an object, got {}", row.type_name());
  for (const char* key : {"chosen", "rejected"}) {
    if (!row.contains(key)) place.refuse("\"{}\" is missing; the keys are [{}]", key, key_list(row));
  }
  if (const char* key = messages_key(row); key != nullptr || (row.contains("prompt") && row["prompt"].is_array())) {
    const char* messages = key != nullptr ? key : "prompt";
    const auto prompt = row_messages(row[messages], place, messages);
    return {chat_answer(prompt, row, place, "chosen"), chat_answer(prompt, row, place, "rejected")};
  }
  if (row.contains("instruction")) {
    const TextExample prompt{row_text(row, place, "instruction"), row_text(row, place, "input", /*optional=*/true), {}};
    const auto with = [&](const char* key) { return TextExample{prompt.instruction, prompt.input, row_text(row, place, key)}; };
    return {with("chosen"), with("rejected")};
  }
  if (row.contains("prompt")) {
    const std::string prompt = row_text(row, place, "prompt");
    return {PromptExample{prompt, row_text(row, place, "chosen")}, PromptExample{prompt, row_text(row, place, "rejected")}};
  }
  if (row["chosen"].is_array()) {  // whole conversations that differ in their last answer
    const nlohmann::ordered_json none = nlohmann::ordered_json::array();
    return {chat_answer(none, row, place, "chosen"), chat_answer(none, row, place, "rejected")};
  }
  place.refuse("expected prompt, instruction, messages or conversations beside chosen and rejected, got the keys [{}]", key_list(row));
}

}  // namespace detail

/// Reads preference pairs, as a JSON list or JSON Lines. Each row has chosen and rejected beside its prompt:
///   prompt                        text in its final wording; the answers are texts
///   instruction, [input]          Alpaca; the answers are texts
///   messages or conversations, or prompt as a list of messages; the answers are texts, messages or lists of them
///   nothing                       the answers are lists of messages that begin with the prompt
/// @throws DataError naming the file, the line or row (from 1) and what is wrong.
inline std::vector<PreferenceExample> read_preferences(const std::filesystem::path& path) {
  const RowFile file = RowFile::open_json(path);
  std::vector<PreferenceExample> examples;
  for (int64_t i = 0; i < file.size(); ++i) examples.push_back(detail::preference_row(file.json(i), file.place(i)));
  return examples;
}

}  // namespace reft
