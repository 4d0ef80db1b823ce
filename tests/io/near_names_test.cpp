#include "reft/io/near_names.hpp"

#include <map>

#include "support/catch.hpp"

using reft::detail::did_you_mean;
using reft::detail::edit_distance;

TEST_CASE("edit distance counts inserted, removed and replaced characters") {
  REQUIRE(edit_distance("", "") == 0);
  REQUIRE(edit_distance("", "abc") == 3);
  REQUIRE(edit_distance("abc", "") == 3);
  REQUIRE(edit_distance("kitten", "sitting") == 3);
  REQUIRE(edit_distance("flaw", "lawn") == 2);
}

TEST_CASE("similar names are suggested, nearest first, at most three") {
  const std::map<std::string, int> names = {
      {"layers.0.weight", 0}, {"layers.1.weight", 0}, {"layers.2.weight", 0}, {"layers.3.weight", 0}, {"bias", 0}};
  REQUIRE(did_you_mean("layers.2.wight", names) ==
          "; did you mean layers.2.weight, layers.0.weight or layers.1.weight?");
  REQUIRE(did_you_mean("bais", names) == "");
  REQUIRE(did_you_mean("biases", names) == "; did you mean bias?");
  REQUIRE(did_you_mean("x", names) == "");
}
