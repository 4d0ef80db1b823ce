#include "reft/tokenizer/sentencepiece.hpp"

#ifdef REFT_TEST_SENTENCEPIECE
#include <sentencepiece_trainer.h>
#endif

#include "reft/tokenizer/tokenizer.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::test::TemporaryFolder;
using reft::test::write_text;

#ifdef REFT_TEST_SENTENCEPIECE

namespace {

using Ids = std::vector<int64_t>;

/// A folder with a tokenizer.model trained on a few words, in the way of Llama 2: BPE, bytes, nothing normalized.
class ModelFolder {
 public:
  explicit ModelFolder(const std::string& flags = "--model_type=bpe --vocab_size=300") {
    std::string corpus;
    for (int i = 0; i < 60; ++i) corpus += "the cat sat on the mat and the dog ran\nthat cat and this dog sat there  then\n";
    write_text(folder_ / "corpus", corpus);
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        flags + " --byte_fallback=true --normalization_rule_name=identity --remove_extra_whitespaces=false --minloglevel=2 --input=" +
        (folder_ / "corpus").string() + " --model_prefix=" + (folder_ / "tokenizer").string());
    REQUIRE(status.ToString() == "OK");
    REQUIRE(processor.Load((folder_ / "tokenizer.model").string()).ok());
  }

  std::filesystem::path path() const { return folder_.path(); }
  std::filesystem::path operator/(std::string_view name) const { return folder_ / name; }

  reft::Tokenizer with(std::string_view config) const {
    write_text(folder_ / "tokenizer_config.json", config);
    return reft::load_tokenizer(path());
  }

  /// What the library itself says of a text, as Python's `sentencepiece` does.
  Ids library(std::string_view text) const {
    std::vector<int> ids;
    REQUIRE(processor.Encode(text, &ids).ok());
    return {ids.begin(), ids.end()};
  }

  Ids ids_of(const std::vector<std::string>& pieces) const {
    Ids ids;
    for (const auto& piece : pieces) ids.push_back(processor.PieceToId(piece));
    return ids;
  }

  sentencepiece::SentencePieceProcessor processor;

 private:
  TemporaryFolder folder_;
};

Ids operator+(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("a tokenizer.model: the class's special tokens around the ids of the library") {
  const ModelFolder folder;
  const auto tokenizer = reft::load_tokenizer(folder.path());
  for (const char* text : {"the cat", " the  cat ", "é😀\n\tx", "▁the", "thé"}) {
    CAPTURE(text);
    REQUIRE(tokenizer.encode(text) == Ids{1} + folder.library(text));
    REQUIRE(tokenizer.encode(text, false) == folder.library(text));
  }
  REQUIRE(tokenizer.decode(tokenizer.encode("é😀\n the  cat ")) == "é😀\n the  cat ");
  REQUIRE(tokenizer.decode(tokenizer.encode(" the")) == "the");  // as transformers
  REQUIRE(tokenizer.encode("") == Ids{1});
  REQUIRE(tokenizer.encode("\xFF") == tokenizer.encode("\uFFFD"));
  REQUIRE((tokenizer.bos_token_id() == 1 && tokenizer.eos_token_id() == 2 && tokenizer.unk_token_id() == 0 && !tokenizer.pad_token_id()));
  REQUIRE(tokenizer.vocabulary_size() == 300);
  REQUIRE((tokenizer.id_of("▁cat") == folder.processor.PieceToId("▁cat") && !tokenizer.id_of("nowhere")));
  REQUIRE((tokenizer.token_of(1) == "<s>" && !tokenizer.token_of(300) && !tokenizer.token_of(-1)));
  const auto pair = folder.with(R"({"add_eos_token": true})").encode_pair("cat", "dog");
  REQUIRE(pair.ids == Ids{1} + folder.library("cat") + Ids{2, 1} + folder.library("dog") + Ids{2});
  REQUIRE(pair.type_ids == Ids(folder.library("cat").size() + 2, 0) + Ids(folder.library("dog").size() + 2, 1));
}

// The expected values of this and the next test are what transformers 4.57 says for models trained so.
TEST_CASE("where the model's prefix stands: before every stretch, or with legacy = false before the text alone") {
  const ModelFolder folder;
  const auto legacy = folder.with(R"({"add_bos_token": false})");
  REQUIRE(legacy.encode("the</s>at") == folder.ids_of({"▁the", "</s>", "▁", "at"}));
  REQUIRE(legacy.encode("</s>the</s> the") == folder.ids_of({"</s>", "▁the", "</s>", "▁", "▁the"}));
  const auto newer = folder.with(R"({"add_bos_token": false, "legacy": false})");
  REQUIRE(newer.encode("the</s>at") == folder.ids_of({"▁the", "</s>", "at"}));
  REQUIRE(newer.encode("</s>the</s> the") == folder.ids_of({"</s>", "th", "e", "</s>", "▁the"}));
  REQUIRE(newer.encode(" the") == folder.ids_of({"▁", "▁the"}));
  const auto none = folder.with(R"({"add_bos_token": false, "legacy": false, "add_prefix_space": false})");
  REQUIRE(none.encode("the cat") == folder.ids_of({"th", "e", "▁cat"}));
  REQUIRE(none.encode("▁the") == folder.ids_of({"▁the"}));
}

TEST_CASE("decoding: special tokens belong to the text, other added tokens stand alone") {
  const ModelFolder folder;
  write_text(folder / "added_tokens.json", R"({"<a>": 300, "<b>": 301})");
  const std::string tokens = R"("additional_special_tokens": ["<b>"])";
  const auto legacy = folder.with("{" + tokens + "}");
  const Ids ids = Ids{1} + folder.ids_of({"▁the", "▁cat"}) + Ids{300} + folder.ids_of({"▁dog"}) + Ids{2, 301};
  REQUIRE(legacy.encode("the cat<a>dog</s><b>") == ids);
  REQUIRE(legacy.decode(ids, false) == "<s>the cat <a>  dog</s> <b>");
  REQUIRE(legacy.decode(ids, true) == "the cat <a> dog");
  const auto newer = folder.with(R"({"legacy": false, )" + tokens + "}");
  REQUIRE(newer.decode(ids, false) == "<s> the cat <a> dog</s> <b>");
  const Ids sentence = folder.ids_of({"<s>", "at", "▁dog", "</s>"});
  REQUIRE(legacy.decode(sentence, false) == "<s>  at dog</s>");
  REQUIRE(newer.decode(sentence, false) == "<s> at dog</s>");
  const auto gemma = folder.with(R"({"tokenizer_class": "GemmaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "pad_token": null, )" + tokens + "}");
  REQUIRE(gemma.decode(ids, false) == "<s>the cat<a>dog</s><b>");
  REQUIRE(gemma.decode(Ids{1000000, -1}) == "");
}

