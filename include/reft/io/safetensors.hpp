#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/io/atomic_file.hpp"
#include "reft/io/mapped_file.hpp"
#include "reft/io/near_names.hpp"

namespace reft {

static_assert(std::endian::native == std::endian::little, "safetensors stores little-endian values");

/// One tensor of a safetensors file: row-major values of `dtype` ("F32", "BF16", …), not necessarily aligned for it.
struct TensorView {
  std::string dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

using TensorViews = std::map<std::string, TensorView>;
using Metadata = std::map<std::string, std::string>;

namespace detail {

/// Bytes per value of a safetensors dtype; nothing for an unknown one.
inline std::optional<int64_t> safetensors_dtype_bytes(std::string_view dtype) {
  constexpr std::array<std::pair<std::string_view, int64_t>, 15> kBytes = {{{"F64", 8},
                                                                            {"I64", 8},
                                                                            {"U64", 8},
                                                                            {"F32", 4},
                                                                            {"I32", 4},
                                                                            {"U32", 4},
                                                                            {"F16", 2},
                                                                            {"BF16", 2},
                                                                            {"I16", 2},
                                                                            {"U16", 2},
                                                                            {"I8", 1},
                                                                            {"U8", 1},
                                                                            {"BOOL", 1},
                                                                            {"F8_E4M3", 1},
                                                                            {"F8_E5M2", 1}}};
  for (const auto& [name, bytes] : kBytes) {
    if (name == dtype) return bytes;
  }
  return std::nullopt;
}

/// Product of the sizes, times `bytes`; nothing if one is negative or the product leaves int64.
inline std::optional<int64_t> checked_byte_count(std::span<const int64_t> shape, int64_t bytes) {
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  }
  return bytes;
}

/// The header of one safetensors file, checked entry by entry.
class SafetensorsHeader {
 public:
  explicit SafetensorsHeader(const MappedFile& file) : file_(file) {
    const auto bytes = file.bytes();
    uint64_t length = 0;
    if (bytes.size() < sizeof length) refuse("the file has {} bytes, too few for a header", bytes.size());
    std::memcpy(&length, bytes.data(), sizeof length);
    if (length > std::min<uint64_t>(kLongestHeader, bytes.size() - sizeof length)) {
      refuse("the header claims {} bytes, but the file has {}; it is truncated or not a safetensors file", length,
             bytes.size());
    }
    payload_ = bytes.subspan(sizeof length + length);
    const auto header = parse(file.text().substr(sizeof length, length));
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(entry);
      } else {
        read_tensor(name, entry);
      }
    }
    check_coverage();
  }

  TensorViews tensors;
  Metadata metadata;

