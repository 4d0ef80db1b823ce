#include "reft/io/llama2c.hpp"

#include <numeric>
#include <random>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"

using reft::CheckpointError;
using reft::Llama2cFile;
using reft::test::contains;
using reft::test::error_text;
using reft::test::read_text;
using reft::test::TemporaryFolder;
using reft::test::write_text;

namespace {

constexpr int32_t kDim = 8, kHiddenDim = 6, kLayers = 2, kHeads = 2, kKvHeads = 1, kVocabulary = 5, kContext = 3;
constexpr int32_t kHeadSize = kDim / kHeads, kKvDim = kKvHeads * kHeadSize;

/// A tiny model file whose n-th float has the value n.
class FileBuilder {
 public:
  template <class T>
  void add(T value) {
    content_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void add_header(int32_t vocabulary = kVocabulary) {
    for (const int32_t number : {kDim, kHiddenDim, kLayers, kHeads, kKvHeads, vocabulary, kContext}) add(number);
  }
  void add_floats(int32_t count) {
    while (count-- > 0) add(next_++);
  }
  void pad_to(std::size_t bytes) { content_.resize(bytes, '\0'); }
  const std::string& content() const { return content_; }

 private:
  std::string content_;
  float next_ = 0;
};

constexpr int32_t kAttentionFloats = kLayers * (2 * kDim * kDim + 2 * kKvDim * kDim);
constexpr int32_t kMlpFloats = kLayers * 3 * kDim * kHiddenDim;
constexpr int32_t kNormFloats = 2 * kLayers * kDim + kDim;
constexpr int32_t kTableFloats = kContext * kHeadSize;
constexpr int32_t kEmbeddingFloats = kVocabulary * kDim;

std::string legacy_file(bool shared) {
  FileBuilder builder;
  builder.add_header(shared ? kVocabulary : -kVocabulary);
  builder.add_floats(kEmbeddingFloats + kAttentionFloats + kMlpFloats + kNormFloats + kTableFloats);
  if (!shared) builder.add_floats(kEmbeddingFloats);
  return builder.content();
}

std::string version1_file(bool shared, int32_t version = 1) {
  FileBuilder builder;
  builder.add(uint32_t{0x616b3432});
  builder.add(version);
  builder.add_header();
  builder.add(static_cast<uint8_t>(shared));
  builder.pad_to(256);
  builder.add_floats(kNormFloats + kEmbeddingFloats + kAttentionFloats + kMlpFloats);
  if (!shared) builder.add_floats(kEmbeddingFloats);
  return builder.content();
}

float first_value(const Llama2cFile& file, const std::string& name) { return file.tensors().at(name).data.front(); }

}  // namespace

TEST_CASE("a legacy llama2.c file maps to Hugging Face names") {
  const TemporaryFolder folder;
  for (const bool shared : {true, false}) {
    const auto file = Llama2cFile::open(write_text(folder / "model.bin", legacy_file(shared)));
    REQUIRE(file.config().dim == kDim);
    REQUIRE(file.config().hidden_dim == kHiddenDim);
    REQUIRE(file.config().n_layers == kLayers);
    REQUIRE(file.config().n_heads == kHeads);
    REQUIRE(file.config().n_kv_heads == kKvHeads);
    REQUIRE(file.config().vocab_size == kVocabulary);
    REQUIRE(file.config().seq_len == kContext);
    REQUIRE(file.config().shared_classifier == shared);
    REQUIRE(file.tensors().size() == 2 + 9 * kLayers + (shared ? 0 : 1));
    REQUIRE(file.tensors().at("model.layers.1.self_attn.k_proj.weight").shape == std::vector<int64_t>{kKvDim, kDim});
    REQUIRE(file.tensors().at("model.layers.0.mlp.down_proj.weight").shape == std::vector<int64_t>{kDim, kHiddenDim});
    REQUIRE(file.tensors().at("model.norm.weight").shape == std::vector<int64_t>{kDim});
    float next = 0;
    const auto expect = [&](const std::string& name, int32_t floats) {
      CAPTURE(name);
      REQUIRE(first_value(file, name) == next);
      next += static_cast<float>(floats);
    };
    const auto expect_layers = [&](const std::string& name, int32_t floats) {
      for (int layer = 0; layer < kLayers; ++layer)
        expect(fmt::format("model.layers.{}.{}.weight", layer, name), floats);
    };
    expect("model.embed_tokens.weight", kEmbeddingFloats);
    expect_layers("input_layernorm", kDim);
    expect_layers("self_attn.q_proj", kDim * kDim);
    expect_layers("self_attn.k_proj", kKvDim * kDim);
    expect_layers("self_attn.v_proj", kKvDim * kDim);
    expect_layers("self_attn.o_proj", kDim * kDim);
    expect_layers("post_attention_layernorm", kDim);
    expect_layers("mlp.gate_proj", kHiddenDim * kDim);
    expect_layers("mlp.down_proj", kHiddenDim * kDim);
    expect_layers("mlp.up_proj", kHiddenDim * kDim);
    expect("model.norm.weight", kDim + kTableFloats);
    if (!shared) expect("lm_head.weight", kEmbeddingFloats);
  }
}

TEST_CASE("a version 1 llama2.c file stores norms first") {
  const TemporaryFolder folder;
  for (const bool shared : {true, false}) {
    const auto file = Llama2cFile::open(write_text(folder / "model.bin", version1_file(shared)));
    REQUIRE(file.config().shared_classifier == shared);
    REQUIRE(first_value(file, "model.layers.0.input_layernorm.weight") == 0);
    REQUIRE(first_value(file, "model.layers.1.post_attention_layernorm.weight") == 3 * kDim);
    REQUIRE(first_value(file, "model.norm.weight") == 4 * kDim);
    REQUIRE(first_value(file, "model.embed_tokens.weight") == 5 * kDim);
    REQUIRE(first_value(file, "model.layers.0.self_attn.q_proj.weight") == 5 * kDim + kEmbeddingFloats);
    REQUIRE(file.tensors().contains("lm_head.weight") == !shared);
  }
}

TEST_CASE("query and key rows move from rotating pairs to rotating halves") {
  // Two heads of size 4, two columns: row i holds (10 i, 10 i + 1).
  std::vector<float> rows;
  for (int row = 0; row < 8; ++row) rows.insert(rows.end(), {10.0f * row, 10.0f * row + 1});
  REQUIRE(reft::rotary_pairs_to_halves(rows, 4, 2) ==
          std::vector<float>{0, 1, 20, 21, 10, 11, 30, 31, 40, 41, 60, 61, 50, 51, 70, 71});
  const TemporaryFolder folder;
  const auto file = Llama2cFile::open(write_text(folder / "model.bin", legacy_file(true)));
  const auto query = file.hugging_face_tensor("model.layers.0.self_attn.q_proj.weight");
  const auto stored = file.tensors().at("model.layers.0.self_attn.q_proj.weight").data;
  for (int row = 0; row < kDim; ++row) {
    const int inside = row % kHeadSize, head = row - inside;
    const int from = head + (inside < kHeadSize / 2 ? 2 * inside : 2 * (inside - kHeadSize / 2) + 1);
    REQUIRE(query[row * kDim] == stored[from * kDim]);
  }
  const auto value = file.hugging_face_tensor("model.layers.0.self_attn.v_proj.weight");
  REQUIRE(std::ranges::equal(value, file.tensors().at("model.layers.0.self_attn.v_proj.weight").data));
}

TEST_CASE("malformed llama2.c files are refused with the reason") {
  const TemporaryFolder folder;
  const auto path = folder / "model.bin";
  const auto refusal = [&](const std::string& content) {
    write_text(path, content);
    const std::string text = error_text([&] { Llama2cFile::open(path); });
    const std::string prefix = "[reft::read_llama2c] " + path.string() + ": ";
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  };
  const auto too_few = [](std::size_t bytes) {
    return fmt::format("the file has {} bytes, too few for the model its header describes", bytes);
  };
  REQUIRE(refusal("") == too_few(0));
  for (const auto& whole : {legacy_file(true), legacy_file(false), version1_file(true), version1_file(false)}) {
    REQUIRE(refusal(whole) == "no error");
    REQUIRE(refusal(whole + "x") == "1 bytes follow the weights; this is not a llama2.c float32 model");
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{27}, whole.size() / 2, whole.size() - 1}) {
      REQUIRE(refusal(whole.substr(0, bytes)) == too_few(bytes));
    }
  }
  REQUIRE(refusal(version1_file(true, 2)) == "expected version 1 (float32), got version 2");
  const auto with_number = [&](int index, int32_t value) {
    std::string content = legacy_file(true);
    std::memcpy(content.data() + index * sizeof value, &value, sizeof value);
    return refusal(content);
  };
  REQUIRE(with_number(0, 0) ==
          "the header (dim 0, hidden_dim 6, n_layers 2, n_heads 2, n_kv_heads 1, vocab_size 5, "
          "seq_len 3) describes no model");
  REQUIRE(contains(with_number(1, -1), "hidden_dim -1"));
  REQUIRE(contains(with_number(3, 0), "n_heads 0"));
  REQUIRE(contains(with_number(3, 3), "describes no model"));  // 8 % 3
  REQUIRE(contains(with_number(3, 8), "describes no model"));  // heads of size 1 cannot rotate
  REQUIRE(contains(with_number(4, 4), "describes no model"));  // 2 % 4
  REQUIRE(contains(with_number(2, 0x7fffffff), "too few"));
  REQUIRE(contains(with_number(5, std::numeric_limits<int32_t>::min()), "too few"));
  const auto file = Llama2cFile::open(write_text(path, legacy_file(true)));
  REQUIRE_THROWS_WITH(file.hugging_face_tensor("model.norm.wieght"),
                      "[reft::read_llama2c] " + path.string() +
                          ": it has no tensor \"model.norm.wieght\"; did you mean model.norm.weight?");
}

