#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/io/mapped_file.hpp"
#include "reft/io/pickle.hpp"
#include "reft/io/safetensors.hpp"
#include "reft/io/zip.hpp"

namespace reft {

// Note [torch.save]
// A zip archive, Note [Zip archives of stored entries], with one folder: `data.pkl`, a pickle of the saved object, in
// which a tensor is the call `_rebuild_tensor_v2(storage, offset, size, stride, …)` and a storage the persistent id
// ('storage', torch.FloatStorage, '0', 'cpu', number of values); and `data/0`, `data/1`, …, the bytes of the storages.
// Ref: torch/serialization.py, `_save` and `_load`; torch/_utils.py.

/// One tensor of a torch.save file. The value at (i, j, …) is value number i·strides[0] + j·strides[1] + … of `data`,
/// which need not be aligned; `dtype` is named as in safetensors.
struct StridedTensorView {
  std::string dtype;
  std::vector<int64_t> shape, strides;
  std::span<const std::byte> data;
};

using StridedTensorViews = std::map<std::string, StridedTensorView>;

namespace detail {

struct TorchStorage {
  std::string_view global, dtype;
};

inline constexpr std::array<TorchStorage, 10> kTorchStorages{{{"torch.FloatStorage", "F32"},
                                                              {"torch.BFloat16Storage", "BF16"},
                                                              {"torch.HalfStorage", "F16"},
                                                              {"torch.DoubleStorage", "F64"},
                                                              {"torch.LongStorage", "I64"},
                                                              {"torch.IntStorage", "I32"},
                                                              {"torch.ShortStorage", "I16"},
                                                              {"torch.CharStorage", "I8"},
                                                              {"torch.ByteStorage", "U8"},
                                                              {"torch.BoolStorage", "BOOL"}}};

inline constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2",
                                  kRebuildParameter = "torch._utils._rebuild_parameter";

/// Every global a file of tensors needs.
inline constexpr auto kTorchGlobals = [] {
  std::array<std::string_view, kTorchStorages.size() + 2> names{kRebuildTensor, kRebuildParameter};
  for (std::size_t i = 0; i < kTorchStorages.size(); ++i) names[i + 2] = kTorchStorages[i].global;
  return names;
}();

/// The dict of tensors in one torch.save file.
class TorchArchive {
 public:
  explicit TorchArchive(const MappedFile& file) : file_(file) {
    // Before torch 1.6: a pickle of a magic number, and raw storages behind it.
    if (file.text().starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")) {
      refuse("it was saved in torch's format before 1.6; load and save it once with a newer torch");
    }
    entries_ = read_zip(file);
    const auto pickled = find_pickle();
    const Pickle pickle = Pickle::parse(pickled, file.path().string(), kTorchGlobals);
    const auto* dict = pickle.root().as<PickleDict>();
    if (dict == nullptr) refuse("expected a dict of tensors, got {}", pickle.root().kind());
    for (const auto& [name, value] : dict->items) tensors.emplace(name, read_tensor(name, *value));
  }

  StridedTensorViews tensors;

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    fail<CheckpointError>("read_torch_zip", "{}: {}", file_.path().string(), fmt::format(message, std::forward<Args>(args)...));
  }

  /// Finds `<folder>/data.pkl`; the folder's name is the file's own at the time it was saved, or "archive".
  std::span<const std::byte> find_pickle() {
    constexpr std::string_view kName = "data.pkl";
    const std::pair<const std::string, std::span<const std::byte>>* found = nullptr;
    for (const auto& entry : entries_) {
      if (!entry.first.ends_with("/data.pkl")) continue;
      if (found != nullptr) refuse("both {} and {} are in it, expected one data.pkl", found->first, entry.first);
      found = &entry;
    }
    if (found == nullptr) refuse("it has no data.pkl, so torch.save did not write it");
    folder_ = found->first.substr(0, found->first.size() - kName.size());
    const auto order = entries_.find(folder_ + "byteorder");
    if (order != entries_.end() && text(order->second) != "little") refuse("expected values in little-endian order");
    return found->second;
  }

  static std::string_view text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  template <class T>
  const T& expect(const std::string_view name, const PickleItems& items, std::size_t index, std::string_view what) const {
    if (const T* value = items[index]->as<T>()) return *value;
    refuse("tensor {}: its {} is {}", name, what, items[index]->kind());
  }