 private:
  static constexpr uint64_t kLongestHeader = 100'000'000;  // the limit of the reference implementation

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<CheckpointError>("read_safetensors", "{}: {}", file_.path().string(),
                          fmt::format(message, std::forward<Args>(args)...));
  }

  nlohmann::json parse(std::string_view text) const {
    using Event = nlohmann::json::parse_event_t;
    // The parser keeps the last of two equal keys silently, and builds whatever nesting it is given.
    std::array<std::set<std::string>, 2> keys;
    const auto check = [&](int depth, Event event, nlohmann::json& value) {
      if (depth > 3) refuse("the header is nested too deeply");
      if (event != Event::key) return true;
      if (depth == 1) keys[1].clear();
      if (const auto& name = value.get_ref<const std::string&>(); depth <= 2 && !keys[depth - 1].insert(name).second) {
        refuse("the header names \"{}\" twice", name);
      }
      return true;
    };
    try {
      auto header = nlohmann::json::parse(text, check);
      if (!header.is_object()) refuse("the header is not a JSON object");
      return header;
    } catch (const nlohmann::json::exception&) {
      refuse("the header is not JSON");
    }
  }

  void read_metadata(const nlohmann::json& entry) {
    if (!entry.is_object()) refuse("__metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) refuse("__metadata__.{} is not a string", key);
      metadata[key] = value.get<std::string>();
    }
  }

  /// entry[key] as non-negative integers.
  std::vector<int64_t> sizes(const std::string& name, const nlohmann::json& entry, const char* key) const {
    const auto found = entry.find(key);
    if (found == entry.end() || !found->is_array()) refuse("tensor {}: expected a list \"{}\"", name, key);
    std::vector<int64_t> values;
    for (const auto& value : *found) {
      if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
        refuse("tensor {}: {} holds {}, which is no size", name, key, value.dump());
      }
      values.push_back(value.get<int64_t>());
    }
    return values;
  }

  void read_tensor(const std::string& name, const nlohmann::json& entry) {
    if (!entry.is_object()) refuse("tensor {}: expected an object", name);
    const auto dtype = entry.find("dtype");
    if (dtype == entry.end() || !dtype->is_string()) refuse("tensor {}: expected a text \"dtype\"", name);
    TensorView view{dtype->get<std::string>(), sizes(name, entry, "shape"), {}};
    const auto value_bytes = safetensors_dtype_bytes(view.dtype);
    if (!value_bytes) refuse("tensor {}: unknown dtype \"{}\"", name, view.dtype);
    const auto offsets = sizes(name, entry, "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1]) refuse("tensor {}: data_offsets are not a range", name);
    if (static_cast<uint64_t>(offsets[1]) > payload_.size()) {
      refuse("tensor {}: its data ends at byte {}, but the file holds {}; it is truncated or damaged", name, offsets[1],
             payload_.size());
    }
    const auto expected = checked_byte_count(view.shape, *value_bytes);
    if (expected != offsets[1] - offsets[0]) {
      refuse("tensor {}: {} of shape [{}] does not fill {} bytes", name, view.dtype, fmt::join(view.shape, ", "),
             offsets[1] - offsets[0]);
    }
    view.data = payload_.subspan(offsets[0], offsets[1] - offsets[0]);
    tensors.emplace(name, std::move(view));
  }

  /// As the format demands, every payload byte belongs to exactly one tensor.
  void check_coverage() const {
    std::vector<const TensorViews::value_type*> order;
    for (const auto& tensor : tensors) order.push_back(&tensor);
    const auto begin = [&](const auto* tensor) { return tensor->second.data.data() - payload_.data(); };
    std::stable_sort(order.begin(), order.end(), [&](const auto* a, const auto* b) {
      return std::pair(begin(a), a->second.data.size()) < std::pair(begin(b), b->second.data.size());
    });
    std::ptrdiff_t covered = 0;
    for (const auto* tensor : order) {
      if (begin(tensor) < covered) refuse("tensor {}: its data overlaps another tensor's", tensor->first);
      if (const auto gap = begin(tensor) - covered; gap > 0) {
        refuse("the {} bytes before tensor {} belong to none", gap, tensor->first);
      }
      covered += std::ssize(tensor->second.data);
    }
    if (const auto rest = std::ssize(payload_) - covered; rest > 0) {
      refuse("the last {} bytes belong to no tensor", rest);
    }
  }

  const MappedFile& file_;
  std::span<const std::byte> payload_;
};

}  // namespace detail

/// A safetensors file, memory-mapped; every size, range and name is checked when it is opened, values are not read.
/// Ref: github.com/huggingface/safetensors, "Format".
class SafetensorsFile {
 public:
  /// @throws CheckpointError for a missing, truncated or malformed file.
  static SafetensorsFile open(const std::filesystem::path& path) { return SafetensorsFile(MappedFile::open(path)); }

  const TensorViews& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_->path(); }
  /// Owns the memory of all views: keep it as long as one of them is in use.
  std::shared_ptr<const MappedFile> file() const { return file_; }

  bool contains(const std::string& name) const { return tensors_.contains(name); }

  /// @throws CheckpointError naming the tensor, the file and similar names.
  const TensorView& at(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      fail<CheckpointError>("read_safetensors", "{}: it has no tensor \"{}\"{}", path().string(), name,
                            detail::did_you_mean(name, tensors_));
    }
    return found->second;
  }

 private:
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {
    detail::SafetensorsHeader header(*file_);
    tensors_ = std::move(header.tensors);
    metadata_ = std::move(header.metadata);
  }

  std::shared_ptr<const MappedFile> file_;
  TensorViews tensors_;
  Metadata metadata_;
};

