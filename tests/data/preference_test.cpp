#include "reft/data/preference.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"

using reft::ChatExample;
using reft::PreferenceExample;
using reft::PromptExample;
using reft::read_preferences;
using reft::TextExample;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

std::vector<PreferenceExample> read(std::string_view content) {
  const TemporaryFolder folder;
  return read_preferences(write_text(folder / "data.json", content));
}

std::string refusal(std::string_view content) {
  const TemporaryFolder folder;
  const auto path = write_text(folder / "data.json", content);
  const std::string text = reft::test::error_text([&] { read_preferences(path); }),
                    prefix = "[reft::read_examples] " + path.string() + ": ";
  return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

ChatExample chat(std::string_view messages) { return {nlohmann::ordered_json::parse(messages)}; }

}  // namespace

TEST_CASE("both answers stand behind the same prompt") {
  CHECK(read(R"({"prompt":"p","chosen":"good","rejected":"bad"})") ==
        std::vector<PreferenceExample>{{PromptExample{"p", "good"}, PromptExample{"p", "bad"}}});
  CHECK(read(R"([{"instruction":"i","input":"x","chosen":"good","rejected":"bad"}])") ==
        std::vector<PreferenceExample>{{TextExample{"i", "x", "good"}, TextExample{"i", "x", "bad"}}});
}

TEST_CASE("chats may give their answers as a text, a message, a list, or a whole conversation") {
  const PreferenceExample expected{chat(R"([{"role":"user","content":"q"},{"role":"assistant","content":"good"}])"),
                                   chat(R"([{"role":"user","content":"q"},{"role":"assistant","content":"bad"}])")};
  const std::string good = R"({"role":"assistant","content":"good"})", bad = R"({"role":"assistant","content":"bad"})",
                    user = R"({"role":"user","content":"q"})";
  const auto row = [&](std::string_view prompt, std::string_view chosen, std::string_view rejected) {
    return read(fmt::format("{{{}\"chosen\":{},\"rejected\":{}}}", prompt, chosen, rejected));
  };
  const std::vector<PreferenceExample> all{expected};
  CHECK(row("\"messages\":[" + user + "],", "\"good\"", "\"bad\"") == all);
  CHECK(row("\"messages\":[" + user + "],", good, bad) == all);
  CHECK(row("\"prompt\":[" + user + "],", "[" + good + "]", "[" + bad + "]") == all);
  CHECK(row("\"prompt\":[" + user + "],", "[" + user + "," + good + "]", "[" + user + "," + bad + "]") == all);
  CHECK(row("", "[" + user + "," + good + "]", "[" + user + "," + bad + "]") == all);
  CHECK(row(R"("conversations":[{"from":"human","value":"q"}],)", R"({"from":"gpt","value":"good"})", R"({"from":"gpt","value":"bad"})") ==
        all);
}

TEST_CASE("bad preference rows are refused with their place") {
  const std::string good = R"({"prompt":"p","chosen":"a","rejected":"b"})";
  CHECK(refusal(good + "\n{\"prompt\":\"p\",\"chosen\":\"a\"}") == "line 2: \"rejected\" is missing; the keys are [prompt, chosen]");
  CHECK(refusal(R"([{"prompt":"p","chosen":7,"rejected":"b"}])") == "row 1: expected \"chosen\" to be a text, got number");
  CHECK(refusal(R"({"chosen":"a","rejected":"b"})") ==
        "line 1: expected prompt, instruction, messages or conversations beside chosen and rejected, got the keys [chosen, rejected]");
  CHECK(refusal(R"({"messages":[{"role":"user"}],"chosen":"a","rejected":"b"})") == "line 1: \"messages\"[0]: \"content\" is missing");
  CHECK(refusal("[3]") == "row 1: expected an object, got number");
}

TEST_CASE("a real preference file is read whole") {
  const auto path = reft::test::shared_path("assets/datasets/dpo/llamafactory_dpo_en_demo.json");
  if (!path) return;
  const auto examples = read_preferences(*path);
  CHECK(examples.size() > 100);
  for (const auto& example : examples) {
    CHECK(std::get<ChatExample>(example.chosen).messages.size() >= 2);
    CHECK(std::get<ChatExample>(example.chosen) != std::get<ChatExample>(example.rejected));
  }
}
