// Writes the activations of chosen sites, after the edits of an adapter if one is given: one float32 tensor a site.
#include <type_traits>

#include "reft/tokenizer/tokenizer.hpp"
#include "support/adapter.hpp"
#include "support/model_path.hpp"
#include "support/program.hpp"

namespace {

struct Settings {
  std::string model, prompt, tokens, sites, output;
  reft::program::AdapterFlags adapter;
  bool list_sites = false;
};

std::vector<reft::Site> parse_sites(std::string_view text) {
  std::vector<reft::Site> sites;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    sites.push_back(reft::parse_site(text.substr(start, end - start)));
    start = end + 1;
  }
  return sites;
}

std::vector<int64_t> prompt_tokens(const Settings& settings, int64_t vocabulary_size) {
  if (settings.tokens.empty()) return reft::load_tokenizer(settings.model).encode(settings.prompt);
  const std::vector<int64_t> tokens = reft::program::parse_tokens(settings.tokens);
  for (const int64_t token : tokens) {
    if (token < vocabulary_size) continue;
    reft::fail<reft::ConfigError>("activations", "token {}, but the model's vocabulary has {} (0..{})", token, vocabulary_size,
                                  vocabulary_size - 1);
  }
  return tokens;
}

template <class Base>
void write_activations(reft::ReftModel<Base> model, const Settings& settings) {
  const Base& base = model.base();
  // A classifier's logits have a row a sequence: they are no site, but they can be written.
  constexpr bool kClassifies = std::is_same_v<Base, reft::SequenceClassifier>;
  const reft::Site logits{{}, reft::Component::logits, {}};
  if (settings.list_sites) {
    for (const reft::Site& site : base->sites()) fmt::print("{} {}\n", to_string(site), base->width(site));
    if constexpr (kClassifies) fmt::print("{} {}\n", to_string(logits), base->num_labels());
    return;
  }
  settings.adapter.attach(model);
  model.eval();
  std::vector<reft::Site> sites = parse_sites(settings.sites);
  const bool writes_answer = kClassifies && std::erase(sites, logits) > 0;
  for (const reft::Site& site : sites) (void)base->width(site);  // refuses what the model does not have
  const std::vector<int64_t> tokens = prompt_tokens(settings, base->config().vocab_size);
  const std::vector<int64_t> lengths{std::ssize(tokens)};
  reft::ForwardContext context = model.interventions().prompt_context(reft::Layout::ragged(lengths, base->device()), lengths, {},
                                                                              torch::tensor(tokens, torch::kInt64));
  for (const reft::Site& site : sites) context.capture(site);
  const torch::Tensor result = base->forward(torch::tensor(tokens, torch::kInt64).to(base->device()), context);
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const auto& [site, activation] : context.activations()) tensors.emplace_back(to_string(site), activation.to(torch::kFloat32));
  if (writes_answer) tensors.emplace_back(to_string(logits), result.to(torch::kFloat32));
  reft::save_tensors(settings.output, tensors, {{"tokens", fmt::format("{}", fmt::join(tokens, ","))}});
  for (const auto& [site, activation] : tensors) fmt::print("{} ({}, {})\n", site, activation.size(0), activation.size(1));
}

/// With the head the folder says it has.
int run(Settings settings, const reft::program::Common& common) {
  common.apply();
  settings.model = reft::program::model_path(settings.model);
  torch::NoGradGuard no_grad;
  const reft::LoadOptions options = common.load_options();
  const auto write = [&](auto base) { write_activations(reft::ReftModel(std::move(base)), settings); };
  const std::string architecture = std::filesystem::is_directory(settings.model) ? reft::read_config(settings.model).architecture : "";
  if (architecture.ends_with("ForMaskedLM") || architecture.ends_with("ForPreTraining")) write(reft::load_masked_lm(settings.model, options));
  else if (architecture.ends_with("ForSequenceClassification")) write(reft::load_sequence_classifier(settings.model, options));
  else if (architecture.ends_with("Model") && !architecture.ends_with("LMHeadModel")) write(reft::load_transformer(settings.model, options));
  else write(reft::load_causal_lm(settings.model, options));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Writes activations of chosen sites as safetensors, (T, width) float32 each.");
  Settings settings;
  reft::program::Common common;
  app.add_option("--model", settings.model, "base: a Hugging Face folder, the id of a model in its local cache, or a llama2.c file")->required();
  settings.adapter.add_to(app);
  auto* tokens = app.add_option("--tokens", settings.tokens, "token ids, \"1,2,3\"")
                     ->check(reft::program::checked_by([](const std::string& text) { reft::program::parse_tokens(text); }));
  auto* prompt = app.add_option("--prompt", settings.prompt, "text, tokenized by the model's tokenizer")->excludes(tokens);
  auto* sites = app.add_option("--sites", settings.sites, "joined by ',': logits, layers.3.block_output, layers.7.head.8, …")
                    ->check(reft::program::checked_by([](const std::string& text) { parse_sites(text); }));
  auto* output = app.add_option("--output", settings.output, "safetensors file");
  app.add_flag("--list-sites", settings.list_sites, "print every site of the model with its width, and stop");
  common.add_to(app);
  common.add_quantize(app);
  app.callback([&] {
    if (settings.list_sites) return;
    if (tokens->count() + prompt->count() == 0) throw CLI::RequiredError("--tokens or --prompt");
    for (const CLI::Option* needed : {sites, output}) {
      if (needed->count() == 0) throw CLI::RequiredError(needed->get_name());
    }
  });
  return reft::program::run(app, argc, argv, [&] { return run(settings, common); });
}
