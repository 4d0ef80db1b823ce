// Mutated templates end in a text or a TokenizerError, never in anything else.
#include <random>

#include "reft/tokenizer/chat_template.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

namespace {

using Json = nlohmann::ordered_json;

/// One or a few cuts, swaps, repetitions, or insertions of what templates are made of.
std::string mutated(std::string text, std::mt19937& random) {
  static constexpr std::string_view kPieces[] = {"{%", "%}", "{{", "}}", "{#", "#}", "-", "(", ")", "[", "]", "{", "}", "|", ".", "'", "\"", "~",
                                                 " if ", " else ", " in ", " is ", " not ", " for ", "endif", "endfor", "loop", "messages", "\n", "\\",
                                                 "**", "99999999999", "[::-1]", "range(9999)", "|tojson", "|list", "\xff", "none", "{% break %}", ","};
  const auto below = [&](std::size_t size) { return std::uniform_int_distribution<std::size_t>(0, size - 1)(random); };
  for (std::size_t changes = 1 + below(4); changes > 0 && !text.empty(); --changes) {
    const std::size_t at = below(text.size()), length = std::min(text.size() - at, 1 + below(20));
    switch (below(4)) {
      case 0: text.erase(at, length); break;
      case 1: text.insert(at, kPieces[below(std::size(kPieces))]); break;
      case 2: text.insert(below(text.size()), text.substr(at, length)); break;
      default: text[at] = static_cast<char>(below(256));
    }
  }
  return text;
}

}  // namespace

TEST_CASE("mutated chat templates give a text or a TokenizerError") {
  const Json golden = Json::parse(reft::test::read_text(REFT_SOURCE_DIR "/tests/golden/chat_templates.json"));
  std::vector<std::string> sources;
  for (const auto& [name, rows] : golden["rendered"].items()) {
    sources.push_back(reft::test::read_text(REFT_SOURCE_DIR "/tests/golden/chat_templates/" + name + ".jinja"));
  }
  for (const auto& snippet : golden["snippets"]) sources.push_back(snippet["template"]);
  const reft::ChatOptions options{.tools = golden["options"][2]["tools"], .variables = golden["variables"]};
  std::mt19937 random(7);
  int texts = 0, errors = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::string source = mutated(sources[static_cast<std::size_t>(i) % sources.size()], random);
    CAPTURE(source);
    try {
      (void)reft::ChatTemplate(source, golden["tokens"]).render(golden["chats"]["calls"], options);
      ++texts;
    } catch (const reft::TokenizerError& error) {
      REQUIRE(std::string_view(error.what()).starts_with("[reft::ChatTemplate] "));
      ++errors;
    }
  }
  REQUIRE(texts > 400);
  REQUIRE(errors > 400);
}
