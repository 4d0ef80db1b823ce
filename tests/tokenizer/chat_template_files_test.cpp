#include "reft/tokenizer/chat_template_files.hpp"

#include "reft/tokenizer/tokenizer.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::load_chat_template;
using reft::test::error_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

std::string rendered(const TemporaryFolder& folder, const reft::ChatOptions& options = {}) {
  return load_chat_template(folder.path()).render(nlohmann::ordered_json::array(), options);
}

}  // namespace

TEST_CASE("chat_template.jinja comes before tokenizer_config.json, and that before chat_template.json") {
  const TemporaryFolder folder;
  REQUIRE(error_text([&] { rendered(folder); }).find("expected a chat template in chat_template.jinja") != std::string::npos);
  write_text(folder / "chat_template.json", R"({"chat_template": "old{{ eos_token }}"})");
  REQUIRE(rendered(folder) == "old");
  write_text(folder / "tokenizer_config.json", R"({"chat_template": "config{{ eos_token }}", "eos_token": {"content": "</s>"}})");
  REQUIRE(rendered(folder) == "config</s>");
  write_text(folder / "chat_template.jinja", "own{{ eos_token }}\n");
  REQUIRE(rendered(folder) == "own</s>");
}

TEST_CASE("tokenizer_config.json may hold several templates") {
  const TemporaryFolder folder;
  write_text(folder / "tokenizer_config.json",
             R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})");
  REQUIRE(rendered(folder) == "d");
  REQUIRE(rendered(folder, {.tools = nlohmann::ordered_json::array()}) == "t");
  write_text(folder / "tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})");
  REQUIRE(error_text([&] { rendered(folder); }).find("chat_template[0]: \"template\" is missing") != std::string::npos);
  write_text(folder / "tokenizer_config.json", R"({"chat_template": 3})");
  REQUIRE(error_text([&] { rendered(folder); }).find("chat_template: expected an array, got number") != std::string::npos);
}

TEST_CASE("a tokenizer brings the chat template of its folder") {
  const TemporaryFolder folder;
  const char* const words = R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})";
  write_text(folder / "tokenizer.json", words);
  const reft::Tokenizer without = reft::load_tokenizer(folder.path());
  REQUIRE_FALSE(without.has_chat_template());
  REQUIRE(error_text([&] { (void)without.chat_template(); }) == "[reft::Tokenizer] this tokenizer comes without a chat template");
  // One that cannot be read is in nobody's way who does not chat.
  write_text(folder / "chat_template.jinja", "a{% include 'b' %}");
  const reft::Tokenizer tokenizer = reft::load_tokenizer(folder.path());
  REQUIRE(tokenizer.has_chat_template());
  REQUIRE(error_text([&] { (void)tokenizer.chat_template().render(nlohmann::ordered_json::array()); }) ==
          "[reft::ChatTemplate] line 1: tag \"include\" is not supported");
}
