#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "reft/hook/parse_integer.hpp"
#include "reft/io/safetensors_torch.hpp"

namespace reft {

/// Everything a stopped run needs to go on as if it had not stopped: tensors (parameters, R's starts, moments, random
/// generators) and progress (step, sampler, losses), in one file that is replaced in one step.
struct TrainingState {
  std::map<std::string, torch::Tensor> tensors;
  nlohmann::json progress;
};

namespace detail {

inline std::vector<at::Generator> generators(torch::Device device) {
  std::vector<at::Generator> found{at::globalContext().defaultGenerator(torch::kCPU)};
  if (!device.is_cpu()) found.push_back(at::globalContext().defaultGenerator(device));
  return found;
}

}  // namespace detail

/// Adds the parameters and buffers of `module` and the state of the random generators that dropout draws from.
inline void capture(TrainingState& state, const torch::nn::Module& module, torch::Device device) {
  for (const auto& item : module.named_parameters()) state.tensors["parameter." + item.key()] = item.value();
  for (const auto& item : module.named_buffers()) state.tensors["buffer." + item.key()] = item.value();
  int index = 0;
  for (at::Generator& generator : detail::generators(device)) {
    const std::lock_guard lock(generator.mutex());
    state.tensors["generator." + std::to_string(index++)] = generator.get_state();
  }
}

/// The reverse of `capture`.   @throws CheckpointError if the state is of other interventions.
inline void restore(const TrainingState& state, torch::nn::Module& module, torch::Device device) {
  torch::NoGradGuard no_grad;
  const auto find = [&](const std::string& name, const torch::Tensor& own) {
    const auto found = state.tensors.find(name);
    if (found == state.tensors.end() || (own.defined() && found->second.sizes() != own.sizes())) {
      fail<CheckpointError>("restore", "{}: the checkpoint is of other interventions", name);
    }
    return found->second;
  };
  for (auto& item : module.named_parameters()) item.value().copy_(find("parameter." + item.key(), item.value()));
  for (auto& item : module.named_buffers()) item.value().copy_(find("buffer." + item.key(), item.value()));
  int index = 0;
  for (at::Generator& generator : detail::generators(device)) {
    const std::lock_guard lock(generator.mutex());
    generator.set_state(find("generator." + std::to_string(index++), {}).to(torch::kCPU));
  }
}

/// Replaces the file in one step.   @throws Error if it cannot be written.
inline void save_training_state(const TrainingState& state, const std::filesystem::path& path) {
  save_tensors(path, {state.tensors.begin(), state.tensors.end()}, {{"progress", state.progress.dump()}});
}

/// @throws CheckpointError for a missing or damaged file.
inline TrainingState load_training_state(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  verify_content_hash(file);
  TrainingState state;
  for (const auto& [name, view] : file.tensors()) state.tensors[name] = as_tensor(view).clone();
  const auto progress = file.metadata().find("progress");
  if (progress != file.metadata().end()) state.progress = nlohmann::json::parse(progress->second, nullptr, false);
  if (!state.progress.is_object()) fail<CheckpointError>("load_training_state", "{}: expected progress in its metadata", path.string());
  return state;
}

namespace detail {

/// The older checkpoints beside `path` by their steps: "checkpoint-40.safetensors" beside "checkpoint.safetensors".
inline std::map<int64_t, std::filesystem::path> older_checkpoints(const std::filesystem::path& path) {
  std::map<int64_t, std::filesystem::path> found;
  const std::string prefix = path.stem().string() + "-";
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(path.has_parent_path() ? path.parent_path() : ".", none)) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() != path.extension() || !stem.starts_with(prefix)) continue;
    if (const auto step = parse_integer<int64_t>(std::string_view(stem).substr(prefix.size()))) found[*step] = entry.path();
  }
  return found;
}

}  // namespace detail

/// Before `path` is replaced: the state it holds stays under a name with its step, and the oldest go, so that with the new
/// one there are `keep`.   @throws Error if the state cannot be kept.
inline void keep_older_checkpoints(const std::filesystem::path& path, int64_t keep) {
  if (keep > 1 && std::filesystem::exists(path)) {
    const auto step = load_training_state(path).progress.value("step", int64_t{0});
    const auto kept = path.parent_path() / fmt::format("{}-{}{}", path.stem().string(), step, path.extension().string());
    std::error_code error;
    std::filesystem::remove(kept, error);
    // A second name costs nothing; some file systems have none.
    std::filesystem::create_hard_link(path, kept, error);
    if (error && !std::filesystem::copy_file(path, kept, error)) fail<Error>("keep_older_checkpoints", "{}: {}", kept.string(), error.message());
  }
  auto older = detail::older_checkpoints(path);
  for (; std::ssize(older) > std::max<int64_t>(0, keep - 1); older.erase(older.begin())) std::filesystem::remove(older.begin()->second);
}

/// Removes a checkpoint and the older ones beside it.
inline void remove_checkpoints(const std::filesystem::path& path) {
  std::filesystem::remove(path);
  for (const auto& [step, older] : detail::older_checkpoints(path)) std::filesystem::remove(older);
}

}  // namespace reft
