#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reft/hook/source_run.hpp"
#include "reft/intervention/attachment.hpp"
#include "reft/intervention/planned_edit.hpp"

namespace reft {

/// One sequence's part of a forward, as its interventions see it.
struct EditedSequence {
  int64_t sequence = 0;           ///< of the layout
  int64_t prompt_length = 0;      ///< tokens over which positions are laid; those after them count as decoded
  double scale = 1.0;             ///< s in h' = h + s (Φ(h) − h)
  torch::Tensor row_scales = {};  ///< (r) what each row of the subspaces is multiplied with, or undefined: 1
};

/// The interventions attached to a base, as one module: their parameters are its parameters.
class AttachedInterventions : public torch::nn::Module {
 public:
  const std::vector<Attachment>& attachments() const { return attachments_; }
  bool empty() const { return attachments_.empty(); }

  /// @throws ConfigError if at one of its sites the positions certainly overlap those of another attachment.
  void check(const Attachment& attachment) const {
    for (const Attachment& other : attachments_) check_disjoint(other, attachment);
  }

  void add(Attachment attachment) { add(std::vector<Attachment>{std::move(attachment)}); }

  /// All of them, or none.
  /// @throws ConfigError as `check`, for overlaps among them too.
  void add(std::vector<Attachment> added) {
    for (size_t i = 0; i < added.size(); ++i) {
      check(added[i]);
      for (size_t j = 0; j < i; ++j) check_disjoint(added[j], added[i]);
    }
    for (Attachment& attachment : added) {
      const bool known = std::any_of(attachments_.begin(), attachments_.end(),
                                     [&](const Attachment& other) { return other.intervention == attachment.intervention; });
      if (!known) register_module("intervention" + std::to_string(children().size()), attachment.intervention);
      attachments_.push_back(std::move(attachment));
    }
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

  /// Whether forwards over prompts keep the inputs of blocks alone; see `ForwardContext::checkpoint_blocks`.
  void set_activation_checkpointing(bool on) { checkpoints_blocks_ = on; }

  /// Whether an edit depends on which token stands at a row, so that a forward's token ids are asked for.
  bool reads_token_ids() const {
    return std::any_of(attachments_.begin(), attachments_.end(), [](const Attachment& a) { return !a.token_ids.empty(); });
  }

  /// The edits of some sequences of a forward. A row is a position of its prompt, or, behind it, a token being decoded: the
  /// row of token `prompt_length + t` is that of step t, whether it comes alone over a cache or with all others.
  /// @param token_ids  (N) of the forward, on the host; may be empty unless `reads_token_ids`.
  /// @throws ConfigError where token ids are needed and absent, or for row scales that an intervention has no place for.
  std::vector<PlannedEdit> plan(const Layout& layout, std::span<const EditedSequence> sequences,
                                std::span<const int64_t> token_ids = {}) const {
    if (reads_token_ids() && std::ssize(token_ids) != layout.num_tokens()) {
      fail<ConfigError>("ReftModel", "an intervention acts on certain token ids: expected those of all {} rows, got {}",
                        layout.num_tokens(), token_ids.size());
    }
    std::vector<PlannedEdit> edits;
    for (const auto& [site, here] : by_site()) {
      const size_t first = edits.size();
      for (const Attachment* attachment : here) edits.push_back({site, attachment->intervention, {}, {}});
      std::vector<std::vector<int64_t>> owners(here.size());  // of the rows: which of `sequences`
      for (size_t i = 0; i < sequences.size(); ++i) {
        if (sequences[i].scale == 0.0) continue;
        const auto add = [&](size_t j, int64_t row) {
          edits[first + j].rows.push_back(row);
          edits[first + j].scales.push_back(sequences[i].scale);
          owners[j].push_back(static_cast<int64_t>(i));
        };
        add_prompt_rows(layout, sequences[i], here, token_ids, add);
        add_decode_rows(layout, sequences[i], here, token_ids, add);
      }
      for (size_t j = 0; j < here.size(); ++j) edits[first + j].row_scales = row_scales_of(sequences, owners[j], *here[j]->intervention);
    }
    std::erase_if(edits, [](const PlannedEdit& edit) { return edit.rows.empty(); });
    return edits;
  }

  /// Edits for one forward over sequences, from their beginning or over a past; tokens after the prompt count as decoded.
  /// @param prompt_lengths  (B) tokens of each sequence over which positions are laid.
  /// @param row_scales      (B, r) or (r): what each row of the subspaces is multiplied with; undefined = 1.
  /// @param input_ids       (N) what the forward takes; read (from a device: copied) only where `reads_token_ids`.
  /// @param source          another run, for interventions that need one: they get its rows at the same positions.
  /// @throws ConfigError as `plan`, or for a site the source run did not capture; ShapeError for other than B prompt
  ///   lengths, or a pair of prompts with more or fewer of the rows.
  ForwardContext prompt_context(const Layout& layout, std::span<const int64_t> prompt_lengths, const torch::Tensor& row_scales = {},
                                const torch::Tensor& input_ids = {}, const SourceRun* source = nullptr) const {
    ForwardContext context(layout);
    if (checkpoints_blocks_) context.checkpoint_blocks();
    if (attachments_.empty()) return context;
    std::vector<PlannedEdit> edits = plan_prompts(layout, prompt_lengths, row_scales, input_ids);
    if (source != nullptr) add_source(edits, layout, *source);
    add_edits(context, edits);
    return context;
  }

  /// What `prompt_context` adds, source runs aside.
  std::vector<PlannedEdit> plan_prompts(const Layout& layout, std::span<const int64_t> prompt_lengths, const torch::Tensor& row_scales,
                                        const torch::Tensor& input_ids) const {
    if (std::ssize(prompt_lengths) != layout.num_sequences()) {
      fail<ShapeError>("ReftModel", "expected {} prompt lengths, got {}", layout.num_sequences(), prompt_lengths.size());
    }
    check_row_scales(row_scales, layout.num_sequences());
    std::vector<EditedSequence> sequences;
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const int64_t prompt_length = std::min(prompt_lengths[i], layout.past_length(i) + layout.length(i));
      sequences.push_back({i, prompt_length, 1.0, row_scales_at(row_scales, i)});
    }
    return plan(layout, sequences, host_ids(input_ids));
  }

