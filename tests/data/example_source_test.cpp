#include "reft/data/example_source.hpp"

#include "support/catch.hpp"

using reft::Example;

TEST_CASE("sources are selected from and laid end to end") {
  std::vector<Example> a, b;
  for (int64_t i = 0; i < 3; ++i) a.push_back({{i}, {i}, 0});
  for (int64_t i = 10; i < 12; ++i) b.push_back({{i}, {i}, 1});
  const auto list = std::make_shared<reft::ListedExamples>(a);
  const auto some = std::make_shared<reft::SelectedExamples>(list, std::vector<int64_t>{2, 0});
  const std::vector<Example> none;
  const reft::JoinedExamples joined({some, std::make_shared<reft::ListedExamples>(none), std::make_shared<reft::ListedExamples>(b)});
  REQUIRE(joined.size() == 4);
  std::vector<Example> found;
  for (int64_t i = 0; i < joined.size(); ++i) found.push_back(joined.get(i));
  CHECK(found == std::vector<Example>{a[2], a[0], b[0], b[1]});
  CHECK_THROWS(joined.get(4));
}
