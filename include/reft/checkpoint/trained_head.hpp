#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "reft/model/weights.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// The tensors of a base's head by name; empty where it has none.
template <HookedTransformer Base>
std::map<std::string, torch::Tensor> head_tensors(const Base& base) {
  std::map<std::string, torch::Tensor> tensors;
  if constexpr (HasHead<Base>) {
    for (const WeightSlot& slot : base->head_slots()) tensors[slot.name] = slot.values.detach();
  }
  return tensors;
}

/// @throws CheckpointError unless `tensors` are all of the base's head and nothing else, each of its shape.
template <HookedTransformer Base>
void check_head(const Base& base, const std::map<std::string, torch::Tensor>& tensors, const std::filesystem::path& path) {
  const auto own = head_tensors(base);
  for (const auto& [name, tensor] : tensors) {
    const auto found = own.find(name);
    if (found == own.end()) {
      fail<CheckpointError>("load_head", "{}: {} was trained with the interventions, but it is not of the base's head, which has {}", path.string(),
                            name, own.empty() ? "no tensors" : own.begin()->first + ", …");
    }
    if (found->second.sizes() != tensor.sizes()) {
      fail<CheckpointError>("load_head", "{}: {}: expected shape {}, got {}", path.string(), name, c10::str(found->second.sizes()), c10::str(tensor.sizes()));
    }
  }
  for (const auto& [name, tensor] : own) {
    if (!tensors.contains(name)) fail<CheckpointError>("load_head", "{}: tensor {} of the head is missing", path.string(), name);
  }
}

/// Writes checked tensors into the base's head, in their own precision; everyone who shares the base then has them.
template <HookedTransformer Base>
void fill_head(const Base& base, const std::map<std::string, torch::Tensor>& tensors) {
  torch::NoGradGuard no_grad;
  if constexpr (HasHead<Base>) {
    for (WeightSlot& slot : base->head_slots()) {
      const torch::Tensor& tensor = tensors.at(slot.name);
      if (slot.values.scalar_type() == tensor.scalar_type()) slot.values.copy_(tensor);
      else slot.values.set_data(tensor.to(slot.values.device(), tensor.scalar_type(), /*non_blocking=*/false, /*copy=*/true));
    }
  }
}

}  // namespace reft
