#include "reft/io/atomic_file.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::AtomicFolder;
using reft::ConfigError;
using reft::Error;
using reft::FileWriter;
using reft::write_file_atomically;
using reft::test::contains;
using reft::test::entry_count;
using reft::test::error_text;
using reft::test::read_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

/// Makes every write beyond that file size fail, as a full disk does.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    signal_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallFiles() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  rlimit before_{};
  void (*signal_)(int) = nullptr;
};

}  // namespace

TEST_CASE("a file is written and replaced as a whole") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto path = folder / "file";
  write_file_atomically(path, "old");
  write_file_atomically(path, [](FileWriter& writer) {
    writer.write("new ");
    writer.write(std::as_bytes(std::span(std::string_view("content"))));
  });
  REQUIRE(read_text(path) == "new content");
  REQUIRE(entry_count(folder) == 1);
  write_file_atomically(path, std::string(3'000'000, 'x'));
  REQUIRE(std::filesystem::file_size(path) == 3'000'000);
}

TEST_CASE("a written file is as readable as any other") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const mode_t mask = ::umask(022);
  write_file_atomically(folder / "file", "x");
  ::umask(mask);
  struct stat status{};
  REQUIRE(::stat((folder / "file").c_str(), &status) == 0);
  REQUIRE((status.st_mode & 0777) == 0644);
}

TEST_CASE("a failing writer leaves the old file and no other") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto path = write_text(folder / "file", "old");
  REQUIRE_THROWS_AS(write_file_atomically(path,
                                          [](FileWriter& writer) {
                                            writer.write("half");
                                            throw ConfigError("stop");
                                          }),
                    ConfigError);
  REQUIRE(read_text(path) == "old");
  REQUIRE(entry_count(folder) == 1);
}

TEST_CASE("a full disk leaves the old file and no other") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto path = write_text(folder / "file", "old");
  std::string message;
  {
    const SmallFiles limit(1000);
    try {
      write_file_atomically(path, std::string(5000, 'x'));
    } catch (const Error& error) {
      message = error.what();
    }
  }
  REQUIRE(message == "[reft::write_file_atomically] " + path.string() + ": cannot write: File too large");
  REQUIRE(read_text(path) == "old");
  REQUIRE(entry_count(folder) == 1);
}

TEST_CASE("places that cannot be written are refused with the reason") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto nowhere = folder / "missing/file";
  REQUIRE_THROWS_WITH(write_file_atomically(nowhere, "x"), "[reft::write_file_atomically] " + nowhere.string() +
                                                               ": cannot create: No such file or directory");
  const auto under_file = write_text(folder / "file", "") / "child";
  REQUIRE_THROWS_WITH(write_file_atomically(under_file, "x"),
                      "[reft::write_file_atomically] " + under_file.string() + ": cannot create: Not a directory");
  std::filesystem::create_directory(folder / "folder");
  REQUIRE_THROWS_WITH(
      write_file_atomically(folder / "folder", "x"),
      "[reft::write_file_atomically] " + (folder / "folder").string() + ": cannot replace: Is a directory");
  REQUIRE(entry_count(folder) == 2);
}

TEST_CASE("a folder appears when it is committed") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto target = folder / "made/on/the/way/";
  {
    AtomicFolder output(target);
    write_file_atomically(output.path() / "a", "1");
    REQUIRE_FALSE(std::filesystem::exists(target));
    output.commit();
  }
  REQUIRE(read_text(target / "a") == "1");
  REQUIRE(entry_count(folder) == 1);
}

TEST_CASE("a folder that is not committed leaves nothing") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  {
    AtomicFolder output(folder / "target");
    write_file_atomically(output.path() / "a", "1");
  }
  REQUIRE(entry_count(folder) == 0);
}

TEST_CASE("an empty folder is filled, a full one only with overwrite") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto target = folder / "target";
  std::filesystem::create_directory(target);
  {
    AtomicFolder output(target);
    write_file_atomically(output.path() / "a", "1");
    output.commit();
  }
  REQUIRE_THROWS_WITH(AtomicFolder(target),
                      "[reft::write_folder] " + target.string() +
                          ": the folder exists and is not empty; choose another, or overwrite it");
  REQUIRE_THROWS_AS(AtomicFolder(target), ConfigError);
  {
    AtomicFolder abandoned(target, /*overwrite=*/true);
    write_file_atomically(abandoned.path() / "b", "2");
  }
  REQUIRE(read_text(target / "a") == "1");
  {
    AtomicFolder output(target, /*overwrite=*/true);
    write_file_atomically(output.path() / "b", "2");
    REQUIRE(read_text(target / "a") == "1");
    output.commit();
  }
  REQUIRE(read_text(target / "b") == "2");
  REQUIRE_FALSE(std::filesystem::exists(target / "a"));
  REQUIRE(entry_count(folder) == 1);
}

TEST_CASE("a folder filled by another run meanwhile is kept") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto target = folder / "target";
  AtomicFolder output(target);
  std::filesystem::create_directory(target);
  write_file_atomically(target / "other", "1");
  REQUIRE_THROWS_AS(output.commit(), ConfigError);
  REQUIRE(read_text(target / "other") == "1");
}

TEST_CASE("a link to a folder is followed") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  std::filesystem::create_directory(folder / "real");
  write_text(folder / "real/a", "1");
  std::filesystem::create_directory_symlink(folder / "real", folder / "link");
  AtomicFolder output(folder / "link", /*overwrite=*/true);
  write_file_atomically(output.path() / "b", "2");
  output.commit();
  REQUIRE(std::filesystem::is_symlink(folder / "link"));
  REQUIRE(read_text(folder / "real/b") == "2");
}

TEST_CASE("what must not be replaced by a folder is refused") {
  const TemporaryFolder temporary;
  const auto folder = temporary.path();
  const auto file = write_text(folder / "file", "1");
  REQUIRE_THROWS_WITH(AtomicFolder(file, true),
                      "[reft::write_folder] " + file.string() + ": expected a folder, got a file");
  REQUIRE(contains(error_text([&] { AtomicFolder(file / "child"); }), "cannot create: Not a directory"));
  const auto here = std::filesystem::current_path();
  REQUIRE_THROWS_WITH(AtomicFolder(here, true), "[reft::write_folder] " + here.string() +
                                                    ": it holds the working folder, so it is not overwritten");
  REQUIRE(contains(error_text([&] { AtomicFolder("/", true); }), "it holds the working folder"));
  REQUIRE(entry_count(folder) == 1);
}
