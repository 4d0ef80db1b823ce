#include "reft/tokenizer/vocabulary_files.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;
using nlohmann::json;

namespace {

const FilesClass& found(const json& config, const json& model, std::string_view fallback = "GPT2Tokenizer") {
  return find_files_class(JsonNode(config, "tokenizer_config.json"), JsonNode(model, "config.json"), fallback);
}

}  // namespace

TEST_CASE("the class of vocabulary files: its name, else the model's type, else the kind of files") {
  REQUIRE(found({{"tokenizer_class", "Qwen2TokenizerFast"}}, json::object()).name == "Qwen2Tokenizer");
  REQUIRE(found({{"tokenizer_class", "BartTokenizer"}}, {{"model_type", "qwen2"}}).name == "BartTokenizer");
  REQUIRE(found(json::object(), {{"model_type", "qwen2"}}).name == "Qwen2Tokenizer");
  REQUIRE(found(json::object(), {{"model_type", "opt"}}).name == "GPT2Tokenizer");
  REQUIRE(found(json::object(), json::object(), "BertTokenizer").name == "BertTokenizer");
  REQUIRE(reft::test::error_text([] { found({{"tokenizer_class", "CLIPTokenizer"}}, json::object()); }) ==
          "[reft::load_tokenizer] tokenizer_config.json: tokenizer_class \"CLIPTokenizer\" needs a tokenizer.json: load it once "
          "with transformers' AutoTokenizer and use save_pretrained");
}

TEST_CASE("special tokens: the configuration, then the map, then the class") {
  const json config{{"eos_token", "<e>"}, {"unk_token", nullptr}}, map{{"eos_token", "<m>"}, {"bos_token", "<b>"}};
  const json result = with_class_defaults(found(json::object(), json::object()).special, JsonNode(config, "c"), JsonNode(map, "m"));
  REQUIRE(result == json{{"eos_token", "<e>"}, {"bos_token", "<b>"}, {"unk_token", nullptr}});
}

TEST_CASE("merges are lines") {
  REQUIRE(read_merge_lines("#version: 0.2\na b\r\n\n# #\nab c") == json{"a b", "# #", "ab c"});
  REQUIRE(read_merge_lines("").empty());
}

TEST_CASE("a tokenizer.json of vocab.json and merges.txt") {
  const json config{{"cls_token", "<s>"}, {"sep_token", "</s>"}, {"mask_token", {{"content", "<mask>"}, {"lstrip", true}}}};
  const FilesClass& roberta = found({{"tokenizer_class", "RobertaTokenizer"}}, json::object());
  const json file = bpe_files_as_json(roberta, JsonNode(config, "c"), {{"<s>", 0}, {"</s>", 1}, {"a", 2}}, "a a\n");
  REQUIRE(file["post_processor"]["cls"] == json{"<s>", 0});
  REQUIRE(file["added_tokens"].size() == 3);
  REQUIRE((file["added_tokens"][2]["id"] == 3 && file["added_tokens"][2]["lstrip"] == true));  // new, so it takes the next id
  REQUIRE(file["model"]["merges"] == json{"a a"});
  REQUIRE(file["pre_tokenizer"]["type"] == "ByteLevel");
  REQUIRE(reft::test::error_text([&] {
            bpe_files_as_json(roberta, JsonNode(json::object(), "c.json"), json::object(), "");
          }) == "[reft::load_tokenizer] c.json: \"cls_token\" is missing");
}

TEST_CASE("a tokenizer.json of vocab.txt") {
  const json config = json::parse(kBertSpecial);
  const json file = wordpiece_file_as_json(JsonNode(config, "c"), "[PAD]\r\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n");
  REQUIRE(file["model"]["vocab"] == json{{"[PAD]", 0}, {"[UNK]", 1}, {"[CLS]", 2}, {"[SEP]", 3}, {"[MASK]", 4}, {"a", 6}});
  REQUIRE(file["normalizer"]["lowercase"] == true);
  REQUIRE(file["post_processor"]["sep"] == json{"[SEP]", 3});
}
