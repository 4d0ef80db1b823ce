#pragma once

#include <torch/types.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "reft/io/safetensors_torch.hpp"
#include "reft/io/torch_zip.hpp"

namespace reft {

/// The named tensors of a torch.save file, in memory of their own, on the CPU wherever they were saved.
/// @throws CheckpointError as `TorchZipFile::open`.
inline std::map<std::string, torch::Tensor> load_torch_tensors(const std::filesystem::path& path) {
  const TorchZipFile file = TorchZipFile::open(path);
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, view] : file.tensors()) {
    const torch::Dtype dtype = torch_dtype({view.dtype, {}, {}});
    // Copied as bytes: a file need not align its values.
    const torch::Tensor values = torch::empty({std::ssize(view.data) / static_cast<int64_t>(c10::elementSize(dtype))}, dtype);
    if (!view.data.empty()) std::memcpy(values.mutable_data_ptr(), view.data.data(), view.data.size());
    tensors[name] = values.as_strided(view.shape, view.strides).contiguous();
  }
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
