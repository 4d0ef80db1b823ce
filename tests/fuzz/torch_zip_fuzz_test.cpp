#include <sys/resource.h>

#include <cstdlib>
#include <random>

#include "reft/io/torch_zip.hpp"
#include "support/catch.hpp"
#include "support/string_sink.hpp"
#include "support/temporary_folder.hpp"

// Mutated checkpoints give a CheckpointError or the right tensors. REFT_FUZZ_CASES says how many are tried, REFT_FUZZ_SEED
// where they start; each case depends on its own number alone, which a failure prints.

namespace {

using reft::test::bytes_of;

/// What a file holds, values included, so that two readings can be compared.
using Contents = std::map<std::string, std::tuple<std::string, std::vector<int64_t>, std::vector<int64_t>, std::string>>;

Contents contents_of(const reft::TorchZipFile& file) {
  Contents contents;
  for (const auto& [name, view] : file.tensors()) {
    contents[name] = {view.dtype, view.shape, view.strides, {reinterpret_cast<const char*>(view.data.data()), view.data.size()}};
  }
  return contents;
}

uint64_t number_from_environment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : fallback;
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t end) { return end == 0 ? 0 : std::uniform_int_distribution<std::size_t>(0, end - 1)(random_); }

  /// One to four damages of any kind.
  std::string damage(std::string bytes) {
    for (std::size_t count = 1 + below(4); count > 0 && !bytes.empty(); --count) damage_once(bytes);
    return bytes;
  }

 private:
  void damage_once(std::string& bytes) {
    constexpr std::array<uint32_t, 8> kTelling{0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};
    const std::size_t at = below(bytes.size()), length = std::min(1 + below(64), bytes.size() - at);
    switch (below(7)) {
      case 0: bytes.resize(at); break;
      case 1: bytes[at] ^= static_cast<char>(1 << below(8)); break;
      case 2: bytes[at] = static_cast<char>(below(256)); break;
      case 3: bytes.erase(at, length); break;
      case 4: bytes.insert(at, bytes.substr(below(bytes.size()), length)); break;
      case 5: std::memcpy(bytes.data() + at, &kTelling[below(kTelling.size())], std::min<std::size_t>(4, bytes.size() - at)); break;
      case 6: {  // another opcode, or a number that is telling
        constexpr std::string_view kOpcodes = "(.NKMJGX)t]ae}suqrhjcQRbi\x80\x81\x88\x89\x8A\x85\x86\x87\x93\x95";
        bytes[at] = kOpcodes[below(kOpcodes.size())];
        break;
      }
    }
  }

  std::mt19937_64 random_;
};

/// The same archive around another pickle, with CRCs that agree: damage that only the pickle's reader can see.
std::string with_pickle(const reft::MappedFile& original, const std::string& pickle) {
  std::vector<std::pair<std::string, std::span<const std::byte>>> entries;
  for (const auto& [name, data] : reft::read_zip(original)) {
    entries.emplace_back(name, name.ends_with("/data.pkl") ? bytes_of(pickle) : data);
  }
  reft::test::StringSink sink;
  reft::write_zip(sink, entries);
  return sink.content;
}

std::string pickle_of(const reft::MappedFile& file) {
  for (const auto& [name, data] : reft::read_zip(file)) {
    if (name.ends_with("/data.pkl")) return {reinterpret_cast<const char*>(data.data()), data.size()};
  }
  return {};
}

int64_t peak_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace

TEST_CASE("mutated torch.save files give a CheckpointError or the right tensors, in bounded memory") {
  const std::filesystem::path golden = std::filesystem::path(REFT_SOURCE_DIR) / "tests/golden/pyreft";
  const reft::test::TemporaryFolder folder;
  const auto path = folder / "mutated.bin";
  const uint64_t cases = number_from_environment("REFT_FUZZ_CASES", 10000), first = number_from_environment("REFT_FUZZ_SEED", 1);
  const int64_t before = peak_bytes();
  uint64_t refused = 0, read = 0;
  for (uint64_t seed = first; seed < first + cases; ++seed) {
    Mutator mutator(seed);
    const char* forms[] = {"loreft", "consreft", "noreft", "loreft_trainer"};
    const auto original = golden / forms[mutator.below(4)] / "intkey_layer_1_comp_block_output_unit_pos_nunit_1#1.bin";
    const auto file = reft::TorchZipFile::open(original);
    const bool repaired = mutator.below(2) == 1;
    const std::string bytes = repaired ? with_pickle(*file.file(), mutator.damage(pickle_of(*file.file())))
                                       : mutator.damage(std::string(file.file()->text()));
    reft::test::write_text(path, bytes);
    try {
      const Contents found = contents_of(reft::TorchZipFile::open(path));  // copies every byte of every view
      ++read;
      if (!repaired && found != contents_of(file)) FAIL("case " << seed << ": other tensors are read from a damaged file");
    } catch (const reft::CheckpointError&) {
      ++refused;
    } catch (const std::exception& error) {
      FAIL("case " << seed << ": " << error.what());
    }
  }
  CHECK(refused > cases / 2);
  CHECK(read > 0);
  CHECK(peak_bytes() - before < (int64_t{512} << 20));
}
