#include "reft/data/readers.hpp"

#include <random>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"

using reft::Example;
using reft::PromptExample;
using reft::RawExample;
using reft::read_examples;
using reft::TextExample;
using reft::test::contains;
using reft::test::error_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

std::vector<RawExample> read(std::string_view content) {
  const TemporaryFolder folder;
  return read_examples(write_text(folder / "data.json", content));
}

/// The error text after "[reft::read_examples] <path>: ".
std::string refusal(std::string_view content) {
  const TemporaryFolder folder;
  const auto path = write_text(folder / "data.json", content);
  const std::string text = error_text([&] { read_examples(path); });
  const std::string prefix = "[reft::read_examples] " + path.string() + ": ";
  return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

}  // namespace

TEST_CASE("Alpaca rows are read from a list and from lines alike") {
  const std::vector<RawExample> expected = {TextExample{"Add.", "1 2", "3"}, TextExample{"Grüße!\n", "", "Hallo"}};
  const std::string first = R"({"instruction":"Add.","input":"1 2","output":"3"})";
  const std::string second = R"({"instruction":"Gr\u00fc\u00dfe!\n","input":null,"output":"Hallo","id":7})";
  REQUIRE(read("[" + first + ",\n " + second + "]\n") == expected);
  REQUIRE(read(first + "\n" + second + "\n") == expected);
  REQUIRE(read("\xef\xbb\xbf\n" + first + "\r\n\n  \n" + second) == expected);
  REQUIRE(read("\xef\xbb\xbf [" + first + "," + second + "]") == expected);
  REQUIRE(read(R"([{"instruction":"a","output":"b"}])") == std::vector<RawExample>{TextExample{"a", "", "b"}});
}

TEST_CASE("prompts with completions and tokenized rows are read") {
  REQUIRE(read(R"({"prompt":"Once","completion":" upon"})") == std::vector<RawExample>{PromptExample{"Once", " upon"}});
  REQUIRE(read(R"({"input_ids":[1,5,7],"labels":[-100,-100,7],"prompt_length":2})") ==
          std::vector<RawExample>{Example{{1, 5, 7}, {-100, -100, 7}, 2}});
  REQUIRE(read(R"({"input_ids":[1],"labels":[-100],"prompt_length":0})").size() == 1);
  REQUIRE(read(R"({"input_ids":[1],"labels":[1],"prompt_length":1})").size() == 1);
}

TEST_CASE("chats are read in both spellings") {
  const auto expected = reft::ChatExample{nlohmann::ordered_json::parse(
      R"([{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}])")};
  REQUIRE(read(R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})") ==
          std::vector<RawExample>{expected});
  REQUIRE(read(R"({"conversations":[{"from":"system","value":"s"},{"from":"human","value":"q"},{"from":"gpt","value":"a"}]})") ==
          std::vector<RawExample>{expected});
  REQUIRE(refusal(R"({"messages":[]})") == "line 1: expected \"messages\" to be a list of messages, got an empty one");
  REQUIRE(refusal(R"({"messages":"hi"})") == "line 1: expected \"messages\" to be a list of messages, got string");
  REQUIRE(refusal(R"({"messages":[7]})") == "line 1: \"messages\"[0]: expected a message with role and content, got number");
  REQUIRE(refusal(R"({"messages":[{"content":"a"}]})") ==
          "line 1: \"messages\"[0]: expected a message with role and content, got the keys [content]");
  REQUIRE(refusal(R"({"messages":[{"role":"user","content":"q"},{"role":"assistant"}]})") == "line 1: \"messages\"[1]: \"content\" is missing");
  REQUIRE(refusal(R"({"messages":[{"role":"user","content":5}]})") == "line 1: \"messages\"[0]: expected \"content\" to be a text, got number");
  REQUIRE(refusal(R"({"messages":[{"role":"user","content":"q"}]})") ==
          "line 1: \"messages\": no message is the assistant's, so there is nothing to learn");
}

TEST_CASE("plain text is read from rows, and from the lines of a .txt file") {
  REQUIRE(read(R"({"text":"Once upon"})") == std::vector<RawExample>{reft::PlainText{"Once upon"}});
  const TemporaryFolder folder;
  const auto path = write_text(folder / "story.txt", "[Once upon]\r\n\n \na \"time\"");
  REQUIRE(read_examples(path) == std::vector<RawExample>{reft::PlainText{"[Once upon]"}, reft::PlainText{"a \"time\""}});
}

