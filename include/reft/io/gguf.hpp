#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/io/atomic_file.hpp"
#include "reft/io/mapped_file.hpp"

namespace reft {

// Note [GGUF]
// "GGUF", version 3, the number of tensors and of metadata entries (u64 each), the entries (key, type, value), the
// tensors' names, sizes, types and offsets, then from the next multiple of the alignment on the values. All numbers are
// little-endian; a string is its u64 length and its bytes; sizes are listed innermost first.
// Ref: ggml's docs/gguf.md. Read here: vectors and matrices of float32, which is what control vectors are made of.

static_assert(std::endian::native == std::endian::little, "GGUF is read and written on little-endian machines");

/// One tensor of a GGUF file: float32 values in the file's memory.
struct GgufTensor {
  std::vector<int64_t> shape;  // outermost first, as torch has it
  std::span<const float> values;
};

namespace detail {

enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

inline constexpr uint32_t kGgufVersion = 3, kGgmlFloat32 = 0;
inline constexpr uint64_t kGgufAlignment = 32;

inline uint64_t align_gguf(uint64_t offset, uint64_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

/// Takes numbers and strings from the front of a file.
class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, std::string path) : bytes_(bytes), path_(std::move(path)) {}

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<CheckpointError>("read_gguf", "{}: {}", path_, fmt::format(message, std::forward<Args>(args)...));
  }

  std::span<const std::byte> take(uint64_t count) {
    if (count > bytes_.size() - position_) refuse("it is truncated: {} bytes wanted at offset {} of {}", count, position_, bytes_.size());
    const auto taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view string() {
    const auto text = take(number<uint64_t>());
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  /// A metadata value; of arrays only the length is kept.
  nlohmann::json value(GgufType type, int depth = 0) {
    switch (type) {
      case GgufType::u8: return number<uint8_t>();
      case GgufType::i8: return number<int8_t>();
      case GgufType::u16: return number<uint16_t>();
      case GgufType::i16: return number<int16_t>();
      case GgufType::u32: return number<uint32_t>();
      case GgufType::i32: return number<int32_t>();
      case GgufType::f32: return number<float>();
      case GgufType::boolean: return number<uint8_t>() != 0;
      case GgufType::string: return std::string(string());
      case GgufType::u64: return number<uint64_t>();
      case GgufType::i64: return number<int64_t>();
      case GgufType::f64: return number<double>();
      case GgufType::array: break;
    }
    if (type != GgufType::array || depth > 2) refuse("metadata of type {}", static_cast<uint32_t>(type));
    const auto element = number<GgufType>();
    const auto count = number<uint64_t>();
    for (uint64_t i = 0; i < count; ++i) value(element, depth + 1);  // every element takes a byte or more of the file
    return count;
  }

  uint64_t position() const { return position_; }

 private:
  std::span<const std::byte> bytes_;
  std::string path_;
  uint64_t position_ = 0;
};

inline void append_gguf(std::string& out, const auto& number) { out.append(reinterpret_cast<const char*>(&number), sizeof(number)); }

inline void append_gguf(std::string& out, std::string_view text) {
  append_gguf(out, uint64_t{text.size()});
  out += text;
}

}  // namespace detail

/// The metadata and the float32 tensors of a GGUF file; see Note [GGUF].
class GgufFile {
 public:
  /// @throws CheckpointError for a missing or damaged file, another version, or a tensor that is not float32.
  static GgufFile open(const std::filesystem::path& path) {
    GgufFile file;
    file.file_ = MappedFile::open(path);
    file.parse(detail::GgufCursor(file.file_->bytes(), path.string()));
    return file;
  }

  const std::map<std::string, nlohmann::json>& metadata() const { return metadata_; }

  /// By name; valid as long as this file.
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }

