// ReFT on a transformer of your own, in a training loop of your own.
//
// What a model needs is marked (1) to (5): it owns hook points, calls them in its forward, and says how wide and how
// many they are. The model here counts up ("3 4 5 …"); the interventions teach the frozen model to count down.
#include <torch/nn.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>

#include <iostream>

#include "reft/reft_model.hpp"
#include "support/command_line.hpp"

namespace {

constexpr int64_t kVocabulary = 12, kWidth = 32, kLength = 8;

class CounterImpl : public torch::nn::Module {
 public:
  explicit CounterImpl(int num_layers) {
    token_ = register_module("token", torch::nn::Embedding(kVocabulary, kWidth));
    place_ = register_module("place", torch::nn::Embedding(kLength, kWidth));
    for (int layer = 0; layer < num_layers; ++layer) {
      const auto name = std::to_string(layer);
      norms_.push_back(register_module("norm" + name, torch::nn::LayerNorm(torch::nn::LayerNormOptions({kWidth}))));
      mixers_.push_back(register_module("mix" + name, torch::nn::Linear(kWidth, 3 * kWidth)));
      mlps_.push_back(register_module("mlp" + name, torch::nn::Sequential(torch::nn::Linear(kWidth, 4 * kWidth), torch::nn::GELU(),
                                                                          torch::nn::Linear(4 * kWidth, kWidth))));
      outputs_.emplace_back(reft::Site{.layer = layer});  // (1) a hook point per place that may be edited
    }
    head_ = register_module("head", torch::nn::Linear(kWidth, kVocabulary));
  }

  // (2) the forward takes a context.   ids (B, T) -> logits (B, T, V)
  torch::Tensor forward(const torch::Tensor& ids, const reft::ForwardContext& context) {
    torch::Tensor h = token_(ids) + place_(torch::arange(ids.size(1)));
    for (size_t i = 0; i < outputs_.size(); ++i) {
      const auto qkv = mixers_[i](norms_[i](h)).unsqueeze(1).chunk(3, -1);  // (B, 1, T, D) each
      h = h + torch::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], {}, 0.0, /*is_causal=*/true).squeeze(1);
      h = h + mlps_[i]->forward(h);
      h = outputs_[i](std::move(h), context);  // (3) and calls them with what may be edited
    }
    return head_(h);
  }

  int64_t num_layers() const { return static_cast<int64_t>(outputs_.size()); }              // (4)
  int64_t width(const reft::Site&) const { return kWidth; }                                 // (4)
  reft::HookPoint& hook_point(const reft::Site& site) { return outputs_.at(*site.layer); }  // (5)

 private:
  torch::nn::Embedding token_{nullptr}, place_{nullptr};
  std::vector<torch::nn::LayerNorm> norms_;
  std::vector<torch::nn::Linear> mixers_;
  std::vector<torch::nn::Sequential> mlps_;
  torch::nn::Linear head_{nullptr};
  std::vector<reft::HookPoint> outputs_;
};
TORCH_MODULE(Counter);

/// Sequences that start anywhere and go by `step`, modulo the vocabulary: (B, T + 1).
torch::Tensor counting(int64_t batch_size, int64_t step) {
  const torch::Tensor start = torch::randint(kVocabulary, {batch_size, 1});
  return (start + step * torch::arange(kLength + 1)).remainder(kVocabulary);
}

torch::Tensor loss_of(const torch::Tensor& logits, const torch::Tensor& sequences) {
  return torch::nn::functional::cross_entropy(logits.flatten(0, 1), sequences.narrow(1, 1, kLength).flatten());
}

double accuracy(const torch::Tensor& logits, const torch::Tensor& sequences) {
  return (logits.argmax(-1) == sequences.narrow(1, 1, kLength)).to(torch::kFloat64).mean().item<double>();
}

int teach_counting_down() {
  torch::manual_seed(1);
  const int64_t batch_size = 32;
  const reft::Layout layout = reft::Layout::padded(batch_size, kLength);  // (B, T, D) seen as (B·T, D)
  const reft::ForwardContext plain(layout);

  Counter counter(2);
  torch::optim::Adam base_optimizer(counter->parameters(), 3e-3);
  for (int step = 0; step < 300; ++step) {
    base_optimizer.zero_grad();
    const torch::Tensor up = counting(batch_size, 1);
    loss_of(counter->forward(up.narrow(1, 0, kLength), plain), up).backward();
    base_optimizer.step();
  }

  reft::ReftModel<Counter> model(counter);
  for (int layer = 0; layer < 2; ++layer) model.attach<reft::LoReFT>({.layer = layer, .positions = "all"}, {.rank = 4});
  std::cout << model.trainable_summary() << "\n";

  const std::vector<int64_t> prompt_lengths(batch_size, kLength);  // positions are laid over the whole sequence
  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(1e-2).weight_decay(0.01));
  for (int step = 0; step < 400; ++step) {
    optimizer.zero_grad();
    const torch::Tensor down = counting(batch_size, -1);
    const torch::Tensor loss = loss_of(model.forward(layout, prompt_lengths, down.narrow(1, 0, kLength)), down);
    loss.backward();
    optimizer.step();
    if (step % 100 == 0) std::cout << "step " << step << "  loss " << loss.item<double>() << "\n";
  }

  torch::NoGradGuard no_grad;
  model.eval();
  const torch::Tensor up = counting(batch_size, 1), down = counting(batch_size, -1);
  std::cout << "base counts up:        " << accuracy(counter->forward(up.narrow(1, 0, kLength), plain), up) << "\n"
            << "with ReFT, counts down: " << accuracy(model.forward(layout, prompt_lengths, down.narrow(1, 0, kLength)), down) << "\n";
  double error = 0.0;
  for (const auto& intervention : model.interventions().interventions()) {
    error = std::max(error, reft::orthonormality_error(intervention->state().at("R")));
  }
  std::cout << "largest |R Rᵀ - I|:    " << error << "\n";
  return error < 1e-5 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("ReFT on a transformer of your own: a small one that counts up learns to count down.");
  return reft::program::run(app, argc, argv, teach_counting_down);
}
