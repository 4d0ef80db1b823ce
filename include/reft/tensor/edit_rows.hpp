#pragma once

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// Columns [first, first + width) of a 2-D parent: a kernel may write several sites side by side (merged
/// query/key/value, heads), and a site then owns only some of its columns.
struct Columns {
  int64_t first = 0;
  int64_t width = 0;
};

/// Φ: what is done to the gathered rows, and the tensors it reads that may want a gradient.
struct RowEdit {
  std::function<torch::Tensor(const torch::Tensor& x)> apply;  // (P, width) -> (P, width), in `dtype`
  std::vector<torch::Tensor> parameters;                       // every differentiable tensor `apply` reads
  torch::Dtype dtype = torch::kFloat32;                        // the dtype in which x is given to `apply`
};

namespace detail {

/// Whether nobody else can see this tensor's memory, so that writing to it is not observable.
inline bool is_unshared(const torch::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.storage().use_count() == 1 && tensor.is_contiguous() && !tensor.is_view() &&
         !tensor.is_inference();
}

// Note [One fused edit]
// Φ acts on P of N rows. Written with ordinary operators its backward would build an (N, D) gradient for the gather and
// add it to the one of the write. Here both are one node: forward gathers, runs Φ under its own small graph and writes
// the rows back in place; backward sends the P rows through that graph and writes the result into the gradient.
// Nothing of size N is allocated in either direction. Parameters are inputs of the node, so the outer graph
// accumulates their gradients as it does for any operator.
class EditRows : public torch::autograd::Function<EditRows> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, torch::Tensor h, const torch::Tensor& rows,
                               Columns columns, const RowEdit& edit, torch::TensorList parameters) {
    torch::Tensor x = gather(h, rows, columns, edit).detach();
    x.requires_grad_(h.requires_grad());
    torch::Tensor y;
    {
      at::AutoGradMode enable_grad(true);
      y = edit.apply(x);
    }
    write(h, rows, columns, y.detach());
    ctx->mark_dirty({h});
    ctx->save_for_backward({rows});
    ctx->saved_data["x"] = x;
    ctx->saved_data["y"] = y;
    ctx->saved_data["parameters"] = parameters.vec();
    ctx->saved_data["first_column"] = columns.first;
    ctx->saved_data["width"] = columns.width;
    return h;
  }

  static torch::Tensor gather(const torch::Tensor& h, const torch::Tensor& rows, Columns columns, const RowEdit& edit) {
    return h.narrow(1, columns.first, columns.width).index_select(0, rows).to(edit.dtype);  // (P, width)
  }

  static void write(torch::Tensor& h, const torch::Tensor& rows, Columns columns, const torch::Tensor& y) {
    h.narrow(1, columns.first, columns.width).index_copy_(0, rows, y.to(h.scalar_type()));
  }

  // By const reference: a copy of the list would make every gradient look shared.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& gradients) {
    const torch::Tensor rows = ctx->get_saved_variables()[0];
    const torch::Tensor x = ctx->saved_data["x"].toTensor(), y = ctx->saved_data["y"].toTensor();
    const std::vector<torch::Tensor> parameters = ctx->saved_data["parameters"].toTensorVector();
    const Columns columns{ctx->saved_data["first_column"].toInt(), ctx->saved_data["width"].toInt()};

    const torch::Tensor y_gradient =
        gradients[0].narrow(1, columns.first, columns.width).index_select(0, rows).to(y.scalar_type());
    torch::autograd::variable_list wanted;  // x if h wants a gradient, then the parameters that do
    if (x.requires_grad()) wanted.push_back(x);
    for (const torch::Tensor& parameter : parameters) {
      if (parameter.requires_grad()) wanted.push_back(parameter);
    }
    torch::autograd::variable_list found(wanted.size());
    if (y.requires_grad()) {
      found = torch::autograd::grad({y}, wanted, {y_gradient}, /*retain_graph=*/true, /*create_graph=*/false,
                                    /*allow_unused=*/true);
    }

    torch::autograd::variable_list result(kFirstParameter + parameters.size());
    size_t next = 0;
    if (x.requires_grad()) result[0] = write_gradient(gradients[0], rows, columns, found[next++]);
    for (size_t i = 0; i < parameters.size(); ++i) {
      if (parameters[i].requires_grad()) result[kFirstParameter + i] = found[next++];
    }
    return result;
  }

 private:
  static constexpr size_t kFirstParameter = 4;  // after h, rows, columns and edit among the inputs of `forward`

  // Mutates the gradient only if nobody shares it: the backward of an addition hands one tensor to both branches.
  static torch::Tensor write_gradient(const torch::Tensor& gradient, const torch::Tensor& rows, Columns columns,
                                      const torch::Tensor& x_gradient) {
    torch::Tensor result = is_unshared(gradient) ? gradient : gradient.clone();
    if (x_gradient.defined()) {
      write(result, rows, columns, x_gradient);
    } else {
      result.narrow(1, columns.first, columns.width).index_fill_(0, rows, 0);
    }
    return result;
  }
};

}  // namespace detail

