#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <concepts>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/hook/positions.hpp"
#include "reft/intervention/registry.hpp"
#include "reft/tensor/edit_rows.hpp"

namespace reft {

/// A transformer whose activations can be edited: a handle (`std::shared_ptr` or `torch::nn::ModuleHolder`) of a module
/// that owns HookPoints and calls them in a forward taking a `const ForwardContext&`.
template <class Base>
concept HookedTransformer = requires(Base base, const Site& site) {
  { base->width(site) } -> std::convertible_to<int64_t>;
  { base->num_layers() } -> std::convertible_to<int64_t>;
  { base->hook_point(site) } -> std::same_as<HookPoint&>;
};

/// When an intervention acts. With `prompt`, decoding runs the plain base: the edits live on in the KV cache.
enum class Phase { prompt, decode, every };

inline std::string_view to_string(Phase phase) {
  return phase == Phase::prompt ? "prompt" : phase == Phase::decode ? "decode" : "every";
}

/// @throws ConfigError for other names.
inline Phase parse_phase(std::string_view name) {
  for (const Phase phase : {Phase::prompt, Phase::decode, Phase::every}) {
    if (to_string(phase) == name) return phase;
  }
  fail<ConfigError>("parse_phase", "\"{}\": expected prompt, decode or every", name);
}

/// Where and when an intervention acts. `tie` says who shares one intervention: all positions, each group of the
/// expression ("f5" and "l5" apart), or nobody.
struct AttachOptions {
  std::optional<int> layer = {};
  Component component = Component::block_output;
  std::optional<int> head = {};
  std::string positions = "f1+l1";
  Tie tie = Tie::group;
  Phase phase = Phase::prompt;
  PositionRule position_rule = PositionRule::paper;

  Site site() const { return {layer, component, head}; }
};

/// One intervention and everywhere it acts.
struct Attachment {
  std::shared_ptr<InterventionBase> intervention;
  std::vector<Site> sites;  // more than one: shared across sites
  Positions positions;
  Phase phase = Phase::prompt;
  PositionRule position_rule = PositionRule::paper;
  std::string expression = positions.text();  // the positions of all that were attached together, "f1+l1"
  Tie tie = Tie::all;                          // and how they were split among them
};

/// The interventions attached to a base, as one module: their parameters are its parameters.
class AttachedInterventions : public torch::nn::Module {
 public:
  const std::vector<Attachment>& attachments() const { return attachments_; }
  bool empty() const { return attachments_.empty(); }

  /// @throws ConfigError if at one of its sites the positions certainly overlap those of another attachment.
  void check(const Attachment& attachment) const {
    for (const Site& site : attachment.sites) check_disjoint(site, attachment);
  }

  /// @throws ConfigError as `check`.
  void add(Attachment attachment) {
    check(attachment);
    const bool known = std::any_of(attachments_.begin(), attachments_.end(),
                                   [&](const Attachment& other) { return other.intervention == attachment.intervention; });
    if (!known) register_module("intervention" + std::to_string(children().size()), attachment.intervention);
    attachments_.push_back(std::move(attachment));
  }

  /// Distinct interventions, in order of attachment.
  std::vector<std::shared_ptr<InterventionBase>> interventions() const {
    std::vector<std::shared_ptr<InterventionBase>> distinct;
    for (const Attachment& attachment : attachments_) {
      if (std::find(distinct.begin(), distinct.end(), attachment.intervention) == distinct.end()) {
        distinct.push_back(attachment.intervention);
      }
    }
    return distinct;
  }

  /// Edits for one forward over whole prompts, with the row indices sent to the device in one copy.
  /// @param prompt_lengths  (B) tokens of each sequence over which positions are laid.
  /// @param row_scales      (B, r) or (r): what each row of the subspaces is multiplied with; undefined = 1.
  /// @throws ConfigError for row scales that an intervention has no place for.
  ForwardContext prompt_context(const Layout& layout, std::span<const int64_t> prompt_lengths,
                                const torch::Tensor& row_scales = {}) const {
    ForwardContext context(layout);
    if (attachments_.empty()) return context;
    if (static_cast<int64_t>(prompt_lengths.size()) != layout.num_sequences()) {
      fail<ShapeError>("ReftModel", "expected {} prompt lengths, got {}", layout.num_sequences(), prompt_lengths.size());
    }
    add_actions(context, [&](const std::vector<const Attachment*>& here) { return prompt_rows(layout, prompt_lengths, here); },
                Phase::prompt, row_scales);
    return context;
  }