/// 16 hexadecimal digits over names, types, shapes and values: of, for each tensor in the order of names,
/// `name \0 dtype \0 size \0 size \0 … \0` and then its bytes, each of these filled up with zeros to words w of 8 bytes,
///   hash = (hash ^ w) · p;   hash = hash ^ (hash >> 32),   with the start and the prime p of 64-bit FNV-1a
/// Any single changed word changes it, as each step can be undone. It tells damage, not forgery.
inline std::string content_hash(const TensorViews& tensors) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::size_t count = std::min<std::size_t>(8, bytes.size());
      uint64_t word = 0;
      std::memcpy(&word, bytes.data(), count);
      hash = (hash ^ word) * 0x100000001b3;
      hash ^= hash >> 32;
      bytes = bytes.subspan(count);
    }
  };
  const auto add_text = [&](std::string_view text) {
    add(std::as_bytes(std::span(text)));
    add(std::array{std::byte{0}});
  };
  for (const auto& [name, view] : tensors) {
    add_text(name);
    add_text(view.dtype);
    for (const int64_t size : view.shape) add_text(std::to_string(size));
    add_text("");
    add(view.data);
  }
  return fmt::format("{:016x}", hash);
}

/// @throws CheckpointError unless the file's metadata holds the `content_hash` of its tensors.
inline void verify_content_hash(const SafetensorsFile& file) {
  const auto stored = file.metadata().find("content_hash");
  if (stored == file.metadata().end()) {
    fail<CheckpointError>("read_safetensors", "{}: expected a content_hash in its metadata", file.path().string());
  }
  if (const auto found = content_hash(file.tensors()); found != stored->second) {
    fail<CheckpointError>("read_safetensors", "{}: the content hash is {}, but {} was written; the file is damaged",
                          file.path().string(), found, stored->second);
  }
}

/// Writes tensors atomically, and the same bytes for the same input: wider dtypes first, then by name, so that every
/// value is aligned in the file. @throws ConfigError for bytes that do not fit dtype and shape; Error if it cannot
/// write.
inline void write_safetensors(const std::filesystem::path& path, const TensorViews& tensors,
                              const Metadata& metadata = {}) {
  std::vector<std::pair<int64_t, const TensorViews::value_type*>> order;
  for (const auto& tensor : tensors) {
    const auto& [name, view] = tensor;
    const auto value_bytes = detail::safetensors_dtype_bytes(view.dtype);
    if (name == "__metadata__") fail<ConfigError>("write_safetensors", "a tensor cannot be called __metadata__");
    if (!value_bytes) fail<ConfigError>("write_safetensors", "tensor {}: unknown dtype \"{}\"", name, view.dtype);
    if (detail::checked_byte_count(view.shape, *value_bytes) != std::ssize(view.data)) {
      fail<ConfigError>("write_safetensors", "tensor {}: {} of shape [{}] does not fill {} bytes", name, view.dtype,
                        fmt::join(view.shape, ", "), view.data.size());
    }
    order.emplace_back(-*value_bytes, &tensor);
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second->first) < std::tie(b.first, b.second->first);
  });
  auto header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const auto& [width, tensor] : order) {
    const auto& [name, view] = *tensor;
    header[name] = {
        {"dtype", view.dtype}, {"shape", view.shape}, {"data_offsets", {offset, offset + view.data.size()}}};
    offset += view.data.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    fail<ConfigError>("write_safetensors", "{}: names and metadata must be UTF-8", path.string());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  write_file_atomically(path, [&](FileWriter& writer) {
    writer.write(std::as_bytes(std::span(&length, 1)));
    writer.write(text);
    for (const auto& [width, tensor] : order) writer.write(tensor->second.data);
  });
}

}  // namespace reft
