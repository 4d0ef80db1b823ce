// Ids and texts against Hugging Face's `tokenizers` (golden/tokenizer.json) and llama.cpp's test vectors.
#include <sstream>

#include "reft/tokenizer/tokenizer.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"

using reft::load_tokenizer;
using reft::Tokenizer;
using reft::TokenStream;
using Ids = std::vector<int64_t>;

namespace {

nlohmann::json golden() {
  return nlohmann::json::parse(reft::test::read_text(REFT_SOURCE_DIR "/tests/golden/tokenizer.json"));
}

void require_golden(const std::string& name, const std::filesystem::path& folder, bool class_adds_bos = false) {
  const nlohmann::json file = golden();
  const Tokenizer tokenizer = load_tokenizer(folder);
  const auto& rows = file["rows"][name];
  REQUIRE(rows.size() == file["texts"].size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string text = file["texts"][i];
    CAPTURE(name, text);
    const auto& row = rows[i];
    const Ids ids = row["ids"];
    REQUIRE(tokenizer.encode(text, false) == ids);
    REQUIRE(std::ssize(tokenizer.encode(text)) ==
            std::ssize(ids) + row["with_special"].get<int64_t>() + class_adds_bos);
    REQUIRE(tokenizer.decode(ids, false) == row["decoded"].get<std::string>());
    REQUIRE(tokenizer.decode(ids) == row["skipping"].get<std::string>());
    TokenStream stream(tokenizer);
    std::string streamed;
    for (const int64_t id : ids) streamed += stream.add(id);
    REQUIRE(streamed + stream.flush() == row["skipping"].get<std::string>());
  }
}

/// Texts between separator lines, and one line of ids each.
void require_vectors(const Tokenizer& tokenizer, const std::string& name) {
  const auto inputs = reft::test::shared_path("assets/tokenizers/ggml_vocab/ggml-vocab-" + name + ".gguf.inp");
  const auto outputs = reft::test::shared_path("assets/tokenizers/ggml_vocab/ggml-vocab-" + name + ".gguf.out");
  if (!inputs || !outputs) return;
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string texts = reft::test::read_text(*inputs);
  std::istringstream lines(reft::test::read_text(*outputs));
  int count = 0;
  std::string line;
  for (std::size_t end; (end = texts.find(separator)) != std::string::npos && std::getline(lines, line); ++count) {
    const std::string text = texts.substr(0, end);
    texts.erase(0, end + separator.size());
    std::istringstream numbers(line);
    const Ids expected{std::istream_iterator<int64_t>(numbers), {}};
    CAPTURE(name, text);
    REQUIRE(tokenizer.encode(text, false) == expected);
  }
  REQUIRE(count == 46);
}

}  // namespace

TEST_CASE("the tiny model's tokenizer equals the reference") {
  require_golden("examples/tiny_model", REFT_SOURCE_DIR "/examples/tiny_model");
  const Tokenizer tokenizer = load_tokenizer(REFT_SOURCE_DIR "/examples/tiny_model");
  REQUIRE((tokenizer.bos_token_id() == 0 && tokenizer.eos_token_id() == 1));
  REQUIRE(tokenizer.encode("").front() == 0);
}

TEST_CASE("Phi 3 equals the reference and llama.cpp") {
  const auto folder = reft::test::shared_path("assets/tokenizers/phi3");
  if (!folder) return;
  // Its class adds the first token, which tokenizer.json alone does not.
  require_golden("tokenizers/phi3", *folder, true);
  const Tokenizer tokenizer = load_tokenizer(*folder);
  REQUIRE((tokenizer.bos_token_id() == 1 && tokenizer.eos_token_id() == 32000 && tokenizer.unk_token_id() == 0));
  require_vectors(tokenizer, "phi-3");
  require_vectors(tokenizer, "llama-spm");
}

TEST_CASE("Phi 2 equals the reference") {
  const auto folder = reft::test::shared_path("assets/tokenizers/phi2_gpt2style");
  if (folder) require_golden("tokenizers/phi2_gpt2style", *folder);
}

TEST_CASE("GPT-2, without the white-space tokens of Phi 2, equals llama.cpp") {
  const auto folder = reft::test::shared_path("assets/tokenizers/phi2_gpt2style");
  if (!folder) return;
  nlohmann::json file = nlohmann::json::parse(reft::test::read_text(*folder / "tokenizer.json"));
  file["added_tokens"].erase(file["added_tokens"].begin() + 1, file["added_tokens"].end());
  const reft::test::TemporaryFolder gpt2;
  reft::test::write_text(gpt2 / "tokenizer.json", file.dump());
  require_vectors(load_tokenizer(gpt2.path()), "gpt-2");
}

TEST_CASE("GPT-2's own files equal llama.cpp") {
  const auto folder = reft::test::shared_path("assets/tokenizers/gpt2");
  if (folder) require_vectors(load_tokenizer(*folder), "gpt-2");
}

TEST_CASE("Llama 3's ranks equal llama.cpp") {
  const auto folder = reft::test::shared_path("assets/tokenizers/llama3");
  if (folder) require_vectors(load_tokenizer(*folder), "llama-bpe");
}

TEST_CASE("a tokenizer whose merges cross word borders equals the reference") {
  const auto folder = reft::test::shared_path("assets/models/tinystories656k_hf");
  if (!folder) return;
  require_golden("models/tinystories656k_hf", *folder);
  const Tokenizer tokenizer = load_tokenizer(*folder);
  REQUIRE((tokenizer.bos_token_id() == 1 && tokenizer.eos_token_id() == 2 && tokenizer.pad_token_id() == 0));
}