  /// The arguments of a call of `function` with at least `count` of them, or nothing.
  static const PickleItems* call_of(const PickleValue& value, std::string_view function, std::size_t count) {
    const auto* call = value.as<PickleCall>();
    return call != nullptr && call->function == function && call->arguments.size() >= count ? &call->arguments : nullptr;
  }

  StridedTensorView read_tensor(std::string_view name, const PickleValue& value) const {
    const PickleItems* parameter = call_of(value, kRebuildParameter, 1);
    const PickleItems* call = call_of(parameter != nullptr ? *parameter->front() : value, kRebuildTensor, 4);
    if (call == nullptr) refuse("{}: expected a tensor, got {}", name, value.kind());
    const auto& persistent = expect<PicklePersistent>(name, *call, 0, "storage");
    const int64_t offset = expect<int64_t>(name, *call, 1, "offset");
    StridedTensorView view;
    view.shape = sizes(name, expect<PickleTuple>(name, *call, 2, "shape"));
    view.strides = sizes(name, expect<PickleTuple>(name, *call, 3, "list of strides"));
    const auto storage = read_storage(name, *persistent.id, view.dtype);
    const int64_t value_bytes = *safetensors_dtype_bytes(view.dtype);
    const auto extent = extent_of(view, std::ssize(storage) / value_bytes - offset);
    if (offset < 0 || !extent) {
      refuse("tensor {}: shape [{}] with strides [{}] from value {} does not fit its storage of {} values", name,
             fmt::join(view.shape, ", "), fmt::join(view.strides, ", "), offset, std::ssize(storage) / value_bytes);
    }
    view.data = storage.subspan(offset * value_bytes, *extent * value_bytes);
    return view;
  }

  std::vector<int64_t> sizes(std::string_view name, const PickleTuple& tuple) const {
    std::vector<int64_t> values;
    for (std::size_t i = 0; i < tuple.items.size(); ++i) values.push_back(expect<int64_t>(name, tuple.items, i, "shape"));
    return values;
  }

  /// How many values of the storage a view spans: 1 + Σ (shape_i − 1)·strides_i. Nothing if that exceeds `available`,
  /// or if the view repeats values: a stride of 0 would make any shape out of few bytes.
  static std::optional<int64_t> extent_of(const StridedTensorView& view, int64_t available) {
    constexpr std::size_t kMostDimensions = 64;
    if (view.shape.size() != view.strides.size() || view.shape.size() > kMostDimensions || available < 0) return std::nullopt;
    int64_t extent = 1;
    bool empty = false;
    for (std::size_t i = 0; i < view.shape.size(); ++i) {
      int64_t step = 0;
      if (view.shape[i] < 0 || view.strides[i] < 0) return std::nullopt;
      empty |= view.shape[i] == 0;
      if (view.shape[i] == 0) continue;
      if (__builtin_mul_overflow(view.shape[i] - 1, view.strides[i], &step)) return std::nullopt;
      if (__builtin_add_overflow(extent, step, &extent)) return std::nullopt;
    }
    const auto count = checked_byte_count(view.shape, 1);
    if (!count || *count > available) return std::nullopt;
    if (empty) return 0;
    return extent <= available ? std::optional(extent) : std::nullopt;
  }

  /// ('storage', torch.FloatStorage, '0', 'cpu', number of values)
  std::span<const std::byte> read_storage(std::string_view name, const PickleValue& id, std::string& dtype) const {
    const auto* tuple = id.as<PickleTuple>();
    if (tuple == nullptr || tuple->items.size() != 5) refuse("tensor {}: its storage is not described as torch does", name);
    if (expect<std::string_view>(name, tuple->items, 0, "storage") != "storage") refuse("tensor {}: its storage is none", name);
    const auto& global = expect<PickleGlobal>(name, tuple->items, 1, "type");
    for (const TorchStorage& storage : kTorchStorages) {
      if (storage.global == global.name) dtype = storage.dtype;
    }
    if (dtype.empty()) refuse("tensor {}: its type is {}", name, global.name);
    const auto key = expect<std::string_view>(name, tuple->items, 2, "storage key");
    const int64_t count = expect<int64_t>(name, tuple->items, 4, "number of values");
    const auto entry = entries_.find(fmt::format("{}data/{}", folder_, key));
    if (entry == entries_.end()) refuse("tensor {}: its storage data/{} is missing", name, key);
    const auto bytes = count < 0 ? std::nullopt : checked_byte_count(std::array{count}, *safetensors_dtype_bytes(dtype));
    if (bytes != std::ssize(entry->second)) {
      refuse("tensor {}: its storage should hold {} values of {}, but has {} bytes", name, count, dtype, entry->second.size());
    }
    return entry->second;
  }

