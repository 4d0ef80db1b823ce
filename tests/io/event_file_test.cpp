#include "reft/io/event_file.hpp"

#include <map>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace {

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

}  // namespace

// The bytes that tensorboard 2.21's own protocol buffers and RecordWriter give.
TEST_CASE("events and records are TensorBoard's own, byte for byte") {
  using namespace reft::detail;
  CHECK(hex(version_event(1.5)) == "09000000000000f83f1a0d627261696e2e4576656e743a32");
  CHECK(hex(session_start_event(1.5, 300)) == "09000000000000f83f10ac023a020801");
  CHECK(hex(scalars_event(1.5, 300, std::vector<std::pair<std::string, double>>{{"train/loss", 0.5}, {"b", -2.0}})) ==
        "09000000000000f83f10ac022a1d0a110a0a747261696e2f6c6f7373150000003f0a080a016215000000c0");
  CHECK(hex(tf_record(version_event(1.5))) ==
        "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c");
}

TEST_CASE("varints hold seven bits a byte") {
  const auto varint = [](uint64_t value) {
    std::string bytes;
    reft::detail::append_varint(bytes, value);
    return hex(bytes);
  };
  CHECK(varint(0) == "00");
  CHECK(varint(127) == "7f");
  CHECK(varint(128) == "8001");
  CHECK(varint(300) == "ac02");
  CHECK(varint(~uint64_t{0}) == "ffffffffffffffffff01");
}

TEST_CASE("every event file of a folder has a name of its own, later ones behind earlier ones") {
  const reft::test::TemporaryFolder folder;
  const auto logs = folder / "runs/first";
  CHECK(!reft::has_event_files(logs));
  std::vector<std::string> names;
  for (int i = 0; i < 3; ++i) {
    reft::EventFile file(logs);
    file.add_scalars(1, std::map<std::string, double>{{"train/loss", 0.5}});
    names.push_back(file.path().filename().string());
  }
  CHECK(std::is_sorted(names.begin(), names.end()));
  CHECK(reft::test::entry_count(logs) == 3);
  CHECK(reft::has_event_files(logs));
  CHECK(!reft::has_event_files(folder.path()));
}

TEST_CASE("an event file that cannot be written is an error") {
  const reft::test::TemporaryFolder folder;
  const auto file = reft::test::write_text(folder / "file", "x");
  CHECK(reft::test::contains(reft::test::error_text([&] { reft::EventFile events(file / "logs"); }), "cannot create the folder"));
}
