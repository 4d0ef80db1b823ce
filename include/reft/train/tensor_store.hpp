#pragma once

#include <torch/types.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// Where what an objective computes once for each example is kept. That for which there is room in neither place is computed
/// each time.
struct CacheOptions {
  int64_t memory_bytes = int64_t{1} << 30;
  int64_t file_bytes = int64_t{16} << 30;  ///< of a temporary file without a name
};

namespace detail {

/// Tensors by the tokens they are a function of: in memory up to a limit, others up to a second one in a nameless file that
/// ends with the store.
class TensorStore {
 public:
  explicit TensorStore(const CacheOptions& options) : options_(options) {}

  int64_t bytes_in_memory() const { return used_bytes_; }
  int64_t num_computed() const { return num_computed_; }

  /// The tensor of these tokens, computed where it is not kept.   @param compute  its value is brought to the CPU.
  /// @return one that nobody else writes to.   @throws Error if the disk is full.
  template <class Compute>
  torch::Tensor get(std::span<const int64_t> ids, Compute compute) {
    const std::string key(reinterpret_cast<const char*>(ids.data()), ids.size_bytes());
    if (const auto found = entries_.find(key); found != entries_.end()) return read(found->second);
    const torch::Tensor value = compute().to(torch::kCPU).contiguous();
    ++num_computed_;
    keep(key, value);
    return value;
  }

 private:
  struct Entry {
    torch::Tensor value;         // or, of one in the file, nothing but its dtype
    int64_t offset = 0;
    std::vector<int64_t> shape;  // of one in the file
  };
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  // Where there is room.
  void keep(const std::string& key, const torch::Tensor& value) {
    const auto bytes = static_cast<int64_t>(value.nbytes());
    if (used_bytes_ + bytes <= options_.memory_bytes) {
      used_bytes_ += bytes;
      entries_[key] = {value, 0};
      return;
    }
    if (filed_bytes_ + bytes > options_.file_bytes) return;
    filed_bytes_ += bytes;
    if (!file_) file_.reset(std::tmpfile());
    if (!file_ || std::fseek(file_.get(), 0, SEEK_END) != 0) refuse();
    const int64_t offset = std::ftell(file_.get());
    if (std::fwrite(value.const_data_ptr(), 1, value.nbytes(), file_.get()) != value.nbytes() || std::fflush(file_.get()) != 0) refuse();
    entries_[key] = {torch::empty({0}, value.options()), offset, value.sizes().vec()};
  }

  torch::Tensor read(const Entry& entry) const {
    if (entry.shape.empty()) return entry.value;
    torch::Tensor value = torch::empty(entry.shape, entry.value.options());
    if (std::fseek(file_.get(), entry.offset, SEEK_SET) != 0 ||
        std::fread(value.mutable_data_ptr(), 1, value.nbytes(), file_.get()) != value.nbytes()) refuse();
    return value;
  }

  [[noreturn]] static void refuse() { fail<Error>("TensorStore", "the temporary file cannot be written or read; give the cache more memory"); }

  CacheOptions options_;
  int64_t used_bytes_ = 0, filed_bytes_ = 0, num_computed_ = 0;
  std::unordered_map<std::string, Entry> entries_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace detail

}  // namespace reft