  /// Edits for one decoding step, in which every sequence has one new token.
  /// @param row_scales, input_ids  as above.   @param step  how many tokens of the continuation came before it.
  ForwardContext decode_context(const Layout& layout, const torch::Tensor& row_scales = {}, int64_t step = 0,
                                const torch::Tensor& input_ids = {}) const {
    ForwardContext context(layout);
    std::vector<EditedSequence> sequences;
    check_row_scales(row_scales, layout.num_sequences());
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      sequences.push_back({i, layout.past_length(i) - step, 1.0, row_scales_at(row_scales, i)});
    }
    add_edits(context, plan(layout, sequences, host_ids(input_ids)));
    return context;
  }

  /// @param row_scales  (B, r) or (r), or undefined.   @throws ConfigError for any other shape, or an r that some
  ///   intervention does not have.
  void check_row_scales(const torch::Tensor& row_scales, int64_t num_sequences) const {
    if (!row_scales.defined()) return;
    for (const Attachment& attachment : attachments_) {
      const int64_t r = attachment.intervention->rank(), dim = row_scales.dim();
      if (r > 0 && row_scales.sizes().back() == r && (dim == 1 || (dim == 2 && row_scales.size(0) == num_sequences))) continue;
      fail<ConfigError>("ReftModel", "expected row scales ({}, {}) or ({}) for {}, got {}", num_sequences, r, r, attachment.intervention->type(),
                        c10::str(row_scales.sizes()));
    }
  }