TEST_CASE("a special token that the model lacks takes the next id") {
  const ModelFolder folder;
  const auto tokenizer = folder.with(R"({"pad_token": "<pad>", "additional_special_tokens": [{"content": "<x>"}]})");
  REQUIRE(tokenizer.pad_token_id() == 300);
  REQUIRE(tokenizer.encode("<x><pad>", false) == Ids{301, 300});
  REQUIRE(tokenizer.vocabulary_size() == 302);
  const auto listed = folder.with(R"({"pad_token": "<pad>", "added_tokens_decoder": {"305": {"content": "<pad>", "special": true}}})");
  REQUIRE(listed.pad_token_id() == 305);
  REQUIRE(reft::test::error_text([&] { folder.with(R"({"added_tokens_decoder": {"3": {"content": "<pad>"}}})"); }) ==
          "[reft::load_tokenizer] " + (folder / "tokenizer.model").string() +
              ": added token \"<pad>\" has id 3, which is \"<0x00>\" in the vocabulary");
}

TEST_CASE("a long text's parts give the whole's ids") {
  const std::string kind = GENERATE("--model_type=bpe --vocab_size=300", "--model_type=unigram --vocab_size=275",
                                    "--model_type=bpe --vocab_size=300 --treat_whitespace_as_suffix=true",
                                    "--model_type=bpe --vocab_size=300 --user_defined_symbols=cat▁sat");
  CAPTURE(kind);
  const ModelFolder folder(kind);
  std::string text;
  const std::vector<std::string> words{"the", "cat", "sat", "é", "on", "", "\n", "mat,", "x\t", "dog", "▁"};
  for (std::size_t i = 0; text.size() < 20'000; ++i) text += words[i * i % 11 * (i % 7) % words.size()] + " ";
  REQUIRE(reft::load_tokenizer(folder.path()).encode(text, false) == folder.library(text));
}

TEST_CASE("damaged SentencePiece models give a TokenizerError") {
  const ModelFolder folder;
  const std::string bytes = reft::test::read_text(folder / "tokenizer.model");
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, bytes.size() / 2, bytes.size() - 1}) {
    CAPTURE(size);
    write_text(folder / "tokenizer.model", bytes.substr(0, size));
    REQUIRE_THAT(reft::test::error_text([&] { reft::load_tokenizer(folder.path()); }),
                 Catch::Matchers::StartsWith("[reft::load_tokenizer] " + (folder / "tokenizer.model").string() +
                                             ": expected a SentencePiece model or ranks: "));
  }
}

#endif
