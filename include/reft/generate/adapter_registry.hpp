#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/checkpoint/any_adapter.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// Adapters of one base by name, read from their folders when first asked for. Beyond a bound the one asked for longest ago
/// is dropped and read again when needed; requests that hold it go on with it. Threads may share a registry.
class AdapterRegistry {
 public:
  struct Adapter {
    std::shared_ptr<AttachedInterventions> interventions;
    AdapterInfo info;
  };

  /// @param max_bytes  of parameters held at once.
  explicit AdapterRegistry(CausalLM base, int64_t max_bytes = int64_t{1} << 30) : base_(std::move(base)), max_bytes_(max_bytes) {}

  /// Makes a folder known by a name; a name already known then means this folder.
  /// @param options  what a pyreft folder does not say.
  void add(const std::string& name, std::filesystem::path folder, PyreftOptions options = {}) {
    const std::lock_guard lock(mutex_);
    drop(name);
    folders_.insert_or_assign(name, std::pair{std::move(folder), std::move(options)});
  }

  /// @throws ConfigError for a name that was not added, or an adapter that is larger than the bound; what
  ///   `load_any_adapter` throws.
  Adapter get(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = folders_.find(name);
    if (found == folders_.end()) fail<ConfigError>("AdapterRegistry", "\"{}\": expected one of {}", name, fmt::join(known_names(), ", "));
    for (auto held = held_.begin(); held != held_.end(); ++held) {
      if (held->name != name) continue;
      held_.splice(held_.begin(), held_, held);
      return held->adapter;
    }
    Held held{name, read(found->second.first, found->second.second)};
    held.bytes = bytes_of(*held.adapter.interventions);
    if (held.bytes > max_bytes_) {
      fail<ConfigError>("AdapterRegistry", "\"{}\": it has {} bytes of parameters, but the bound is {}", name, held.bytes, max_bytes_);
    }
    while (bytes_held() + held.bytes > max_bytes_) held_.pop_back();
    held_.push_front(std::move(held));
    return held_.front().adapter;
  }

  /// Those in memory, the one asked for last first.
  std::vector<std::string> held_names() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const Held& held : held_) names.push_back(held.name);
    return names;
  }

  /// Bytes of the parameters in memory.
  int64_t num_bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_held();
  }

  static int64_t bytes_of(const AttachedInterventions& interventions) {
    int64_t bytes = 0;
    for (const torch::Tensor& parameter : interventions.parameters()) bytes += static_cast<int64_t>(parameter.nbytes());
    return bytes;
  }

 private:
  struct Held {
    std::string name;
    Adapter adapter;
    int64_t bytes = 0;
  };

  Adapter read(const std::filesystem::path& folder, const PyreftOptions& options) const {
    ReftModel<CausalLM> model(base_);  // a handle of the one base
    AdapterInfo info = load_any_adapter(model, folder, options);
    model.eval();
    return {model.adapter(), std::move(info)};
  }

  int64_t bytes_held() const {
    int64_t bytes = 0;
    for (const Held& held : held_) bytes += held.bytes;
    return bytes;
  }

  std::vector<std::string> known_names() const {
    std::vector<std::string> names;
    for (const auto& [name, folder] : folders_) names.push_back(name);
    return names;
  }

  void drop(std::string_view name) { held_.remove_if([&](const Held& held) { return held.name == name; }); }

  CausalLM base_;
  int64_t max_bytes_;
  mutable std::mutex mutex_;
  std::map<std::string, std::pair<std::filesystem::path, PyreftOptions>> folders_;
  std::list<Held> held_;  // the one asked for last first
};

}  // namespace reft
