#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// The tensors of an intervention by name, as adapters hold them.
using NamedTensors = std::map<std::string, torch::Tensor>;

/// @throws CheckpointError unless `given` has exactly the names of `shapes`, each in its shape.
inline void check_state(std::string_view type, const std::map<std::string, std::vector<int64_t>>& shapes, const NamedTensors& given) {
  for (const auto& [name, tensor] : given) {
    const auto shape = shapes.find(name);
    if (shape == shapes.end()) fail<CheckpointError>(type, "unexpected tensor \"{}\"", name);
    if (tensor.sizes() != torch::IntArrayRef(shape->second)) {
      fail<CheckpointError>(type, "tensor \"{}\": expected shape {}, got {}", name, c10::str(torch::IntArrayRef(shape->second)),
                            c10::str(tensor.sizes()));
    }
  }
  for (const auto& [name, shape] : shapes) {
    if (!given.contains(name)) fail<CheckpointError>(type, "missing tensor \"{}\"", name);
  }
}

/// @throws ShapeError unless h is (..., hidden_size).
inline void check_width(std::string_view type, const torch::Tensor& h, int64_t hidden_size) {
  if (h.size(-1) == hidden_size) return;
  fail<ShapeError>(type, "expected hidden states of width {}, got {}", hidden_size, c10::str(h.sizes()));
}

/// A constant tensor of an intervention that is not trained: given with its options, or read from an adapter. A buffer
/// of its owner from then on.
class Constant {
 public:
  /// @param value  undefined if it is still to be read.   @throws ShapeError for another shape.
  Constant(torch::nn::Module& owner, std::string_view type, std::string name, std::vector<int64_t> shape, torch::Dtype dtype,
           const torch::Tensor& value)
      : owner_(owner), type_(type), name_(std::move(name)), shape_(std::move(shape)), dtype_(dtype) {
    if (!value.defined()) return;
    if (value.sizes() != torch::IntArrayRef(shape_)) {
      fail<ShapeError>(type_, "{}: expected shape {}, got {}", name_, c10::str(torch::IntArrayRef(shape_)), c10::str(value.sizes()));
    }
    set(value);
  }

  /// @throws ConfigError if it was never given.
  const torch::Tensor& value() const {
    if (!value_.defined()) fail<ConfigError>(type_, "no {} was given; pass one in the options", name_);
    return value_;
  }

  NamedTensors state() const { return {{name_, value().detach()}}; }

  /// @throws CheckpointError as `check_state`.
  void load_state(const NamedTensors& tensors) {
    check_state(type_, {{name_, shape_}}, tensors);
    set(tensors.at(name_));
  }

 private:
  void set(const torch::Tensor& value) {
    torch::NoGradGuard no_grad;
    if (value_.defined()) value_.copy_(value);
    else value_ = owner_.register_buffer(name_, value.detach().to(dtype_).clone());
  }

  torch::nn::Module& owner_;
  std::string_view type_;
  std::string name_;
  std::vector<int64_t> shape_;
  torch::Dtype dtype_;
  torch::Tensor value_;
};

}  // namespace reft
