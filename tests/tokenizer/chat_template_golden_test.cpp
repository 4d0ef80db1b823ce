// Texts against transformers and jinja2 (golden/chat_templates.json).
#include "reft/tokenizer/chat_template.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using Json = nlohmann::ordered_json;
using reft::ChatOptions;
using reft::ChatTemplate;

namespace {

const Json& golden() {
  static const Json file = Json::parse(reft::test::read_text(REFT_SOURCE_DIR "/tests/golden/chat_templates.json"));
  return file;
}

/// The time the golden texts were made at; Python counts years from 0, months from 1 and days of the week from Monday.
std::tm golden_time() {
  const auto now = golden()["now"].get<std::vector<int>>();
  std::tm time{};
  time.tm_year = now[0] - 1900, time.tm_mon = now[1] - 1, time.tm_mday = now[2];
  time.tm_hour = now[3], time.tm_min = now[4], time.tm_sec = now[5], time.tm_wday = (now[6] + 1) % 7, time.tm_yday = now[7] - 1;
  return time;
}

ChatOptions read_options(Json json) {
  ChatOptions options{.now = golden_time()};
  options.add_generation_prompt = json.value("add_generation_prompt", false);
  if (json.contains("tools")) options.tools = json["tools"];
  json.erase("tools");
  json.erase("add_generation_prompt");
  options.variables = json;
  return options;
}

/// What is written down of a rendering.
Json row_of(const ChatTemplate& chat_template, const Json& messages, const ChatOptions& options, bool blocks) {
  try {
    if (!blocks) return {{"text", chat_template.render(messages, options)}};
    const auto chat = chat_template.render_with_assistant(messages, options);
    Json row{{"text", chat.text}, {"assistant", Json::array()}};
    for (const auto& range : chat.assistant) row["assistant"].push_back(chat.text.substr(range.begin, range.end - range.begin));
    return row;
  } catch (const reft::TokenizerError& error) {
    return {{"error", error.what()}};
  }
}

void require_same(const Json& row, const Json& expected) {
  if (expected.contains("error")) REQUIRE(row.contains("error"));
  else REQUIRE(row == expected);
}

}  // namespace

TEST_CASE("chat templates give the texts of transformers") {
  const Json& file = golden();
  int count = 0;
  for (const auto& [name, chats] : file["rendered"].items()) {
    const ChatTemplate chat_template(reft::test::read_text(REFT_SOURCE_DIR "/tests/golden/chat_templates/" + name + ".jinja"), file["tokens"]);
    for (const auto& [chat, rows] : chats.items()) {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        CAPTURE(name, chat, i);
        require_same(row_of(chat_template, file["chats"][chat], read_options(file["options"][i]), rows[i].contains("assistant")), rows[i]);
        ++count;
      }
    }
  }
  REQUIRE(count == 608);
}

TEST_CASE("expressions and statements give the texts of jinja2") {
  const Json& file = golden();
  for (const auto& snippet : file["snippets"]) {
    const std::string source = snippet["template"];
    CAPTURE(source);
    Json row;
    try {
      const ChatTemplate chat_template(source);
      row = row_of(chat_template, file["variables"]["messages"], {.variables = file["variables"]}, false);
    } catch (const reft::TokenizerError& error) {
      row = {{"error", error.what()}};
    }
    if (row.contains("error")) REQUIRE(row["error"].get<std::string>().starts_with("[reft::ChatTemplate] line "));
    Json expected = snippet;
    expected.erase("template");
    require_same(row, expected);
  }
  REQUIRE(file["snippets"].size() == 82);
}