  const MappedFile& file_;
  ZipEntries entries_;
  std::string folder_;
};

/// A state dict in the words of torch.save, with storage i for tensor i.
inline std::string pickle_state_dict(const TensorViews& tensors) {
  PickleWriter pickle;
  pickle.empty_ordered_dict().opcode('(');
  int64_t index = 0;
  for (const auto& [name, view] : tensors) {
    std::string_view storage;
    for (const TorchStorage& candidate : kTorchStorages) {
      if (candidate.dtype == view.dtype) storage = candidate.global.substr(candidate.global.find('.') + 1);
    }
    if (storage.empty()) fail<ConfigError>("write_torch_zip", "tensor {}: torch has no storage of {}", name, view.dtype);
    const auto bytes = checked_byte_count(view.shape, *safetensors_dtype_bytes(view.dtype));
    if (bytes != std::ssize(view.data)) {
      fail<ConfigError>("write_torch_zip", "tensor {}: {} of shape [{}] does not fill {} bytes", name, view.dtype,
                        fmt::join(view.shape, ", "), view.data.size());
    }
    std::vector<int64_t> strides(view.shape.size(), 1);
    for (std::size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * view.shape[i];
    pickle.text(name).global("torch._utils", "_rebuild_tensor_v2").opcode('(');
    pickle.opcode('(').text("storage").global("torch", storage).text(std::to_string(index++)).text("cpu");
    pickle.integer(*bytes / *safetensors_dtype_bytes(view.dtype)).opcode('t').opcode('Q').integer(0);
    pickle.integers(view.shape).integers(strides).opcode(0x89).empty_ordered_dict().opcode('t').opcode('R');
  }
  return pickle.opcode('u').finish();
}

}  // namespace detail

/// A file of named tensors as torch.save writes a state dict, memory-mapped; see Note [torch.save]. Nothing in it is run.
/// Every offset, size and CRC-32 is checked when it is opened.
class TorchZipFile {
 public:
  /// @throws CheckpointError for a missing, damaged or hostile file, or one that holds anything but a dict of tensors.
  static TorchZipFile open(const std::filesystem::path& path) { return TorchZipFile(MappedFile::open(path)); }

  const StridedTensorViews& tensors() const { return tensors_; }
  const std::filesystem::path& path() const { return file_->path(); }
  /// Owns the memory of all views: keep it as long as one of them is in use.
  std::shared_ptr<const MappedFile> file() const { return file_; }

 private:
  explicit TorchZipFile(std::shared_ptr<const MappedFile> file)
      : file_(std::move(file)), tensors_(std::move(detail::TorchArchive(*file_).tensors)) {}

  std::shared_ptr<const MappedFile> file_;
  StridedTensorViews tensors_;
};

/// Writes named tensors to `sink` as torch.save writes a state dict; `torch.load` reads them, with weights_only too.
/// @throws ConfigError for a dtype torch has no storage of, bytes that do not fit dtype and shape, or 4 GiB and more.
template <class Sink>
void write_torch_zip(Sink& sink, const TensorViews& tensors) {
  const std::string pickle = detail::pickle_state_dict(tensors);
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  std::vector<std::pair<std::string, std::span<const std::byte>>> entries{{"archive/data.pkl", bytes(pickle)},
                                                                          {"archive/byteorder", bytes("little")}};
  int64_t index = 0;
  for (const auto& [name, view] : tensors) entries.emplace_back(fmt::format("archive/data/{}", index++), view.data);
  entries.emplace_back("archive/version", bytes("3\n"));
  write_zip(sink, entries);
}

}  // namespace reft
