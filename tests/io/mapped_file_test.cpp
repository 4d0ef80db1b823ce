#include "reft/io/mapped_file.hpp"

#include <sys/stat.h>

#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using reft::CheckpointError;
using reft::MappedFile;
using reft::test::write_text;

TEST_CASE("a mapped file shows the bytes of the file") {
  const reft::test::TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto path = write_text(folder / "a", std::string("x\0y", 3));
  const auto file = MappedFile::open(path);
  REQUIRE(file->text() == std::string_view("x\0y", 3));
  REQUIRE(file->bytes().size() == 3);
  REQUIRE(file->path() == path);
  REQUIRE(MappedFile::open(write_text(folder / "empty", ""))->bytes().empty());
}

TEST_CASE("a mapping outlives the removal of its file") {
  const reft::test::TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto path = write_text(folder / "a", "content");
  const auto file = MappedFile::open(path);
  std::filesystem::remove(path);
  REQUIRE(file->text() == "content");
}

TEST_CASE("what cannot be mapped is refused") {
  const reft::test::TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto missing = folder / "missing";
  REQUIRE_THROWS_WITH(MappedFile::open(missing),
                      "[reft::open_file] " + missing.string() + ": No such file or directory");
  REQUIRE_THROWS_AS(MappedFile::open(missing), CheckpointError);
  REQUIRE_THROWS_WITH(MappedFile::open(folder),
                      "[reft::open_file] " + folder.string() + ": expected a file, got a folder");
  const auto pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  REQUIRE_THROWS_WITH(MappedFile::open(pipe),
                      "[reft::open_file] " + pipe.string() + ": expected a file, got a device or pipe");
}
