#pragma once

#include <filesystem>
#include <vector>

#include "reft/checkpoint/pyreft_writer.hpp"
#include "reft/io/atomic_file.hpp"

namespace reft {

/// Writes LoReFT interventions for EasySteer, which takes a pyreft folder with one .bin file for each layer it steers:
/// "<folder>/layer_<l>_<k>", k counting those of a layer. Positions and scale are given there with each request.
/// @throws ConfigError for another type or place, an activation, or a folder that is not empty while `overwrite` is false.
/// Ref: ZJU-REAL/EasySteer, algorithm "loreft".
inline void write_easysteer(const std::vector<PyreftIntervention>& interventions, const std::filesystem::path& folder, bool overwrite = false) {
  for (const auto& [key, intervention] : interventions) {
    const bool is_loreft = intervention->type() == "loreft" && key.site.component == Component::block_output;
    if (!is_loreft) fail<ConfigError>("write_easysteer", "expected loreft at block_output, got {} at {}", intervention->type(), to_string(key.site));
    const auto activation = intervention->options()["activation"].get<std::string>();
    if (activation != "linear") fail<ConfigError>("write_easysteer", "expected a loreft without activation, got {}", activation);
  }
  AtomicFolder written(folder, overwrite);
  for (const auto& [key, intervention] : interventions) {
    write_pyreft({{{key.site, 0}, intervention}}, written.path() / fmt::format("layer_{}_{}", *key.site.layer, key.index));
  }
  written.commit();
}

}  // namespace reft
