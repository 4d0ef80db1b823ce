#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "reft/model/weights.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// A base with a head of its task, which is trained beside the interventions and saved with them; `head_slots()` gives its
/// tensors the names they have in a Hugging Face file.
template <class Base>
concept HasHead = requires(const Base& base) {
  { base->head_slots() } -> std::convertible_to<std::vector<WeightSlot>>;
};

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

/// Writes checked tensors into the base's head, which everyone who shares the base then has.
template <HookedTransformer Base>
void fill_head(const Base& base, const std::map<std::string, torch::Tensor>& tensors) {
  torch::NoGradGuard no_grad;
  for (auto& [name, values] : head_tensors(base)) torch::Tensor(values).copy_(tensors.at(name));
}

}  // namespace reft
