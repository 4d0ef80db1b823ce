#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <malloc.h>
#include <sys/resource.h>
#include <torch/utils.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>

#include "reft/model/loading.hpp"
#include "support/command_line.hpp"

namespace reft::program {

/// "cpu", "cuda" or "cuda:1", whether it is there or not; "auto" is read as "cpu".   @throws ConfigError.
inline torch::Device parse_device(std::string_view text) {
  if (text == "auto" || text == "cpu") return torch::kCPU;
  std::optional<int> index;
  if (text == "cuda") index = 0;
  if (text.starts_with("cuda:")) index = detail::parse_integer<int>(text.substr(5));
  if (!index || *index < 0 || *index > 127) fail<ConfigError>("device", "\"{}\": expected auto, cpu, cuda or cuda:<n>", text);
  return torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(*index));
}

/// Keeps the memory that one step frees for the next one, where the C library would hand it back and the kernel clear it
/// again: 6 % of a training step of a small model. And few of oneDNN's kernels: batches of ever new lengths need ever new ones.
inline void tune_memory() {
  ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64", /*replace=*/0);
#ifdef M_TRIM_THRESHOLD
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // glibc takes no more
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

/// The flags every program has, and what they mean.
struct Common {
  std::string device = "auto", dtype = "auto", quantize = "none";
  int threads = 0;
  uint64_t seed = 42;
  bool quiet = false;

  void add_to(CLI::App& app) {
    const char* group = "Machine";
    app.add_option("--device", device, "auto, cpu, cuda or cuda:<n>")->capture_default_str()->group(group)
        ->check(checked_by([](const std::string& text) { parse_device(text); }));
    app.add_option("--dtype", dtype, "of the base: auto (bfloat16 on CUDA and for a base stored so, else float32), float32 or bfloat16")
        ->capture_default_str()->check(CLI::IsMember({"auto", "float32", "bfloat16"}))->group(group);
    app.add_option("--threads", threads, "CPU threads; 0 = as many as LibTorch likes")->capture_default_str()
        ->check(CLI::NonNegativeNumber)->group(group);
    app.add_option("--seed", seed, "of every random choice")->capture_default_str()->check(CLI::NonNegativeNumber)->group(group);
    app.add_flag("--quiet", quiet, "no progress on standard error")->group(group);
  }

  /// For programs that load a base and leave its blocks as they are.
  void add_quantize(CLI::App& app) {
    app.add_option("--quantize", quantize, "keep the matrices of the base's blocks in 8 or 4 bits: none, int8 or nf4")->capture_default_str()
        ->check(CLI::IsMember({"none", "int8", "nf4"}))->group("Machine");
  }

  /// Sets threads, seed and how memory is kept. Call it first in the body of the program.
  void apply() const {
    if (threads > 0) at::set_num_threads(threads);
    torch::manual_seed(seed);
    tune_memory();
  }

  /// @throws ConfigError for a device that is not there.
  torch::Device torch_device() const {
    if (device == "auto") return best_device();
    const torch::Device wanted = parse_device(device);
    const int count = static_cast<int>(torch::cuda::device_count());
    if (wanted.is_cuda() && wanted.index() >= count) {
      fail<ConfigError>("device", "{}: this machine has {} usable CUDA devices", device, count);
    }
    return wanted;
  }

  /// The dtype that was asked for, or `fallback` for auto.
  torch::Dtype dtype_or(torch::Dtype fallback) const { return dtype == "auto" ? fallback : parse_dtype(dtype); }

  LoadOptions load_options() const {
    LoadOptions options{.device = torch_device(), .quantization = parse_quantization(quantize)};
    if (dtype != "auto") options.dtype = parse_dtype(dtype);
    else if (options.device.is_cuda()) options.dtype = torch::kBFloat16;
    return options;
  }
};

/// Operations without the same bits every time are an error from now on. Call it before the first use of a device.
inline void use_deterministic_operations() {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*replace=*/0);  // cuBLAS keeps to one order of additions only with it
}

/// The most memory that was in use: of the device's allocator on a GPU, of the process on a CPU.
inline int64_t peak_memory_bytes(torch::Device device) {
  if (!device.is_cpu()) {
    return c10::getDeviceAllocator(device.type())->getDeviceStats(device.index()).allocated_bytes[0].peak;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

/// The memory that is in use now, counted the same way.
inline int64_t memory_bytes(torch::Device device) {
  if (!device.is_cpu()) {
    return c10::getDeviceAllocator(device.type())->getDeviceStats(device.index()).allocated_bytes[0].current;
  }
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace reft::program
