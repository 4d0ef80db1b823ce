#pragma once

#include <ATen/ops/_fused_adamw.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reft/intervention/intervention.hpp"
#include "reft/intervention/projection.hpp"
#include "reft/tensor/householder.hpp"

namespace reft {

struct OptimizerOptions {
  double learning_rate = 9e-4;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.0;
  double max_gradient_norm = 1.0;  ///< of X, W, b of all interventions together; 0 = no clipping
};

/// A parameter beside those of the interventions, such as a head's.
struct OtherParameter {
  torch::Tensor parameter;
  bool decays = true;
  double learning_rate_scale = 1.0;
};

// Note [One flat step]
// An intervention has a few small tensors, a model has dozens of interventions; stepping them one by one would cost a
// dozen kernels each. Here all parameters alias slices of one flat buffer, their gradients slices of another, so
// clipping is one norm and AdamW one fused kernel (two, where decay differs).
// R is not rebuilt in forward: while the optimizer lives, each Orthonormal is lent a leaf R that aliases a stack
// (G, r, D) of all projections of one shape, with its gradient in a second stack. Once per step the stacked R.grad is
// pulled back to X.grad through one batched Householder product, AdamW moves X, and R is rebuilt, all G at a time.
// The result is the one that autograd through R(X) in every forward would give.

/// AdamW over the parameters of interventions, keeping R Rᵀ = I.
///   g = clip(Σ gradients / divisor);   m, v = moments of g;   p = p − s η (m̂ / (√v̂ + ε) + λ p)
/// with s the `learning_rate_scale` of the intervention when the optimizer was made.
/// λ spares the parameters for which `InterventionBase::decays` is false (b). Destroying the optimizer gives R back to
/// the interventions, which are then as any module.
class Optimizer {
 public:
  /// @throws ConfigError for no trainable parameter, or interventions of several dtypes or devices.
  explicit Optimizer(std::vector<std::shared_ptr<InterventionBase>> interventions, const OptimizerOptions& options = {},
                     const std::vector<OtherParameter>& others = {})
      : interventions_(std::move(interventions)), options_(options) {
    const std::vector<Entry> entries = collect(others);
    decayed_ = flatten(entries, true);
    plain_ = flatten(entries, false);
    lend_projections();
  }

  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  ~Optimizer() {
    for (const auto& intervention : interventions_) {
      if (Orthonormal* projection = intervention->orthonormal()) projection->take_back();
    }
  }

  const OptimizerOptions& options() const { return options_; }
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// Call before the first backward of a step.
  void zero_grad() {
    for (const Flat* flat : {&decayed_, &plain_}) flat->gradients.zero_();
    for (const Stack& stack : stacks_) stack.R_gradients.zero_();
  }

  /// The summed gradients of a step before `step`, of all parameters, as 1-D views: what data-parallel ranks add up.
  std::vector<torch::Tensor> gradients() const {
    std::vector<torch::Tensor> all{decayed_.gradients, plain_.gradients};  // of X nothing yet: it has its gradient through R
    for (const Stack& stack : stacks_) all.push_back(stack.R_gradients.view(-1));
    return all;
  }

  /// One AdamW step on the summed gradients divided by `divisor`.
  /// @param rows_in_use  (r) bool, or undefined for all: rows of the subspaces that this step leaves alone, values, moments
  ///   and decay, are false. (Row j of R depends on rows 1 … j of X, so the R of a row behind those in use still turns.)
  /// @return the norm of the divided gradient before clipping. Nothing is changed if it is not finite.
  /// @throws ConfigError if a parameter has not r rows.
  double step(double divisor = 1.0, const torch::Tensor& rows_in_use = {}) {
    torch::NoGradGuard no_grad;
    const bool masks = rows_in_use.defined() && !rows_in_use.all().item<bool>();
    for (Stack& stack : stacks_) pull_back(stack);
    for (Flat* flat : {&decayed_, &plain_}) {
      flat->mask = masks ? mask_of(*flat, rows_in_use) : torch::Tensor();
      if (masks) flat->gradients.mul_(flat->mask);
    }
    const torch::Tensor square = decayed_.gradients.square().sum() + plain_.gradients.square().sum();
    const double norm = std::sqrt(square.item<double>()) / divisor;
    if (!std::isfinite(norm)) return norm;
    const bool clips = options_.max_gradient_norm > 0.0 && norm > options_.max_gradient_norm;
    const double scale = (clips ? options_.max_gradient_norm / (norm + 1e-6) : 1.0) / divisor;
    for (const auto& [flat, decay] : {std::pair(&decayed_, options_.weight_decay), std::pair(&plain_, 0.0)}) {
      flat->gradients.mul_(scale);
      update(*flat, decay);
    }
    for (Stack& stack : stacks_) rebuild(stack);
    return norm;
  }

