#include "reft/model/loading.hpp"

#include <ATen/ops/cross_entropy_loss.h>

#include <fstream>
#include <functional>

#include "reft/intervention/loreft.hpp"
#include "reft/reft_model.hpp"
#include "reft/train/objective.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/shared.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_model.hpp"

namespace {

using nlohmann::json;
using reft::ForwardContext;
using reft::Layout;
using reft::RopeScaling;
using reft::test::contains;
using reft::test::error_text;
using reft::test::relative_distance;
using reft::test::TemporaryFolder;
using torch::Tensor;
using Tensors = std::map<std::string, Tensor>;

json minimal_config() {
  return {{"architectures", {"LlamaForCausalLM"}}, {"hidden_size", 32},         {"intermediate_size", 64}, {"num_hidden_layers", 2},
          {"num_attention_heads", 4},              {"num_key_value_heads", 2}, {"vocab_size", 50},        {"tie_word_embeddings", true}};
}

json with(json config, const json& changes) {
  config.merge_patch(changes);  // null removes
  return config;
}

Tensors tensors_of(const reft::CausalLM& model) {
  Tensors tensors;
  for (const auto& slot : model->weight_slots()) tensors[slot.name] = slot.values.clone();
  return tensors;
}

void write_folder(const std::filesystem::path& folder, const json& config, const Tensors& tensors) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json") << config;
  reft::save_tensors(folder / "model.safetensors", {tensors.begin(), tensors.end()});
}

Tensor logits_of(const reft::CausalLM& model, const std::vector<int64_t>& ids, ForwardContext* context = nullptr) {
  torch::NoGradGuard no_grad;
  const ForwardContext plain(Layout::ragged({static_cast<int64_t>(ids.size())}));
  return model->forward(torch::tensor(ids, torch::kInt64), context ? *context : plain);
}

const std::vector<int64_t> kIds{1, 5, 9, 40, 7};

double as_double(const json& value) { return value.get<double>(); }
Tensor as_tensor(const json& values) { return torch::tensor(values.get<std::vector<double>>(), torch::kFloat64); }

json read_json(const std::filesystem::path& path) {
  std::ifstream stream(path);
  return json::parse(stream);
}

/// Mean −log p of every token after the first.
double mean_loss(const reft::CausalLM& model, const std::vector<int64_t>& ids) {
  const auto n = static_cast<int64_t>(ids.size()) - 1;
  const Tensor targets = torch::tensor(ids, torch::kInt64).narrow(0, 1, n);
  return at::cross_entropy_loss(logits_of(model, ids).narrow(0, 0, n).to(torch::kFloat64), targets).item<double>();
}

// Against float64 of the same weights: five blocks of float32 rounding, logits up to some tens.
constexpr double kGolden = 2e-5;

}  // namespace

TEST_CASE("config.json: defaults, explicit head_dim, biases, token ids") {
  const auto config = reft::parse_config(minimal_config());
  CHECK(config.head_dim == 8);
  CHECK(config.num_key_value_heads == 2);
  CHECK(config.tie_word_embeddings);
  CHECK_FALSE(config.attention_bias);
  CHECK(config.hidden_act == "silu");
  CHECK(config.rope_scaling.kind == RopeScaling::Kind::none);
  CHECK(config.rope_theta == 10000.0);
  CHECK_FALSE(config.bos_token_id);

  CHECK(reft::parse_config(with(minimal_config(), {{"num_key_value_heads", nullptr}})).num_key_value_heads == 4);
  const auto other = reft::parse_config(with(minimal_config(), {{"head_dim", 16}, {"attention_bias", true}, {"mlp_bias", true}, {"bos_token_id", 1},
                                                                {"eos_token_id", {2, 7}}, {"hidden_act", "gelu"}, {"dtype", "bfloat16"}}));
  CHECK(other.query_width() == 64);
  CHECK(other.attention_bias);
  CHECK(other.mlp_bias);
  CHECK(other.bos_token_id == 1);
  CHECK(other.eos_token_ids == std::vector<int64_t>{2, 7});
  CHECK(other.hidden_act == "gelu");
  CHECK(other.dtype == "bfloat16");
  CHECK(reft::parse_config(with(minimal_config(), {{"architectures", nullptr}, {"model_type", "llama"}})).architecture == "LlamaForCausalLM");
}

