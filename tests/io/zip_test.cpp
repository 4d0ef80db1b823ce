#include "reft/io/zip.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/string_sink.hpp"
#include "support/temporary_folder.hpp"

using reft::test::bytes_of;
using reft::test::contains;
using reft::test::error_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

using Contents = std::map<std::string, std::string>;

std::string zip_of(const Contents& contents) {
  std::vector<std::pair<std::string, std::span<const std::byte>>> entries;
  for (const auto& [name, data] : contents) entries.emplace_back(name, bytes_of(data));
  reft::test::StringSink sink;
  reft::write_zip(sink, entries);
  return sink.content;
}

class Archive {
 public:
  Contents read(const std::string& bytes) const {
    const auto file = reft::MappedFile::open(write_text(folder_ / "a.zip", bytes));
    Contents contents;
    for (const auto& [name, data] : reft::read_zip(*file)) {
      contents[name] = {reinterpret_cast<const char*>(data.data()), data.size()};
    }
    return contents;
  }
  std::string refusal(const std::string& bytes) const {
    return error_text([&] { read(bytes); });
  }

 private:
  TemporaryFolder folder_;
};

const Contents kContents{{"a/data.pkl", "some pickle"}, {"a/data/0", std::string(300, 'x')}, {"a/empty", ""}};

template <class Number>
void put(std::string& bytes, std::size_t at, Number value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// Where the directory's header of the n-th entry begins.
std::size_t directory_header(const std::string& bytes, int n) {
  std::size_t at = bytes.find("PK\x01\x02");
  while (n-- > 0) at = bytes.find("PK\x01\x02", at + 1);
  return at;
}

}  // namespace

TEST_CASE("entries come back as they were written, and begin at multiples of 64 bytes") {
  const std::string bytes = zip_of(kContents);
  CHECK(Archive().read(bytes) == kContents);
  CHECK(bytes.find("some pickle") % 64 == 0);
  CHECK(bytes.find("xxx") % 64 == 0);
  CHECK(Archive().read(zip_of({})).empty());
}

TEST_CASE("a truncated archive is refused at every length") {
  const std::string bytes = zip_of(kContents);
  const Archive archive;
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    INFO("length " << length);
    CHECK(contains(archive.refusal(bytes.substr(0, length)), "[reft::read_zip]"));
  }
}

TEST_CASE("with any bit flipped, an archive is refused or reads the same") {
  const std::string bytes = zip_of({{"a/data.pkl", "some pickle"}, {"a/data/0", "values"}});
  const Archive archive;
  const auto original = archive.read(bytes);
  int refused = 0;
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    try {
      if (archive.read(flipped) != original) FAIL("bit " << bit << " changes what is read");
    } catch (const reft::CheckpointError&) {
      ++refused;
    }
  }
  CHECK(refused > 500);
}

TEST_CASE("what a hostile archive may say is refused by name") {
  const Archive archive;
  std::string bytes = zip_of(kContents);
  const std::size_t first = directory_header(bytes, 0), second = directory_header(bytes, 1);
  SECTION("a compressed entry") {
    put<uint16_t>(bytes, first + 10, 8);
    CHECK(contains(archive.refusal(bytes), "a.zip: entry a/data.pkl: expected a stored entry, as torch.save writes, got compression method 8"));
  }
  SECTION("an encrypted entry") {
    put<uint16_t>(bytes, first + 8, 1);
    CHECK(contains(archive.refusal(bytes), "got an encrypted one"));
  }
  SECTION("a size beyond the file, as a zip bomb claims") {
    put<uint32_t>(bytes, second + 20, 0xFFFFFFF0);
    put<uint32_t>(bytes, second + 24, 0xFFFFFFF0);
    CHECK(contains(archive.refusal(bytes), "it is truncated or damaged: 4294967280 bytes are expected"));
  }
  SECTION("an uncompressed size beyond the stored one") {
    put<uint32_t>(bytes, second + 24, 0xFFFFFFF0);
    CHECK(contains(archive.refusal(bytes), "it is stored, but has the two sizes 4294967280 and 300"));
  }
  SECTION("64-bit sizes that are not there") {
    put<uint32_t>(bytes, second + 24, 0xFFFFFFFF);
    CHECK(contains(archive.refusal(bytes), "its 64-bit sizes are missing"));
  }
  SECTION("entries over the same bytes") {
    // The second entry's data is made to hold a whole header and entry of its own.
    const std::string inner = zip_of({{"b", "yy"}});
    bytes = zip_of({{"a", inner}, {"b", "yy"}});
    put<uint32_t>(bytes, directory_header(bytes, 2) + 42, static_cast<uint32_t>(bytes.find(inner)));
    CHECK(contains(archive.refusal(bytes), "entries a and b overlap"));
  }
  SECTION("two entries of one name") {
    bytes = zip_of({{"a", "1"}, {"b", "2"}});
    for (auto at = bytes.find("bFB"); at != std::string::npos; at = bytes.find("bFB")) bytes[at] = 'a';
    bytes[directory_header(bytes, 1) + 46] = 'a';
    CHECK(contains(archive.refusal(bytes), "entry a: it is there twice"));
  }
  SECTION("a name that the entry itself does not have") {
    bytes[first + 46] = 'z';
    CHECK(contains(archive.refusal(bytes), "entry z/data.pkl: its header at byte 0 is damaged"));
  }
  SECTION("more entries than there are") {
    put<uint16_t>(bytes, bytes.size() - 12, 60000);
    CHECK(contains(archive.refusal(bytes), "it is truncated or damaged"));
  }
  SECTION("fewer entries than there are") {
    put<uint16_t>(bytes, bytes.size() - 12, 1);
    CHECK(contains(archive.refusal(bytes), "its directory holds more than its 1 entries"));
  }
  SECTION("something else altogether") {
    CHECK(contains(archive.refusal("hello"), "it does not end in a zip directory; it is truncated, damaged or not a zip archive"));
  }
}
