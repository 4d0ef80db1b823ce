#include "reft/tokenizer/tokenizer_folder.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using namespace reft::detail;
using Ids = std::vector<int64_t>;
using reft::test::write_text;

namespace {

Ids encoded(const std::filesystem::path& folder, std::string_view text) {
  const Pipeline pipeline = TokenizerFolder(folder).read();
  Ids ids = pipeline.post_processor.before;
  encode_text(pipeline, text, ids);
  ids.insert(ids.end(), pipeline.post_processor.after.begin(), pipeline.post_processor.after.end());
  return ids;
}

}  // namespace

TEST_CASE("a folder with vocab.json and merges.txt") {
  const reft::test::TemporaryFolder folder;
  write_text(folder / "vocab.json", R"({"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4})");
  write_text(folder / "merges.txt", "#version: 0.2\na b\n");
  REQUIRE(encoded(folder.path(), "ab a<|endoftext|>") == Ids{2, 3, 0, 4});
  REQUIRE(TokenizerFolder(folder.path()).read().special.eos == 4);
  write_text(folder / "tokenizer_config.json", R"({"add_bos_token": true, "tokenizer_class": "GPT2Tokenizer"})");
  REQUIRE(encoded(folder.path(), "b") == Ids{4, 1});
  // A tokenizer.json beside them counts.
  write_text(folder / "tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"b": 7}, "merges": []}})");
  REQUIRE(encoded(folder.path(), "b") == Ids{7});
}

TEST_CASE("a folder with vocab.txt") {
  const reft::test::TemporaryFolder folder;
  write_text(folder / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n");
  REQUIRE(encoded(folder.path(), "AB [MASK]x") == Ids{2, 5, 6, 4, 1, 3});
  REQUIRE(TokenizerFolder(folder.path()).read().special.pad == 0);
}

TEST_CASE("a folder with ranks") {
  const reft::test::TemporaryFolder folder;
  write_text(folder / "qwen.tiktoken", "YQ== 0\nYg== 1\nYWI= 2\nww== 3\nqQ== 4\n");
  write_text(folder / "tokenizer_config.json",
             R"({"eos_token": "<e>", "added_tokens_decoder": {"9": {"content": "<e>", "special": true}}})");
  REQUIRE(encoded(folder.path(), "ab<e>e\u0301b") == Ids{2, 9, 3, 4, 1});  // texts are composed
  REQUIRE(TokenizerFolder(folder.path()).read().special.eos == 9);
}

TEST_CASE("a SentencePiece model is refused with the way out") {
  const reft::test::TemporaryFolder folder;
  write_text(folder / "tokenizer.model", "\x0A\x0E\x0A\x05<unk>");
  REQUIRE(reft::test::error_text([&] { TokenizerFolder(folder.path()).read(); }) ==
          "[reft::load_tokenizer] " + (folder / "tokenizer.model").string() +
              ": expected ranks, got a SentencePiece model, which is not read: transformers makes a tokenizer.json of it by "
              "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)");
}