  /// (r) of sequence i, from (B, r) or (r); undefined from undefined.
  static torch::Tensor row_scales_at(const torch::Tensor& row_scales, int64_t i) {
    return row_scales.defined() && row_scales.dim() == 2 ? row_scales[i] : row_scales;
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

 private:
  // The source's rows, planned as those of the batch are; sequence by sequence there must be as many.
  void add_source(std::vector<PlannedEdit>& edits, const Layout& layout, const SourceRun& source) const {
    std::vector<PlannedEdit> theirs = plan_prompts(source.layout, source.prompt_lengths, {}, source.input_ids);
    for (PlannedEdit& edit : edits) {
      if (!edit.intervention->needs_source()) continue;
      const auto same = std::find_if(theirs.begin(), theirs.end(), [&](const PlannedEdit& other) {
        return other.site == edit.site && other.intervention == edit.intervention;
      });
      const std::vector<int64_t> rows = same == theirs.end() ? std::vector<int64_t>() : same->rows;
      if (same != theirs.end()) theirs.erase(same);  // the next of this intervention here has other positions
      const auto sequences_of = [](const Layout& of, const std::vector<int64_t>& found) {
        std::vector<int64_t> sequences;
        for (const int64_t row : found) sequences.push_back(of.sequence_of(row));
        return sequences;
      };
      if (sequences_of(layout, edit.rows) != sequences_of(source.layout, rows)) {
        fail<ShapeError>("interchange", "{}: its positions are {} rows of the batch and {} of the source run; prompts pair off one by one",
                         to_string(edit.site), edit.rows.size(), rows.size());
      }
      const auto found = source.activations.find(edit.site);
      if (found == source.activations.end() || !found->second.defined()) {
        fail<ConfigError>("interchange", "{}: the source run did not capture this site", to_string(edit.site));
      }
      const torch::Tensor flat = found->second.reshape({-1, found->second.size(-1)});
      edit.source = flat.index_select(0, torch::tensor(rows, torch::kInt64).to(flat.device()));
    }
  }

  using Attachments = std::vector<const Attachment*>;  // of one site

  static void check_disjoint(const Attachment& other, const Attachment& added) {
    if (!other.phase.overlaps(added.phase) || other.wants_other_tokens(added)) return;
    for (const Site& site : added.sites) {
      if (std::find(other.sites.begin(), other.sites.end(), site) == other.sites.end()) continue;
      try {
        Positions::parse(other.positions.text() + "+" + added.positions.text());
      } catch (const ConfigError&) {
        fail<ConfigError>("attach", "{}: positions {} overlap {}, which another intervention edits there", to_string(site),
                          added.positions.text(), other.positions.text());
      }
    }
  }

  // (P, r) on the device of the scales; undefined where no sequence has any.
  static torch::Tensor row_scales_of(std::span<const EditedSequence> sequences, const std::vector<int64_t>& owners,
                                     InterventionBase& intervention) {
    const auto first = std::find_if(sequences.begin(), sequences.end(), [](const EditedSequence& each) { return each.row_scales.defined(); });
    if (first == sequences.end() || owners.empty()) return {};
    const int64_t r = intervention.rank();
    std::vector<torch::Tensor> scales;
    for (const EditedSequence& each : sequences) {
      scales.push_back(each.row_scales.defined() ? each.row_scales : torch::ones({r}, first->row_scales.options()));
      if (r > 0 && scales.back().sizes() == c10::IntArrayRef{r}) continue;
      fail<ConfigError>("ReftModel", "expected row scales ({}) for {}, got {}", r, intervention.type(), c10::str(scales.back().sizes()));
    }
    return torch::stack(scales).index_select(0, torch::tensor(owners, torch::kInt64).to(scales.front().device()));
  }

  std::map<Site, Attachments> by_site() const {
    std::map<Site, Attachments> sites;
    for (const Attachment& attachment : attachments_) {
      for (const Site& site : attachment.sites) sites[site].push_back(&attachment);
    }
    return sites;
  }

  // The positions of the prompt that this forward computes; earlier ones are in the cache.
  template <class Add>
  static void add_prompt_rows(const Layout& layout, const EditedSequence& sequence, const Attachments& here,
                              std::span<const int64_t> token_ids, Add add) {
    const int64_t i = sequence.sequence, past = layout.past_length(i), shift = layout.first(i) - past;
    const int64_t end = std::min(past + layout.length(i), sequence.prompt_length);
    std::vector<size_t> acting;
    std::vector<Positions> parts;
    std::vector<PositionRule> rules;
    for (size_t j = 0; past < end && j < here.size(); ++j) {
      if (!here[j]->phase.on_prompt()) continue;
      acting.push_back(j);
      parts.push_back(here[j]->positions);
      rules.push_back(here[j]->position_rule);
    }
    if (acting.empty()) return;
    const auto is_here = [&](int64_t position) { return position >= past && position < end; };
    const auto wants = [&](size_t k, int64_t position) {
      return is_here(position) && (token_ids.empty() || here[acting[k]]->acts_on_token(token_ids[shift + position]));
    };
    const auto found = resolve_disjoint(parts, sequence.prompt_length, rules, nullptr, wants);
    for (size_t k = 0; k < acting.size(); ++k) {
      for (const int64_t position : found[k]) add(acting[k], shift + position);
    }
  }

  // The new token is a last position; where several attachments would claim it, the first has it.
  template <class Add>
  static void add_decode_rows(const Layout& layout, const EditedSequence& sequence, const Attachments& here,
                              std::span<const int64_t> token_ids, Add add) {
    const int64_t i = sequence.sequence, past = layout.past_length(i), shift = layout.first(i) - past;
    for (int64_t position = std::max(past, sequence.prompt_length); position < past + layout.length(i); ++position) {
      for (size_t j = 0; j < here.size(); ++j) {
        const Attachment& attachment = *here[j];
        if (!attachment.phase.at_step(position - sequence.prompt_length) || !attachment.positions.acts_on_decoded_tokens()) continue;
        if (!token_ids.empty() && !attachment.acts_on_token(token_ids[shift + position])) continue;
        add(j, shift + position);
        break;
      }
    }
  }

  std::vector<int64_t> host_ids(const torch::Tensor& input_ids) const {
    if (!reads_token_ids() || !input_ids.defined()) return {};
    const torch::Tensor ids = input_ids.reshape({-1}).to(torch::kCPU, torch::kInt64).contiguous();
    return {ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel()};
  }

  std::vector<Attachment> attachments_;
  bool checkpoints_blocks_ = false;
};

}  // namespace reft
