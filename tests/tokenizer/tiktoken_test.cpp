#include "reft/tokenizer/tiktoken.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;
using Ids = std::vector<int64_t>;

namespace {

/// a, b, ab, é's bytes, é.
const char* const kRanks = "YQ== 0\nYg== 1\nYWI= 2\nww== 3\r\nqQ== 4\nw6k= 7\n\nYWFi 9\n";

}  // namespace

TEST_CASE("ranks are ids, and the order of merging") {
  Pipeline pipeline;
  read_rank_model(kRanks, "ranks", pipeline);
  const auto encoded = [&](std::string_view text) {
    Ids ids;
    pipeline.model(to_byte_level(text), ids);
    return ids;
  };
  REQUIRE(encoded("ab") == Ids{2});
  REQUIRE(encoded("aab") == Ids{9});
  REQUIRE(encoded("aaab") == Ids{0, 9});
  REQUIRE(encoded("baé") == Ids{1, 0, 7});
  REQUIRE(pipeline.vocabulary->end_id() == 10);
  REQUIRE(*pipeline.vocabulary->token(7) == "Ã©");
}

TEST_CASE("of overlapping pairs with one rank the left one merges") {
  // a + aa and aa + a are the same token; once aa stands in front, its neighbour comes to it.
  Pipeline pipeline;
  read_rank_model("YQ== 0\nYWE= 1\nYWFh 2\n", "ranks", pipeline);
  Ids ids;
  pipeline.model("aaaaa", ids);
  REQUIRE(ids == Ids{1, 2});  // as tiktoken 0.14
}

TEST_CASE("what is no rank file is refused by its line") {
  REQUIRE(is_rank_file(kRanks));
  for (const char* text : {"", "\n", "YQ==\n", "YQ== x\n", "?? 1\n", "\x0A\x0E\x0A\x05<unk>"}) REQUIRE_FALSE(is_rank_file(text));
  REQUIRE_FALSE(is_rank_file(std::string(10000, 'A') + " 1"));
  REQUIRE(reft::test::error_text([] { read_ranks("YQ== 0\nYg==\n", "t.tiktoken"); }) ==
          "[reft::load_tokenizer] t.tiktoken: line 2: expected a token in base64 and its rank");
  Pipeline pipeline;
  REQUIRE(reft::test::error_text([&] { read_rank_model("YQ== 0\nYg== 0\n", "t", pipeline); }) ==
          "[reft::load_tokenizer] t: id 0 is there twice, as \"a\" and \"b\"");
  REQUIRE_THROWS_AS(read_rank_model("YQ== -1\n", "t", pipeline), reft::TokenizerError);
}
