#include "reft/data/prompt_template.hpp"

#include "support/catch.hpp"

using reft::PromptTemplate;
using reft::render_prompt;

TEST_CASE("the Alpaca template has its two exact wordings") {
  REQUIRE(render_prompt(PromptTemplate::alpaca, "Say {hi}.") ==
          "Below is an instruction that describes a task. Write a response that appropriately completes the request."
          "\n\n### Instruction:\nSay {hi}.\n\n### Response:\n");
  REQUIRE(render_prompt(PromptTemplate::alpaca, "Add.", "1, 2") ==
          "Below is an instruction that describes a task, paired with an input that provides further context. "
          "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n"
          "### Input:\n1, 2\n\n### Response:\n");
}

TEST_CASE("without a template the prompt is the instruction and its input") {
  REQUIRE(render_prompt(PromptTemplate::none, "Add.") == "Add.");
  REQUIRE(render_prompt(PromptTemplate::none, "Add.", "1, 2") == "Add.\n1, 2");
}

TEST_CASE("templates by name") {
  for (auto prompt_template : {PromptTemplate::alpaca, PromptTemplate::none, PromptTemplate::chat}) {
    REQUIRE(reft::parse_prompt_template(to_string(prompt_template)) == prompt_template);
  }
  REQUIRE_THROWS_WITH(reft::parse_prompt_template("llama"),
                      "[reft::parse_prompt_template] \"llama\": expected alpaca, none or chat");
}
