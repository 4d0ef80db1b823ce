#include "reft/tokenizer/sentencepiece_files.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;
using nlohmann::json;

namespace {

const SentencePieceClass& found(const json& config, const json& model) {
  return find_sentencepiece_class(JsonNode(config, "tokenizer_config.json"), JsonNode(model, "config.json"));
}

SentencePieceSettings settings(const json& config, const json& map = json::object(), const json& added = json::object()) {
  const json model = json::object();
  return read_sentencepiece_settings(found(config, model), JsonNode(config, "c"), JsonNode(map, "m"), JsonNode(added, "a"), JsonNode(model, "j"));
}

std::vector<std::pair<std::string, int64_t>> tokens_and_ids(const std::vector<AddedToken>& tokens) {
  std::vector<std::pair<std::string, int64_t>> result;
  for (const AddedToken& token : tokens) result.emplace_back(token.content, token.id);
  return result;
}

}  // namespace

TEST_CASE("the class of a tokenizer.model: its name, else the model's type, else Llama's") {
  REQUIRE(found({{"tokenizer_class", "LlamaTokenizerFast"}}, {{"model_type", "gemma"}}).name == "LlamaTokenizer");
  REQUIRE(found(json::object(), {{"model_type", "gemma2"}}).name == "GemmaTokenizer");
  REQUIRE(found(json::object(), {{"model_type", "mistral"}}).name == "LlamaTokenizer");
  REQUIRE(reft::test::error_text([] { found({{"tokenizer_class", "T5Tokenizer"}}, json::object()); }) ==
          "[reft::load_tokenizer] tokenizer_config.json: tokenizer_class \"T5Tokenizer\" needs a tokenizer.json: load it once "
          "with transformers' AutoTokenizer and use save_pretrained");
}

TEST_CASE("settings of a tokenizer.model") {
  REQUIRE(settings(json::object()).legacy);
  REQUIRE_FALSE(settings({{"legacy", false}}).legacy);
  REQUIRE(settings({{"legacy", false}, {"tokenizer_class", "GemmaTokenizer"}}).legacy);  // Gemma's class knows no such flag
  REQUIRE_FALSE(settings({{"add_prefix_space", false}}).add_prefix_space);
  const json config{{"bos_token", "<s>"}, {"unk_token", {{"content", "<u>"}}}, {"additional_special_tokens", {"<x>"}}},
      map{{"eos_token", "</s>"}, {"additional_special_tokens", {{{"content", "<y>"}}, "<x>"}}}, added{{"<x>", 9}};
  const SentencePieceSettings older = settings(config, map, added);
  REQUIRE(older.special == std::vector<std::string>{"<s>", "</s>", "<u>", "<x>", "<y>"});
  REQUIRE(older.additional == std::vector<std::string>{"<x>", "<y>"});
  REQUIRE(tokens_and_ids(older.added) == std::vector<std::pair<std::string, int64_t>>{{"<x>", 9}});
  // Where the configuration lists the added tokens, the other files do not count.
  json newer = config;
  newer["added_tokens_decoder"] = {{"7", {{"content", "<s>"}, {"special", true}}}};
  REQUIRE(settings(newer, map, added).special == std::vector<std::string>{"<s>", "<u>", "<x>"});
  REQUIRE(tokens_and_ids(settings(newer, map, added).added) == std::vector<std::pair<std::string, int64_t>>{{"<s>", 7}});
}

TEST_CASE("added tokens of a tokenizer.model: ids of the files, of the model, then the next free ones") {
  Vocabulary vocabulary;
  vocabulary.add("<unk>", 0, "v");
  vocabulary.add("<s>", 1, "v");
  const json none;
  SentencePieceSettings given{.special = {"<s>", "<new>", "<x>"}, .added = {{.id = 5, .content = "<x>"}}};
  REQUIRE(tokens_and_ids(sentencepiece_added_tokens(given, vocabulary, JsonNode(none, "t"))) ==
          std::vector<std::pair<std::string, int64_t>>{{"<x>", 5}, {"<s>", 1}, {"<new>", 6}});
  given.added[0].id = 1;
  REQUIRE(reft::test::error_text([&] { sentencepiece_added_tokens(given, vocabulary, JsonNode(none, "t")); }) ==
          "[reft::load_tokenizer] t: added token \"<x>\" has id 1, which is \"<s>\" in the vocabulary");
}
