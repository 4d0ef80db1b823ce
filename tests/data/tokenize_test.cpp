#include "reft/data/tokenize.hpp"

#include "support/catch.hpp"

using reft::Example;
using reft::PromptExample;
using reft::PromptTemplate;
using reft::TextExample;
using reft::tokenize_examples;
using Ids = std::vector<int64_t>;

namespace {

constexpr int64_t kBos = 1, kEos = 2, kNone = reft::kIgnoredLabel;

/// One token per byte after a first token.
Ids encode_bytes(std::string_view text) {
  Ids ids{kBos};
  for (const unsigned char byte : text) ids.push_back(byte);
  return ids;
}

}  // namespace

TEST_CASE("the prompt is not supervised, the answer and its end are") {
  const auto result = tokenize_examples({TextExample{"ab", "c", "de"}, PromptExample{"ab", "d"}}, encode_bytes,
                                        {.prompt_template = PromptTemplate::none, .eos_token_id = kEos});
  REQUIRE(result.num_cut == 0);
  REQUIRE(result.num_skipped == 0);
  REQUIRE(result.examples ==
          std::vector<Example>{
              {{kBos, 'a', 'b', '\n', 'c', 'd', 'e', kEos}, {kNone, kNone, kNone, kNone, kNone, 'd', 'e', kEos}, 5},
              {{kBos, 'a', 'b', 'd', kEos}, {kNone, kNone, kNone, 'd', kEos}, 3}});
}

TEST_CASE("instructions are put into the template") {
  const auto result = tokenize_examples({TextExample{"ab", "", "de"}}, encode_bytes, {.eos_token_id = kEos});
  const auto prompt = encode_bytes(reft::render_prompt(PromptTemplate::alpaca, "ab"));
  REQUIRE(result.examples.front().prompt_length == std::ssize(prompt));
  REQUIRE(std::equal(prompt.begin(), prompt.end(), result.examples.front().input_ids.begin()));
}

TEST_CASE("an answer whose tokens merge with the prompt's is supervised from the prompt's own length on") {
  const auto pairs = [](std::string_view text) {
    Ids ids{kBos};
    for (std::size_t i = 0; i < text.size(); i += 2) ids.push_back(text[i]);
    return ids;
  };
  const auto result = tokenize_examples({PromptExample{"abc", "d"}}, pairs, {.eos_token_id = kEos});
  REQUIRE(result.examples == std::vector<Example>{{{kBos, 'a', 'c', kEos}, {kNone, kNone, kNone, kEos}, 3}});
}

TEST_CASE("a tokenizer that ends every text itself does not end the prompt") {
  const auto with_end = [](std::string_view text) {
    auto ids = encode_bytes(text);
    ids.push_back(kEos);
    return ids;
  };
  const auto result = tokenize_examples({PromptExample{"ab", "c"}}, with_end, {.eos_token_id = kEos});
  REQUIRE(result.examples == std::vector<Example>{{{kBos, 'a', 'b', 'c', kEos}, {kNone, kNone, kNone, 'c', kEos}, 3}});
}

TEST_CASE("without an end token the answer ends bare") {
  const auto result = tokenize_examples({PromptExample{"a", "b"}}, encode_bytes, {});
  REQUIRE(result.examples == std::vector<Example>{{{kBos, 'a', 'b'}, {kNone, kNone, 'b'}, 2}});
}

TEST_CASE("long examples are cut, and skipped where no answer is left") {
  const auto result =
      tokenize_examples({PromptExample{"ab", "cde"}, PromptExample{"abc", "d"}, PromptExample{"a", "b"},
                         Example{{7, 8, 9, 10, 11}, {kNone, kNone, 9, 10, 11}, 5},
                         Example{{7, 8, 9, 10, 11}, {7, kNone, kNone, kNone, 11}, 0}, PromptExample{"abcdef", "g"}},
                        encode_bytes, {.eos_token_id = kEos, .max_length = 4});
  REQUIRE(result.num_cut == 2);
  REQUIRE(result.num_skipped == 3);
  REQUIRE(result.examples == std::vector<Example>{{{kBos, 'a', 'b', 'c'}, {kNone, kNone, kNone, 'c'}, 3},
                                                  {{kBos, 'a', 'b', kEos}, {kNone, kNone, 'b', kEos}, 2},
                                                  {{7, 8, 9, 10}, {kNone, kNone, 9, 10}, 4}});
}

TEST_CASE("it is an error when nothing is left") {
  REQUIRE_THROWS_WITH(
      tokenize_examples({PromptExample{"abc", "d"}}, encode_bytes, {.max_length = 4}),
      "[reft::tokenize_examples] none of 1 examples is usable: within 4 tokens, no answer is left to learn; raise "
      "max_length");
  REQUIRE_THROWS_AS(tokenize_examples({}, encode_bytes, {}), reft::DataError);
  REQUIRE_THROWS_AS(tokenize_examples({Example{{5}, {5}, 0}}, encode_bytes, {}), reft::DataError);
  REQUIRE_THROWS_WITH(tokenize_examples({PromptExample{"a", "b"}}, encode_bytes, {.max_length = 0}),
                      "[reft::tokenize_examples] expected max_length of at least 1, got 0");
}

TEST_CASE("plain text is learned from its second token on, and is a prompt as a whole") {
  const auto result = tokenize_examples({reft::PlainText{"ab"}}, encode_bytes, {.eos_token_id = kEos});
  REQUIRE(result.examples == std::vector<Example>{{{kBos, 'a', 'b', kEos}, {kBos, 'a', 'b', kEos}, 4}});
}

TEST_CASE("chats are tokenized by the function that knows their template") {
  const reft::ChatExample chat{nlohmann::ordered_json::parse(R"([{"role":"user","content":"q"}])")};
  const auto result = tokenize_examples({chat}, encode_bytes, {.tokenize_chat = [](const nlohmann::ordered_json& messages) {
                                          return Example{{1, std::ssize(messages), 5}, {kNone, kNone, 5}, 2};
                                        }});
  REQUIRE(result.examples == std::vector<Example>{{{1, 1, 5}, {kNone, kNone, 5}, 2}});
  REQUIRE_THROWS_AS(tokenize_examples({chat}, encode_bytes, {}), reft::DataError);
}

TEST_CASE("an instruction in the chat template is a conversation of one turn") {
  nlohmann::ordered_json seen;
  tokenize_examples({TextExample{"ab", "c", "de"}, PromptExample{"ab", "d"}}, encode_bytes,
                    {.prompt_template = PromptTemplate::chat, .tokenize_chat = [&](const nlohmann::ordered_json& messages) {
                       seen.push_back(messages);
                       return Example{{1, 5}, {kNone, 5}, 1};
                     }});
  REQUIRE(seen == nlohmann::ordered_json::parse(
      R"([[{"role":"user","content":"ab\nc"},{"role":"assistant","content":"de"}]])"));  // whoever gives a prompt means it
  REQUIRE_THROWS_AS(tokenize_examples({TextExample{"ab", "", "de"}}, encode_bytes, {.prompt_template = PromptTemplate::chat}), reft::DataError);
}
