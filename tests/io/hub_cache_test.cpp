#include "reft/io/hub_cache.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::find_model;
using reft::test::error_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

TEST_CASE("a model is found by path, by its folder in the cache and by its id") {
  const TemporaryFolder folder;
  const auto cache = folder / "hub", model = cache / "models--Owner--tiny-1.5";
  for (const char* commit : {"aaaa", "bbbb"}) std::filesystem::create_directories(model / "snapshots" / commit);
  std::filesystem::create_directories(model / "refs");
  write_text(model / "refs" / "main", "bbbb");
  CHECK(find_model("Owner/tiny-1.5", cache) == model / "snapshots" / "bbbb");
  CHECK(find_model(model.string(), cache) == model / "snapshots" / "bbbb");
  CHECK(find_model((model / "snapshots" / "aaaa").string(), cache) == model / "snapshots" / "aaaa");
  std::filesystem::create_directories(cache / "models--gpt2" / "snapshots" / "cccc");
  CHECK(find_model("gpt2", cache) == cache / "models--gpt2" / "snapshots" / "cccc");
  CHECK(find_model("/no/such/place", cache) == "/no/such/place");
  CHECK(find_model("./Owner/tiny-1.5", cache) == "./Owner/tiny-1.5");
}

TEST_CASE("an id that is not in the cache comes with the command that downloads it") {
  const TemporaryFolder folder;
  const std::string cache = folder.path().string();
  CHECK(error_text([&] { find_model("Owner/none", folder.path()); }) ==
        fmt::format("[reft::find_model] Owner/none: no such file or folder, and no such model in {}; to download it: hf download Owner/none", cache));
  // Two snapshots, and none of them the one that was asked for: it was not downloaded whole.
  for (const char* commit : {"aaaa", "bbbb"}) std::filesystem::create_directories(folder / "models--Owner--two" / "snapshots" / commit);
  std::filesystem::create_directories(folder / "models--Owner--two" / "refs");
  write_text(folder / "models--Owner--two" / "refs" / "main", "../../escape");
  CHECK(reft::test::contains(error_text([&] { find_model("Owner/two", folder.path()); }), "hf download Owner/two"));
}
