#include "reft/io/torch_zip.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/string_sink.hpp"
#include "support/temporary_folder.hpp"

using reft::PickleWriter;
using reft::TorchZipFile;
using reft::test::bytes_of;
using reft::test::contains;
using reft::test::error_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

const std::filesystem::path kGolden = std::filesystem::path(REFT_SOURCE_DIR) / "tests/golden/pyreft";
const std::string kKey = "intkey_layer_0_comp_block_output_unit_pos_nunit_1#0.bin";

/// What a tensor's call says, each part of which a test may falsify.
struct Claim {
  std::string global = "FloatStorage", key = "0";
  int64_t numel = 6, offset = 0;
  std::vector<int64_t> shape{2, 3}, strides{3, 1};
};

std::string claim_pickle(const Claim& claim) {
  PickleWriter pickle;
  pickle.opcode('}').text("t").global("torch._utils", "_rebuild_tensor_v2").opcode('(');
  pickle.opcode('(').text("storage").global("torch", claim.global).text(claim.key).text("cuda:0").integer(claim.numel).opcode('t');
  pickle.opcode('Q').integer(claim.offset).integers(claim.shape).integers(claim.strides).opcode(0x89).empty_ordered_dict();
  return pickle.opcode('t').opcode('R').opcode('s').finish();
}

/// A torch.save file around a pickle, with one storage of 24 bytes.
std::string file_of(const std::string& pickle, std::string_view order = "little") {
  static const std::string values(24, '\x11');
  reft::test::StringSink sink;
  reft::write_zip(sink, {{"x/data.pkl", bytes_of(pickle)}, {"x/byteorder", bytes_of(order)}, {"x/data/0", bytes_of(values)}});
  return sink.content;
}

std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  return error_text([&] { TorchZipFile::open(write_text(folder / "x.bin", bytes)); });
}

std::string refusal(const Claim& claim) { return refusal(file_of(claim_pickle(claim))); }

}  // namespace

TEST_CASE("files that pyreft saved are read") {
  const auto loreft = TorchZipFile::open(kGolden / "loreft" / kKey);
  CHECK(loreft.tensors().size() == 3);
  CHECK(loreft.tensors().at("weight").shape == std::vector<int64_t>{3, 24});
  CHECK(loreft.tensors().at("rotate_layer").shape == std::vector<int64_t>{24, 3});
  CHECK(loreft.tensors().at("bias").data.size() == 12);
  const auto ortho_direft = TorchZipFile::open(kGolden / "ortho_direft" / kKey);
  CHECK(ortho_direft.tensors().size() == 6);
  CHECK(ortho_direft.tensors().at("embed_dim").dtype == "I64");
  CHECK(ortho_direft.tensors().at("embed_dim").shape.empty());
  CHECK(TorchZipFile::open(kGolden / "loreft_trainer/pytorch_model.bin").tensors().empty());
}

TEST_CASE("every dtype comes back as it was written") {
  const TemporaryFolder folder;
  const std::string values(48, '\x2A');
  reft::TensorViews views;
  for (const auto& storage : reft::detail::kTorchStorages) {
    const int64_t value_bytes = *reft::detail::safetensors_dtype_bytes(storage.dtype);
    views[std::string(storage.dtype)] = {std::string(storage.dtype), {3, 2}, bytes_of(values).first(6 * value_bytes)};
  }
  views["scalar"] = {"F32", {}, bytes_of(values).first(4)};
  views["empty"] = {"F32", {0, 5}, {}};
  reft::write_file_atomically(folder / "x.bin", [&](reft::FileWriter& writer) { reft::write_torch_zip(writer, views); });
  const auto file = TorchZipFile::open(folder / "x.bin");
  REQUIRE(file.tensors().size() == views.size());
  for (const auto& [name, view] : views) {
    const auto& found = file.tensors().at(name);
    CHECK(found.dtype == view.dtype);
    CHECK(found.shape == view.shape);
    CHECK(std::equal(found.data.begin(), found.data.end(), view.data.begin(), view.data.end()));
  }
  reft::test::StringSink sink;
  CHECK(contains(error_text([&] { reft::write_torch_zip(sink, {{"t", {"U64", {0}, {}}}}); }), "torch has no storage of U64"));
  CHECK(contains(error_text([&] { reft::write_torch_zip(sink, {{"t", {"F32", {2}, {}}}}); }), "F32 of shape [2] does not fill 0 bytes"));
}