TEST_CASE("a damaged llama2.c file is refused or keeps its shape") {
  const TemporaryFolder folder;
  std::mt19937 random(7);
  const auto below = [&](std::size_t n) { return random() % n; };
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string damaged = round % 2 ? legacy_file(round % 4 == 1) : version1_file(round % 4 == 0);
    for (auto changes = 1 + below(3); changes-- > 0;) {
      // Values carry no checksum, so only what shapes the file is damaged: the header and the length.
      const auto where = below(40);
      switch (below(4)) {
        case 0:
          damaged[where] = static_cast<char>(damaged[where] ^ (1 << below(8)));
          break;
        case 1:
          damaged[where] = static_cast<char>(below(256));
          break;
        case 2:
          damaged.resize(40 + below(damaged.size()));
          break;
        default:
          damaged.erase(where, 1 + below(8));
          break;
      }
      damaged.resize(std::max<std::size_t>(damaged.size(), 48));
    }
    const auto path = write_text(folder / "model.bin", damaged);
    try {
      const auto file = Llama2cFile::open(path);
      for (const auto& [name, view] : file.tensors()) {
        const auto size = std::accumulate(view.shape.begin(), view.shape.end(), int64_t{1}, std::multiplies<>());
        REQUIRE(size == std::ssize(view.data));
        REQUIRE(std::ssize(file.hugging_face_tensor(name)) == size);
      }
    } catch (const CheckpointError& error) {
      REQUIRE(contains(error.what(), "[reft::read_llama2c] " + path.string()));
      ++refused;
    }
  }
  REQUIRE(refused > 3000);
}

TEST_CASE("both files of one real model hold the same weights") {
  const auto legacy_path = reft::test::shared_path("assets/models/stories260K/stories260K.bin");
  const auto version1_path = reft::test::shared_path("assets/models/stories260K/stories260K_v1.bin");
  if (!legacy_path || !version1_path) return;
  const auto legacy = Llama2cFile::open(*legacy_path), version1 = Llama2cFile::open(*version1_path);
  REQUIRE(legacy.config().n_kv_heads == 4);
  REQUIRE(legacy.tensors().size() == version1.tensors().size());
  for (const auto& [name, view] : legacy.tensors()) {
    CAPTURE(name);
    REQUIRE(version1.tensors().at(name).shape == view.shape);
    REQUIRE(std::ranges::equal(version1.tensors().at(name).data, view.data));
  }
}
