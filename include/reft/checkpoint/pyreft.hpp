#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "reft/checkpoint/adapter.hpp"
#include "reft/checkpoint/pyreft_reader.hpp"
#include "reft/checkpoint/trained_head.hpp"
#include "reft/reft_model.hpp"

namespace reft {

namespace detail {

/// Gives the interventions of one site their parts of the expression: the k-th has the k-th part.
inline std::vector<Attachment> attach_pyreft_site(const std::filesystem::path& folder, const std::vector<PyreftIntervention>& here,
                                                  const PyreftOptions& options) {
  const Positions positions = Positions::parse(options.positions);
  const Tie tie = options.tie.value_or(here.size() == 1 ? Tie::all : Tie::group);
  const std::vector<Positions> parts = positions.split(tie);
  if (parts.size() != here.size()) {
    fail<ConfigError>("load_pyreft", "{}: {} has {} interventions, but positions {} tied by {} want {}", folder.string(),
                      to_string(here.front().key.site), here.size(), positions.text(), to_string(tie), parts.size());
  }
  std::vector<Attachment> attachments;
  for (std::size_t k = 0; k < here.size(); ++k) {
    attachments.push_back({here[k].intervention, {here[k].key.site}, parts[k], Phase::prompt, options.position_rule, positions.text(), tie});
  }
  return attachments;
}

}  // namespace detail

/// Attaches the interventions of a pyreft folder, acting on the prompt as pyreft's scripts have them, and fills the base's
/// head if one was trained with them.   @return whether one was; pyreft remembers nothing else of the base.
/// @throws ConfigError without positions, where they do not fit the number of interventions of a site, or where they
///   overlap those of an edit the model has; CheckpointError as `read_pyreft`, or for a layer, width or head the base does
///   not have. The model is then as it was.
template <class Base>
AdapterInfo load_pyreft(ReftModel<Base>& model, const std::filesystem::path& folder, const PyreftOptions& options) {
  if (options.positions.empty()) {
    fail<ConfigError>("load_pyreft", "{}: a pyreft folder does not say where it acts; give the positions, as in --positions f1+l1", folder.string());
  }
  std::map<Site, std::vector<PyreftIntervention>> sites;
  for (const PyreftIntervention& found : read_pyreft(folder, options)) {
    const Site& site = found.key.site;
    if (*site.layer >= model.base()->num_layers()) {
      detail::refuse_pyreft(folder, "{}: the model has {} layers (0..{})", to_string(site), model.base()->num_layers(), model.base()->num_layers() - 1);
    }
    if (const int64_t width = model.base()->width(site); width != found.intervention->hidden_size()) {
      detail::refuse_pyreft(folder, "{}: it is of a base {} wide there, but the model is {} wide", to_string(site), found.intervention->hidden_size(), width);
    }
    sites[site].push_back(found);
  }
  std::vector<Attachment> attachments;
  for (auto& [site, here] : sites) {
    std::sort(here.begin(), here.end(), [](const auto& a, const auto& b) { return a.key.index < b.key.index; });
    for (Attachment& attachment : detail::attach_pyreft_site(folder, here, options)) attachments.push_back(std::move(attachment));
  }
  const auto head = read_pyreft_head(folder);
  if (!head.empty()) check_head(model.base(), head, folder);
  model.attach(std::move(attachments));
  if (!head.empty()) fill_head(model.base(), head);
  return {.has_head = !head.empty()};
}

}  // namespace reft