TEST_CASE("views into a storage are as torch means them") {
  const TemporaryFolder folder;
  const auto read = [&](const Claim& claim) {
    const auto file = TorchZipFile::open(write_text(folder / "x.bin", file_of(claim_pickle(claim))));
    return std::pair(file.tensors().at("t").shape, std::ssize(file.tensors().at("t").data) / 4);
  };
  using Shape = std::vector<int64_t>;
  CHECK(read({}) == std::pair(Shape{2, 3}, std::ptrdiff_t{6}));
  CHECK(read({.shape = {3, 2}, .strides = {1, 3}}) == std::pair(Shape{3, 2}, std::ptrdiff_t{6}));  // a transpose
  CHECK(read({.offset = 1, .shape = {2, 2}, .strides = {3, 1}}) == std::pair(Shape{2, 2}, std::ptrdiff_t{5}));
  CHECK(read({.offset = 6, .shape = {0, 1000}, .strides = {1000, 1}}) == std::pair(Shape{0, 1000}, std::ptrdiff_t{0}));
  CHECK(read({.offset = 5, .shape = {}, .strides = {}}) == std::pair(Shape{}, std::ptrdiff_t{1}));
}

TEST_CASE("offsets, shapes and strides outside the storage are refused") {
  const int64_t huge = int64_t{1} << 62;
  const std::vector<Claim> claims{
      {.offset = 1},
      {.offset = -1},
      {.offset = huge},
      {.shape = {7}, .strides = {1}},
      {.shape = {2}, .strides = {6}},
      {.shape = {2}, .strides = {-1}},
      {.shape = {-1}, .strides = {1}},
      {.shape = {huge}, .strides = {0}},      // any size out of one value
      {.shape = {100}, .strides = {0}},
      {.shape = {huge, huge}, .strides = {1, 1}},
      {.shape = {3}, .strides = {huge}},
      {.shape = {2, 3}, .strides = {3}},
      {.shape = std::vector<int64_t>(65, 1), .strides = std::vector<int64_t>(65, 1)},
      {.shape = {0, huge, huge}, .strides = {1, huge, huge}},
  };
  for (const Claim& claim : claims) {
    INFO(fmt::format("{} {} {}", claim.offset, claim.shape, claim.strides));
    CHECK(contains(refusal(claim), "does not fit its storage of 6 values"));
  }
  CHECK(contains(refusal(Claim{.key = "1"}), "its storage data/1 is missing"));
  CHECK(contains(refusal(Claim{.key = "../x/data/0"}), "is missing"));
  CHECK(contains(refusal(Claim{.numel = 7}), "its storage should hold 7 values of F32, but has 24 bytes"));
  CHECK(contains(refusal(Claim{.numel = -6}), "its storage should hold -6 values"));
  CHECK(contains(refusal(Claim{.numel = huge}), "its storage should hold"));
  CHECK(contains(refusal(Claim{.global = "DoubleStorage"}), "its storage should hold 6 values of F64"));
  CHECK(contains(refusal(Claim{.global = "QInt8Storage"}), "global \"torch.QInt8Storage\" has no place"));
}

TEST_CASE("a file of anything but named tensors is refused") {
  CHECK(contains(refusal(file_of(PickleWriter().integer(3).finish())), "expected a dict of tensors, got an integer"));
  CHECK(contains(refusal(file_of(PickleWriter().opcode('}').text("a").integer(3).opcode('s').finish())), "a: expected a tensor, got an integer"));
  CHECK(contains(refusal(file_of(claim_pickle({}), "big")), "expected values in little-endian order"));
  CHECK(contains(refusal("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.more"), "it was saved in torch's format before 1.6"));
  reft::test::StringSink sink;
  reft::write_zip(sink, {{"x/data/0", bytes_of("abc")}});
  CHECK(contains(refusal(sink.content), "it has no data.pkl, so torch.save did not write it"));
  CHECK(contains(error_text([] { TorchZipFile::open("/nowhere/x.bin"); }), "/nowhere/x.bin"));
}
