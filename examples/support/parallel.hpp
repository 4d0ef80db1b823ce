#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace reft::program {

/// Calls work(0) … work(count - 1) from `workers` threads, each of which computes on one core.
/// @throws what the first failing call threw; no further ones are begun then.
inline void for_each_in_parallel(int64_t count, int workers, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto run = [&] {
    at::set_num_threads(1);  // of this thread's operators
    for (int64_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        next = count;
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < workers; ++i) threads.emplace_back(run);
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

/// What `make` returns, with the global generator seeded for it. One generator serves all threads, so a start is drawn alone.
template <class Make>
auto seeded(uint64_t seed, Make make) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  at::manual_seed(seed);
  return make();
}

}  // namespace reft::program
