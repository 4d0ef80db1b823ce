#include "reft/tokenizer/chat_template.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using Json = nlohmann::ordered_json;
using reft::ChatOptions;
using reft::ChatTemplate;
using reft::test::contains;
using reft::test::error_text;

namespace {

const Json kChat = {{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Hello"}},
                    {{"role", "user"}, {"content", "Bye"}}, {{"role", "assistant"}, {"content", "Ciao"}}};

const char* const kMarked =
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }};{% endgeneration %}"
    "{% else %}{{ m.content }};{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
const char* const kPlain =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

std::vector<std::string> answers(const char* source, const Json& messages, const Json& variables = Json::object(),
                                 const ChatOptions& options = {}) {
  const auto chat = ChatTemplate(source, variables).render_with_assistant(messages, options);
  std::vector<std::string> texts;
  for (const auto& [begin, end] : chat.assistant) texts.push_back(chat.text.substr(begin, end - begin));
  return texts;
}

}  // namespace

TEST_CASE("a chat is rendered with what the template is given") {
  const ChatTemplate chat_template("{{ bos_token }}{{ messages[0].content }}{{ mood }}{{ tools is none }}{{ documents is none }}"
                                   "{{ add_generation_prompt }}", {{"bos_token", "<s>"}});
  REQUIRE(chat_template.render(kChat) == "<s>HiTrueTrueFalse");
  REQUIRE(chat_template.render(kChat, {.add_generation_prompt = true, .tools = Json::array(), .variables = {{"mood", "!"}}}) ==
          "<s>Hi!FalseTrueTrue");
  REQUIRE(chat_template.render(kChat, {.variables = {{"bos_token", "[B]"}}}).starts_with("[B]"));
  const ChatTemplate copy = chat_template;
  REQUIRE(copy.render(kChat) == chat_template.render(kChat));
}

TEST_CASE("keys of messages keep their order") {
  const ChatTemplate chat_template("{{ messages | tojson }}");
  REQUIRE(chat_template.render(Json::parse(R"([{"b": 1, "a": 2}])")) == R"([{"b": 1, "a": 2}])");
  REQUIRE(chat_template.render(nlohmann::json::parse(R"([{"b": 1, "a": 2}])")) == R"([{"a": 2, "b": 1}])");
}

TEST_CASE("what the assistant wrote is what generation blocks hold") {
  REQUIRE(answers(kMarked, kChat) == std::vector<std::string>{"Hello;", "Ciao;"});
  REQUIRE(answers(kMarked, Json::array({kChat[0]})).empty());
  // A template may drop earlier turns where it marks the answers.
  REQUIRE(answers("{% generation %}{{ messages[-1].content }}{% endgeneration %}", kChat) == std::vector<std::string>{"Ciao"});
}

TEST_CASE("without generation blocks an answer is what its message adds to the text") {
  REQUIRE(answers(kPlain, kChat) == std::vector<std::string>{"Hello;", "Ciao;"});
  REQUIRE(answers(kPlain, kChat, Json::object(), {.add_generation_prompt = true}) == std::vector<std::string>{"Hello;", "Ciao;"});
  REQUIRE(answers(kPlain, Json::array({kChat[1]})) == std::vector<std::string>{"Hello;"});
  // An end token behind every chat is no part of the turns within.
  const std::string ends = std::string(kPlain) + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}";
  REQUIRE(answers(ends.c_str(), kChat, {{"eos_token", "</s>"}}) == std::vector<std::string>{"Hello;", "Ciao;</s>"});
}

TEST_CASE("a template that writes earlier turns differently has no answers to tell") {
  const char* const last_only = "{% for m in messages %}{{ m.content if loop.last else '*' }}{% endfor %}";
  const std::string error = error_text([&] { answers(last_only, kChat); });
  REQUIRE(error.starts_with("[reft::ChatTemplate] messages[1]: the chat up to this message, rendered alone, is not how"));
  const char* const in_macro = "{% macro a() %}{% generation %}x{% endgeneration %}{% endmacro %}{{ a() }}";
  REQUIRE(ChatTemplate(in_macro).render(kChat) == "x");
  REQUIRE(contains(error_text([&] { answers(in_macro, kChat); }), "within a macro or a block set has no known place"));
}

TEST_CASE("one of several templates is chosen by its name or for tools") {
  const ChatTemplate both({{"default", "d"}, {"tool_use", "t"}, {"broken", "{% if"}}, Json::object());
  REQUIRE(both.render(kChat) == "d");
  REQUIRE(both.render(kChat, {.tools = Json::array()}) == "t");
  REQUIRE(both.render(kChat, {.tools = Json::array(), .name = "default"}) == "d");
  REQUIRE(error_text([&] { (void)both.render(kChat, {.name = "rag"}); }) ==
          "[reft::ChatTemplate] no template \"rag\"; there are broken, default, tool_use");
  REQUIRE(error_text([&] { (void)both.render(kChat, {.name = "broken"}); }) ==
          "[reft::ChatTemplate] line 1: a tag has no end; expected \"%}\"");
}

TEST_CASE("the time is the caller's, and without one there is no strftime_now") {
  std::tm time{};
  time.tm_year = 126, time.tm_mon = 2, time.tm_mday = 7;
  const ChatTemplate date("{{ strftime_now('%d %b %Y') }}");
  REQUIRE(date.render(kChat, {.now = time}) == "07 Mar 2026");
  REQUIRE(contains(error_text([&] { (void)date.render(kChat); }), "'strftime_now' is undefined; give the time in ChatOptions::now"));
  REQUIRE(ChatTemplate("{{ strftime_now is defined }}").render(kChat) == "False");
}

TEST_CASE("what is no chat is refused") {
  const ChatTemplate chat_template(kPlain);
  REQUIRE(error_text([&] { (void)chat_template.render({{"role", "user"}}); }) ==
          "[reft::ChatTemplate] messages: expected an array of objects, got object");
  REQUIRE(error_text([&] { (void)chat_template.render(kChat, {.variables = Json::array()}); }) ==
          "[reft::ChatTemplate] variables: expected an object, got array");
  Json deep = "x";
  for (int i = 0; i < 200; ++i) deep = Json::array({deep});
  REQUIRE(contains(error_text([&] { (void)chat_template.render(Json::array({deep})); }), "nested more than 100 deep"));
  REQUIRE(contains(error_text([&] { (void)chat_template.render(Json::array({uint64_t{1} << 63})); }), "64 bits"));
}
