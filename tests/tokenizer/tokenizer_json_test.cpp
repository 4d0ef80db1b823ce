#include "reft/tokenizer/tokenizer_json.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "tokenizer/json_text.hpp"

using namespace reft::detail;
using reft::test::error_text;

namespace {

const char* const kModel =
    R"("model": {"type": "BPE", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]})";

Pipeline read(const std::string& members, const TokenizerConfig& config = {}) {
  return reft::test::from_json("{" + members + "}", [&](const JsonNode& root) { return read_pipeline(root, config); });
}

std::string error(const std::string& members, const TokenizerConfig& config = {}) {
  return error_text([&] { read(members, config); });
}

std::string model_error(const std::string& model) { return error(R"("model": )" + model); }

}  // namespace

TEST_CASE("the least file: a model") {
  const Pipeline pipeline = read(kModel);
  REQUIRE(pipeline.id_of("ab") == 3);
  REQUIRE(pipeline.special.unk == 0);
  REQUIRE_FALSE(pipeline.special.bos);
  REQUIRE(read(R"("model": {"vocab": {"a": 0}, "merges": []})").id_of("a") == 0);  // as before tokenizers 0.8
  REQUIRE(read(R"("model": {"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"]]})").id_of("aa") == 1);
}

TEST_CASE("the other models") {
  const auto encoded = [](const Pipeline& pipeline, std::string_view text) {
    std::vector<int64_t> ids;
    encode_text(pipeline, text, ids);
    return ids;
  };
  const char* unigram = R"("model": {"unk_id": 0, "vocab": [["<unk>", 0], ["a", -1.5], ["ab", -1]]})";
  REQUIRE(encoded(read(unigram), "abax") == std::vector<int64_t>{2, 1, 0});
  REQUIRE(read(unigram).special.unk == 0);
  const char* wordpiece = R"("model": {"max_input_chars_per_word": 3, "vocab": {"[UNK]": 5, "a": 1, "##b": 2}})";
  REQUIRE(encoded(read(wordpiece), "abb") == std::vector<int64_t>{1, 2, 2});
  REQUIRE(encoded(read(wordpiece), "abbb") == std::vector<int64_t>{5});
  REQUIRE(read(wordpiece).special.unk == 5);
}

TEST_CASE("added tokens: the configuration sets flags, adds tokens and makes its special ones known") {
  const std::string added = R"(, "added_tokens": [{"id": 4, "content": "<s>", "special": false}])";
  TokenizerConfig config{.bos_token = "<s>", .eos_token = "b", .pad_token = "[PAD]"};
  config.added_tokens = {{.id = 9, .content = "<s>", .special = true}, {.id = 5, .content = "<x>"}};
  const Pipeline pipeline = read(kModel + added, config);
  REQUIRE(pipeline.special.bos == 4);  // the id of the file stays
  REQUIRE(pipeline.added_tokens.is_special(4));
  REQUIRE(pipeline.id_of("<x>") == 5);
  REQUIRE((pipeline.special.eos == 2 && pipeline.added_tokens.is_special(2)));
  REQUIRE((pipeline.special.pad == 6 && *pipeline.token_of(6) == "[PAD]"));
}

TEST_CASE("ids of the model's configuration count where nothing names the token") {
  REQUIRE(read(kModel, {.eos_token_id = 2}).special.eos == 2);
  REQUIRE(read(kModel, {.eos_token = "a", .eos_token_id = 2}).special.eos == 1);
  REQUIRE_FALSE(read(kModel, {.eos_token_id = 77}).special.eos);  // no such token
}

TEST_CASE("the configuration's ends take the place of the post-processor") {
  const std::string processor = R"(, "post_processor": {"type": "BertProcessing", "cls": ["a", 1], "sep": ["b", 2]})";
  REQUIRE(read(kModel + processor).post_processor.after == std::vector<int64_t>{2});
  const Pipeline replaced = read(kModel + processor, {.bos_token = "a", .ends = TokenizerConfig::Ends{true, false}});
  REQUIRE((replaced.post_processor.before == std::vector<int64_t>{1} && replaced.post_processor.after.empty()));
  REQUIRE(replaced.post_processor.pair.size() == 6);
  REQUIRE((replaced.post_processor.pair[3].ids == std::vector<int64_t>{1} && replaced.post_processor.pair[3].type_id == 1));
  REQUIRE(
      error(kModel, {.ends = TokenizerConfig::Ends{true, false}}) ==
      "[reft::load_tokenizer] t.json: the tokenizer class adds the bos token to every text, but there is no bos_token");
}