  /// How many positions that were asked for lie outside prompts of these lengths, where they are dropped; sites that ask
  /// for the same positions count once.
  int64_t num_dropped(std::span<const int64_t> prompt_lengths) const {
    std::set<std::pair<std::string, PositionRule>> seen;
    int64_t dropped = 0;
    for (const Attachment& attachment : attachments_) {
      if (!seen.emplace(attachment.positions.text(), attachment.position_rule).second) continue;
      for (const int64_t length : prompt_lengths) attachment.positions.resolve(length, attachment.position_rule, &dropped);
    }
    return dropped;
  }

  /// Edits for one decoding step, in which every sequence has one new token.
  ForwardContext decode_context(const Layout& layout, const torch::Tensor& row_scales = {}) const {
    ForwardContext context(layout);
    add_actions(context, [&](const std::vector<const Attachment*>& here) { return decode_rows(layout, here); }, Phase::decode,
                row_scales);
    return context;
  }

 private:
  using Rows = std::vector<std::vector<int64_t>>;  // per attachment of one site

  void check_disjoint(const Site& site, const Attachment& added) const {
    for (const Attachment& other : attachments_) {
      const bool here = std::find(other.sites.begin(), other.sites.end(), site) != other.sites.end();
      if (!here || (other.phase != added.phase && other.phase != Phase::every && added.phase != Phase::every)) continue;
      try {
        Positions::parse(other.positions.text() + "+" + added.positions.text());
      } catch (const ConfigError&) {
        fail<ConfigError>("attach", "{}: positions {} overlap {}, which another intervention edits there", to_string(site),
                          added.positions.text(), other.positions.text());
      }
    }
  }

  std::map<Site, std::vector<const Attachment*>> by_site(Phase phase) const {
    std::map<Site, std::vector<const Attachment*>> sites;
    for (const Attachment& attachment : attachments_) {
      if (attachment.phase != phase && attachment.phase != Phase::every) continue;
      if (phase == Phase::decode && !attachment.positions.acts_on_decoded_tokens()) continue;
      for (const Site& site : attachment.sites) sites[site].push_back(&attachment);
    }
    return sites;
  }

  static Rows prompt_rows(const Layout& layout, std::span<const int64_t> prompt_lengths,
                          const std::vector<const Attachment*>& here) {
    std::vector<Positions> parts;
    std::vector<PositionRule> rules;
    for (const Attachment* attachment : here) {
      parts.push_back(attachment->positions);
      rules.push_back(attachment->position_rule);
    }
    Rows rows(here.size());
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const auto found = resolve_disjoint(parts, std::min(prompt_lengths[i], layout.length(i)), rules);
      for (size_t j = 0; j < here.size(); ++j) {
        for (const int64_t position : found[j]) rows[j].push_back(layout.start(i) + position);
      }
    }
    return rows;
  }

  // The new token is a last position; where several attachments would claim it, the first has it.
  static Rows decode_rows(const Layout& layout, const std::vector<const Attachment*>& here) {
    Rows rows(here.size());
    for (int64_t i = 0; i < layout.num_tokens(); ++i) rows.front().push_back(i);
    return rows;
  }

  template <class RowsOf>
  void add_actions(ForwardContext& context, RowsOf rows_of, Phase phase, const torch::Tensor& row_scales) const {
    std::vector<int64_t> all;
    struct Pending {
      Site site;
      const Attachment* attachment;
      int64_t first, count;
    };
    std::vector<Pending> pending;
    for (const auto& [site, here] : by_site(phase)) {
      const Rows rows = rows_of(here);
      for (size_t j = 0; j < here.size(); ++j) {
        if (rows[j].empty()) continue;
        pending.push_back({site, here[j], static_cast<int64_t>(all.size()), static_cast<int64_t>(rows[j].size())});
        all.insert(all.end(), rows[j].begin(), rows[j].end());
      }
    }
    if (pending.empty()) return;
    const torch::Tensor indices = torch::tensor(all, torch::kInt64).to(context.layout().device());
    for (const Pending& item : pending) {
      torch::Tensor scales;
      if (row_scales.defined()) {
        scales = scales_of_rows(context.layout(), std::span(all).subspan(item.first, item.count), row_scales, *item.attachment->intervention);
      }
      context.add_action(item.site, action(item.attachment->intervention, indices.narrow(0, item.first, item.count), scales));
    }
  }

