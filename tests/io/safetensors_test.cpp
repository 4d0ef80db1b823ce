#include "reft/io/safetensors.hpp"

#include <random>
#include <set>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"

using reft::CheckpointError;
using reft::ConfigError;
using reft::Metadata;
using reft::SafetensorsFile;
using reft::TensorViews;
using reft::write_safetensors;
using reft::test::contains;
using reft::test::error_text;
using reft::test::read_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

using namespace std::string_literals;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// Tensors of several widths, an empty one and a scalar.
TensorViews sample_tensors() {
  static const std::string values = "0123456789abcdefghijklmnopqrstuvwxyz";
  const auto all = bytes_of(values);
  return {{"b.weight", {"F32", {2, 3}, all.first(24)}},
          {"a.flag", {"BOOL", {3}, all.first(3)}},
          {"a.half", {"BF16", {1, 3}, all.subspan(4, 6)}},
          {"count", {"I64", {}, all.subspan(8, 8)}},
          {"empty", {"F64", {0, 5}, {}}}};
}

/// The bytes of a file with that header and payload.
std::string raw_file(std::string_view header, std::string_view payload = "") {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length).append(header).append(payload);
}

bool equal(const TensorViews& a, const TensorViews& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.dtype == y.second.dtype && x.second.shape == y.second.shape &&
           std::ranges::equal(x.second.data, y.second.data);
  });
}

}  // namespace

TEST_CASE("tensors and metadata come back as they were written") {
  const TemporaryFolder temporary;
  const auto path = temporary.path() / "model.safetensors";
  const Metadata metadata = {{"format", "pt"}, {"content_hash", reft::content_hash(sample_tensors())}};
  write_safetensors(path, sample_tensors(), metadata);
  const auto file = SafetensorsFile::open(path);
  REQUIRE(equal(file.tensors(), sample_tensors()));
  REQUIRE(file.metadata() == metadata);
  REQUIRE(file.contains("count"));
  REQUIRE_FALSE(file.contains("counts"));
  REQUIRE(file.at("b.weight").shape == std::vector<int64_t>{2, 3});
  REQUIRE(file.path() == path);
  REQUIRE_NOTHROW(reft::verify_content_hash(file));
  const std::string first = read_text(path);
  write_safetensors(path, sample_tensors(), metadata);
  REQUIRE(read_text(path) == first);
  write_safetensors(path, {});
  REQUIRE(SafetensorsFile::open(path).tensors().empty());
}

TEST_CASE("every value is aligned in a written file") {
  const TemporaryFolder temporary;
  const auto path = temporary.path() / "model.safetensors";
  write_safetensors(path, sample_tensors(), {{"a", "b"}});
  const auto file = SafetensorsFile::open(path);
  for (const auto& [name, view] : file.tensors()) {
    CAPTURE(name);
    REQUIRE((view.data.data() - file.file()->bytes().data()) % *reft::detail::safetensors_dtype_bytes(view.dtype) == 0);
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.file()->bytes().data(), sizeof header_bytes);
  REQUIRE(header_bytes % 8 == 0);
}

TEST_CASE("views keep their file alive through its owner") {
  const TemporaryFolder temporary;
  const auto path = temporary.path() / "model.safetensors";
  write_safetensors(path, sample_tensors());
  std::shared_ptr<const reft::MappedFile> owner;
  std::span<const std::byte> data;
  {
    const auto file = SafetensorsFile::open(path);
    owner = file.file();
    data = file.at("a.flag").data;
  }
  REQUIRE(std::ranges::equal(data, bytes_of("012")));
}

TEST_CASE("a missing tensor is named together with its neighbours") {
  const TemporaryFolder temporary;
  const auto path = temporary.path() / "model.safetensors";
  write_safetensors(path, sample_tensors());
  const auto file = SafetensorsFile::open(path);
  const std::string prefix = "[reft::read_safetensors] " + path.string() + ": it has no tensor ";
  REQUIRE_THROWS_WITH(file.at("b.weigth"), prefix + "\"b.weigth\"; did you mean b.weight?");
  REQUIRE_THROWS_WITH(file.at("unlike anything"), prefix + "\"unlike anything\"");
  REQUIRE_THROWS_AS(file.at(""), CheckpointError);
}

