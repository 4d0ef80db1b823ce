#include "reft/data/tokenize_chat.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

namespace {

constexpr int64_t kNone = reft::kIgnoredLabel;
using Turns = std::vector<std::pair<std::size_t, std::size_t>>;

std::vector<int64_t> bytes(std::string_view text) { return {text.begin(), text.end()}; }

}  // namespace

TEST_CASE("the assistant's turns are learned, and positions end before the first") {
  const auto example = reft::tokenize_chat("uAB;vC;", Turns{{1, 4}, {5, 7}}, bytes);
  CHECK(example == reft::Example{{'u', 'A', 'B', ';', 'v', 'C', ';'}, {kNone, 'A', 'B', ';', kNone, 'C', ';'}, 1});
}

TEST_CASE("a turn whose tokens merge with what stands before begins behind that") {
  const auto pairs = [](std::string_view text) {
    std::vector<int64_t> ids;
    for (std::size_t i = 0; i < text.size(); i += 2) ids.push_back(text[i]);
    return ids;
  };
  const auto example = reft::tokenize_chat("uvwABC", Turns{{3, 6}}, pairs);
  CHECK(example == reft::Example{{'u', 'w', 'B'}, {kNone, kNone, 'B'}, 2});
}

TEST_CASE("chats from which nothing can be learned, or with turns outside them, are refused") {
  CHECK(reft::test::error_text([] { reft::tokenize_chat("u", Turns{}, bytes); }) ==
        "[reft::tokenize_chat] the assistant says nothing, so there is nothing to learn");
  CHECK(reft::test::error_text([] { reft::tokenize_chat("u", Turns{{0, 9}}, bytes); }) ==
        "[reft::tokenize_chat] a turn ends at byte 9 of 1");
}
