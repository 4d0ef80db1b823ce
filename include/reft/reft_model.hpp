#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <concepts>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/intervention/attached_interventions.hpp"
#include "reft/intervention/registry.hpp"

namespace reft {

/// A transformer whose activations can be edited: a handle (`std::shared_ptr` or `torch::nn::ModuleHolder`) of a module
/// that owns HookPoints and calls them in a forward taking a `const ForwardContext&`.
template <class Base>
concept HookedTransformer = requires(Base base, const Site& site) {
  { base->width(site) } -> std::convertible_to<int64_t>;
  { base->num_layers() } -> std::convertible_to<int64_t>;
  { base->hook_point(site) } -> std::same_as<HookPoint&>;
};

/// A frozen base and the interventions that edit it. `parameters()` are the interventions' alone.
///   model.attach<LoReFT>({.layer = 3, .positions = "f5+l5"}, {.rank = 4});
template <HookedTransformer Base>
class ReftModel {
 public:
  // CONSTRUCTION

  explicit ReftModel(Base base) : base_(std::move(base)) {
    for (torch::Tensor& parameter : base_->parameters()) parameter.requires_grad_(false);
    base_->eval();
  }

  // ATTACHING

  /// Attaches new interventions of type T at one site: one, or one per group or position as `where.tie` says.
  /// @throws ConfigError for a site the base does not have, malformed or overlapping positions, or options T refuses.
  template <class T>
  std::vector<std::shared_ptr<T>> attach(const AttachOptions& where, const typename T::Options& options = {}) {
    require_intervention<T>();
    std::vector<std::shared_ptr<T>> made;
    attach_each(where, [&](int64_t width) {
      made.push_back(std::make_shared<T>(width, options));
      return made.back();
    });
    return made;
  }

  /// The same by name ("loreft"), with options in JSON.
  void attach(std::string_view name, const AttachOptions& where, const nlohmann::json& options = nlohmann::json::object()) {
    attach_each(where, [&](int64_t width) { return make_intervention(name, width, options); });
  }

  /// Attaches one intervention at one or more sites, which then share it.
  /// @throws ConfigError if a site's width is not the intervention's.
  void attach(Attachment attachment) {
    for (const Site& site : attachment.sites) {
      if (const int64_t width = base_->width(site); width != attachment.intervention->hidden_size()) {
        fail<ConfigError>("attach", "{}: the site is {} wide, the intervention {}", to_string(site), width,
                          attachment.intervention->hidden_size());
      }
    }
    attachment.intervention->to(device());
    interventions_->add(std::move(attachment));
  }

  // RUNNING

  /// Runs the base over prompts with the interventions on.
  /// @param inputs  what the base's forward takes before its context; the first are the token ids, for interventions that
  ///   act on certain ones.
  template <class... Inputs>
  torch::Tensor forward(const Layout& layout, std::span<const int64_t> prompt_lengths, const Inputs&... inputs) {
    return base_->forward(inputs..., interventions_->prompt_context(layout, prompt_lengths, {}, first_tensor(inputs...)));
  }

  const Base& base() const { return base_; }
  const AttachedInterventions& interventions() const { return *interventions_; }
  /// The same, to keep or to hand to `generate`, beside those of other models of the same base.
  std::shared_ptr<AttachedInterventions> adapter() const { return interventions_; }
  AttachedInterventions& mutable_interventions() { return *interventions_; }

  // AS A MODULE

  std::vector<torch::Tensor> parameters() const { return interventions_->parameters(); }
  void train(bool on = true) { interventions_->train(on); }
  void eval() { interventions_->eval(); }
  bool is_training() const { return interventions_->is_training(); }
  void zero_grad() { interventions_->zero_grad(); }
  void to(torch::Device device) {
    base_->to(device);
    interventions_->to(device);
  }
  torch::Device device() const { return base_->parameters().front().device(); }

  /// Width D of the residual stream.
  int64_t hidden_size() const { return base_->width({.layer = 0}); }

  int64_t num_trainable_parameters() const {
    int64_t count = 0;
    for (const auto& intervention : interventions_->interventions()) count += intervention->num_parameters();
    return count;
  }

  int64_t num_base_parameters() const {
    int64_t count = 0;
    for (const torch::Tensor& parameter : base_->parameters()) count += parameter.numel();
    return count;
  }

  /// One line per intervention: its sites and their width, form, positions, and the shapes of its parameters; then the
  /// counts.
  std::string trainable_summary() const {
    std::string text;
    for (const Attachment& attachment : interventions_->attachments()) {
      const InterventionBase& intervention = *attachment.intervention;
      std::vector<std::string> sites, shapes;
      for (const Site& site : attachment.sites) sites.push_back(to_string(site));
      for (const auto& parameter : intervention.named_parameters()) {
        shapes.push_back(fmt::format("{} ({})", parameter.key(), fmt::join(parameter.value().sizes(), ", ")));
      }
      text += fmt::format("{} ({})  {}  positions {}  {}  {} parameters\n", fmt::join(sites, ", "), intervention.hidden_size(),
                          intervention.type(), attachment.positions.text(), fmt::join(shapes, ", "), intervention.num_parameters());
    }
    const int64_t trainable = num_trainable_parameters(), base = num_base_parameters();
    return text + fmt::format("trainable parameters: {} || base parameters: {} || trainable: {:.4f}%", trainable, base,
                              100.0 * static_cast<double>(trainable) / static_cast<double>(base));
  }

 private:
  template <class First, class... Others>
  static torch::Tensor first_tensor(const First& first, const Others&...) {
    if constexpr (std::is_convertible_v<const First&, torch::Tensor>) return first;
    return {};
  }
  static torch::Tensor first_tensor() { return {}; }

  template <class Make>
  void attach_each(const AttachOptions& where, Make make) {
    const Site site = where.site();
    const int64_t width = base_->width(site);
    const Positions positions = Positions::parse(where.positions);
    std::vector<Attachment> parts;
    for (const Positions& part : positions.split(where.tie)) {
      parts.push_back({make(width), {site}, part, where.phase, where.position_rule, positions.text(), where.tie,
                       where.token_ids});
    }
    // All before the first is added: a refusal leaves the model as it was.
    for (const Attachment& part : parts) interventions_->check(part);
    for (Attachment& part : parts) attach(std::move(part));
  }

  Base base_;
  std::shared_ptr<AttachedInterventions> interventions_ = std::make_shared<AttachedInterventions>();
};

}  // namespace reft
