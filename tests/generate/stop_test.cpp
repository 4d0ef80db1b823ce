#include "reft/generate/stop.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/piece_tokenizer.hpp"

namespace {

const reft::Tokenizer kWords = reft::test::piece_tokenizer({"Hel", "lo", "\n", "Us", "er:", " x", "\xF0\x9F", "\xA6", "\x99", "END"});

/// What is handed out for each token, then at the end, joined by '|'.
std::string pieces(const std::vector<int64_t>& tokens, std::vector<std::string> stops) {
  reft::StoppingText text(kWords, std::move(stops));
  std::string told, whole;
  for (const int64_t token : tokens) {
    const std::string fresh = text.add(token);
    whole += fresh;
    told += fresh + "|";
    if (text.stopped()) break;
  }
  const std::string rest = text.finish();
  CHECK(text.text() == whole + rest);
  return told + rest;
}

}  // namespace

TEST_CASE("text is cut before the first stop string, also inside a token") {
  CHECK(pieces({0, 1, 5, 0}, {"lo"}) == "He|l|");  // an "l" is kept back at first
  CHECK(pieces({0, 1, 5}, {"x", "Hello"}) == "||");
  CHECK(pieces({0, 1, 5}, {"o x", "o"}) == "Hel|l|");
  CHECK(pieces({0, 1}, {}) == "Hel|lo|");
}

TEST_CASE("what may become a stop string is kept back, and handed out if it does not") {
  CHECK(pieces({0, 1, 2, 3, 4}, {"\nUser:"}) == "Hel|lo||||");
  CHECK(pieces({0, 1, 2, 3, 5}, {"\nUser:"}) == "Hel|lo|||\nUs x|");
  CHECK(pieces({0, 1, 2, 3}, {"\nUser:"}) == "Hel|lo|||\nUs");
  CHECK(pieces({2, 2, 3, 4, 0}, {"\nUser:"}) == "|\n|||");  // its beginning comes twice
}

TEST_CASE("text never ends within a character") {
  CHECK(pieces({0, 6, 7, 8, 1}, {}) == "Hel|||\xF0\x9F\xA6\x99|lo|");
  CHECK(pieces({6, 7, 8, 9}, {"\xF0\x9F\xA6\x99"}) == "|||");
  CHECK(pieces({0, 6}, {}) == "Hel||\xEF\xBF\xBD");  // a character that never comes
}

TEST_CASE("tokens within the cut are those whose whole text is there") {
  const auto within = [](const std::vector<int64_t>& tokens, std::string stop) {
    reft::StoppingText text(kWords, {std::move(stop)});
    for (const int64_t token : tokens) text.add(token);
    text.finish();
    return text.tokens_within(tokens);
  };
  CHECK(within({0, 1, 5}, " x") == 2);
  CHECK(within({0, 1, 5}, "o") == 1);
  CHECK(within({0, 1, 5}, "Hel") == 0);
  CHECK(within({0, 1, 5}, "y") == 3);
  CHECK(reft::test::error_text([] { reft::StoppingText(kWords, {"a", ""}); }) == "[reft::StoppingText] expected stop strings that are not empty");
}
