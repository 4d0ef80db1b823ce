#include "reft/data/row_file.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::RowFile;
using reft::test::TemporaryFolder;
using reft::test::write_text;

TEST_CASE("the elements of a list are found whatever stands in their strings") {
  const TemporaryFolder folder;
  const auto rows =
      nlohmann::json::array({{{"a", "],[{\"\\"}, {"b", {1, {2, "}"}}}}, 7, "x,\\\"]", nullptr, {1, 2}, nlohmann::json::object()});
  for (const int indent : {-1, 0, 3}) {
    const RowFile file = RowFile::open_json(write_text(folder / "rows.json", " " + rows.dump(indent) + "\n"));
    REQUIRE(file.size() == std::ssize(rows));
    for (int64_t i = 0; i < file.size(); ++i) CHECK(nlohmann::json(file.json(i)) == rows[static_cast<std::size_t>(i)]);
    CHECK(file.place(5).number == 6);
    CHECK(file.place(5).unit == "row");
  }
}

TEST_CASE("lines know their numbers, blank ones counted") {
  const TemporaryFolder folder;
  const RowFile file = RowFile::open_lines(write_text(folder / "rows.tsv", "a\tb\r\n\n \t \n[c\n"));
  REQUIRE(file.size() == 2);
  CHECK(file.text(0) == "a\tb");
  CHECK(file.text(1) == "[c");
  CHECK(file.place(1).number == 4);
  CHECK(reft::test::contains(reft::test::error_text([&] { (void)file.json(1); }), "rows.tsv: line 4: not JSON: column "));
}

TEST_CASE("a row is read when it is asked for") {
  const TemporaryFolder folder;
  const RowFile file = RowFile::open_json(write_text(folder / "rows.jsonl", "{\"a\":1}\nbroken\n{\"a\":3}\n"));
  REQUIRE(file.size() == 3);
  CHECK(file.json(2)["a"] == 3);
  CHECK_THROWS_AS(file.json(1), reft::DataError);
}
