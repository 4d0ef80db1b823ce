#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/io/mapped_file.hpp"
#include "reft/io/near_names.hpp"

namespace reft {

/// The numbers in a llama2.c header, under its own names.
struct Llama2cConfig {
  int64_t dim = 0, hidden_dim = 0, n_layers = 0, n_heads = 0, n_kv_heads = 0, vocab_size = 0, seq_len = 0;
  bool shared_classifier = true;  ///< the embedding is the language-model head too

  int64_t head_size() const { return dim / n_heads; }
};

/// A row-major float32 tensor inside a mapped file.
struct FloatView {
  std::vector<int64_t> shape;
  std::span<const float> data;
};

/// Puts the rows of a query or key projection into the order that rotating halves expects (Hugging Face), from the
/// order for rotating pairs (llama2.c), head by head with E = head_size:
///   out[i] = in[2i],   out[E/2 + i] = in[2i + 1],   0 <= i < E/2
/// @param rows  (heads·E, columns), row-major.
inline std::vector<float> rotary_pairs_to_halves(std::span<const float> rows, int64_t head_size, int64_t columns) {
  std::vector<float> out(rows.size());
  const int64_t count = columns ? std::ssize(rows) / columns : 0;
  for (int64_t row = 0; row < count; ++row) {
    const int64_t inside = row % head_size;
    const int64_t target = row - inside + inside / 2 + (inside % 2 ? head_size / 2 : 0);
    std::copy_n(rows.begin() + row * columns, columns, out.begin() + target * columns);
  }
  return out;
}

/// A llama2.c model file (`.bin`), legacy or version 1, memory-mapped.
///   legacy: 7 int32 (a negative vocabulary = own head), weights layer kind by layer kind, two RoPE tables, [head]
///   v1:     "ak42", version, 7 int32, shared flag, zeros to byte 256, all norms first, no tables
/// Ref: github.com/karpathy/llama2.c, export.py.
class Llama2cFile {
 public:
  /// @throws CheckpointError for a missing, truncated or malformed file.
  static Llama2cFile open(const std::filesystem::path& path) { return Llama2cFile(MappedFile::open(path)); }

  const Llama2cConfig& config() const { return config_; }
  const std::filesystem::path& path() const { return file_->path(); }

  /// The weights as stored, under Hugging Face names; rows of q_proj and k_proj are in the order of rotating pairs.
  const std::map<std::string, FloatView>& tensors() const { return tensors_; }

  /// A copy of one weight as a Hugging Face model holds it. @throws CheckpointError for an unknown name.
  std::vector<float> hugging_face_tensor(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      fail<CheckpointError>("read_llama2c", "{}: it has no tensor \"{}\"{}", path().string(), name,
                            detail::did_you_mean(name, tensors_));
    }
    const auto& [shape, data] = found->second;
    if (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")) {
      return rotary_pairs_to_halves(data, config_.head_size(), shape.back());
    }
    return {data.begin(), data.end()};
  }

 private:
  static constexpr uint32_t kMagic = 0x616b3432;  // "ak42"
  static constexpr std::size_t kVersion1HeaderBytes = 256;