  /// Moments and step count by name; with the interventions' parameters and buffers it is all a run needs to go on.
  std::map<std::string, torch::Tensor> state() const {
    return {{"first_moment.decayed", decayed_.first_moment},   {"first_moment.plain", plain_.first_moment},
            {"second_moment.decayed", decayed_.second_moment}, {"second_moment.plain", plain_.second_moment},
            {"step", decayed_.step}};
  }

  /// Takes over moments and step count; the parameters must have been restored before the optimizer was made.
  /// @throws CheckpointError for a missing tensor or one of another shape.
  void load_state(const std::map<std::string, torch::Tensor>& tensors) {
    torch::NoGradGuard no_grad;
    for (auto& [name, own] : state()) {
      const auto found = tensors.find(name);
      if (found == tensors.end() || found->second.sizes() != own.sizes()) {
        fail<CheckpointError>("Optimizer", "{}: expected {} values, got {}", name, own.numel(),
                              found == tensors.end() ? std::string("none") : c10::str(found->second.sizes()));
      }
      torch::Tensor(own).copy_(found->second);
    }
    plain_.step.copy_(decayed_.step);
  }

 private:
  struct Entry {
    torch::Tensor parameter;
    bool decays;
    Orthonormal* projection;  // whose X this is, or none
    double learning_rate_scale;
  };

  struct Flat {
    torch::Tensor values, gradients, first_moment, second_moment;  // (number of parameters)
    torch::Tensor step;                                            // scalar
    std::vector<std::vector<int64_t>> shapes;                      // of the parameters in it, in order
    torch::Tensor mask = {};                                       // which values the current step may change; undefined = all
    torch::Tensor scales = {};                                     // (number of parameters), of the learning rate; undefined = all 1
  };

  /// All projections of one shape, G of them.
  struct Stack {
    std::vector<Orthonormal*> projections;
    OrthogonalBase base;               // stacked: U (G, r, D), T (G, r, r), signs (G, r)
    torch::Tensor X, X_gradients;      // (G, r, D), views of the flat buffers
    torch::Tensor R, R_gradients;      // (G, r, D)
  };

  // Orthonormal ones first, those of one shape side by side, so that a stack is a view of the flat buffer.
  std::vector<Entry> collect(const std::vector<OtherParameter>& other_parameters) {
    std::map<std::pair<int64_t, int64_t>, std::vector<Entry>> by_shape;
    std::vector<Entry> others;
    for (const auto& intervention : interventions_) {
      for (const auto& item : intervention->named_parameters()) {
        if (!item.value().requires_grad()) continue;
        Orthonormal* projection = intervention->orthonormal();
        if (projection != nullptr && item.key() == Orthonormal::kParameterName) {
          by_shape[{item.value().size(0), item.value().size(1)}].push_back({item.value(), true, projection, intervention->learning_rate_scale()});
        } else {
          others.push_back({item.value(), intervention->decays(item.key()), nullptr, intervention->learning_rate_scale()});
        }
      }
    }
    for (const OtherParameter& other : other_parameters) others.push_back({other.parameter, other.decays, nullptr, other.learning_rate_scale});
    std::vector<Entry> entries;
    for (auto& [shape, group] : by_shape) {
      Stack& stack = stacks_.emplace_back();
      for (const Entry& entry : group) stack.projections.push_back(entry.projection);
      entries.insert(entries.end(), group.begin(), group.end());
    }
    entries.insert(entries.end(), others.begin(), others.end());
    if (entries.empty()) fail<ConfigError>("Optimizer", "expected at least one trainable parameter, got none");
    for (const Entry& entry : entries) {
      if (entry.parameter.options().type_equal(entries.front().parameter.options())) continue;
      fail<ConfigError>("Optimizer", "expected all interventions in one dtype and on one device, got {} and {}",
                        entries.front().parameter.toString(), entry.parameter.toString());
    }
    return entries;
  }

