#pragma once

#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "reft/hook/layout.hpp"
#include "reft/hook/site.hpp"
#include "reft/tensor/edit_rows.hpp"

namespace reft {

/// Everything that travels through one forward pass: where the tokens lie, which edits act at which sites, and
/// which activations are wanted. It belongs to the call, never to the base, so one base serves many at once.
class ForwardContext {
 public:
  /// Receives the parent (N, C) of a site and the site's columns in it; returns the parent, edited. What it makes of a row
  /// depends on that row alone: rows that nobody asked the model for may hold anything in its last block.
  using Action = std::function<torch::Tensor(torch::Tensor h, Columns columns)>;

  explicit ForwardContext(Layout layout) : layout_(std::move(layout)) {}

  const Layout& layout() const { return layout_; }

  /// Adds an edit; edits of one site act in the order in which they were added.
  void add_action(const Site& site, Action action) {
    actions_[site].push_back(std::move(action));
    mark(site);
  }

  /// Asks for the activation at `site`, taken after its edits and hooks; found in `activations()` after the forward.
  void capture(const Site& site) {
    captured_[site] = torch::Tensor();
    mark(site);
  }

  /// (N, width) per captured site; undefined where the forward never reached it.
  const std::map<Site, torch::Tensor>& activations() const { return captured_; }

  /// A place for a term that an edit adds to the loss of the forward it acts in; a later forward with this context
  /// writes over it.
  std::shared_ptr<torch::Tensor> add_auxiliary_loss() { return auxiliary_losses_.emplace_back(std::make_shared<torch::Tensor>()); }

  /// The sum of the terms that edits left in the last forward, a scalar; undefined where there are none.
  torch::Tensor auxiliary_loss() const {
    torch::Tensor sum;
    for (const auto& term : auxiliary_losses_) {
      if (term->defined()) sum = sum.defined() ? sum + *term : *term;
    }
    return sum;
  }

  /// Whether an edit or a capture is waiting at `site`.
  bool acts_at(const Site& site) const {
    if (!((component_mask_ >> static_cast<int>(site.component)) & 1u)) return false;
    return actions_.contains(site) || captured_.contains(site);
  }

  bool captures(const Site& site) const { return captured_.contains(site); }
  bool has_auxiliary_loss() const { return !auxiliary_losses_.empty(); }

  /// Begins the forward after the first `num_blocks` blocks.   @param h  (N, D) what the last of them gives, before anything
  /// acts at its output.
  void begin_after(int64_t num_blocks, torch::Tensor h) {
    skipped_blocks_ = num_blocks;
    begin_ = std::move(h);
  }
  int64_t num_skipped_blocks() const { return skipped_blocks_; }
  const torch::Tensor& begin() const { return begin_; }

  /// Asks blocks to keep their input alone and to compute the rest again in backward: less memory for a forward more.
  void checkpoint_blocks() { checkpoints_blocks_ = true; }
  bool checkpoints_blocks() const { return checkpoints_blocks_; }

  /// Lets the sequences of the layout go on from constant keys and values, its past.
  /// Unlike a KV cache's they may stand below a graph.
  /// @param past  (B) each (L, 2, K, U, E), keys before values, U the sequence's past length.
  void continue_from(std::vector<torch::Tensor> past) { past_ = std::move(past); }
  const std::vector<torch::Tensor>& past() const { return past_; }

  torch::Tensor apply_actions(const Site& site, torch::Tensor h, Columns columns) const {
    if (const auto found = actions_.find(site); found != actions_.end()) {
      for (const Action& action : found->second) h = action(std::move(h), columns);
    }
    return h;
  }

  void store(const Site& site, const torch::Tensor& h, Columns columns) const {
    if (const auto found = captured_.find(site); found != captured_.end()) {
      found->second = h.narrow(-1, columns.first, columns.width).detach().clone();
    }
  }

 private:
  void mark(const Site& site) { component_mask_ |= 1u << static_cast<int>(site.component); }

