#include "reft/tokenizer/tokenizer.hpp"

#include <thread>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using namespace reft;
using Ids = std::vector<int64_t>;
using test::error_text;

namespace {

/// Every byte is a token; é and 🦙 take several. Id 256 starts every text.
nlohmann::json byte_tokenizer() {
  nlohmann::json vocabulary;
  for (int byte = 0; byte < 256; ++byte)
    vocabulary[detail::byte_level_alphabet().characters[static_cast<std::size_t>(byte)]] = byte;
  return {{"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}}},
          {"added_tokens", {{{"id", 256}, {"content", "<s>"}, {"special", true}}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}}};
}

/// <unk>, ▁, a, the bytes of é, and ▁a.
nlohmann::json llama_tokenizer() {
  return nlohmann::json::parse(R"({"model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
      "vocab": {"<unk>": 0, "▁": 1, "a": 2, "<0xC3>": 3, "<0xA9>": 4, "▁a": 5}, "merges": ["▁ a"]},
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})");
}

struct Folder : test::TemporaryFolder {
  explicit Folder(const nlohmann::json& tokenizer) { write("tokenizer.json", tokenizer.dump()); }
  void write(const char* name, std::string_view content) { test::write_text(*this / name, content); }
  Tokenizer load() const { return load_tokenizer(path()); }
};

std::string streamed(const Tokenizer& tokenizer, const Ids& ids) {
  TokenStream stream(tokenizer);
  std::string text;
  for (const int64_t id : ids) {
    const std::string fresh = stream.add(id);
    REQUIRE(detail::is_valid_utf8(fresh));
    text += fresh;
  }
  return text + stream.flush();
}

}  // namespace

TEST_CASE("a folder with a tokenizer.json alone") {
  const Tokenizer tokenizer = Folder(byte_tokenizer()).load();
  REQUIRE(tokenizer.encode("hé<s>") == Ids{'h', 0xC3, 0xA9, 256});
  REQUIRE(tokenizer.decode(Ids{'h', 0xC3, 0xA9, 256}) == "hé");
  REQUIRE(tokenizer.decode(Ids{256, 'h'}, false) == "<s>h");
  REQUIRE(tokenizer.vocabulary_size() == 257);
  REQUIRE(tokenizer.id_of("<s>") == 256);
  REQUIRE_FALSE(tokenizer.id_of("hello"));
  REQUIRE(tokenizer.token_of(256) == "<s>");
  REQUIRE_FALSE((tokenizer.token_of(257) || tokenizer.token_of(-1)));
  REQUIRE_FALSE(
      (tokenizer.bos_token_id() || tokenizer.eos_token_id() || tokenizer.pad_token_id() || tokenizer.unk_token_id()));
}

TEST_CASE("two texts as one row") {
  nlohmann::json file = byte_tokenizer();
  file["post_processor"] = {{"type", "RobertaProcessing"}, {"cls", {"<s>", 256}}, {"sep", {"c", 'c'}}};
  const Tokenizer tokenizer = Folder(file).load();
  REQUIRE(tokenizer.encode_pair("a", "bb").ids == Ids{256, 'a', 'c', 'c', 'b', 'b', 'c'});
  REQUIRE(tokenizer.encode_pair("a", "bb").type_ids == Ids{0, 0, 0, 0, 0, 0, 0});
  const EncodedPair plain = Folder(byte_tokenizer()).load().encode_pair("a", "bb");
  REQUIRE((plain.ids == Ids{'a', 'b', 'b'} && plain.type_ids == Ids{0, 1, 1}));
}

TEST_CASE("the files beside it name the special tokens") {
  Folder folder(byte_tokenizer());
  folder.write("config.json", R"({"eos_token_id": 10})");
  REQUIRE(folder.load().eos_token_id() == 10);
  folder.write(
      "tokenizer_config.json",
      R"({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "pad_token": {"content": "<s>"}})");
  const Tokenizer tokenizer = folder.load();
  REQUIRE((tokenizer.bos_token_id() == 256 && tokenizer.pad_token_id() == 256));
  REQUIRE(tokenizer.eos_token_id() == 257);  // new, so it takes the next id
  REQUIRE(tokenizer.encode("a") == Ids{256, 'a'});
  REQUIRE(tokenizer.encode("a", false) == Ids{'a'});
}

TEST_CASE("a handle is shared by copies and threads") {
  const Tokenizer tokenizer = Folder(byte_tokenizer()).load();
  const std::string text = "one two three two one";
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) threads.emplace_back([&result, &text, copy = tokenizer] { result = copy.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) REQUIRE(result == expected);
}

TEST_CASE("a tokenizer of one's own") {
  struct Letters : TokenizerInterface {
    Ids encode(std::string_view text, bool) const override { return {text.begin(), text.end()}; }
    std::string decode(std::span<const int64_t> ids, bool) const override { return {ids.begin(), ids.end()}; }
    std::optional<int64_t> id_of(std::string_view token) const override {
      return token.size() == 1 ? std::optional<int64_t>(token[0]) : std::nullopt;
    }
    std::optional<std::string> token_of(int64_t id) const override { return std::string(1, static_cast<char>(id)); }
    int64_t vocabulary_size() const override { return 128; }
    SpecialTokenIds special_tokens() const override { return {.eos = '\n'}; }
  };
  const Tokenizer tokenizer(std::make_shared<Letters>());
  REQUIRE(streamed(tokenizer, tokenizer.encode("own")) == "own");
  REQUIRE(tokenizer.eos_token_id() == '\n');
  REQUIRE_FALSE(tokenizer.bos_token_id());
  REQUIRE(error_text([&] { tokenizer.encode_pair("a", "b"); }) ==
          "[reft::encode_pair] this tokenizer does not say how two texts are joined");
  REQUIRE(error_text([] { Tokenizer(nullptr); }) == "[reft::Tokenizer] expected an implementation, got a null pointer");
}

