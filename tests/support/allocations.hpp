#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <numeric>
#include <vector>

namespace reft::test {

/// Counts every CPU allocation LibTorch makes while it lives, kernels' own buffers included.
class AllocationRecorder {
 public:
  AllocationRecorder() {
    allocator().inner = c10::GetCPUAllocator();
    allocator().bytes.clear();
    // Priority 1 lets it replace the default, which has 0, and be replaced again.
    c10::SetCPUAllocator(&allocator(), 1);
  }
  AllocationRecorder(const AllocationRecorder&) = delete;
  AllocationRecorder& operator=(const AllocationRecorder&) = delete;
  ~AllocationRecorder() { c10::SetCPUAllocator(allocator().inner, 1); }

  size_t largest() const {
    const auto& bytes = allocator().bytes;
    return bytes.empty() ? 0 : *std::max_element(bytes.begin(), bytes.end());
  }

  size_t total() const { return std::accumulate(allocator().bytes.begin(), allocator().bytes.end(), size_t{0}); }

  std::ptrdiff_t count_at_least(size_t limit) const {
    return std::count_if(allocator().bytes.begin(), allocator().bytes.end(), [&](size_t bytes) { return bytes >= limit; });
  }

 private:
  struct Recording final : c10::Allocator {
    c10::DataPtr allocate(size_t n) override {
      {
        const std::lock_guard lock(mutex);
        bytes.push_back(n);
      }
      return inner->allocate(n);
    }
    c10::DeleterFnPtr raw_deleter() const override { return inner->raw_deleter(); }
    void copy_data(void* destination, const void* source, size_t count) const override {
      default_copy_data(destination, source, count);
    }

    c10::Allocator* inner = nullptr;
    std::mutex mutex;
    std::vector<size_t> bytes;
  };

  // Storages made meanwhile keep pointing at it, so it lives as long as the program.
  static Recording& allocator() {
    static auto* const recording = new Recording;
    return *recording;
  }
};

}  // namespace reft::test
