#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "reft/checkpoint/adapter.hpp"
#include "reft/checkpoint/adapterhub.hpp"
#include "reft/checkpoint/control_vector.hpp"
#include "reft/checkpoint/pyreft.hpp"

namespace reft {

/// What an adapter on disk was written by.
enum class AdapterFormat { reft, pyreft, adapterhub, control_vectors };

inline std::string_view to_string(AdapterFormat format) {
  switch (format) {
    case AdapterFormat::reft: return "a reft folder";
    case AdapterFormat::pyreft: return "a pyreft folder";
    case AdapterFormat::adapterhub: return "a folder of the adapters package";
    case AdapterFormat::control_vectors: return "a file of control vectors";
  }
  return "";
}

/// A GGUF file holds control vectors; what is nothing else counts as reft's own, whose reader says what is wrong with it.
inline AdapterFormat adapter_format(const std::filesystem::path& path) {
  if (path.extension() == ".gguf") return AdapterFormat::control_vectors;
  if (is_adapterhub_folder(path)) return AdapterFormat::adapterhub;
  return !std::filesystem::exists(path / kAdapterConfigName) && is_pyreft_folder(path) ? AdapterFormat::pyreft : AdapterFormat::reft;
}

/// Attaches the interventions of an adapter in any format that can be read.
/// @param options  what a pyreft folder does not say, and of the adapters package the type where it does not tell. With
///   reft's own folder, positions and tie must agree or be absent.
/// @return what the adapter remembers of its base; nothing of it in other formats.
/// @throws ConfigError where `options` contradict the folder, or are needed and absent; CheckpointError as `load_adapter`,
///   `load_pyreft`, `load_adapterhub` and `load_control_vectors`. The model is then as it was.
template <class Base>
AdapterInfo load_any_adapter(ReftModel<Base>& model, const std::filesystem::path& path, const PyreftOptions& options = {}) {
  switch (adapter_format(path)) {
    case AdapterFormat::control_vectors: load_control_vectors(model, path); return {};
    case AdapterFormat::adapterhub: load_adapterhub(model, path, options.type); return {};
    case AdapterFormat::pyreft: return load_pyreft(model, path, options);
    case AdapterFormat::reft: break;
  }
  for (const AdapterEntry& entry : read_adapter_config(path).interventions) {
    const auto agree = [&](const char* what, const std::string& given, std::string_view stored) {
      if (given != stored) fail<ConfigError>("load_adapter", "{}: {} {} was given, but the adapter has {}", path.string(), what, given, stored);
    };
    if (!options.positions.empty()) agree("positions", Positions::parse(options.positions).text(), entry.expression);
    if (options.tie) agree("tie", std::string(to_string(*options.tie)), to_string(entry.tie));
  }
  return load_adapter(model, path);
}

}  // namespace reft