  explicit Llama2cFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)), rest_(file_->bytes()) {
    uint32_t first = 0;
    if (rest_.size() >= sizeof first) std::memcpy(&first, rest_.data(), sizeof first);
    if (first == kMagic) {
      read_version1();
    } else {
      read_legacy();
    }
    if (!rest_.empty()) refuse("{} bytes follow the weights; this is not a llama2.c float32 model", rest_.size());
  }

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<CheckpointError>("read_llama2c", "{}: {}", path().string(), fmt::format(message, std::forward<Args>(args)...));
  }

  std::span<const std::byte> take_bytes(std::size_t count) {
    if (count > rest_.size()) {
      refuse("the file has {} bytes, too few for the model its header describes", file_->bytes().size());
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

  void read_numbers() {
    std::array<int32_t, 7> numbers{};
    std::memcpy(numbers.data(), take_bytes(sizeof numbers).data(), sizeof numbers);
    // Widened before the sign is dropped: the smallest int32 has no positive twin.
    std::array<int64_t, 7> wide{};
    std::copy(numbers.begin(), numbers.end(), wide.begin());
    config_ = {wide[0], wide[1], wide[2], wide[3], wide[4], wide[5], wide[6]};
  }

  void check_numbers() const {
    const auto& c = config_;
    const int64_t smallest =
        std::min({c.dim, c.hidden_dim, c.n_layers, c.n_heads, c.n_kv_heads, c.vocab_size, c.seq_len});
    if (smallest < 1 || c.dim % c.n_heads != 0 || c.n_heads % c.n_kv_heads != 0 || c.head_size() % 2 != 0) {
      refuse(
          "the header (dim {}, hidden_dim {}, n_layers {}, n_heads {}, n_kv_heads {}, vocab_size {}, seq_len {}) "
          "describes no model",
          c.dim, c.hidden_dim, c.n_layers, c.n_heads, c.n_kv_heads, c.vocab_size, c.seq_len);
    }
  }

  /// The next product(shape) floats. Sizes are positive int32, so only the product can overflow.
  std::span<const float> take(std::initializer_list<int64_t> shape) {
    int64_t bytes = sizeof(float);
    for (const int64_t size : shape) {
      if (__builtin_mul_overflow(bytes, size, &bytes)) bytes = std::numeric_limits<int64_t>::max();
    }
    const auto taken = take_bytes(static_cast<std::size_t>(bytes));
    // Both headers are multiples of four bytes long, and a mapping starts on a page.
    return {reinterpret_cast<const float*>(taken.data()), taken.size() / sizeof(float)};
  }

  void take_tensor(const std::string& name, int64_t rows, int64_t columns) {
    tensors_[name] = {{rows, columns}, take({rows, columns})};
  }

  /// One tensor of each layer, stored together; columns = 0 means vectors.
  void take_layers(std::string_view name, int64_t rows, int64_t columns = 0) {
    const int64_t size = columns ? rows * columns : rows;
    const auto all = take({config_.n_layers, rows, columns ? columns : 1});
    for (int64_t layer = 0; layer < config_.n_layers; ++layer) {
      auto shape = columns ? std::vector<int64_t>{rows, columns} : std::vector<int64_t>{rows};
      tensors_[fmt::format("model.layers.{}.{}.weight", layer, name)] = {std::move(shape),
                                                                         all.subspan(layer * size, size)};
    }
  }

  void take_attention() {
    const int64_t dim = config_.dim, kv_dim = config_.n_kv_heads * config_.head_size();
    take_layers("self_attn.q_proj", dim, dim);
    take_layers("self_attn.k_proj", kv_dim, dim);
    take_layers("self_attn.v_proj", kv_dim, dim);
    take_layers("self_attn.o_proj", dim, dim);
  }

  void take_mlp() {
    take_layers("mlp.gate_proj", config_.hidden_dim, config_.dim);
    take_layers("mlp.down_proj", config_.dim, config_.hidden_dim);
    take_layers("mlp.up_proj", config_.hidden_dim, config_.dim);
  }

  void take_final_norm() { tensors_["model.norm.weight"] = {{config_.dim}, take({config_.dim})}; }

  void read_legacy() {
    read_numbers();
    config_.shared_classifier = config_.vocab_size > 0;
    config_.vocab_size = std::abs(config_.vocab_size);
    check_numbers();
    take_tensor("model.embed_tokens.weight", config_.vocab_size, config_.dim);
    take_layers("input_layernorm", config_.dim);
    take_attention();
    take_layers("post_attention_layernorm", config_.dim);
    take_mlp();
    take_final_norm();
    take({config_.seq_len, config_.head_size() / 2});  // RoPE cosines,
    take({config_.seq_len, config_.head_size() / 2});  // and sines: recomputed by every reader
    if (!config_.shared_classifier) take_tensor("lm_head.weight", config_.vocab_size, config_.dim);
  }

  void read_version1() {
    const auto whole = rest_;
    take_bytes(sizeof kMagic);
    int32_t version = 0;
    std::memcpy(&version, take_bytes(sizeof version).data(), sizeof version);
    if (version != 1) refuse("expected version 1 (float32), got version {}", version);
    read_numbers();
    config_.shared_classifier = take_bytes(1)[0] != std::byte{0};
    rest_ = whole;
    take_bytes(kVersion1HeaderBytes);
    check_numbers();
    take_layers("input_layernorm", config_.dim);
    take_layers("post_attention_layernorm", config_.dim);
    take_final_norm();
    take_tensor("model.embed_tokens.weight", config_.vocab_size, config_.dim);
    take_attention();
    take_mlp();
    if (!config_.shared_classifier) take_tensor("lm_head.weight", config_.vocab_size, config_.dim);
  }

  std::shared_ptr<const MappedFile> file_;
  std::span<const std::byte> rest_;
  Llama2cConfig config_;
  std::map<std::string, FloatView> tensors_;
};

}  // namespace reft