TEST_CASE("a stream hands out whole characters") {
  const Tokenizer tokenizer = Folder(byte_tokenizer()).load();
  TokenStream stream(tokenizer);
  REQUIRE(stream.add('a') == "a");
  for (const int64_t byte : {0xF0, 0x9F, 0xA6}) REQUIRE(stream.add(byte) == "");
  REQUIRE(stream.add(256) == "");  // a special token within a character changes nothing
  REQUIRE(stream.add(0x99) == "🦙");
  REQUIRE(stream.add(0xC3) == "");
  REQUIRE(stream.flush() == "\uFFFD");
  REQUIRE(stream.add('b') == "b");  // as new after flush
}

TEST_CASE("a stream gives what decoding at once gives") {
  const Tokenizer bytes = Folder(byte_tokenizer()).load(), llama = Folder(llama_tokenizer()).load();
  const std::string text = "  a é\n🦙 é a  \uFFFD";
  REQUIRE(streamed(bytes, bytes.encode(text)) == text);
  REQUIRE(llama.encode(" a é a") == Ids{1, 5, 1, 3, 4, 5});
  REQUIRE(streamed(llama, {1, 5, 1, 3, 4, 5}) == " a é a");
  REQUIRE(streamed(llama, {3, 2, 4, 5}) == "\uFFFDa\uFFFD a");
  // Bytes that never become a character are handed out in the end, and do not hold up what follows.
  TokenStream stream(bytes);
  std::string junk;
  for (int i = 0; i < 40; ++i) junk += stream.add(0x80);
  REQUIRE(junk.size() >= 3 * 16);
}

TEST_CASE("what is missing or no JSON is refused by its path") {
  const test::TemporaryFolder folder;
  const std::string path = folder.path().string();
  REQUIRE(error_text([&] { load_tokenizer(path); }) ==
          "[reft::load_tokenizer] " + path + ": expected a folder with a tokenizer.json (or vocab.json and merges.txt, vocab.txt, tokenizer.model, cl100k_base.tiktoken, o200k_base.tiktoken, qwen.tiktoken), got one without");
  REQUIRE(error_text([&] { load_tokenizer(path + "/x"); }) ==
          "[reft::load_tokenizer] " + path + "/x: expected a folder with a tokenizer.json (or vocab.json and merges.txt, vocab.txt, tokenizer.model, cl100k_base.tiktoken, o200k_base.tiktoken, qwen.tiktoken), got no such folder");
  test::write_text(folder / "file", "");
  REQUIRE(error_text([&] { load_tokenizer(path + "/file"); }) ==
          "[reft::load_tokenizer] " + path + "/file: expected a folder with a tokenizer.json (or vocab.json and merges.txt, vocab.txt, tokenizer.model, cl100k_base.tiktoken, o200k_base.tiktoken, qwen.tiktoken), got a file");
  for (const std::string& content : {std::string(), std::string("{"), std::string("{\"model\": \"\xFF\"}"),
                                     std::string(1 << 20, '['), std::string(R"("\ud800")")}) {
    test::write_text(folder / "tokenizer.json", content);
    REQUIRE(error_text([&] { load_tokenizer(path); }) ==
            "[reft::load_tokenizer] " + path + "/tokenizer.json: expected JSON, got something else or a part of it");
  }
  const std::string deep = std::string(1 << 20, '[') + std::string(1 << 20, ']');
  test::write_text(folder / "tokenizer.json", deep);
  REQUIRE(error_text([&] { load_tokenizer(path); }) ==
          "[reft::load_tokenizer] " + path + "/tokenizer.json: expected an object, got array");
  std::filesystem::remove(folder / "tokenizer.json");
  std::filesystem::create_directory(folder / "tokenizer.json");
  REQUIRE_THROWS_AS(load_tokenizer(path), TokenizerError);
}

TEST_CASE("a tokenizer.json cut off anywhere is refused, and one changed anywhere is refused or used") {
  const std::string whole = llama_tokenizer().dump();
  const test::TemporaryFolder folder;
  const auto is_refused = [&](const std::string& content) {
    test::write_text(folder / "tokenizer.json", content);
    try {
      load_tokenizer(folder.path()).encode("a é <unk>");
      return false;
    } catch (const TokenizerError&) {
      return true;
    }
  };
  REQUIRE_FALSE(is_refused(whole));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    INFO("cut to " << length);
    REQUIRE(is_refused(whole.substr(0, length)));
  }
  int refused = 0, changes = 0;
  for (const nlohmann::json& wrong : {nlohmann::json(), nlohmann::json(1e300), nlohmann::json(-1), nlohmann::json::array(),
                                      nlohmann::json::object(), nlohmann::json("")}) {
    const nlohmann::json flat = llama_tokenizer().flatten();
    for (const auto& [place, value] : flat.items()) {
      INFO(place << " = " << wrong.dump());
      nlohmann::json changed = llama_tokenizer();
      changed[nlohmann::json::json_pointer(place)] = wrong;
      bool is_error = false;
      REQUIRE_NOTHROW(is_error = is_refused(changed.dump()));
      refused += is_error;
      ++changes;
    }
  }
  INFO(refused << " of " << changes << " changes refused");
  REQUIRE(2 * refused > changes);
}