TEST_CASE("malformed files are refused, each for its reason") {
  const TemporaryFolder temporary;
  const auto path = temporary.path() / "model.safetensors";
  const auto refusal = [&](const std::string& content) {
    write_text(path, content);
    const std::string text = error_text([&] { SafetensorsFile::open(path); });
    const std::string prefix = "[reft::read_safetensors] " + path.string() + ": ";
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  };
  const auto tensor = [&](std::string_view entry, std::string_view payload = "01234567") {
    return refusal(raw_file(fmt::format("{{\"x\":{}}}", entry), payload));
  };
  REQUIRE(refusal("") == "the file has 0 bytes, too few for a header");
  REQUIRE(refusal("1234567") == "the file has 7 bytes, too few for a header");
  REQUIRE(refusal("\x10\0\0\0\0\0\0\0{}"s) ==
          "the header claims 16 bytes, but the file has 10; it is truncated or not a safetensors file");
  REQUIRE(contains(refusal(std::string(16, '\xff')), "the header claims 18446744073709551615 bytes"));
  REQUIRE(refusal(raw_file("{\"x\":")) == "the header is not JSON");
  REQUIRE(refusal(raw_file("{\"\xff\":1}")) == "the header is not JSON");
  REQUIRE(refusal(raw_file("")) == "the header is not JSON");
  REQUIRE(refusal(raw_file("[]")) == "the header is not a JSON object");
  REQUIRE(refusal(raw_file("{\"x\":[[[[[[1]]]]]]}")) == "the header is nested too deeply");
  REQUIRE(refusal(raw_file(std::string(1'000'000, '['))) == "the header is nested too deeply");
  REQUIRE(refusal(raw_file("{\"x\":1,\"x\":1}")) == "the header names \"x\" twice");
  REQUIRE(tensor(R"({"dtype":"U8","dtype":"I8","shape":[8],"data_offsets":[0,8]})") ==
          "the header names \"dtype\" twice");
  REQUIRE(refusal(raw_file("{\"__metadata__\":1}")) == "__metadata__ is not an object");
  REQUIRE(refusal(raw_file("{\"__metadata__\":{\"a\":1}}")) == "__metadata__.a is not a string");
  REQUIRE(tensor("1") == "tensor x: expected an object");
  REQUIRE(tensor("{}") == "tensor x: expected a text \"dtype\"");
  REQUIRE(tensor(R"({"dtype":"F32"})") == "tensor x: expected a list \"shape\"");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[2]})") == "tensor x: expected a list \"data_offsets\"");
  REQUIRE(tensor(R"({"dtype":"F31","shape":[2],"data_offsets":[0,8]})") == "tensor x: unknown dtype \"F31\"");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})") ==
          "tensor x: shape holds -2, which is no size");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})") ==
          "tensor x: shape holds 2.0, which is no size");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})") ==
          "tensor x: shape holds 18446744073709551615, which is no size");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})") == "tensor x: data_offsets are not a range");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})") == "tensor x: data_offsets are not a range");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})") ==
          "tensor x: its data ends at byte 12, but the file holds 8; it is truncated or damaged");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})") ==
          "tensor x: F32 of shape [3] does not fill 8 bytes");
  // 2^32 · 2^30 · 4 bytes would wrap to 0.
  REQUIRE(tensor(R"({"dtype":"F32","shape":[4294967296,1073741824],"data_offsets":[0,0]})") ==
          "tensor x: F32 of shape [4294967296, 1073741824] does not fill 0 bytes");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})") == "the last 4 bytes belong to no tensor");
  REQUIRE(tensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})") ==
          "the 4 bytes before tensor x belong to none");
  const std::string overlapping = R"({"x":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},)"
                                  R"("y":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}})";
  REQUIRE(refusal(raw_file(overlapping, "01234567")) == "tensor y: its data overlaps another tensor's");
  REQUIRE(refusal(raw_file("{} ")) == "no error");
}