  // Moves the parameters into one buffer; they stay the tensors the interventions know.
  static Flat flatten(const std::vector<Entry>& entries, bool decays) {
    torch::NoGradGuard no_grad;
    int64_t count = 0;
    for (const Entry& entry : entries) count += entry.decays == decays ? entry.parameter.numel() : 0;
    const auto options = entries.front().parameter.options().requires_grad(false);
    Flat flat{torch::empty({count}, options), torch::zeros({count}, options), torch::zeros({count}, options),
              torch::zeros({count}, options), torch::zeros({}, options.dtype(torch::kFloat32)), {}};
    int64_t first = 0;
    for (const Entry& entry : entries) {
      if (entry.decays != decays) continue;
      torch::Tensor parameter = entry.parameter;
      const torch::Tensor slice = flat.values.narrow(0, first, parameter.numel()).view(parameter.sizes());
      slice.copy_(parameter);
      parameter.set_data(slice);
      parameter.mutable_grad() = flat.gradients.narrow(0, first, parameter.numel()).view(parameter.sizes());
      if (entry.learning_rate_scale != 1.0 && !flat.scales.defined()) flat.scales = torch::ones({count}, options);
      if (flat.scales.defined()) flat.scales.narrow(0, first, parameter.numel()).fill_(entry.learning_rate_scale);
      first += parameter.numel();
      flat.shapes.push_back(parameter.sizes().vec());
    }
    return flat;
  }

  void lend_projections() {
    torch::NoGradGuard no_grad;
    int64_t first = 0;
    for (Stack& stack : stacks_) {
      const auto count = static_cast<int64_t>(stack.projections.size());
      std::vector<torch::Tensor> U, T, signs;
      for (Orthonormal* projection : stack.projections) {
        const OrthogonalBase& base = projection->base();
        U.push_back(base.U), T.push_back(base.T), signs.push_back(base.signs);
      }
      stack.base = {torch::stack(U), torch::stack(T), torch::stack(signs)};
      const std::vector<int64_t> shape{count, U.front().size(0), U.front().size(1)};
      const int64_t size = count * shape[1] * shape[2];
      stack.X = decayed_.values.narrow(0, first, size).view(shape);
      stack.X_gradients = decayed_.gradients.narrow(0, first, size).view(shape);
      first += size;
      stack.R = torch::empty_like(stack.X);
      stack.R_gradients = torch::zeros_like(stack.X);
      rebuild(stack);
      for (int64_t i = 0; i < count; ++i) {
        torch::Tensor leaf = stack.R[i].detach().requires_grad_(true);
        leaf.mutable_grad() = stack.R_gradients[i];
        stack.projections[i]->lend(leaf);
      }
    }
  }

  static void rebuild(Stack& stack) { stack.R.copy_(householder_rows(stack.X, stack.base)); }

  // X.grad = R.grad · ∂R/∂X
  static void pull_back(Stack& stack) {
    at::AutoGradMode enable_grad(true);
    const torch::Tensor X = stack.X.detach().requires_grad_(true);
    const torch::Tensor R = householder_rows(X, stack.base);
    stack.X_gradients.copy_(torch::autograd::grad({R}, {X}, {stack.R_gradients}).front());
  }

  static torch::Tensor mask_of(const Flat& flat, const torch::Tensor& rows_in_use) {
    std::vector<torch::Tensor> parts{torch::empty({0}, rows_in_use.options())};
    for (const std::vector<int64_t>& shape : flat.shapes) {
      if (shape.empty() || shape.front() != rows_in_use.numel()) {
        fail<ConfigError>("Optimizer", "expected parameters of {} rows to choose from, got {}", rows_in_use.numel(), c10::str(c10::IntArrayRef(shape)));
      }
      parts.push_back(rows_in_use.repeat_interleave(c10::multiply_integers(shape) / shape.front()));
    }
    return torch::cat(parts);
  }

  void update(Flat& flat, double weight_decay) {
    flat.step.add_(1);
    if (flat.values.numel() == 0) return;
    const torch::Tensor start = flat.scales.defined() ? flat.values.clone() : torch::Tensor();
    std::vector<torch::Tensor> before;
    const auto state = {flat.values, flat.first_moment, flat.second_moment};
    for (const torch::Tensor& tensor : state) {
      if (flat.mask.defined()) before.push_back(tensor.clone());
    }
    at::_fused_adamw_({flat.values}, {flat.gradients}, {flat.first_moment}, {flat.second_moment}, {}, {flat.step},
                      options_.learning_rate, options_.beta1, options_.beta2, weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
    // The step is proportional to the rate, so scaling it scales the rate.
    if (start.defined()) flat.values.copy_(start + flat.scales * (flat.values - start));
    auto next = before.begin();
    for (torch::Tensor tensor : state) {
      if (flat.mask.defined()) tensor.copy_(torch::where(flat.mask, tensor, *next++));
    }
  }

  std::vector<std::shared_ptr<InterventionBase>> interventions_;
  OptimizerOptions options_;
  Flat decayed_, plain_;
  std::vector<Stack> stacks_;
};

}  // namespace reft
