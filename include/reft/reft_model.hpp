#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>
#include <concepts>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/intervention/attached_interventions.hpp"
#include "reft/intervention/registry.hpp"
#include "reft/model/weights.hpp"

namespace reft {

/// A transformer whose activations can be edited: a handle (`std::shared_ptr` or `torch::nn::ModuleHolder`) of a module
/// that owns HookPoints and calls them in a forward taking a `const ForwardContext&`.
template <class Base>
concept HookedTransformer = requires(Base base, const Site& site) {
  { base->width(site) } -> std::convertible_to<int64_t>;
  { base->num_layers() } -> std::convertible_to<int64_t>;
  { base->hook_point(site) } -> std::same_as<HookPoint&>;
};

/// A base with a head of its task, which is trained beside the interventions and saved with them; `head_slots()` gives its
/// tensors the names they have in a Hugging Face file.
template <class Base>
concept HasHead = requires(const Base& base) {
  { base->head_slots() } -> std::convertible_to<std::vector<WeightSlot>>;
};

/// The head of a base as a module of its own.
struct TrainedHead {
  std::shared_ptr<torch::nn::Module> module;  ///< its parameters are the base's tensors, dots in their names made underscores
  double learning_rate_scale = 1.0;           ///< in relation to the optimizer's
};

/// A frozen base and the interventions that edit it. `parameters()` are theirs alone, and the head's where it is trained.
///   model.attach<LoReFT>({.layer = 3, .positions = "f5+l5"}, {.rank = 4});
template <HookedTransformer Base>
class ReftModel {
 public:
  // CONSTRUCTION

  explicit ReftModel(Base base) : base_(std::move(base)) {
    for (torch::Tensor& parameter : base_->parameters()) parameter.requires_grad_(false);
    base_->eval();
    trainable_->register_module("interventions", interventions_);
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
  /// @throws ConfigError if a site's width is not the intervention's, or for overlapping positions.
  void attach(Attachment attachment) { attach(std::vector<Attachment>{std::move(attachment)}); }

  /// Attaches all of them, or none.   @throws ConfigError as for one.
  void attach(std::vector<Attachment> attachments) {
    for (const Attachment& attachment : attachments) {
      for (const Site& site : attachment.sites) {
        if (const int64_t width = base_->width(site); width != attachment.intervention->hidden_size()) {
          fail<ConfigError>("attach", "{}: the site is {} wide, the intervention {}", to_string(site), width,
                            attachment.intervention->hidden_size());
        }
      }
      attachment.intervention->to(device());
    }
    interventions_->add(std::move(attachments));
  }

  /// Trains the base's head too, in float32; whoever shares the base sees it change. The head stays part of the base.
  /// @param learning_rate_scale  of its learning rate, in relation to the optimizer's.
  /// @throws ConfigError for a base without one, or a negative scale.
  void train_head(double learning_rate_scale = 1.0)
    requires HasHead<Base>
  {
    if (!(learning_rate_scale >= 0.0)) fail<ConfigError>("train_head", "expected a learning rate scale of at least 0, got {}", learning_rate_scale);
    std::vector<WeightSlot> slots = base_->head_slots();
    if (slots.empty()) fail<ConfigError>("train_head", "the base has no head of its task");
    if (head_) trainable_->unregister_module("head");
    head_ = TrainedHead{std::make_shared<torch::nn::Module>(), learning_rate_scale};
    for (WeightSlot& slot : slots) {
      slot.values.set_data(slot.values.to(torch::kFloat32));
      std::replace(slot.name.begin(), slot.name.end(), '.', '_');
      head_->module->register_parameter(slot.name, slot.values, /*requires_grad=*/true);
    }
    trainable_->register_module("head", head_->module);
  }

  bool trains_head() const { return head_.has_value(); }
  const std::optional<TrainedHead>& head() const { return head_; }

  // RUNNING

  /// Keeps nothing but the inputs of the base's blocks for backward, which computes them again: less memory, a third more
  /// time. Bases of one's own may ignore it.
  void set_activation_checkpointing(bool on = true) { interventions_->set_activation_checkpointing(on); }

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

  /// All that is trained: the interventions, and the head.
  const torch::nn::Module& trainable() const { return *trainable_; }
  torch::nn::Module& mutable_trainable() { return *trainable_; }

  std::vector<torch::Tensor> parameters() const { return trainable_->parameters(); }
  void train(bool on = true) { interventions_->train(on); }
  void eval() { interventions_->eval(); }
  bool is_training() const { return interventions_->is_training(); }
  void zero_grad() { trainable_->zero_grad(); }
  void to(torch::Device device) {
    base_->to(device);
    interventions_->to(device);
  }
  torch::Device device() const { return base_->parameters().front().device(); }

  /// Width D of the residual stream.
  int64_t hidden_size() const { return base_->width({.layer = 0}); }

  int64_t num_trainable_parameters() const { return count(parameters()); }
  int64_t num_head_parameters() const { return head_ ? count(head_->module->parameters()) : 0; }
  int64_t num_base_parameters() const { return count(base_->parameters()); }

  /// One line per intervention: its sites and their width, form, positions, and the shapes of its parameters; one for the
  /// head; then the counts.
  std::string trainable_summary() const {
    std::string text;
    for (const Attachment& attachment : interventions_->attachments()) {
      const InterventionBase& intervention = *attachment.intervention;
      std::vector<std::string> sites;
      for (const Site& site : attachment.sites) sites.push_back(to_string(site));
      text += fmt::format("{} ({})  {}  positions {}  {}  {} parameters\n", fmt::join(sites, ", "), intervention.hidden_size(),
                          intervention.type(), attachment.positions.text(), shapes_of(intervention), intervention.num_parameters());
    }
    if (head_) {
      text += fmt::format("head  {}  {} parameters\n", shapes_of(*head_->module), num_head_parameters());
    }
    const int64_t trainable = num_trainable_parameters(), base = num_base_parameters();
    return text + fmt::format("trainable parameters: {} || base parameters: {} || trainable: {:.4f}%", trainable, base,
                              100.0 * static_cast<double>(trainable) / static_cast<double>(base));
  }

 private:
  static int64_t count(const std::vector<torch::Tensor>& parameters) {
    int64_t sum = 0;
    for (const torch::Tensor& parameter : parameters) sum += parameter.numel();
    return sum;
  }

  static std::string shapes_of(const torch::nn::Module& module) {
    std::vector<std::string> shapes;
    for (const auto& parameter : module.named_parameters()) {
      shapes.push_back(fmt::format("{} ({})", parameter.key(), fmt::join(parameter.value().sizes(), ", ")));
    }
    return fmt::format("{}", fmt::join(shapes, ", "));
  }

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
    attach(std::move(parts));
  }

  Base base_;
  std::shared_ptr<AttachedInterventions> interventions_ = std::make_shared<AttachedInterventions>();
  std::optional<TrainedHead> head_;
  std::shared_ptr<torch::nn::Module> trainable_ = std::make_shared<torch::nn::Module>("Trainable");
};

}  // namespace reft