TEST_CASE("config.json: rope scaling under its old and new names, written as it is read") {
  struct Case { json keys; RopeScaling::Kind kind; double factor, theta; };
  const json llama3{{"rope_type", "llama3"}, {"factor", 32.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 8192}};
  const std::vector<Case> cases{
      {{{"rope_scaling", nullptr}, {"rope_theta", 5e5}}, RopeScaling::Kind::none, 1.0, 5e5},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}}, RopeScaling::Kind::linear, 4.0, 1e4},
      {{{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}}}, RopeScaling::Kind::dynamic, 2.0, 1e4},
      {{{"rope_scaling", llama3}, {"rope_theta", 5e5}}, RopeScaling::Kind::llama3, 32.0, 5e5},
      {{{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}}, RopeScaling::Kind::none, 1.0, 5e5},
      {{{"rope_parameters", with(llama3, {{"rope_theta", 7e5}})}}, RopeScaling::Kind::llama3, 32.0, 7e5},
  };
  for (const auto& [keys, kind, factor, theta] : cases) {
    INFO(keys);
    const auto config = reft::parse_config(with(minimal_config(), keys));
    CHECK(config.rope_scaling.kind == kind);
    CHECK(config.rope_scaling.factor == factor);
    CHECK(config.rope_theta == theta);
    const auto again = reft::parse_config(reft::to_json(config));
    CHECK(reft::to_json(again) == reft::to_json(config));
    CHECK(again.rope_scaling.kind == kind);
    CHECK(again.rope_scaling.original_max_position_embeddings == config.rope_scaling.original_max_position_embeddings);
  }
}

TEST_CASE("rope frequencies: plain, stretched, and blended as Llama 3 does") {
  auto config = reft::test::tiny_config();  // E = 8: theta^(-i/4)
  const auto frequencies = [&](int64_t longest = 0) { return torch::tensor(reft::rope_frequencies(config, longest), torch::kFloat64); };
  const Tensor plain = torch::tensor({1.0, 0.1, 0.01, 0.001}, torch::kFloat64);
  CHECK(relative_distance(frequencies(), plain) < 1e-12);
  config.rope_scaling = {.kind = RopeScaling::Kind::linear, .factor = 4.0};
  CHECK(relative_distance(frequencies(), plain / 4) < 1e-12);
  config.rope_scaling = {.kind = RopeScaling::Kind::dynamic, .factor = 2.0};
  CHECK(relative_distance(frequencies(config.max_position_embeddings), plain) < 1e-12);
  // Twice the context: theta · (2·2 − 1)^(8/6).
  const double theta = 10000.0 * std::pow(3.0, 8.0 / 6.0);
  CHECK(relative_distance(frequencies(2 * config.max_position_embeddings), torch::pow(theta, -torch::arange(4, torch::kFloat64) / 4)) < 1e-12);
  // Wavelengths 2π·(1, 10, 100, 1000); kept below 400/4, divided by the factor beyond 400, between blended.
  config.rope_scaling = {.kind = RopeScaling::Kind::llama3, .factor = 8.0, .low_freq_factor = 0.5, .high_freq_factor = 4.0, .original_max_position_embeddings = 400};
  const double blend = (400 / (200 * M_PI) - 0.5) / 3.5;
  const Tensor expected = torch::tensor({1.0, 0.1, 0.01 * ((1 - blend) / 8 + blend), 0.001 / 8}, torch::kFloat64);
  CHECK(relative_distance(frequencies(), expected) < 1e-12);

  // Dynamic scaling looks at each sequence's own length.
  config.rope_scaling = {.kind = RopeScaling::Kind::dynamic, .factor = 2.0};
  config.max_position_embeddings = 4;
  const auto together = reft::rotary_table(config, Layout::ragged({3, 6}), torch::kFloat32);
  CHECK(torch::equal(together.cosine.narrow(0, 3, 6), reft::rotary_table(config, Layout::ragged({6}), torch::kFloat32).cosine));
  CHECK(torch::equal(together.sine.narrow(0, 0, 3), reft::rotary_table(config, Layout::ragged({3}), torch::kFloat32).sine));
}

