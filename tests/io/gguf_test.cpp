#include "reft/io/gguf.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace {

using reft::GgufFile;
using reft::test::contains;
using reft::test::error_text;
using reft::test::read_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

const std::vector<float> kVector{1.0f, -2.5f, 3.0f}, kMatrix{1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};

void write_example(const std::filesystem::path& path) {
  reft::write_gguf(path, {{"general.architecture", "controlvector"}, {"controlvector.layer_count", 2}},
                   {{"direction.1", {{3}, kVector}}, {"matrix", {{2, 3}, kMatrix}}});
}

bool equal(std::span<const float> a, const std::vector<float>& b) { return std::vector<float>(a.begin(), a.end()) == b; }

std::string number(const auto& value) { return {reinterpret_cast<const char*>(&value), sizeof(value)}; }

std::string text(std::string_view value) { return number(uint64_t{value.size()}) + std::string(value); }

}  // namespace

TEST_CASE("a GGUF file holds what was written, its numbers where the format has them") {
  const TemporaryFolder folder;
  write_example(folder / "a.gguf");
  const GgufFile file = GgufFile::open(folder / "a.gguf");
  CHECK(file.metadata().at("general.architecture") == "controlvector");
  CHECK(file.metadata().at("controlvector.layer_count") == 2);
  CHECK(file.tensors().at("direction.1").shape == std::vector<int64_t>{3});
  CHECK(equal(file.tensors().at("direction.1").values, kVector));
  CHECK(file.tensors().at("matrix").shape == std::vector<int64_t>{2, 3});
  CHECK(equal(file.tensors().at("matrix").values, kMatrix));

  const std::string bytes = read_text(folder / "a.gguf");
  const std::string begin = "GGUF" + number(uint32_t{3}) + number(uint64_t{2}) + number(uint64_t{2}) + text("general.architecture") +
                            number(uint32_t{8}) + text("controlvector") + text("controlvector.layer_count") + number(uint32_t{4}) +
                            number(uint32_t{2}) + text("direction.1") + number(uint32_t{1}) + number(uint64_t{3}) + number(uint32_t{0}) +
                            number(uint64_t{0}) + text("matrix") + number(uint32_t{2}) + number(uint64_t{3}) + number(uint64_t{2}) +
                            number(uint32_t{0}) + number(uint64_t{32});
  CHECK(bytes.substr(0, begin.size()) == begin);
  const size_t values = (begin.size() + 31) / 32 * 32;
  CHECK(bytes.size() == values + 64);
  CHECK(bytes.substr(values, 12) == std::string(reinterpret_cast<const char*>(kVector.data()), 12));
}

TEST_CASE("metadata of every type is passed over, whatever it is") {
  const TemporaryFolder folder;
  const std::string array = number(uint32_t{9}) + number(uint32_t{8}) + number(uint64_t{2}) + text("a") + text("bc");
  write_text(folder / "a.gguf", "GGUF" + number(uint32_t{3}) + number(uint64_t{0}) + number(uint64_t{4}) + text("list") + array + text("flag") +
                                    number(uint32_t{7}) + std::string(1, '\1') + text("real") + number(uint32_t{12}) + number(2.5) +
                                    text("signed") + number(uint32_t{11}) + number(int64_t{-3}));
  const GgufFile file = GgufFile::open(folder / "a.gguf");
  CHECK(file.metadata().at("list") == 2);
  CHECK(file.metadata().at("flag") == true);
  CHECK(file.metadata().at("real") == 2.5);
  CHECK(file.metadata().at("signed") == -3);
  CHECK(file.tensors().empty());
}

TEST_CASE("GGUF files that are damaged or of another kind are refused") {
  const TemporaryFolder folder;
  write_example(folder / "a.gguf");
  const std::string whole = read_text(folder / "a.gguf");
  const auto refusal = [&](const std::string& bytes) {
    write_text(folder / "b.gguf", bytes);
    return error_text([&] { GgufFile::open(folder / "b.gguf"); });
  };
  const size_t end_of_values = whole.size() - (32 - 24);  // the last tensor has 24 bytes, then padding
  for (size_t length = 0; length < end_of_values; ++length) {
    CAPTURE(length);
    CHECK(refusal(whole.substr(0, length)) != "no error");
  }
  CHECK(contains(refusal("GGML" + whole.substr(4)), "expected a GGUF file"));
  CHECK(contains(refusal("GGUF" + number(uint32_t{2}) + whole.substr(8)), "expected version 3, got 2"));
  std::string half = whole;
  half[half.find("direction.1") + 11 + 4 + 8] = 1;
  CHECK(contains(refusal(half), "tensor direction.1: expected float32, got ggml's type 1"));
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string mutated = whole;
      mutated[i] ^= flip;
      write_text(folder / "b.gguf", mutated);
      try {
        const GgufFile file = GgufFile::open(folder / "b.gguf");
        for (const auto& [name, tensor] : file.tensors()) {
          const std::vector<float> readable(tensor.values.begin(), tensor.values.end());
          CHECK(readable.size() <= whole.size() / 4);
        }
      } catch (const reft::CheckpointError&) {
      }
    }
  }
}
