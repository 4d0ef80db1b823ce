#include "reft/tokenizer/token_trie.hpp"

#include "support/catch.hpp"

using reft::detail::TokenTrie;
using Found = std::vector<std::pair<std::size_t, int32_t>>;

namespace {

Found prefixes(const TokenTrie& trie, std::string_view text, TokenTrie::Node from = TokenTrie::kRoot) {
  Found found;
  trie.for_each_prefix(text, [&](std::size_t length, int32_t id) { found.emplace_back(length, id); }, from);
  return found;
}

}  // namespace

TEST_CASE("a trie finds every token a text begins with") {
  const TokenTrie trie({{"ab", 3}, {"a", 1}, {"abcd", 4}, {"\xFF", 5}, {"b", 2}, {"", 9}});
  REQUIRE(prefixes(trie, "abcx") == Found{{1, 1}, {2, 3}});
  REQUIRE(prefixes(trie, "abcd") == Found{{1, 1}, {2, 3}, {4, 4}});
  REQUIRE(prefixes(trie, "\xFF\xFF") == Found{{1, 5}});
  REQUIRE(prefixes(trie, "x").empty());
  REQUIRE(prefixes(trie, "").empty());
  REQUIRE(prefixes(trie, "cd", trie.descend("ab")) == Found{{2, 4}});
  REQUIRE(trie.descend("ax") == TokenTrie::kNone);
  REQUIRE(trie.descend("") == TokenTrie::kRoot);
}

TEST_CASE("a trie of nothing") {
  const TokenTrie trie({});
  REQUIRE(prefixes(trie, "a").empty());
  REQUIRE(trie.descend("a") == TokenTrie::kNone);
}

TEST_CASE("a trie of a vocabulary") {
  reft::detail::Vocabulary vocabulary;
  vocabulary.add("é", 7, "v");
  REQUIRE(prefixes(make_token_trie(vocabulary), "éa") == Found{{2, 7}});
}
