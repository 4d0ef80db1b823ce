#pragma once

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <torch/types.h>

#include <functional>
#include <utility>

#include "reft/tensor/checks.hpp"

namespace reft {

namespace detail {

using TensorFunction = std::function<torch::Tensor(const torch::Tensor&)>;

/// A function in the form in which a graph can keep it.
struct KeptFunction : torch::CustomClassHolder {
  explicit KeptFunction(TensorFunction function) : function(std::move(function)) {}
  TensorFunction function;
};

class Checkpointed : public torch::autograd::Function<Checkpointed> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& x, const TensorFunction& function) {
    ctx->save_for_backward({x});
    ctx->saved_data["function"] = torch::IValue::make_capsule(c10::make_intrusive<KeptFunction>(function));
    return function(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& gradients) {
    const auto kept = c10::static_intrusive_pointer_cast<KeptFunction>(ctx->saved_data["function"].toCapsule());
    const at::AutoGradMode enable_grad(true);
    const torch::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    return {torch::autograd::grad({kept->function(x)}, {x}, {gradients[0]})[0], {}};
  }
};

}  // namespace detail

/// f(x), of which nothing but x is kept for backward, where f is computed again: activation checkpointing.
/// @param function  gives the same for the same x whenever it is called, and reads no other tensor that is trained; it is
///                  kept as long as the graph.
inline torch::Tensor checkpointed(const torch::Tensor& x, std::function<torch::Tensor(const torch::Tensor&)> function) {
  return needs_graph(x) ? detail::Checkpointed::apply(x, function) : function(x);
}

}  // namespace reft
