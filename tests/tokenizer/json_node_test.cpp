#include "reft/tokenizer/json_node.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::detail::JsonNode;
using reft::test::error_text;

TEST_CASE("every complaint names file and place") {
  const auto json =
      nlohmann::json::parse(R"({"a": {"b": [1, "x"]}, "n": null, "big": 99999999999, "minus": -1, "half": 0.5})");
  const JsonNode root(json, "dir/file.json");
  REQUIRE(root.at("a").at("b").elements()[1].string() == "x");
  REQUIRE_FALSE(root.has("n"));
  REQUIRE(root.string("missing", "default") == "default");
  REQUIRE(error_text([&] { root.at("n"); }) == "[reft::load_tokenizer] dir/file.json: \"n\" is missing");
  REQUIRE(error_text([&] { root.string("a"); }) ==
          "[reft::load_tokenizer] dir/file.json: a: expected a string, got object");
  REQUIRE(error_text([&] { root.at("a").at("b").elements()[0].boolean(); }) ==
          "[reft::load_tokenizer] dir/file.json: a.b[0]: expected true or false, got number");
  REQUIRE(error_text([&] { root.at("a").at("b").has("c"); }) ==
          "[reft::load_tokenizer] dir/file.json: a.b: expected an object, got array");
  REQUIRE(error_text([&] { root.at("a").elements(); }) ==
          "[reft::load_tokenizer] dir/file.json: a: expected an array, got object");
  REQUIRE(error_text([&] { root.at("big").number(); }) ==
          "[reft::load_tokenizer] dir/file.json: big: expected a whole number from 0 to 16777215, got 99999999999");
  for (const char* key : {"minus", "half", "a"}) REQUIRE(error_text([&] { root.at(key).number(); }) != "no error");
}