/// The rows of h that can change where the rest of it is constant: those that `edit_rows` wrote into a tensor without a graph.
/// @return (P) int64, ascending and distinct, or undefined: h is constant, or more of it is not, or it is not on a CPU.
inline torch::Tensor live_rows(const torch::Tensor& h) {
  if (!h.is_cpu() || !h.grad_fn()) return {};
  std::vector<int64_t> rows;
  for (auto node = h.grad_fn(); node; node = node->next_edge(0).function) {
    const auto* edit = dynamic_cast<torch::autograd::CppNode<detail::EditRows>*>(node.get());
    if (edit == nullptr) return {};
    const torch::Tensor own = edit->ctx_.get_saved_variables()[0];
    rows.insert(rows.end(), own.data_ptr<int64_t>(), own.data_ptr<int64_t>() + own.numel());
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return torch::tensor(rows, torch::kInt64);
}

/// h' = h, with h'[rows, columns] = Φ(h[rows, columns]).
///
/// Works in place when nobody else can see h (move it in), else on a clone; see Note [One fused edit].
/// @param h        (N, C), any float dtype; the 2-D parent, never a view of it.
/// @param rows     (P) int64 on h's device, distinct: a row named twice would be written twice.
/// @param columns  which of the C columns the site owns.
/// @return (N, C), dtype and device of h. Φ computes in `edit.dtype`; its result is rounded to h's dtype once.
/// @throws ShapeError if h is not 2-D or the columns lie outside it.
inline torch::Tensor edit_rows(torch::Tensor h, const torch::Tensor& rows, Columns columns, const RowEdit& edit) {
  if (h.dim() != 2 || columns.first < 0 || columns.width < 1 || columns.first + columns.width > h.size(1)) {
    fail<ShapeError>("edit_rows", "expected a 2-D tensor with columns {}..{}, got {}", columns.first,
                     columns.first + columns.width, c10::str(h.sizes()));
  }
  if (rows.numel() == 0) return h;
  const bool is_grad_leaf = h.requires_grad() && h.is_leaf();
  if (is_grad_leaf || !detail::is_unshared(h)) h = h.clone();
  const bool tracked = at::GradMode::is_enabled() &&
                       (h.requires_grad() || std::any_of(edit.parameters.begin(), edit.parameters.end(),
                                                         [](const torch::Tensor& p) { return p.requires_grad(); }));
  if (tracked) return detail::EditRows::apply(std::move(h), rows, columns, edit, torch::TensorList(edit.parameters));
  const torch::Tensor y = edit.apply(detail::EditRows::gather(h, rows, columns, edit));
  detail::EditRows::write(h, rows, columns, y);
  return h;
}

}  // namespace reft