 private:
  void parse(detail::GgufCursor cursor) {
    const auto magic = cursor.take(4);
    if (std::memcmp(magic.data(), "GGUF", 4) != 0) cursor.refuse("expected a GGUF file");
    if (const auto version = cursor.number<uint32_t>(); version != detail::kGgufVersion) cursor.refuse("expected version 3, got {}", version);
    const auto num_tensors = cursor.number<uint64_t>(), num_entries = cursor.number<uint64_t>();
    for (uint64_t i = 0; i < num_entries; ++i) {
      const std::string key(cursor.string());
      metadata_[key] = cursor.value(cursor.number<detail::GgufType>());
    }
    std::map<std::string, uint64_t> offsets;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      const std::string name(cursor.string());
      if (!offsets.emplace(name, 0).second) cursor.refuse("two tensors are called {}", name);
      std::tie(tensors_[name].shape, offsets[name]) = read_place(cursor, name);
    }
    const auto stated = metadata_.find("general.alignment");
    const uint64_t alignment = stated != metadata_.end() && stated->second.is_number_unsigned() ? stated->second.get<uint64_t>() : detail::kGgufAlignment;
    if (alignment < sizeof(float) || alignment > 4096 || !std::has_single_bit(alignment)) cursor.refuse("alignment {}", alignment);
    const uint64_t begin = detail::align_gguf(cursor.position(), alignment), size = file_->bytes().size();
    for (auto& [name, tensor] : tensors_) {
      uint64_t count = 1;
      for (const int64_t length : tensor.shape) count *= static_cast<uint64_t>(length);
      const uint64_t offset = offsets[name];
      if (offset % alignment != 0 || begin > size || offset > size - begin || count > (size - begin - offset) / sizeof(float)) {
        cursor.refuse("tensor {} lies outside the file", name);
      }
      tensor.values = {reinterpret_cast<const float*>(file_->bytes().data() + begin + offset), count};
    }
  }

  // The shape of a tensor, and where its values are after the alignment.
  static std::pair<std::vector<int64_t>, uint64_t> read_place(detail::GgufCursor& cursor, const std::string& name) {
    constexpr uint64_t kMost = uint64_t{1} << 31;
    const auto dimensions = cursor.number<uint32_t>();
    if (dimensions < 1 || dimensions > 2) cursor.refuse("tensor {}: expected a vector or a matrix, got {} dimensions", name, dimensions);
    std::vector<int64_t> shape(dimensions);
    for (auto length = shape.rbegin(); length != shape.rend(); ++length) {
      const auto stored = cursor.number<uint64_t>();
      if (stored > kMost) cursor.refuse("tensor {} is {} long", name, stored);
      *length = static_cast<int64_t>(stored);
    }
    if (const auto type = cursor.number<uint32_t>(); type != detail::kGgmlFloat32) {
      cursor.refuse("tensor {}: expected float32, got ggml's type {}", name, type);
    }
    return {shape, cursor.number<uint64_t>()};
  }

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, nlohmann::json> metadata_;
  std::map<std::string, GgufTensor> tensors_;
};

/// Writes a GGUF file, whole or not at all.
/// @param metadata  strings and unsigned numbers (stored as u32), in this order.
/// @throws Error where it cannot be written.
inline void write_gguf(const std::filesystem::path& path, const std::vector<std::pair<std::string, nlohmann::json>>& metadata,
                       const std::map<std::string, GgufTensor>& tensors) {
  using detail::append_gguf;
  std::string header = "GGUF";
  append_gguf(header, detail::kGgufVersion);
  append_gguf(header, uint64_t{tensors.size()});
  append_gguf(header, uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    append_gguf(header, std::string_view(key));
    append_gguf(header, value.is_string() ? detail::GgufType::string : detail::GgufType::u32);
    if (value.is_string()) append_gguf(header, std::string_view(value.get_ref<const std::string&>()));
    else append_gguf(header, value.get<uint32_t>());
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    append_gguf(header, std::string_view(name));
    append_gguf(header, static_cast<uint32_t>(tensor.shape.size()));
    for (auto length = tensor.shape.rbegin(); length != tensor.shape.rend(); ++length) append_gguf(header, static_cast<uint64_t>(*length));
    append_gguf(header, detail::kGgmlFloat32);
    append_gguf(header, offset);
    offset = detail::align_gguf(offset + tensor.values.size_bytes(), detail::kGgufAlignment);
  }
  write_file_atomically(path, [&](FileWriter& writer) {
    const auto write_aligned = [&](std::span<const std::byte> bytes) {
      writer.write(bytes);
      writer.write(std::string(detail::align_gguf(bytes.size(), detail::kGgufAlignment) - bytes.size(), '\0'));
    };
    write_aligned(std::as_bytes(std::span(header)));
    for (const auto& [name, tensor] : tensors) write_aligned(std::as_bytes(tensor.values));
  });
}

}  // namespace reft