  /// (P, r) from what is said for each sequence, (B, r), or for all, (r).
  static torch::Tensor scales_of_rows(const Layout& layout, std::span<const int64_t> rows, const torch::Tensor& row_scales,
                                      InterventionBase& intervention) {
    const int64_t B = layout.num_sequences(), r = intervention.rank();
    const bool for_all = row_scales.dim() == 1;
    if (r == 0 || row_scales.dim() > 2 || row_scales.size(-1) != r || (!for_all && row_scales.size(0) != B)) {
      fail<ConfigError>("ReftModel", "expected row scales ({}, {}) or ({}) for {}, got {}", B, r, r, intervention.type(),
                        c10::str(row_scales.sizes()));
    }
    const torch::Tensor scales = row_scales.to(layout.device(), intervention.dtype());
    if (for_all) return scales.expand({std::ssize(rows), r});
    std::vector<int64_t> sequences;
    for (const int64_t row : rows) sequences.push_back(layout.sequence_of(row));
    return scales.index_select(0, torch::tensor(sequences, torch::kInt64).to(layout.device()));
  }

  static ForwardContext::Action action(std::shared_ptr<InterventionBase> intervention, torch::Tensor rows, torch::Tensor scales) {
    return [intervention = std::move(intervention), rows = std::move(rows), scales = std::move(scales)](torch::Tensor h, Columns columns) {
      // Asked for here, not when the context is made: R must be of this forward's graph and of today's X, however
      // contexts are made ahead, kept or interleaved.
      const auto apply = [&](const torch::Tensor& x) {
        return scales.defined() ? intervention->forward_scaled(x, scales) : intervention->forward(x);
      };
      const RowEdit edit{apply, intervention->forward_tensors(),
                         intervention->dtype()};
      if (h.dim() == 2) return edit_rows(std::move(h), rows, columns, edit);
      const auto sizes = h.sizes().vec();  // a user's (B, T, D)
      torch::Tensor flat = h.reshape({-1, h.size(-1)});
      h.reset();
      return edit_rows(std::move(flat), rows, columns, edit).view(sizes);
    };
  }

  std::vector<Attachment> attachments_;
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
  /// @param inputs  what the base's forward takes before its context.
  template <class... Inputs>
  torch::Tensor forward(const Layout& layout, std::span<const int64_t> prompt_lengths, const Inputs&... inputs) {
    return base_->forward(inputs..., interventions_->prompt_context(layout, prompt_lengths));
  }

  const Base& base() const { return base_; }
  const AttachedInterventions& interventions() const { return *interventions_; }
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

  /// One line per intervention, then the counts.
  std::string trainable_summary() const {
    std::string text;
    for (const Attachment& attachment : interventions_->attachments()) {
      std::string sites;
      for (const Site& site : attachment.sites) sites += (sites.empty() ? "" : ", ") + to_string(site);
      text += fmt::format("{} {}  positions {}  {} parameters\n", sites, attachment.intervention->type(),
                          attachment.positions.text(), attachment.intervention->num_parameters());
    }
    const int64_t trainable = num_trainable_parameters(), base = num_base_parameters();
    return text + fmt::format("trainable parameters: {} || base parameters: {} || trainable: {:.4f}%", trainable, base,
                              100.0 * static_cast<double>(trainable) / static_cast<double>(base));
  }

 private:
  template <class Make>
  void attach_each(const AttachOptions& where, Make make) {
    const Site site = where.site();
    const int64_t width = base_->width(site);
    const Positions positions = Positions::parse(where.positions);
    std::vector<Attachment> parts;
    for (const Positions& part : positions.split(where.tie)) {
      parts.push_back({make(width), {site}, part, where.phase, where.position_rule, positions.text(), where.tie});
    }
    // All before the first is added: a refusal leaves the model as it was.
    for (const Attachment& part : parts) interventions_->check(part);
    for (Attachment& part : parts) attach(std::move(part));
  }

  Base base_;
  std::shared_ptr<AttachedInterventions> interventions_ = std::make_shared<AttachedInterventions>();
};

}  // namespace reft
