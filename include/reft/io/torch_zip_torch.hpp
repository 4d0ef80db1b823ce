#pragma once

#include <torch/types.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "reft/io/safetensors_torch.hpp"
#include "reft/io/torch_zip.hpp"

namespace reft {

/// The tensor without a copy where its values are aligned, else with one: valid as long as the file it came from is.
/// @throws CheckpointError for a dtype LibTorch has no computing type for.
inline torch::Tensor as_tensor(const StridedTensorView& view) {
  const torch::Dtype dtype = torch_dtype({view.dtype, {}, {}});
  const auto bytes = c10::elementSize(dtype);
  if (reinterpret_cast<std::uintptr_t>(view.data.data()) % bytes == 0) {
    return torch::from_blob(const_cast<std::byte*>(view.data.data()), view.shape, view.strides, dtype);
  }
  const torch::Tensor values = torch::empty({std::ssize(view.data) / static_cast<int64_t>(bytes)}, dtype);
  if (!view.data.empty()) std::memcpy(values.mutable_data_ptr(), view.data.data(), view.data.size());
  return values.as_strided(view.shape, view.strides);
}

/// The named tensors of a torch.save file, in memory of their own, on the CPU wherever they were saved.
/// @throws CheckpointError as `TorchZipFile::open`.
inline std::map<std::string, torch::Tensor> load_torch_tensors(const std::filesystem::path& path) {
  const TorchZipFile file = TorchZipFile::open(path);
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, view] : file.tensors()) tensors[name] = as_tensor(view).clone(torch::MemoryFormat::Contiguous);
  return tensors;
}

/// Writes named tensors as torch.save writes a state dict.   @throws as `write_torch_zip`.
inline void save_torch_tensors(const std::filesystem::path& path, std::map<std::string, torch::Tensor> tensors) {
  TensorViews views;
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.detach().to(torch::kCPU).contiguous();  // alive until written
    TensorView& view = views[name];
    for (const auto& [dtype, scalar_type] : detail::kSafetensorsDtypes) {
      if (scalar_type == tensor.scalar_type()) view.dtype = dtype;
    }
    view.shape = tensor.sizes().vec();
    view.data = {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
  }
  write_file_atomically(path, [&](FileWriter& writer) { write_torch_zip(writer, views); });
}

}  // namespace reft
