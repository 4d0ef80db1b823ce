#include "reft/tokenizer/bpe.hpp"

#include <random>

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;
using Ids = std::vector<int64_t>;

namespace {

std::shared_ptr<const Vocabulary> vocabulary_of(const std::vector<std::string>& tokens) {
  const auto vocabulary = std::make_shared<Vocabulary>();
  for (const auto& token : tokens) vocabulary->add(token, vocabulary->end_id(), "test");
  return vocabulary;
}

Ids encode(const Bpe& bpe, std::string_view word) {
  Ids ids;
  bpe.encode(word, ids);
  return ids;
}

}  // namespace

TEST_CASE("the lowest rank merges first, then the leftmost") {
  const auto vocabulary = vocabulary_of({"a", "b", "c", "ab", "bc", "aa", "abc"});
  const Bpe bpe(vocabulary, {{1, 2, 0, 4}, {0, 1, 1, 3}, {0, 0, 2, 5}, {3, 2, 3, 6}}, {});
  REQUIRE(encode(bpe, "abc") == Ids{0, 4});
  REQUIRE(encode(bpe, "abab") == Ids{3, 3});
  REQUIRE(encode(bpe, "aaa") == Ids{5, 0});
  REQUIRE(encode(bpe, "").empty());
  REQUIRE(encode(Bpe(vocabulary, {{0, 1, 0, 3}}, {.ignore_merges = true}), "abc") == Ids{6});
}

TEST_CASE("a pair that is listed twice counts by its last line") {
  const auto vocabulary = vocabulary_of({"a", "b", "c", "ab", "bc"});
  REQUIRE(encode(Bpe(vocabulary, {{0, 1, 0, 3}, {1, 2, 1, 4}, {0, 1, 2, 3}}, {}), "abc") == Ids{0, 4});
}

TEST_CASE("unknown characters: dropped, one token each, one for a run, or bytes") {
  const auto vocabulary = vocabulary_of({"<unk>", "a", "<0xC3>", "<0xA9>"});
  REQUIRE(encode(Bpe(vocabulary, {}, {}), "axya") == Ids{1, 1});
  REQUIRE(encode(Bpe(vocabulary, {}, {.unknown_token = "<unk>"}), "axya") == Ids{1, 0, 0, 1});
  REQUIRE(encode(Bpe(vocabulary, {}, {.unknown_token = "<unk>", .fuse_unknown = true}), "axya") == Ids{1, 0, 1});
  const Bpe with_bytes(vocabulary, {}, {.unknown_token = "<unk>", .byte_fallback = true});
  REQUIRE(encode(with_bytes, "é") == Ids{2, 3});
  REQUIRE(encode(with_bytes, "ü") == Ids{0});  // its second byte is no token
  REQUIRE(reft::test::error_text([&] { encode(Bpe(vocabulary, {}, {.unknown_token = "[UNK]"}), "x"); }) ==
          "[reft::encode] \"x\" is not in the vocabulary, nor is the unknown token \"[UNK]\"");
}

TEST_CASE("prefixes within a word and a suffix at its end") {
  const auto vocabulary = vocabulary_of({"a", "##a", "##a</w>", "a</w>"});
  const Bpe bpe(vocabulary, {}, {.continuing_subword_prefix = "##", .end_of_word_suffix = "</w>"});
  REQUIRE(encode(bpe, "aaa") == Ids{0, 1, 2});
  REQUIRE(encode(bpe, "a") == Ids{3});
}

TEST_CASE("equals merging by the definition, on random words and vocabularies") {
  std::mt19937 random(1);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> tokens{"a", "b", "c"};
    std::vector<BpeMerge> merges;
    while (tokens.size() < 40) {
      const std::size_t left = below(tokens.size()), right = below(tokens.size());
      const std::string merged = tokens[left] + tokens[right];
      if (std::find(tokens.begin(), tokens.end(), merged) != tokens.end()) continue;
      merges.push_back({static_cast<int32_t>(left), static_cast<int32_t>(right), static_cast<int32_t>(merges.size()),
                        static_cast<int32_t>(tokens.size())});
      tokens.push_back(merged);
    }
    const Bpe bpe(vocabulary_of(tokens), merges, {});
    std::string word;
    for (std::size_t i = 0, length = below(60); i < length; ++i) word += static_cast<char>('a' + below(3));
    Ids expected;
    for (const char c : word) expected.push_back(c - 'a');
    for (bool merged = true; merged;) {
      merged = false;
      for (const BpeMerge& m : merges) {
        const auto pair = std::adjacent_find(expected.begin(), expected.end(),
                                             [&](int64_t a, int64_t b) { return a == m.left && b == m.right; });
        if (pair == expected.end()) continue;
        *pair = m.merged;
        expected.erase(pair + 1);
        merged = true;
        break;
      }
    }
    REQUIRE(encode(bpe, word) == expected);
  }
}

TEST_CASE("a text that is one word costs little more than its length") {
  const Bpe bpe(vocabulary_of({"a", "aa", "aaaa"}), {{0, 0, 0, 1}, {1, 1, 1, 2}}, {});
  REQUIRE(encode(bpe, std::string(1 << 20, 'a')).size() == (1 << 18));
}

TEST_CASE("a long word is cut where no merge reaches across, which changes no id") {
  const auto vocabulary = vocabulary_of({"<unk>", "a", "b", "_", "ab", "_ab"});
  const std::vector<BpeMerge> merges = {{1, 2, 0, 4}, {3, 4, 1, 5}};
  const auto repeated = [](std::string_view text) {
    std::string word;
    for (int i = 0; i < 50; ++i) word += text;
    return word;
  };
  const auto expected = [](const Ids& ids) {
    Ids all;
    for (int i = 0; i < 50; ++i) all.insert(all.end(), ids.begin(), ids.end());
    return all;
  };
  REQUIRE(encode(Bpe(vocabulary, merges, {}), repeated("_abb_")) == expected({5, 2, 3}));
  // Unknown characters that go bring their neighbours together; those that stay are one token a run.
  REQUIRE(encode(Bpe(vocabulary, merges, {}), repeated("axbb")) == expected({4, 2}));
  const Bpe fusing(vocabulary, merges, {.unknown_token = "<unk>", .fuse_unknown = true});
  REQUIRE(encode(fusing, repeated("axyb")) == expected({1, 0, 2}));
}
