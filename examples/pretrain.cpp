// Trains a small base model from nothing on a corpus of documents, reproducibly: the embedded model is made by
//   python3 examples/tiny_model/make_world.py --corpus corpus.jsonl
//   pretrain --corpus corpus.jsonl --output examples/tiny_model
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <chrono>

#include "reft/data/batch.hpp"
#include "reft/data/load_examples.hpp"
#include "reft/data/sampler.hpp"
#include "reft/model/loading.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/train/schedule.hpp"
#include "support/program.hpp"

namespace {

struct Settings {
  std::string corpus, output, shape = REFT_SOURCE_DIR "/examples/tiny_model";
  int64_t epochs = 4, batch_tokens = 4096, max_steps = 0, checkpoint_every = 0;
  double learning_rate = 4e-3, warmup_ratio = 0.02, weight_decay = 0.05, max_grad_norm = 1.0;
};

/// The documents of one epoch in batches of about `batch_tokens` tokens.
std::vector<std::vector<const reft::Example*>> batches_of(const std::vector<reft::Example>& documents, uint64_t seed,
                                                          int64_t epoch, int64_t batch_tokens) {
  std::vector<std::vector<const reft::Example*>> batches(1);
  int64_t tokens = 0;
  for (const int64_t index : reft::shuffled_order(std::ssize(documents), seed, epoch)) {
    if (tokens >= batch_tokens) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(&documents[index]);
    tokens += std::ssize(documents[index].input_ids);
  }
  return batches;
}

/// Writes the model in the dtype asked for; the float32 one goes on training.
void save(const reft::CausalLM& model, const Settings& settings, const reft::program::Common& common) {
  reft::CausalLM copy(model->config(), torch::TensorOptions(common.dtype_or(torch::kBFloat16)));
  const auto from = model->weight_slots(), to = copy->weight_slots();
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < to.size(); ++i) to[i].values.copy_(from[i].values);
  reft::save_causal_lm(copy, settings.output);
}

reft::CausalLM train(const Settings& settings, const reft::program::Common& common, const reft::TransformerConfig& config,
                     const std::vector<reft::Example>& documents) {
  reft::CausalLM model(config, torch::TensorOptions(torch::kFloat32).device(common.torch_device()));
  reft::initialize(model);
  const std::vector<torch::Tensor> parameters = model->parameters();
  std::vector<torch::Tensor> matrices, vectors;
  for (torch::Tensor parameter : parameters) {
    parameter.requires_grad_(true);
    (parameter.dim() > 1 ? matrices : vectors).push_back(parameter);
  }
  const auto options = [&](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(settings.learning_rate).betas({0.9, 0.95}).weight_decay(decay));
  };
  torch::optim::AdamW optimizer({{matrices, options(settings.weight_decay)}, {vectors, options(0.0)}});

  int64_t total = 0;
  for (int64_t epoch = 0; epoch < settings.epochs; ++epoch) {
    total += std::ssize(batches_of(documents, common.seed, epoch, settings.batch_tokens));
  }
  if (settings.max_steps > 0) total = std::min(total, settings.max_steps);
  const reft::LearningRateSchedule schedule(reft::ScheduleKind::cosine, total, settings.warmup_ratio);

  const auto begin = std::chrono::steady_clock::now();
  int64_t step = 0, tokens = 0;
  double recent = 0.0;
  for (int64_t epoch = 0; step < total; ++epoch) {
    for (const auto& documents_of_batch : batches_of(documents, common.seed, epoch, settings.batch_tokens)) {
      if (step == total) break;
      const reft::RaggedBatch batch = reft::collate(documents_of_batch, model->device());
      for (auto& group : optimizer.param_groups()) group.options().set_lr(settings.learning_rate * schedule.factor(step));
      optimizer.zero_grad();
      const reft::ForwardContext context(batch.layout);
      const torch::Tensor loss = model->loss(batch.input_ids, context, batch.target_rows, batch.targets) /
                                 static_cast<double>(batch.num_supervised());
      loss.backward();
      torch::nn::utils::clip_grad_norm_(parameters, settings.max_grad_norm);
      optimizer.step();
      ++step;
      tokens += batch.num_tokens();
      recent = step == 1 ? loss.item<double>() : 0.98 * recent + 0.02 * loss.item<double>();
      if (settings.checkpoint_every > 0 && step % settings.checkpoint_every == 0) save(model, settings, common);
      if (!common.quiet && (step % 50 == 0 || step == total)) {
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        fmt::print(stderr, "step {}/{}  loss {:.4f}  {:.0f} tokens/s  {:.0f} s left\n", step, total, recent,
                   static_cast<double>(tokens) / seconds, seconds / static_cast<double>(step) * static_cast<double>(total - step));
      }
    }
  }
  return model;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Trains a small base model from nothing on documents, one {\"text\": …} a line.");
  Settings settings;
  reft::program::Common common;
  app.add_option("--corpus", settings.corpus, "JSON Lines file of documents")->required();
  app.add_option("--output", settings.output, "folder for config.json and model.safetensors")->required();
  app.add_option("--model", settings.shape, "folder with the config.json of the shape and the tokenizer")->capture_default_str();
  app.add_option("--epochs", settings.epochs, "passes over the corpus")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--max-steps", settings.max_steps, "stop after so many steps; 0 = all")->capture_default_str();
  app.add_option("--checkpoint-every", settings.checkpoint_every, "also write the output every so many steps; 0 = at the end only")
      ->capture_default_str();
  app.add_option("--batch-tokens", settings.batch_tokens, "tokens of a step, about")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--learning-rate", settings.learning_rate, "peak, reached after warm-up")->capture_default_str();
  app.add_option("--warmup-ratio", settings.warmup_ratio, "share of the steps")->capture_default_str()->check(CLI::Range(0.0, 1.0));
  app.add_option("--weight-decay", settings.weight_decay, "of the matrices")->capture_default_str();
  app.add_option("--max-grad-norm", settings.max_grad_norm, "gradients are scaled down to it")->capture_default_str();
  common.add_to(app);
  return reft::program::run(app, argc, argv, [&] {
    common.apply();
    reft::TransformerConfig config = reft::read_config(settings.shape);
    const reft::Tokenizer tokenizer = reft::load_tokenizer(settings.shape);
    const auto documents = reft::load_examples(settings.corpus, tokenizer, {.max_length = config.max_position_embeddings}).examples;
    const reft::CausalLM model = train(settings, common, config, documents);
    save(model, settings, common);
    fmt::print("{}\n", nlohmann::json{{"output", settings.output}, {"parameters", model->num_parameters()},
                                      {"documents", documents.size()}}.dump());
    return 0;
  });
}
