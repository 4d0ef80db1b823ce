#pragma once

#include <torch/types.h>

#include <array>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "reft/io/safetensors.hpp"

namespace reft {

namespace detail {
inline constexpr std::array<std::pair<std::string_view, torch::Dtype>, 9> kSafetensorsDtypes{{
    {"F64", torch::kFloat64}, {"F32", torch::kFloat32}, {"F16", torch::kFloat16}, {"BF16", torch::kBFloat16},
    {"I64", torch::kInt64},   {"I32", torch::kInt32},   {"I16", torch::kInt16},   {"U8", torch::kUInt8},
    {"BOOL", torch::kBool},
}};
}  // namespace detail

/// "float32", "bfloat16", … as config.json spells it.
inline std::string dtype_name(torch::Dtype dtype) {
  switch (dtype) {
    case torch::kFloat32: return "float32";
    case torch::kFloat64: return "float64";
    case torch::kFloat16: return "float16";
    case torch::kBFloat16: return "bfloat16";
    default: fail<ConfigError>("dtype_name", "expected a float dtype, got {}", c10::toString(dtype));
  }
}

/// @throws CheckpointError for a dtype LibTorch has no computing type for.
inline torch::Dtype torch_dtype(const TensorView& view) {
  for (const auto& [name, dtype] : detail::kSafetensorsDtypes) {
    if (name == view.dtype) return dtype;
  }
  fail<CheckpointError>("read_safetensors", "dtype {} cannot be used here", view.dtype);
}

/// The tensor without a copy: valid as long as the file it came from is.
inline torch::Tensor as_tensor(const TensorView& view) {
  return torch::from_blob(const_cast<std::byte*>(view.data.data()), view.shape, torch_dtype(view));
}

/// Writes named tensors as safetensors, with a content hash in the metadata.
/// @return the content hash.   @throws as `write_safetensors`.
inline std::string save_tensors(const std::filesystem::path& path, const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                         Metadata metadata = {}) {
  std::vector<torch::Tensor> kept;  // contiguous host copies, alive until written
  TensorViews views;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.detach().to(torch::kCPU).contiguous());
    const torch::Tensor& host = kept.back();
    std::string dtype;
    for (const auto& [candidate, scalar_type] : detail::kSafetensorsDtypes) {
      if (scalar_type == host.scalar_type()) dtype = candidate;
    }
    const auto* bytes = static_cast<const std::byte*>(host.const_data_ptr());
    views[name] = {dtype, host.sizes().vec(), {bytes, host.nbytes()}};
  }
  const std::string hash = metadata["content_hash"] = content_hash(views);
  write_safetensors(path, views, metadata);
  return hash;
}

}  // namespace reft