TEST_CASE("what does not fit the format is not written") {
  const TemporaryFolder temporary;
  const auto path = temporary.path() / "model.safetensors";
  const auto eight = bytes_of("01234567");
  REQUIRE_THROWS_WITH(write_safetensors(path, {{"x", {"F32", {3}, eight}}}),
                      "[reft::write_safetensors] tensor x: F32 of shape [3] does not fill 8 bytes");
  REQUIRE_THROWS_WITH(write_safetensors(path, {{"x", {"float", {2}, eight}}}),
                      "[reft::write_safetensors] tensor x: unknown dtype \"float\"");
  REQUIRE_THROWS_AS(write_safetensors(path, {{"__metadata__", {"F32", {2}, eight}}}), ConfigError);
  REQUIRE_THROWS_WITH(write_safetensors(path, {{"\xff", {"F32", {2}, eight}}}),
                      "[reft::write_safetensors] " + path.string() + ": names and metadata must be UTF-8");
  REQUIRE_FALSE(std::filesystem::exists(path));
}

TEST_CASE("the content hash depends on names, types, shapes and values") {
  const auto hash = [](std::string name, std::string dtype, std::vector<int64_t> shape, std::string_view data) {
    return reft::content_hash({{std::move(name), {std::move(dtype), std::move(shape), bytes_of(data)}}});
  };
  // Of the words "x", "", "F32", "", "2", "", "" and the eight values, computed apart.
  REQUIRE(hash("x", "F32", {2}, "01234567") == "00103571915c0fab");
  REQUIRE(reft::content_hash({}) == "cbf29ce484222325");
  const std::set<std::string> different = {hash("x", "F32", {2}, "01234567"),
                                           hash("y", "F32", {2}, "01234567"),
                                           hash("x", "I32", {2}, "01234567"),
                                           hash("x", "F32", {2, 1}, "01234567"),
                                           hash("x", "F32", {2}, "01234568"),
                                           hash("x", "F32", {1, 2}, "01234567"),
                                           hash("x", "F32", {2},
                                                "\x30"
                                                "1234577")};
  REQUIRE(different.size() == 7);
}

TEST_CASE("a damaged file with a content hash never gives other tensors") {
  const TemporaryFolder temporary;
  const auto path = temporary.path() / "model.safetensors";
  write_safetensors(path, sample_tensors(), {{"content_hash", reft::content_hash(sample_tensors())}});
  const std::string intact = read_text(path);
  std::mt19937 random(20240404);
  const auto below = [&](std::size_t n) { return random() % n; };
  int refused = 0, read = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = intact;
    for (auto changes = 1 + below(3); changes-- > 0;) {
      const auto where = below(damaged.size());
      switch (below(5)) {
        case 0:
          damaged[where] = static_cast<char>(damaged[where] ^ (1 << below(8)));
          break;
        case 1:
          damaged[where] = static_cast<char>(below(256));
          break;
        case 2:
          damaged.resize(1 + where);
          break;
        case 3:
          damaged.insert(where, damaged.substr(below(damaged.size()), below(12)));
          break;
        default:
          damaged.erase(where, 1 + below(8));
          break;
      }
      if (damaged.empty()) damaged = "x";
    }
    write_text(path, damaged);
    try {
      const auto file = SafetensorsFile::open(path);
      reft::verify_content_hash(file);
      REQUIRE(equal(file.tensors(), sample_tensors()));
      ++read;
    } catch (const CheckpointError& error) {
      REQUIRE(contains(error.what(), "[reft::read_safetensors] " + path.string()));
      ++refused;
    }
  }
  CAPTURE(refused, read);
  REQUIRE(refused > 3000);
}

TEST_CASE("a real model's file opens") {
  const auto path = reft::test::shared_path("assets/models/tinystories656k_hf/model.safetensors");
  if (!path) return;
  const auto file = SafetensorsFile::open(*path);
  REQUIRE(file.tensors().size() == 20);
  REQUIRE(file.at("lm_head.weight").shape == std::vector<int64_t>{2048, 128});
  REQUIRE_THROWS_WITH(reft::verify_content_hash(file),
                      "[reft::read_safetensors] " + path->string() + ": expected a content_hash in its metadata");
}
