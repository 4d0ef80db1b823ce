#include "reft/tokenizer/tokenizer_config.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::detail::JsonNode;
using reft::detail::TokenizerConfig;

namespace {

TokenizerConfig read(const char* config, const char* map = "{}", const char* model = "{}") {
  const auto c = nlohmann::json::parse(config), s = nlohmann::json::parse(map), m = nlohmann::json::parse(model);
  return reft::detail::read_tokenizer_config(JsonNode(c, "config"), JsonNode(s, "map"), JsonNode(m, "model"));
}

}  // namespace

TEST_CASE("special tokens are written as text or as an object") {
  const auto config = read(
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null, "unk_token": ""})");
  REQUIRE(config.bos_token == "<s>");
  REQUIRE(config.eos_token == "</s>");
  REQUIRE_FALSE((config.pad_token || config.unk_token));
  REQUIRE(config.special_names() == std::vector<std::string>{"<s>", "</s>"});
}

TEST_CASE("the map of special tokens counts where the configuration lists no added tokens") {
  REQUIRE(read(R"({"eos_token": "a"})", R"({"eos_token": "b"})").eos_token == "b");
  REQUIRE(read(R"({"eos_token": "a", "added_tokens_decoder": {}})", R"({"eos_token": "b"})").eos_token == "a");
}

TEST_CASE("the model's ids are read, one or the first of several") {
  const auto config = read("{}", "{}", R"({"bos_token_id": 1, "eos_token_id": [7, 8]})");
  REQUIRE((config.bos_token_id == 1 && config.eos_token_id == 7));
  REQUIRE_FALSE(read("{}", "{}", R"({"bos_token_id": -1, "eos_token_id": []})").bos_token_id);
}

TEST_CASE("classes that write their own post-processor") {
  const auto ends = [](const char* config) {
    const auto result = read(config).ends;
    return result ? std::string(result->bos ? "b" : "") + (result->eos ? "e" : "") : "file";
  };
  REQUIRE(ends(R"({"tokenizer_class": "LlamaTokenizer"})") == "b");
  REQUIRE(ends(R"({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": false, "add_eos_token": true})") == "e");
  REQUIRE(ends(R"({"tokenizer_class": "GPTNeoXTokenizerFast"})") == "");
  REQUIRE(ends(R"({"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": true})") == "file");
  REQUIRE(ends("{}") == "file");
}

TEST_CASE("added tokens come in the order of their ids") {
  const auto config =
      read(R"({"added_tokens_decoder": {"10": {"content": "b", "special": true}, "9": {"content": "a"}}})");
  REQUIRE(config.added_tokens.size() == 2);
  REQUIRE((config.added_tokens[0].id == 9 && config.added_tokens[0].normalized && !config.added_tokens[0].special));
  REQUIRE(
      (config.added_tokens[1].content == "b" && config.added_tokens[1].special && !config.added_tokens[1].normalized));
}

TEST_CASE("malformed configurations are refused") {
  const auto error = [](const char* config) { return reft::test::error_text([&] { read(config); }); };
  REQUIRE(error("[]") == "[reft::load_tokenizer] config: expected an object, got array");
  REQUIRE(error(R"({"bos_token": 1})") == "[reft::load_tokenizer] config: bos_token: expected a string, got number");
  REQUIRE(error(R"({"added_tokens_decoder": {"x": {"content": "a"}}})") ==
          "[reft::load_tokenizer] config: added_tokens_decoder.x: expected an id from 0 to 16777215 as key");
  REQUIRE(error(R"({"added_tokens_decoder": []})") ==
          "[reft::load_tokenizer] config: added_tokens_decoder: expected an object, got array");
}