TEST_CASE("bad rows are refused with their place") {
  const std::string good = R"({"instruction":"a","input":"","output":"b"})";
  REQUIRE(refusal("") == "the file is empty");
  REQUIRE(refusal(" \n\n") == "the file is empty");
  REQUIRE(refusal("[]") == "the list is empty");
  REQUIRE(refusal("[" + good + ",]") ==
          "not JSON: line 1, column 46: syntax error while parsing value - unexpected ']'; expected '[', "
          "'{', or a literal");
  REQUIRE(refusal("[" + good) ==
          "not JSON: line 1, column 45: syntax error while parsing array - unexpected end of "
          "input; expected ']'");
  REQUIRE(refusal(good + "\n\n{\"instruction\":") ==
          "line 3: not JSON: column 16: syntax error while parsing value - unexpected end of input; expected '[', "
          "'{', or a literal");
  REQUIRE(contains(refusal("{\"instruction\":\"\xff\"}"), "line 1: not JSON: column "));
  REQUIRE(refusal(good + "\nhello\n") ==
          "line 2: not JSON: column 1: syntax error while parsing value - invalid literal");
  REQUIRE(refusal("{\"prompt\":1e999}") == "line 1: not JSON: number overflow parsing '1e999'");
  REQUIRE(refusal("[" + good + ", 3]") == "row 2: expected an object, got number");
  REQUIRE(refusal("7") == "line 1: expected an object, got number");
  REQUIRE(refusal("[" + good + R"(,{"instruction":"a"}])") == "row 2: \"output\" is missing");
  REQUIRE(refusal(R"({"instruction":5,"output":"b"})") == "line 1: expected \"instruction\" to be a text, got number");
  REQUIRE(refusal(R"({"instruction":"a","output":null})") == "line 1: expected \"output\" to be a text, got null");
  REQUIRE(refusal(R"({"instruction":"a","input":[],"output":"b"})") ==
          "line 1: expected \"input\" to be a text, got array");
  REQUIRE(refusal(R"({"prompt":"a"})") == "line 1: \"completion\" is missing");
  REQUIRE(refusal(R"({"name":"a","id":1})") ==
          "line 1: expected instruction and output, prompt and completion, messages, text, or input_ids, labels and prompt_length, "
          "got the keys [name, id]");
  const auto tokens = [](std::string_view ids, std::string_view labels, std::string_view length) {
    return refusal(fmt::format(R"({{"input_ids":{},"labels":{},"prompt_length":{}}})", ids, labels, length));
  };
  REQUIRE(tokens("[1,2]", "[1]", "0") == "line 1: expected as many labels as input_ids, got 1 and 2");
  REQUIRE(tokens("[]", "[]", "0") == "line 1: \"input_ids\" is empty");
  REQUIRE(tokens("5", "[]", "0") == "line 1: expected \"input_ids\" to be a list, got number");
  REQUIRE(tokens("[1,-100]", "[1,2]", "0") == "line 1: \"input_ids\" holds -100, which is no token");
  REQUIRE(tokens("[1,2.5]", "[1,2]", "0") == "line 1: \"input_ids\" holds 2.5, which is no token");
  REQUIRE(tokens("[1,\"2\"]", "[1,2]", "0") == "line 1: \"input_ids\" holds string, which is no token");
  REQUIRE(tokens("[1,2]", "[1,-1]", "0") == "line 1: \"labels\" holds -1, which is no token and not -100");
  REQUIRE(tokens("[1]", "[18446744073709551516]", "0") ==
          "line 1: \"labels\" holds 18446744073709551516, which is no token and not -100");
  REQUIRE(tokens("[1,2]", "[1,2]", "3") == "line 1: expected \"prompt_length\" from 0 to 2, got 3");
  REQUIRE(tokens("[1,2]", "[1,2]", "-1") == "line 1: expected \"prompt_length\" from 0 to 2, got -1");
  REQUIRE(tokens("[1,2]", "[1,2]", "null") == "line 1: expected \"prompt_length\" from 0 to 2, got null");
  REQUIRE(refusal(R"({"input_ids":[1]})") == "line 1: \"labels\" is missing");
  REQUIRE(refusal(R"({"input_ids":[1],"labels":[1]})") == "line 1: \"prompt_length\" is missing");
}

TEST_CASE("missing files and folders are data errors") {
  const TemporaryFolder folder;
  const auto missing = folder / "missing.json";
  REQUIRE_THROWS_WITH(read_examples(missing), "[reft::open_file] " + missing.string() + ": No such file or directory");
  REQUIRE_THROWS_AS(read_examples(missing), reft::DataError);
  REQUIRE_THROWS_AS(read_examples(folder.path()), reft::DataError);
}

TEST_CASE("hostile files give data errors") {
  REQUIRE(contains(refusal(std::string(300'000, '[')), "not JSON"));
  REQUIRE(contains(refusal(std::string(300'000, '[') + std::string(300'000, ']')), "row 1: expected an object"));
  REQUIRE(refusal("[\"" + std::string(1'000'000, 'x')).size() < 200);
  const std::string intact =
      R"([{"instruction":"a","input":"é","output":"b"},{"input_ids":[1,2],"labels":[-100,2],"prompt_length":1}])";
  std::mt19937 random(3);
  int refused = 0;
  const TemporaryFolder folder;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = intact;
    for (auto changes = 1 + random() % 3; changes-- > 0;) damaged[random() % damaged.size()] = char(random() % 256);
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    const auto path = write_text(folder / "data.json", damaged);
    try {
      const auto rows = read_examples(path);
      REQUIRE_FALSE(rows.empty());
    } catch (const reft::DataError&) {
      ++refused;
    }
  }
  REQUIRE(refused > 1500);
}

TEST_CASE("real instruction files are read whole") {
  for (const auto& [name, count] :
       {std::pair("llamafactory_alpaca_en_demo.json", 1000), std::pair("gumbelsoft_alpaca_ref_500.json", 500)}) {
    const auto path = reft::test::shared_path(std::string("assets/datasets/alpaca/") + name);
    if (!path) return;
    const auto rows = read_examples(*path);
    CAPTURE(name, rows.size());
    REQUIRE(std::ssize(rows) >= count - 1);
    REQUIRE(std::holds_alternative<TextExample>(rows.front()));
  }
  // JSON Lines in spite of its name.
  if (const auto path = reft::test::shared_path("assets/datasets/pyreft/ultrafeedback_1k.json")) {
    REQUIRE(read_examples(*path).size() == 1000);
  }
}
