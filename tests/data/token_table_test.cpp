#include "reft/data/token_table.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::Example;
using reft::RowStatus;
using reft::TokenTable;

TEST_CASE("a table gives back its rows, from memory and from its file") {
  const reft::test::TemporaryFolder folder;
  const std::vector<Example> rows{{{1, 5, 7}, {-100, -100, 7}, 2}, {{}, {}, 0}, {{9}, {9}, 1}};
  const std::vector<RowStatus> statuses{RowStatus::cut, RowStatus::unusable, RowStatus::whole};
  TokenTable table;
  for (std::size_t i = 0; i < rows.size(); ++i) table.add(rows[i], statuses[i]);
  table.save(folder / "t.safetensors", "key");
  const auto opened = TokenTable::open(folder / "t.safetensors", "key");
  REQUIRE(opened);
  for (const TokenTable* each : {static_cast<const TokenTable*>(&table), opened.get()}) {
    REQUIRE(each->size() == 3);
    for (int64_t i = 0; i < 3; ++i) {
      CHECK(each->get(i) == rows[static_cast<std::size_t>(i)]);
      CHECK(each->status(i) == statuses[static_cast<std::size_t>(i)]);
    }
  }
  CHECK(reft::test::contains(reft::test::error_text([&] { table.add({{int64_t{1} << 31}, {1}, 0}, RowStatus::whole); }),
                             "does not fit into 32 bits"));
}

TEST_CASE("a file that is missing, damaged or of another key is no table") {
  const reft::test::TemporaryFolder folder;
  const auto path = folder / "t.safetensors";
  CHECK(!TokenTable::open(path, "key"));
  TokenTable table;
  table.add({{1, 2}, {1, 2}, 1}, RowStatus::whole);
  table.save(path, "key");
  CHECK(TokenTable::open(path, "key"));
  CHECK(!TokenTable::open(path, "other"));
  std::string bytes = reft::test::read_text(path);
  bytes.back() ^= 1;
  reft::test::write_text(path, bytes);
  CHECK(!TokenTable::open(path, "key"));
  reft::test::write_text(path, "short");
  CHECK(!TokenTable::open(path, "key"));
}
