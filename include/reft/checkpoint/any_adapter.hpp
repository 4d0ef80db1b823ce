#pragma once

#include <filesystem>
#include <string>

#include "reft/checkpoint/adapter.hpp"
#include "reft/checkpoint/pyreft.hpp"

namespace reft {

/// Attaches the interventions of an adapter folder, reft's own or pyreft's.
/// @param options  what a pyreft folder does not say. With reft's own, positions and tie must agree or be absent.
/// @return what the adapter remembers of its base; nothing of it in a pyreft folder.
/// @throws ConfigError where `options` contradict the folder, or are needed and absent; CheckpointError as `load_adapter`
///   and `load_pyreft`. The model is then as it was.
template <class Base>
AdapterInfo load_any_adapter(ReftModel<Base>& model, const std::filesystem::path& folder, const PyreftOptions& options = {}) {
  if (!std::filesystem::exists(folder / kAdapterConfigName) && is_pyreft_folder(folder)) {
    load_pyreft(model, folder, options);
    return {};
  }
  for (const AdapterEntry& entry : read_adapter_config(folder).interventions) {
    const auto agree = [&](const char* what, const std::string& given, std::string_view stored) {
      if (given != stored) fail<ConfigError>("load_adapter", "{}: {} {} was given, but the adapter has {}", folder.string(), what, given, stored);
    };
    if (!options.positions.empty()) agree("positions", Positions::parse(options.positions).text(), entry.expression);
    if (options.tie) agree("tie", std::string(to_string(*options.tie)), to_string(entry.tie));
  }
  return load_adapter(model, folder);
}

}  // namespace reft
