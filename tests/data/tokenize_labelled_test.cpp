#include "reft/data/tokenize_labelled.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/piece_tokenizer.hpp"

namespace {

using reft::LabelledExample;

/// Letters, [CLS] = 100 before and [SEP] = 101 behind each text.
class BertLike : public reft::test::PieceTokenizer {
 public:
  BertLike() : PieceTokenizer({"a", "b", "c", "d", "e", "f"}) {}
  std::vector<int64_t> encode(std::string_view text, bool) const override {
    std::vector<int64_t> ids = PieceTokenizer::encode(text, false);
    ids.insert(ids.begin(), 100);
    ids.push_back(101);
    return ids;
  }
  reft::EncodedPair encode_pair(std::string_view first, std::string_view second, bool) const override {
    reft::EncodedPair pair{encode(first, true), {}};
    pair.type_ids.assign(pair.ids.size(), 0);
    for (const int64_t id : PieceTokenizer::encode(second, false)) pair.ids.push_back(id);
    pair.ids.push_back(101);
    pair.type_ids.resize(pair.ids.size(), 1);
    return pair;
  }
};

const reft::Tokenizer kBert{std::make_shared<BertLike>()};

}  // namespace

TEST_CASE("labelled text becomes whole sequences with a class each") {
  const auto tokens = reft::tokenize_labelled({{"ab", "", "no"}, {"c", "", "yes"}}, {"yes", "no"}, kBert, 8);
  REQUIRE(tokens.examples.size() == 2);
  const reft::Example& first = tokens.examples[0];
  CHECK(first.input_ids == std::vector<int64_t>{100, 0, 1, 101});
  CHECK(first.labels == std::vector<int64_t>(4, reft::kIgnoredLabel));
  CHECK(first.prompt_length == 4);
  CHECK(first.sequence_label == 1.0);
  CHECK(first.token_types.empty());
  CHECK(tokens.examples[1].sequence_label == 0.0);
  CHECK(tokens.num_cut == 0);
}

TEST_CASE("two texts are joined with their segments, and numbers are kept for regression") {
  const auto tokens = reft::tokenize_labelled({{"a", "bc", "-2.5"}}, {}, kBert, 8);
  CHECK(tokens.examples[0].input_ids == std::vector<int64_t>{100, 0, 101, 1, 2, 101});
  CHECK(tokens.examples[0].token_types == std::vector<int64_t>{0, 0, 0, 1, 1, 1});
  CHECK(tokens.examples[0].sequence_label == -2.5);
}

TEST_CASE("a long text loses its end, but not the token that closes it") {
  const auto tokens = reft::tokenize_labelled({{"abcdef", "", "x"}, {"a", "bcdef", "x"}}, {"x", "y"}, kBert, 5);
  CHECK(tokens.num_cut == 2);
  CHECK(tokens.examples[0].input_ids == std::vector<int64_t>{100, 0, 1, 2, 101});
  CHECK(tokens.examples[0].prompt_length == 5);
  CHECK(tokens.examples[1].token_types == std::vector<int64_t>{0, 0, 0, 1, 1});
  // Without closing tokens it is only cut.
  const auto letters = reft::tokenize_labelled({{"acegik", "", "x"}}, {"x", "y"}, reft::test::letter_tokenizer(), 3);
  CHECK(letters.examples[0].input_ids == std::vector<int64_t>{0, 2, 4});
}

TEST_CASE("labels that mean nothing are refused") {
  const auto refusal = [](const LabelledExample& row, const std::vector<std::string>& classes) {
    return reft::test::error_text([&] { reft::tokenize_labelled({row}, classes, kBert, 8); });
  };
  CHECK(refusal({"a", "", "maybe"}, {"no", "yes"}) == "[reft::tokenize_labelled] expected the label to be one of [no, yes], got \"maybe\"");
  CHECK(refusal({"a", "", "high"}, {}) == "[reft::tokenize_labelled] expected the label to be a number, got \"high\"");
  for (const char* text : {"", "1x", "nan", "inf", " 1"}) CHECK(!reft::label_value(text));
  CHECK(reft::label_value("3.25e1") == 32.5);
  CHECK(reft::test::error_text([] { reft::tokenize_labelled({{"", "", "x"}}, {"x", "y"}, reft::test::letter_tokenizer(), 8); }) ==
        "[reft::tokenize_labelled] row 1: the text has no tokens");
  CHECK(reft::test::error_text([] { reft::tokenize_labelled({}, {}, kBert, 0); }) == "[reft::tokenize_labelled] expected max_length of at least 1, got 0");
}