TEST_CASE("the configuration's add_prefix_space wins for ByteLevel") {
  const std::string model =
      R"("model": {"type": "BPE", "vocab": {"a": 0, "Ġ": 1}, "merges": []}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false})";
  const auto encoded = [&](const TokenizerConfig& config) {
    std::vector<int64_t> ids;
    encode_text(read(model, config), "a", ids);
    return ids;
  };
  REQUIRE(encoded({}) == std::vector<int64_t>{0});
  REQUIRE(encoded({.add_prefix_space = true}) == std::vector<int64_t>{1, 0});
}

TEST_CASE("malformed and hostile models are refused") {
  REQUIRE(error("") == "[reft::load_tokenizer] t.json: \"model\" is missing");
  REQUIRE(model_error("[]") == "[reft::load_tokenizer] t.json: model: expected an object, got array");
  REQUIRE(model_error(R"({"type": "Characters"})") ==
          "[reft::load_tokenizer] t.json: model: model \"Characters\" is not supported (supported: BPE Unigram WordPiece)");
  REQUIRE(model_error(R"({"type": "Unigram", "vocab": [["a"]]})") ==
          "[reft::load_tokenizer] t.json: model.vocab[0]: expected [token, score], got array");
  REQUIRE(model_error(R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1})") ==
          "[reft::load_tokenizer] t.json: model.unk_id: 1 is not the id of a token");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": [], "merges": []})") ==
          "[reft::load_tokenizer] t.json: model.vocab: expected an object, got array");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": {"a": "0"}, "merges": []})") ==
          "[reft::load_tokenizer] t.json: model.vocab.a: expected a whole number from 0 to 16777215, got string");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": {"a": 2147483647}, "merges": []})") ==
          "[reft::load_tokenizer] t.json: model.vocab.a: expected a whole number from 0 to 16777215, got 2147483647");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []})") ==
          "[reft::load_tokenizer] t.json: model.vocab: id 0 is there twice, as \"a\" and \"b\"");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"]})") ==
          "[reft::load_tokenizer] t.json: model.merges: merge 0 (\"a\" + \"a\") needs the token \"aa\", which is not "
          "in the vocabulary");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]})") ==
          "[reft::load_tokenizer] t.json: model.merges: expected two tokens with one space between, got \"a\"");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": {"a": 0}, "merges": [1]})") ==
          "[reft::load_tokenizer] t.json: model.merges: expected \"left right\" or [\"left\", \"right\"], got number");
  REQUIRE(model_error(R"({"type": "BPE", "vocab": {"a": 0}, "merges": {}})") ==
          "[reft::load_tokenizer] t.json: model.merges: expected an array, got object");
  REQUIRE(model_error(R"({"type": "BPE", "dropout": 0.1, "vocab": {"a": 0}, "merges": []})") ==
          "[reft::load_tokenizer] t.json: model.dropout: merges dropped at random are not supported: set it to null");
}

TEST_CASE("malformed and hostile parts around the model are refused") {
  const auto with = [](const std::string& member) { return error(std::string(kModel) + "," + member); };
  REQUIRE(with(R"("added_tokens": [{"id": 3, "content": "<s>"}])") ==
          "[reft::load_tokenizer] t.json: added_tokens[0]: added token \"<s>\" has id 3, which is \"ab\" in the "
          "vocabulary");
  REQUIRE(with(R"("added_tokens": [{"id": 7, "content": "ab"}])") ==
          "[reft::load_tokenizer] t.json: added_tokens[0]: added token \"ab\" has id 7, but 3 in the vocabulary");
  REQUIRE(with(R"("added_tokens": [{"id": 7, "content": "x"}, {"id": 7, "content": "y"}])") ==
          "[reft::load_tokenizer] t.json: id 7 is there twice, as \"x\" and \"y\"");
  REQUIRE(with(R"("added_tokens": [{"id": -7, "content": "x"}])") ==
          "[reft::load_tokenizer] t.json: added_tokens[0].id: expected a whole number from 0 to 16777215, got -7");
  REQUIRE(with(R"("added_tokens": 1)") == "[reft::load_tokenizer] t.json: added_tokens: expected an array, got number");
  REQUIRE(with(R"("normalizer": 1)") == "[reft::load_tokenizer] t.json: normalizer: expected an object, got number");
  REQUIRE(with(R"("pre_tokenizer": "ByteLevel")") ==
          "[reft::load_tokenizer] t.json: pre_tokenizer: expected an object, got string");
  REQUIRE(with(R"("post_processor": {"type": "BertProcessing", "cls": ["x", 9], "sep": ["x", 9]})") ==
          "[reft::load_tokenizer] t.json: post_processor: id 9 is not a token");
}
