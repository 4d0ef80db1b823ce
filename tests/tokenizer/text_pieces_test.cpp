#include "reft/tokenizer/text_pieces.hpp"

#include "support/catch.hpp"

using namespace reft::detail;
using Strings = std::vector<std::string>;

namespace {

Strings split(std::string text, SplitBehavior behavior) {
  TextPieces pieces(std::move(text), true);
  pieces.split([](std::string_view part) { return find_spans(part, Regex("-")); }, behavior);
  Strings parts;
  for (const auto& piece : pieces.pieces) parts.emplace_back(pieces.view(piece));
  return parts;
}

}  // namespace

TEST_CASE("a match is a piece of its own, nothing, or a part of a neighbour") {
  // The example of the documentation of `tokenizers`.
  const std::string text = "the-final--countdown";
  REQUIRE(split(text, SplitBehavior::isolated) == Strings{"the", "-", "final", "-", "-", "countdown"});
  REQUIRE(split(text, SplitBehavior::removed) == Strings{"the", "final", "countdown"});
  REQUIRE(split(text, SplitBehavior::merged_with_previous) == Strings{"the-", "final-", "-", "countdown"});
  REQUIRE(split(text, SplitBehavior::merged_with_next) == Strings{"the", "-final", "-", "-countdown"});
  REQUIRE(split(text, SplitBehavior::contiguous) == Strings{"the", "-", "final", "--", "countdown"});
  REQUIRE(split("", SplitBehavior::isolated).empty());
}

TEST_CASE("only the first piece starts the text, also after a rewrite") {
  TextPieces pieces("a-b", true);
  pieces.split([](std::string_view part) { return find_spans(part, Regex("-")); }, SplitBehavior::removed);
  pieces.rewrite([](std::string_view part, const TextPieces::Piece& piece) {
    return (piece.starts_text ? "first " : "later ") + std::string(part);
  });
  REQUIRE(pieces.view(pieces.pieces[0]) == "first a");
  REQUIRE(pieces.view(pieces.pieces[1]) == "later b");
}
