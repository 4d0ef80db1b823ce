#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/intervention/intervention.hpp"
#include "reft/tensor/edit_rows.hpp"

namespace reft {

/// What one intervention does at one site in one forward:   h' = h + s (Φ(h) − h)   in its rows, Φ with its subspace's rows
/// weighted where they are.
struct PlannedEdit {
  Site site;
  std::shared_ptr<InterventionBase> intervention;
  std::vector<int64_t> rows;      // (P) distinct rows of the forward
  std::vector<double> scales;     // (P) s of each
  torch::Tensor row_scales = {};  // (P, r) of the subspace's rows, or undefined: all 1
  torch::Tensor source = {};      // (P, D) another run's rows, for interventions that need one

  bool is_scaled() const {
    return std::any_of(scales.begin(), scales.end(), [](double scale) { return scale != 1.0; });
  }
};

namespace detail {

/// One planned edit, ready to act.
struct EditAction {
  std::shared_ptr<InterventionBase> intervention;
  torch::Tensor rows;                             // (P)
  torch::Tensor scales;                           // (P, 1), or undefined: all 1, and then h' = Φ(h) to the last bit
  RowContext context;
  std::shared_ptr<torch::Tensor> auxiliary_loss;  // where the forward's context finds the term

  torch::Tensor operator()(torch::Tensor h, Columns columns) const {
    if (h.dim() == 2) return edit(std::move(h), columns);
    const auto sizes = h.sizes().vec();  // a user's (B, T, D)
    torch::Tensor flat = h.reshape({-1, h.size(-1)});
    h.reset();
    return edit(std::move(flat), columns).view(sizes);
  }

 private:
  torch::Tensor edit(torch::Tensor h, Columns columns) const {
    // Outside the edit's own graph, so that the term's gradient goes on to h and to the interventions before this one.
    *auxiliary_loss = torch::Tensor();
    if (intervention->has_auxiliary_loss()) {
      const torch::Tensor x = h.narrow(1, columns.first, columns.width).index_select(0, rows).to(intervention->dtype());
      *auxiliary_loss = intervention->auxiliary_loss(x, context);
    }
    // Asked for here, not when the context is made: R must be of this forward's graph and of today's X, however
    // contexts are made ahead, kept or interleaved.
    const auto apply = [&](const torch::Tensor& x) {
      const torch::Tensor edited = intervention->edit(x, context);
      return scales.defined() ? x + scales.to(x.scalar_type()) * (edited - x) : edited;
    };
    return edit_rows(std::move(h), rows, columns, {apply, intervention->forward_tensors(), intervention->dtype()});
  }
};

/// What the forward knows of the rows of an edit.
inline RowContext row_context(const Layout& layout, const PlannedEdit& edit) {
  RowContext context;
  for (const int64_t row : edit.rows) {
    const int64_t sequence = layout.sequence_of(row);
    context.sequences.push_back(sequence);
    context.positions.push_back(layout.past_length(sequence) + row - layout.start(sequence));
  }
  if (edit.row_scales.defined()) context.scales = edit.row_scales.to(layout.device(), edit.intervention->dtype());
  context.source = edit.source;
  return context;
}

}  // namespace detail

/// Adds edits to a forward, with the row indices of all of them sent to the device in one copy.
inline void add_edits(ForwardContext& context, const std::vector<PlannedEdit>& edits) {
  std::vector<int64_t> rows;
  std::vector<double> scales;
  for (const PlannedEdit& edit : edits) {
    rows.insert(rows.end(), edit.rows.begin(), edit.rows.end());
    scales.insert(scales.end(), edit.scales.begin(), edit.scales.end());
  }
  if (rows.empty()) return;
  const torch::Device device = context.layout().device();
  const torch::Tensor all_rows = torch::tensor(rows, torch::kInt64).to(device);
  torch::Tensor all_scales;
  if (std::any_of(edits.begin(), edits.end(), [](const PlannedEdit& edit) { return edit.is_scaled(); })) {
    all_scales = torch::tensor(scales, torch::kFloat64).unsqueeze(1).to(device);
  }
  int64_t first = 0;
  for (const PlannedEdit& edit : edits) {
    const int64_t count = std::ssize(edit.rows);
    const torch::Tensor own_scales = edit.is_scaled() ? all_scales.narrow(0, first, count) : torch::Tensor();
    context.add_action(edit.site, detail::EditAction{edit.intervention, all_rows.narrow(0, first, count), own_scales,
                                                     detail::row_context(context.layout(), edit), context.add_auxiliary_loss()});
    first += count;
  }
}

}  // namespace reft