  Layout layout_;
  int64_t skipped_blocks_ = 0;
  torch::Tensor begin_;  // (N, D), or undefined: from the embedding on
  std::vector<torch::Tensor> past_;  // (B), or empty
  bool checkpoints_blocks_ = false;
  std::map<Site, std::vector<Action>> actions_;
  mutable std::map<Site, torch::Tensor> captured_;  // filled during the forward that owns this context
  std::vector<std::shared_ptr<torch::Tensor>> auxiliary_losses_;
  uint32_t component_mask_ = 0;                     // one bit per component in use: the cheap first test
};

/// Detaches its hook when destroyed. Move-only; outliving the model is harmless.
class HookHandle {
 public:
  HookHandle() = default;
  explicit HookHandle(std::function<void()> remove) : remove_(std::move(remove)) {}
  HookHandle(HookHandle&& other) noexcept : remove_(std::exchange(other.remove_, nullptr)) {}
  HookHandle& operator=(HookHandle&& other) noexcept {
    if (this != &other) {
      remove();
      remove_ = std::exchange(other.remove_, nullptr);
    }
    return *this;
  }
  ~HookHandle() { remove(); }

  void remove() {
    if (auto action = std::exchange(remove_, nullptr)) action();
  }

 private:
  std::function<void()> remove_;
};

/// A named place in a model's forward. The model calls it with the activation and goes on with what it returns:
///   h = block_output(std::move(h), context);
/// With nothing attached this is one branch. Order at one site: interventions, then hooks as added, then capture.
/// Adding and removing hooks is not safe while another thread runs a forward.
class HookPoint {
 public:
  /// (N, width) of this site in, the same shape out.
  using Hook = std::function<torch::Tensor(torch::Tensor h, const ForwardContext& context)>;

  HookPoint() = default;
  explicit HookPoint(Site site) : site_(site) {}

  const Site& site() const { return site_; }

  /// Attaches a user's hook until the handle is dropped.
  [[nodiscard]] HookHandle add(Hook hook) {
    const int64_t id = hooks_->next_id++;
    hooks_->entries.emplace_back(id, std::move(hook));
    return HookHandle([hooks = std::weak_ptr<Hooks>(hooks_), id] {
      if (auto alive = hooks.lock()) std::erase_if(alive->entries, [id](const auto& entry) { return entry.first == id; });
    });
  }

  bool is_active(const ForwardContext& context) const { return !hooks_->entries.empty() || context.acts_at(site_); }

  /// Whether somebody looks at all rows of this site: a hook or a capture, where an edit looks at rows of its own.
  bool is_watched(const ForwardContext& context) const { return !hooks_->entries.empty() || context.captures(site_); }

  /// @param h  (..., width); move it in, so that an edit may work in place.
  torch::Tensor operator()(torch::Tensor h, const ForwardContext& context) const {
    if (!is_active(context)) return h;
    const Columns all{0, h.size(-1)};
    return run(std::move(h), context, all);
  }

  /// The same for a site that is some columns of a wider parent (N, C); the parent is returned.
  torch::Tensor operator()(torch::Tensor parent, const ForwardContext& context, Columns columns) const {
    if (!is_active(context)) return parent;
    return run(std::move(parent), context, columns);
  }

 private:
  struct Hooks {
    std::vector<std::pair<int64_t, Hook>> entries;
    int64_t next_id = 0;
  };

  torch::Tensor run(torch::Tensor h, const ForwardContext& context, Columns columns) const {
    h = context.apply_actions(site_, std::move(h), columns);
    const auto entries = hooks_->entries;  // a copy: a hook may drop itself
    for (const auto& [id, hook] : entries) h = call_hook(hook, std::move(h), context, columns);
    context.store(site_, h, columns);
    return h;
  }

  torch::Tensor call_hook(const Hook& hook, torch::Tensor h, const ForwardContext& context, Columns columns) const {
    if (columns.width == h.size(-1)) return checked(hook(h, context), h.sizes());
    const torch::Tensor own = h.narrow(-1, columns.first, columns.width);
    const torch::Tensor result = checked(hook(own.contiguous(), context), own.sizes());
    return h.slice_scatter(result, -1, columns.first, columns.first + columns.width);
  }

  torch::Tensor checked(torch::Tensor result, torch::IntArrayRef expected) const {
    if (!result.defined() || result.sizes() != expected) {
      fail<ShapeError>("HookPoint", "{}: expected the hook to return a tensor of {} values per row and {} rows, got {}",
                       to_string(site_), expected.back(), expected.front(),
                       result.defined() ? c10::str(result.sizes()) : std::string("none"));
    }
    return result;
  }

  Site site_;
  std::shared_ptr<Hooks> hooks_ = std::make_shared<Hooks>();
};

}  // namespace reft
