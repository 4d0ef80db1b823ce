#include "reft/tokenizer/tokenizer_folder.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using namespace reft::detail;
using Ids = std::vector<int64_t>;
using reft::test::write_text;

namespace {

Ids encoded(const std::filesystem::path& folder, std::string_view text) { return TokenizerFolder(folder).read()->encode(text, true); }

}  // namespace

TEST_CASE("a folder with vocab.json and merges.txt") {
  const reft::test::TemporaryFolder folder;
  write_text(folder / "vocab.json", R"({"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4})");
  write_text(folder / "merges.txt", "#version: 0.2\na b\n");
  REQUIRE(encoded(folder.path(), "ab a<|endoftext|>") == Ids{2, 3, 0, 4});
  REQUIRE(TokenizerFolder(folder.path()).read()->special_tokens().eos == 4);
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
  REQUIRE(TokenizerFolder(folder.path()).read()->special_tokens().pad == 0);
}

TEST_CASE("a folder with ranks") {
  const reft::test::TemporaryFolder folder;
  write_text(folder / "qwen.tiktoken", "YQ== 0\nYg== 1\nYWI= 2\nww== 3\nqQ== 4\n");
  write_text(folder / "tokenizer_config.json",
             R"({"eos_token": "<e>", "added_tokens_decoder": {"9": {"content": "<e>", "special": true}}})");
  REQUIRE(encoded(folder.path(), "ab<e>e\u0301b") == Ids{2, 9, 3, 4, 1});  // texts are composed
  REQUIRE(TokenizerFolder(folder.path()).read()->special_tokens().eos == 9);
}

TEST_CASE("the name of a rank file says where words are cut") {
  const reft::test::TemporaryFolder folder;
  const char* const ranks = "YQ== 0\nYg== 1\nQQ== 2\nYkE= 3\n";  // a, b, A, bA
  write_text(folder / "o200k_base.tiktoken", ranks);
  REQUIRE(encoded(folder.path(), "abA") == Ids{0, 1, 2});  // before a capital
  write_text(folder / "cl100k_base.tiktoken", ranks);
  REQUIRE(encoded(folder.path(), "abA") == Ids{0, 3});
  write_text(folder / "cl100k_base.tiktoken", "no ranks");
  REQUIRE(reft::test::error_text([&] { TokenizerFolder(folder.path()).read(); }) ==
          "[reft::load_tokenizer] " + (folder / "cl100k_base.tiktoken").string() +
              ": expected ranks, a token in base64 and its rank in each line");
}

TEST_CASE("the files that make up a tokenizer") {
  const reft::test::TemporaryFolder folder;
  write_text(folder / "config.json", "{}");
  write_text(folder / "tokenizer_config.json", "{}");
  REQUIRE(reft::find_tokenizer_files(folder.path()).empty());
  write_text(folder / "tokenizer.model", "");
  write_text(folder / "added_tokens.json", "{}");
  REQUIRE(reft::find_tokenizer_files(folder.path()) ==
          std::vector<std::filesystem::path>{folder / "tokenizer.model", folder / "tokenizer_config.json", folder / "added_tokens.json"});
  REQUIRE(reft::find_tokenizer_files(folder / "nowhere").empty());
}
