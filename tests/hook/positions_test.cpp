#include "reft/hook/positions.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/catch.hpp"

using reft::ConfigError;
using reft::PositionRule;
using reft::Positions;
using reft::Tie;
using Rows = std::vector<int64_t>;

namespace {

Rows resolve(std::string_view text, int64_t prompt_length, PositionRule rule = PositionRule::paper) {
  return Positions::parse(text).resolve(prompt_length, rule);
}

std::string error_of(std::string_view text) {
  try {
    Positions::parse(text);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::string> split_texts(std::string_view text, Tie tie) {
  std::vector<std::string> texts;
  for (const auto& part : Positions::parse(text).split(tie)) texts.push_back(part.text());
  return texts;
}

}  // namespace

TEST_CASE("a canonical text parses to itself") {
  for (std::string text : {"f5", "l5", "f5+l5", "l2+f2", "all", "3", "-1", "0:4", "-4:", "1:-1", "f5[2]", "l5[4]",
                           "0:4[3]", "-4:[0]", "-4:-2[1]", "f2+-3+l1", "0:2+5:7"}) {
    CAPTURE(text);
    REQUIRE(Positions::parse(text).text() == text);
    REQUIRE(Positions::parse(Positions::parse(text).text()) == Positions::parse(text));
  }
  REQUIRE(Positions::parse("-04:+f05").text() == "-4:+f5");
}

TEST_CASE("malformed positions are refused with the grammar") {
  for (std::string text : {"f7-l7",      "",
                           "+",          "f1+",
                           "+f1",        "f",
                           "f0",         "f-1",
                           "l0",         "F1",
                           "f1 ",        " f1",
                           "f1++l1",     "x",
                           "3.5",        "0x3",
                           "f1,l1",      "--1",
                           "1:2:3",      "a:b",
                           ":x",         "f5[5]",
                           "f5[-1]",     "f5[",
                           "f5]",        "[2]",
                           "all[0]",     "3[0]",
                           "1:-1[0]",    "2:[0]",
                           "f5[2][1]",   "f99999999999999999999",
                           "4294967296", "-9223372036854775808",
                           "f\xff",      "all all"}) {
    CAPTURE(text);
    REQUIRE(error_of(text) ==
            "[reft::parse_positions] \"" + text + "\": expected f<n>, l<n>, all, an index or a range, joined by '+'");
  }
  REQUIRE(error_of(std::string("f1\0", 3)) != "no error");
}

TEST_CASE("overlap that is certain from the text is refused") {
  REQUIRE(error_of("f3+0:2") == "[reft::parse_positions] \"f3+0:2\": f3 and 0:2 overlap; name each token once");
  for (auto text : {"all+f1", "f1+all", "3+3", "f3+f5", "l1+-1", "l3+-2:", "2:+l1", "f5[2]+2", "1:-1+7", "0:4+3:5",
                    "f5[2]+f5", "all+all"}) {
    CAPTURE(text);
    REQUIRE(error_of(text).find("overlap; name each token once") != std::string::npos);
  }
  for (auto text : {"f3+l3", "l3+f3", "f3+3", "0:4+4:6", "f5[2]+f5[3]", "0:-1+-1", "0:-3+l3", "3+-3"}) {
    CAPTURE(text);
    REQUIRE(error_of(text) == "no error");
  }
  REQUIRE(error_of("4:4") == "[reft::parse_positions] \"4:4\": 4:4 is empty");
  REQUIRE(error_of("4:2") == "[reft::parse_positions] \"4:2\": 4:2 is empty");
  REQUIRE(error_of("-1:3") == "[reft::parse_positions] \"-1:3\": -1:3 is empty");
}

TEST_CASE("terms resolve to ascending prompt indices, term by term") {
  REQUIRE(resolve("f2+l3", 10) == Rows{0, 1, 7, 8, 9});
  REQUIRE(resolve("l2+f2", 10) == Rows{8, 9, 0, 1});
  REQUIRE(resolve("all", 4) == Rows{0, 1, 2, 3});
  REQUIRE(resolve("3+-1", 10) == Rows{3, 9});
  REQUIRE(resolve("0:4", 10) == Rows{0, 1, 2, 3});
  REQUIRE(resolve("-4:-1", 10) == Rows{6, 7, 8});
  REQUIRE(resolve("-2:", 10) == Rows{8, 9});
  REQUIRE(resolve("1:-1", 4) == Rows{1, 2});
  REQUIRE(resolve("1:-1", 1).empty());
  REQUIRE(resolve("all", 0).empty());
  REQUIRE_THROWS_WITH(resolve("all", -1), "[reft::resolve_positions] expected a prompt length, got -1");
}

TEST_CASE("short prompts follow the rule") {
  for (int64_t n = 0; n <= 20; ++n) {
    for (int64_t count : {1, 2, 5, 50}) {
      const auto prefix = resolve(fmt::format("f{}", count), n);
      const auto suffix = resolve(fmt::format("l{}", count), n);
      CAPTURE(n, count);
      REQUIRE(static_cast<int64_t>(prefix.size()) == std::min(count, n / 2));
      REQUIRE(static_cast<int64_t>(suffix.size()) == std::min(count, (n + 1) / 2));
      REQUIRE(static_cast<int64_t>(resolve(fmt::format("l{}", count), n, PositionRule::pyreft).size()) ==
              std::min(count, n / 2));
      const auto both = resolve(fmt::format("f{0}+l{0}", count), n);
      REQUIRE(both.size() == prefix.size() + suffix.size());
    }
  }
  REQUIRE(resolve("f5+l5", 5) == Rows{0, 1, 2, 3, 4});
  REQUIRE(resolve("l1", 1) == Rows{0});
  REQUIRE(resolve("l1", 1, PositionRule::pyreft).empty());
}

namespace {

// What make_pyreft_positions.py wrote.
nlohmann::json pyreft_positions(const char* part) {
  std::ifstream file(REFT_SOURCE_DIR "/tests/golden/pyreft_positions.json");
  return nlohmann::json::parse(file).at(part);
}

// The rows of pyreft's two interventions, without its sinks.
std::vector<Rows> without_sinks(const nlohmann::json& golden) {
  const int64_t length = golden.at("prompt_length");
  auto rows = golden.at("rows").get<std::vector<Rows>>();
  for (Rows& one : rows) std::erase_if(one, [&](int64_t position) { return position < 0 || position >= length; });
  return rows;
}

}  // namespace

TEST_CASE("the rule of pyreft edits the rows of its get_intervention_locations") {
  for (const nlohmann::json& golden : pyreft_positions("locations")) {
    CAPTURE(golden.dump());
    const auto whole = Positions::parse(golden.at("positions").get<std::string>());
    auto parts = whole.split(golden.at("share_weights") ? Tie::all : Tie::group);
    if (parts.size() == 1) parts = {whole, whole};  // both of pyreft's interventions get all rows, each on its own
    for (int i = 0; i < 2; ++i) REQUIRE(parts[i].resolve(golden.at("prompt_length"), PositionRule::pyreft) == without_sinks(golden)[i]);
  }
}

TEST_CASE("the two rules of pyreft edit the rows of its data sets") {
  for (const nlohmann::json& golden : pyreft_positions("data_sets")) {
    CAPTURE(golden.dump());
    const auto name = golden.at("data_set").get<std::string>();
    const bool shifted = name == "ReftSupervisedDataset" || name == "ReftGenerationDataset" || name == "ReftClassificationDataset";
    const auto parts = Positions::parse(golden.at("positions").get<std::string>()).split(Tie::group);
    const auto rule = shifted ? PositionRule::pyreft_shifted : PositionRule::pyreft;
    REQUIRE(resolve_disjoint(parts, golden.at("prompt_length"), {rule, rule}) == without_sinks(golden));
  }
}

TEST_CASE("indices outside the prompt are dropped and counted") {
  int64_t dropped = 0;
  REQUIRE(Positions::parse("0:4+7+-9").resolve(2, PositionRule::paper, &dropped) == Rows{0, 1});
  REQUIRE(dropped == 4);
  dropped = 0;
  REQUIRE(Positions::parse("f5+l5").resolve(2, PositionRule::paper, &dropped) == Rows{0, 1});
  REQUIRE(dropped == 0);
  REQUIRE(Positions::parse("9:").resolve(2, PositionRule::paper, &dropped).empty());
  REQUIRE(dropped == 0);
  REQUIRE(Positions::parse("0:2000000000").resolve(3, PositionRule::paper, &dropped) == Rows{0, 1, 2});
  REQUIRE(dropped == 1999999997);
}

TEST_CASE("an index two terms share on a short prompt stays with the first") {
  REQUIRE(resolve("f4+-3", 4) == Rows{0, 1});
  REQUIRE(resolve("-3+f4", 4) == Rows{1, 0});
  const auto parts = Positions::parse("f4+-3+5").split(Tie::group);
  const std::vector<PositionRule> rules(parts.size(), PositionRule::paper);
  REQUIRE(resolve_disjoint(parts, 4, rules) == std::vector<Rows>{{0, 1}, {}, {}});
  REQUIRE(resolve_disjoint(parts, 9, rules) == std::vector<Rows>{{0, 1, 2, 3}, {6}, {5}});
  REQUIRE(resolve_disjoint(Positions::parse("f5+l5").split(Tie::group), 3, {PositionRule::paper, PositionRule::pyreft}) ==
          std::vector<Rows>{{0}, {2}});
}

TEST_CASE("splitting by tie keeps texts that parse back") {
  REQUIRE(split_texts("f2+l2", Tie::all) == std::vector<std::string>{"f2+l2"});
  REQUIRE(split_texts("f2+l2", Tie::group) == std::vector<std::string>{"f2", "l2"});
  REQUIRE(split_texts("f2+l2", Tie::position) == std::vector<std::string>{"f2[0]", "f2[1]", "l2[0]", "l2[1]"});
  REQUIRE(split_texts("3+-2:+f2[1]", Tie::position) == std::vector<std::string>{"3", "-2:[0]", "-2:[1]", "f2[1]"});
  REQUIRE_THROWS_WITH(Positions::parse("all").split(Tie::position),
                      "[reft::split_positions] \"all\": all has as many as the prompt positions, so it cannot be "
                      "tied by position; use group");
  REQUIRE_THROWS_AS(Positions::parse("1:-1").split(Tie::position), ConfigError);
  REQUIRE_THROWS_AS(Positions::parse("f2000000000").split(Tie::position), ConfigError);
}

TEST_CASE("the members of a split are the whole, at every prompt length") {
  for (auto text : {"f5+l5", "l3+f2", "0:4+-3", "-4:+f3", "-5:-2+1+l1", "f3[1]+l4"}) {
    const auto whole = Positions::parse(text);
    for (auto rule : {PositionRule::paper, PositionRule::pyreft, PositionRule::pyreft_shifted}) {
      for (int64_t n = 0; n <= 16; ++n) {
        int64_t dropped_whole = 0, dropped_members = 0;
        const auto expected = whole.resolve(n, rule, &dropped_whole);
        for (auto tie : {Tie::group, Tie::position}) {
          Rows joined;
          dropped_members = 0;
          const auto members = whole.split(tie);
          for (const auto& rows : resolve_disjoint(members, n, std::vector<PositionRule>(members.size(), rule), &dropped_members)) {
            if (tie == Tie::position) REQUIRE(rows.size() <= 1);
            joined.insert(joined.end(), rows.begin(), rows.end());
          }
          CAPTURE(text, n);
          REQUIRE(joined == expected);
          REQUIRE(dropped_members == dropped_whole);
        }
      }
    }
  }
}

TEST_CASE("prefix members survive from the front, suffix members from the back") {
  REQUIRE(resolve("f5[1]", 4) == Rows{1});
  REQUIRE(resolve("f5[2]", 4).empty());
  REQUIRE(resolve("l5[4]", 4) == Rows{3});
  REQUIRE(resolve("l5[3]", 4) == Rows{2});
  REQUIRE(resolve("l5[2]", 4).empty());
  REQUIRE(resolve("l5[0]", 20) == Rows{15});
}

TEST_CASE("decoded tokens are last positions") {
  for (auto text : {"all", "l1", "l5", "f3+l2", "l5[4]"}) REQUIRE(Positions::parse(text).acts_on_decoded_tokens());
  for (auto text : {"f1", "-1", "3", "0:4", "-4:", "l5[3]", "f2+-1"}) {
    REQUIRE_FALSE(Positions::parse(text).acts_on_decoded_tokens());
  }
}

TEST_CASE("rules and ties by name") {
  for (auto tie : {Tie::all, Tie::group, Tie::position}) REQUIRE(reft::parse_tie(to_string(tie)) == tie);
  for (auto rule : {PositionRule::paper, PositionRule::pyreft, PositionRule::pyreft_shifted}) {
    REQUIRE(reft::parse_position_rule(to_string(rule)) == rule);
  }
  REQUIRE_THROWS_WITH(reft::parse_tie("none"), "[reft::parse_tie] \"none\": expected all, group or position");
  REQUIRE_THROWS_WITH(reft::parse_position_rule(""), "[reft::parse_position_rule] \"\": expected paper, pyreft or pyreft_shifted");
}