TEST_CASE("config.json: what cannot be read is named") {
  struct Case { json changes; std::string text; };
  const std::vector<Case> cases{
      {{{"hidden_size", nullptr}}, "[reft::read_config] config.json: hidden_size is missing"},
      {{{"vocab_size", nullptr}}, "[reft::read_config] config.json: vocab_size is missing"},
      {{{"hidden_size", "wide"}}, "[reft::read_config] config.json: hidden_size = \"wide\" is not of the expected type"},
      {{{"tie_word_embeddings", "yes"}}, "[reft::read_config] config.json: tie_word_embeddings = \"yes\" is not of the expected type"},
      {{{"architectures", "LlamaForCausalLM"}}, "[reft::read_config] config.json: architectures = \"LlamaForCausalLM\" is not of the expected type"},
      {{{"rope_scaling", "linear"}}, "[reft::read_config] config.json: rope_scaling is not an object"},
      {{{"rope_scaling", {{"rope_type", "spiral"}, {"factor", 2.0}}}},
       "[reft::read_config] rope scaling \"spiral\": expected default, linear, dynamic, llama3, yarn or longrope"},
      {{{"rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {2.0}}}}},
       "[reft::TransformerConfig] rope scaling longrope: expected 4 factors, got 1"},
      {{{"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}}}},
       "[reft::read_config] the weights are quantized (gptq); expected weights of a float dtype, because interventions need gradients through "
       "every layer. Use the unquantized model this one was made from"},
      {{{"rope_scaling", {{"rope_type", "linear"}}}}, "[reft::read_config] config.json: factor is missing"},
      {{{"num_attention_heads", 0}}, "[reft::TransformerConfig] num_attention_heads: expected a positive number, got 0"},
      {{{"num_key_value_heads", 3}}, "[reft::TransformerConfig] expected num_attention_heads to be a multiple of num_key_value_heads, got 4 and 3"},
      {{{"head_dim", 7}}, "[reft::TransformerConfig] head_dim: rotary embeddings need an even number, got 7"},
      {{{"num_hidden_layers", -1}}, "[reft::TransformerConfig] num_hidden_layers: expected a positive number, got -1"},
  };
  for (const auto& [changes, text] : cases) {
    CHECK(error_text([&] { reft::parse_config(with(minimal_config(), changes)); }) == text);
  }
  const std::string unknown = error_text([] { reft::parse_config(with(minimal_config(), {{"architectures", {"MambaForCausalLM"}}, {"model_type", "mamba"}})); });
  CHECK(contains(unknown, "[reft::read_config] architecture \"MambaForCausalLM\" (model_type \"mamba\"): expected one of LlamaForCausalLM, "));
  // A family's name alone is not enough: another family's may begin with it, and not every head is one of ours.
  CHECK(contains(error_text([] { reft::parse_config(with(minimal_config(), {{"architectures", {"LlamaForTokenClassification"}}})); }), "expected one of"));
  CHECK(error_text([] { reft::parse_config(json::array()); }) == "[reft::read_config] config.json: expected an object");
  const TemporaryFolder folder;
  CHECK(error_text([&] { reft::read_config(folder.path()); }) ==
        fmt::format("[reft::read_config] {}: no such file; expected a Hugging Face model folder", (folder / "config.json").string()));
  reft::test::write_text(folder / "config.json", "{");
  CHECK(error_text([&] { reft::read_config(folder.path()); }) == fmt::format("[reft::read_config] {}: not valid JSON", (folder / "config.json").string()));
}

TEST_CASE("save and load return the model, bit by bit, tied or not, with biases, in each dtype") {
  const auto dtype = GENERATE(torch::kFloat32, torch::kBFloat16, torch::kFloat16);
  const bool tied = GENERATE(true, false);
  auto config = reft::test::tiny_config();
  config.tie_word_embeddings = tied;
  config.attention_bias = config.attention_output_bias = config.mlp_bias = !tied;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  reft::CausalLM model = reft::test::tiny_model(config);
  model->to(dtype);
  const TemporaryFolder folder;
  reft::save_causal_lm(model, folder / "model");
  const reft::CausalLM loaded = reft::load_causal_lm(folder / "model", {.dtype = dtype});
  CHECK(loaded->dtype() == dtype);
  CHECK_FALSE(loaded->is_training());
  CHECK(loaded->config().tie_word_embeddings == tied);
  CHECK(loaded->config().eos_token_ids == std::vector<int64_t>{2});
  const Tensors expected = tensors_of(model);
  CHECK(expected.contains("lm_head.weight") == !tied);
  for (const auto& [name, tensor] : tensors_of(loaded)) CHECK(torch::equal(tensor, expected.at(name)));
  for (const Tensor& parameter : loaded->parameters()) CHECK_FALSE(parameter.requires_grad());
  // As stored by default, but float32 for float16: a CPU is slow and imprecise there.
  const auto by_default = reft::load_causal_lm(folder / "model");
  CHECK(by_default->dtype() == (dtype == torch::kFloat16 ? torch::kFloat32 : dtype));
  CHECK(torch::equal(by_default->parameters().front().to(dtype), expected.at("model.embed_tokens.weight")));
}

TEST_CASE("loading holds the weights once: mapped, and copied straight to their place and dtype") {
  const auto stored = GENERATE(torch::kFloat32, torch::kBFloat16), wanted = GENERATE(torch::kFloat32, torch::kBFloat16);
  auto config = reft::test::tiny_config();
  config.vocab_size = 20'000;
  reft::CausalLM model = reft::test::tiny_model(config);
  model->to(stored);
  const TemporaryFolder folder;
  reft::save_causal_lm(model, folder / "safetensors");
  std::filesystem::create_directories(folder / "torch");
  std::filesystem::copy_file(folder / "safetensors/config.json", folder / "torch/config.json");
  reft::save_torch_tensors(folder / "torch/pytorch_model.bin", tensors_of(model));
  for (const char* kind : {"safetensors", "torch"}) {
    CAPTURE(kind);
    const reft::test::AllocationRecorder recorder;
    const reft::CausalLM loaded = reft::load_causal_lm(folder / kind, {.dtype = wanted});
    size_t weights = 0;
    for (const auto& slot : loaded->weight_slots()) weights += slot.values.nbytes();
    CHECK(recorder.total() >= weights);
    CHECK(recorder.total() < weights + weights / 10);
  }
}

TEST_CASE("shards with an index are one model; a tied file may hold its matrix as lm_head.weight") {
  const reft::CausalLM model = reft::test::tiny_model();
  const Tensor expected = logits_of(model, kIds);
  Tensors tensors = tensors_of(model);
  const TemporaryFolder folder;

  write_folder(folder / "sharded", minimal_config(), tensors);
  std::filesystem::remove(folder / "sharded" / "model.safetensors");
  json index{{"weight_map", json::object()}};
  std::vector<std::pair<std::string, Tensor>> shards[2];
  for (const auto& [name, tensor] : tensors) {
    const int shard = contains(name, "layers.1") ? 1 : 0;
    shards[shard].emplace_back(name, tensor);
    index["weight_map"][name] = fmt::format("model-{}.safetensors", shard);
  }
  for (int i = 0; i < 2; ++i) reft::save_tensors(folder / "sharded" / fmt::format("model-{}.safetensors", i), shards[i]);
  const auto index_path = folder / "sharded" / "model.safetensors.index.json";
  std::ofstream(index_path) << index;
  CHECK(torch::equal(logits_of(reft::load_causal_lm(folder / "sharded"), kIds), expected));
  index["weight_map"]["model.norm.weight"] = "../escape.safetensors";
  std::ofstream(index_path) << index;
  CHECK(error_text([&] { reft::load_causal_lm(folder / "sharded"); }) ==
        fmt::format("[reft::load_causal_lm] {}: model.norm.weight: expected a file name, got \"../escape.safetensors\"", index_path.string()));
  std::ofstream(index_path) << "[]";
  CHECK(error_text([&] { reft::load_causal_lm(folder / "sharded"); }) ==
        fmt::format("[reft::load_causal_lm] {}: expected an object with a weight_map", index_path.string()));

  tensors["lm_head.weight"] = tensors.at("model.embed_tokens.weight");
  tensors.erase("model.embed_tokens.weight");
  write_folder(folder / "head", minimal_config(), tensors);
  CHECK(torch::equal(logits_of(reft::load_causal_lm(folder / "head"), kIds), expected));
}

TEST_CASE("a quantized base computes with what its codes say, trains edits as that model does, and is not saved") {
  const auto kind = GENERATE(reft::Quantization::int8, reft::Quantization::nf4);
  INFO(reft::to_string(kind));
  const TemporaryFolder folder;
  const reft::CausalLM model = reft::test::tiny_model();
  reft::save_causal_lm(model, folder / "model");
  const reft::CausalLM quantized = reft::load_causal_lm(folder / "model", {.quantization = kind});
  CHECK(quantized->num_parameters() == model->num_parameters());
  CHECK_FALSE(torch::equal(logits_of(quantized, kIds), logits_of(model, kIds)));
  const std::string error = error_text([&] { reft::save_causal_lm(quantized, folder / "again"); });
  CHECK(error == fmt::format("[reft::Linear] expected a weight of floats, got one in {}", reft::to_string(kind)));

  torch::NoGradGuard no_grad;
  for (const auto& module : model->modules(/*include_self=*/false)) {
    if (auto* linear = dynamic_cast<reft::Linear*>(module.get())) {
      linear->parameters()[0].copy_(reft::dequantize(reft::quantize(linear->weight(), kind), torch::kFloat32));
    }
  }
  CHECK(relative_distance(logits_of(quantized, kIds), logits_of(model, kIds)) < 1e-5);
  const auto gradient = [](const reft::CausalLM& base) {
    const torch::AutoGradMode graph(true);
    torch::manual_seed(3);
    reft::ReftModel<reft::CausalLM> reft_model(base);
    const auto edit = reft_model.attach<reft::LoReFT>({.layer = 0, .positions = "f1+l1"}, {.rank = 2}).front();
    const reft::Example example{kIds, kIds, 3};
    reft::language_modelling_loss(reft_model, reft::collate(std::vector<const reft::Example*>{&example}, torch::kCPU)).backward();
    return edit->named_parameters()["W"].grad();
  };
  CHECK(relative_distance(gradient(quantized), gradient(model)) < 1e-4);
}

TEST_CASE("what torch.save wrote is the same model, whole or in shards, with the base's prefix or without") {
  const reft::CausalLM model = reft::test::tiny_model();
  const Tensor expected = logits_of(model, kIds);
  const Tensors tensors = tensors_of(model);
  const TemporaryFolder folder;
  const auto prepare = [&](const char* name) {
    std::filesystem::create_directories(folder / name);
    std::ofstream(folder / name / "config.json") << minimal_config();
    return folder / name;
  };
  reft::save_torch_tensors(prepare("whole") / "pytorch_model.bin", tensors);
  CHECK(torch::equal(logits_of(reft::load_causal_lm(folder / "whole"), kIds), expected));

  Tensors shards[2], bare;
  json index{{"weight_map", json::object()}};
  for (const auto& [name, tensor] : tensors) {
    const int shard = contains(name, "layers.1") ? 1 : 0;
    shards[shard][name] = tensor;
    index["weight_map"][name] = fmt::format("part{}.bin", shard);
    bare[name.substr(std::string("model.").size())] = tensor;
  }
  const auto sharded = prepare("sharded");
  for (int i = 0; i < 2; ++i) reft::save_torch_tensors(sharded / fmt::format("part{}.bin", i), shards[i]);
  std::ofstream(sharded / "pytorch_model.bin.index.json") << index;
  CHECK(torch::equal(logits_of(reft::load_causal_lm(sharded), kIds), expected));

  reft::save_torch_tensors(prepare("bare") / "pytorch_model.bin", bare);
  CHECK(torch::equal(logits_of(reft::load_causal_lm(folder / "bare"), kIds), expected));
}

TEST_CASE("damaged folders are refused with the tensor's name") {
  const Tensors good = tensors_of(reft::test::tiny_model());
  const TemporaryFolder folder;
  const std::string where = folder.path().string();
  const auto text = [&](const std::function<void(Tensors&)>& change, const json& config = minimal_config()) {
    Tensors tensors = good;
    change(tensors);
    write_folder(folder.path(), config, tensors);
    return error_text([&] { reft::load_causal_lm(folder.path()); });
  };
  const std::string norm = "model.norm.weight", q = "model.layers.1.self_attn.q_proj.weight";
  CHECK(text([](Tensors&) {}) == "no error");
  CHECK(text([&](Tensors& t) { t.erase(norm); }) == fmt::format("[reft::load_causal_lm] {}: tensor {} is missing", where, norm));
  CHECK(text([&](Tensors& t) { t.erase("model.embed_tokens.weight"); }) ==
        fmt::format("[reft::load_causal_lm] {}: tensor model.embed_tokens.weight is missing", where));
  CHECK(text([&](Tensors&) {}, with(minimal_config(), {{"tie_word_embeddings", false}})) ==
        fmt::format("[reft::load_causal_lm] {}: tensor lm_head.weight is missing", where));
  CHECK(text([&](Tensors& t) { t[q] = t.at(q).narrow(0, 0, 16).clone(); }) == fmt::format("[reft::load_causal_lm] {}: expected shape [32, 32], got [16, 32]", q));
  CHECK(text([&](Tensors& t) { t["model.extra"] = t.at(norm); }) ==
        fmt::format("[reft::load_causal_lm] {}: tensor model.extra has no place in a LlamaForCausalLM", where));
  CHECK(text([&](Tensors& t) { t["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch::zeros({4}); }) == "no error");
  CHECK(contains(text([&](Tensors& t) { for (auto& [name, tensor] : t) tensor = tensor.to(torch::kInt32); }), "[reft::load_causal_lm]"));
  // A shape that no machine holds is refused from the file's tensors, before memory is asked for.
  CHECK(contains(text([](Tensors&) {}, with(minimal_config(), {{"vocab_size", 1 << 30}, {"hidden_size", 1 << 30}})), "[reft::load_causal_lm]"));
  CHECK(contains(text([](Tensors&) {}, with(minimal_config(), {{"num_hidden_layers", 1 << 30}})), "[reft::load_causal_lm]"));

  // Whoever is loading is named.
  write_folder(folder.path(), minimal_config(), {});
  const std::string missing = fmt::format("{}: tensor model.embed_tokens.weight is missing", where);
  CHECK(error_text([&] { reft::load_transformer(folder.path()); }) == "[reft::load_transformer] " + missing);
  CHECK(error_text([&] { reft::load_masked_lm(folder.path()); }) == "[reft::load_masked_lm] " + missing);
  CHECK(error_text([&] { reft::load_sequence_classifier(folder.path()); }) == "[reft::load_sequence_classifier] " + missing);

  CHECK(text([](Tensors&) {}) == "no error");
  const auto file = folder / "model.safetensors";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 100);
  CHECK(contains(error_text([&] { reft::load_causal_lm(folder.path()); }), file.string()));
  std::filesystem::remove(file);
  CHECK(error_text([&] { reft::load_causal_lm(folder.path()); }) ==
        fmt::format("[reft::load_causal_lm] {}: expected model.safetensors or model.safetensors.index.json, or pytorch_model.bin", where));
  CHECK(error_text([&] { reft::load_causal_lm(folder / "none"); }) == fmt::format("[reft::load_causal_lm] {}: no such file or folder", (folder / "none").string()));
  CHECK(error_text([] { reft::parse_dtype("int8"); }) == "[reft::parse_dtype] \"int8\": expected float32, bfloat16 or float16");
}

TEST_CASE("trained models give the logits, states and losses computed for them in float64") {
  const auto [file, expected_file] = GENERATE(std::pair{"stories260K/stories260K.bin", "stories260K"}, std::pair{"stories260K/stories260K_v1.bin", "stories260K"},
                                              std::pair{"babyllama_tok105/model5000.bin", "babyllama_tok105"},
                                              std::pair{"tinystories656k_hf", "tinystories656k_hf"});
  const auto path = reft::test::shared_path(std::string("assets/models/") + file);
  const auto expected_path = reft::test::shared_path(fmt::format("assets/expected/{}.json", expected_file));
  if (!path || !expected_path) return;
  INFO(file);
  const reft::CausalLM model = reft::load_causal_lm(*path);
  const json expected = read_json(*expected_path);
  for (const json& c : expected["cases"]) {
    INFO(c["prompt"]);
    const auto ids = c["ids"].get<std::vector<int64_t>>();
    const auto last = static_cast<int64_t>(ids.size()) - 1;
    ForwardContext context(Layout::ragged({last + 1}));
    context.capture({{}, reft::Component::embedding_output, {}});
    for (int layer = 0; layer < model->num_layers(); ++layer) context.capture({.layer = layer});
    const Tensor logits = logits_of(model, ids, &context);
    CHECK(relative_distance(logits[last], as_tensor(c["last_logits"])) < kGolden);
    CHECK(logits[last].argmax().item<int64_t>() == c["argmax"]);
    CHECK(relative_distance(logits.abs().sum(1), as_tensor(c["logits_abs_sum_per_pos"])) < kGolden);
    CHECK(relative_distance(context.activations().at({{}, reft::Component::embedding_output, {}})[last], as_tensor(c["embedding_last_pos"])) < 1e-7);
    for (int layer = 0; layer < model->num_layers(); ++layer) {
      CHECK(relative_distance(context.activations().at({.layer = layer})[last], as_tensor(c["block_output_last_pos"][layer])) < kGolden);
    }
    CHECK(mean_loss(model, ids) == Approx(as_double(c["nll_mean"])).epsilon(kGolden));
  }
  const json& story = expected["story_nll"];
  CHECK(mean_loss(model, story["ids"].get<std::vector<int64_t>>()) == Approx(as_double(story["nll_mean"])).epsilon(kGolden));
}

TEST_CASE("a LoReFT step on a trained model has the loss, logits and gradients computed for it in float64") {
  const auto path = reft::test::shared_path("assets/models/stories260K/stories260K.bin");
  const auto golden_path = reft::test::shared_path("assets/expected/loreft_golden_stories260K.json");
  if (!path || !golden_path) return;
  const json golden = read_json(*golden_path);
  const auto ids = golden["full_ids"].get<std::vector<int64_t>>();
  const auto N = static_cast<int64_t>(ids.size());
  const int64_t n_prompt = golden["n_prompt"], rank = golden["rank"];
  const Tensor input_ids = torch::tensor(ids, torch::kInt64), rows = torch::arange(n_prompt - 1, N - 1);
  const Tensor targets = input_ids.narrow(0, n_prompt, N - n_prompt);
  const reft::CausalLM base = reft::load_causal_lm(*path);
  const reft::Site site{.layer = golden["layer"].get<int>()};
  const Tensor R = as_tensor(golden["R"]).view({64, rank}).t(), W = as_tensor(golden["W"]).view({rank, 64}), b = as_tensor(golden["b"]);

  const auto mean = static_cast<double>(N - n_prompt);
  CHECK(base->loss(input_ids, ForwardContext(Layout::ragged({N})), rows, targets).item<double>() / mean ==
        Approx(as_double(golden["base_loss_no_intervention"])).epsilon(kGolden));
  for (const json& c : golden["cases"]) {
    std::vector<std::string> terms;
    for (const int64_t position : c["positions"].get<std::vector<int64_t>>()) terms.push_back(std::to_string(position));
    const std::string positions = fmt::format("{}", fmt::join(terms, "+"));
    INFO(positions);
    reft::ReftModel model(base);
    const auto loreft = std::make_shared<reft::LoReFT>(64, reft::LowRankOptions{.rank = rank});
    loreft->load_state({{"R", R.to(torch::kFloat32)}, {"W", W.to(torch::kFloat32)}, {"b", b.to(torch::kFloat32)}});
    model.attach({loreft, {site}, reft::Positions::parse(positions)});
    ForwardContext context = model.interventions().prompt_context(Layout::ragged({N}), std::vector<int64_t>{n_prompt});
    context.capture(site);
    const Tensor loss = base->loss(input_ids, context, rows, targets) / mean;
    loss.backward();
    CHECK(loss.item<double>() == Approx(as_double(c["loss"])).epsilon(kGolden));
    CHECK(relative_distance(context.activations().at(site)[n_prompt - 1], as_tensor(c["hidden_after_at_prompt_last"])) < kGolden);
    // Central differences: as exact as their own step allows.
    const auto gradients = loreft->named_parameters();
    CHECK(relative_distance(gradients["W"].grad().flatten(), as_tensor(c["grad_W_central_difference"])) < 1e-3);
    CHECK(relative_distance(gradients["b"].grad(), as_tensor(c["grad_b_central_difference"])) < 1e-3);
    CHECK(gradients["X"].grad().abs().max().item<double>() > 0.0);
    torch::NoGradGuard no_grad;
    const Tensor logits = base->forward(input_ids, context);
    CHECK(relative_distance(logits[N - 1], as_tensor(c["last_logits"])) < kGolden);
    CHECK(relative_distance(logits[n_prompt - 1], as_tensor(c["prompt_last_logits"])) < kGolden);
  }
}
