#include "reft/model/causal_lm.hpp"

#include <set>
#include <utility>
#include <vector>

#include "reft/tensor/edit_rows.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

namespace {

using reft::Component;
using reft::ForwardContext;
using reft::Layout;
using reft::Site;
using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;

/// Query heads twice as wide together as the residual stream, biases everywhere, a head of its own.
reft::TransformerConfig general_config() {
  reft::TransformerConfig config = reft::test::tiny_config();
  config.head_dim = 16;
  config.attention_bias = config.attention_output_bias = config.mlp_bias = true;
  config.tie_word_embeddings = false;
  return config;
}

/// One config for every way in which a block can differ from Llama's.
std::vector<reft::TransformerConfig> other_configs() {
  using reft::NormKind;
  using reft::NormPlacement;
  std::vector<reft::TransformerConfig> configs(5, general_config());
  configs[0].norm_placement = NormPlacement::output;
  configs[0].query_key_norm = reft::TransformerConfig::kWholeRow;
  configs[1].norm_placement = NormPlacement::sum;
  configs[1].norm = NormKind::layer;
  configs[1].gated_mlp = configs[1].final_norm = false;
  configs[1].learned_positions = configs[1].embedding_norm = true;
  configs[2].parallel_residual = true;
  configs[2].partial_rotary_factor = 0.5;
  configs[3].num_experts = 3;
  configs[3].num_experts_per_token = 2;
  configs[4].norm_placement = NormPlacement::input_and_output;
  configs[4].norm = NormKind::rms_offset;
  configs[4].query_key_norm = configs[4].head_dim;
  configs[4].attn_logit_softcapping = configs[4].final_logit_softcapping = 5.0;
  configs[4].layers = {{.window = 2, .rotary = reft::LayerSwitches::Rotary::local}, {.rotary = reft::LayerSwitches::Rotary::none}};
  return configs;
}

reft::CausalLM general_model(const reft::TransformerConfig& config = general_config()) {
  reft::CausalLM model = reft::test::tiny_model(config);
  torch::NoGradGuard no_grad;
  for (Tensor& parameter : model->parameters()) {
    if (parameter.dim() == 1) parameter.add_(0.3 * torch::randn_like(parameter));  // biases and norms of their own
  }
  return model;
}

/// In float64, where equal means equal and not within what this model makes of a rounding.
reft::CausalLM exact_model(const reft::TransformerConfig& config = general_config()) {
  reft::CausalLM model = general_model(config);
  model->to(torch::kFloat64);
  return model;
}

std::vector<Site> all_sites() {
  std::vector<Site> sites{{{}, Component::embedding_output, {}}, {{}, Component::final_norm_output, {}}, {{}, Component::logits, {}}};
  for (int layer = 0; layer < 2; ++layer) {
    for (Component component :
         {Component::block_input, Component::block_output, Component::attention_input, Component::attention_output,
          Component::attention_value_output, Component::mlp_input, Component::mlp_activation, Component::mlp_output,
          Component::query_output, Component::key_output, Component::value_output}) {
      sites.push_back({layer, component, {}});
    }
    for (int head : {0, 3}) sites.push_back({layer, Component::head_attention_value_output, head});
  }
  return sites;
}

const Tensor kIds = torch::tensor({1, 5, 9, 40, 7, 3, 10, 22, 13}, torch::kInt64);
const Tensor kEdited = torch::tensor({0, 2, 3, 6}, torch::kInt64);
const Tensor kSupervised = torch::tensor({2, 6, 7}, torch::kInt64), kTargets = torch::tensor({11, 4, 30}, torch::kInt64);

Layout layout() { return Layout::ragged({4, 5}); }

struct LowRank {
  Tensor R, W, b;
  explicit LowRank(int64_t width, torch::Dtype dtype = torch::kFloat32) : dtype(dtype) {
    torch::manual_seed(7);
    R = torch::randn({3, width}, dtype).requires_grad_(true);
    W = torch::randn({3, width}, dtype).requires_grad_(true);
    b = torch::randn({3}, dtype).requires_grad_(true);
  }
  Tensor operator()(const Tensor& x) const { return x + 0.2 * (x.matmul(W.t()) + b - x.matmul(R.t())).matmul(R); }
  std::vector<Tensor> parameters() const { return {R, W, b}; }
  torch::Dtype dtype;
};

/// The loss and its gradients.
std::vector<Tensor> loss_and_gradients(const reft::CausalLM& model, const ForwardContext& context, const std::vector<Tensor>& parameters) {
  const Tensor loss = model->loss(kIds, context, kSupervised, kTargets);
  std::vector<Tensor> all = torch::autograd::grad({loss}, parameters);
  all.insert(all.begin(), loss.detach());
  return all;
}

/// The loss and its gradients with the edit in place, and with a user's hook that does the same out of place.
std::pair<std::vector<Tensor>, std::vector<Tensor>> edited_and_hooked(reft::CausalLM& model, const Site& site, const LowRank& edit,
                                                                      const std::vector<Tensor>& parameters) {
  ForwardContext context(layout());
  int calls = 0;
  context.add_action(site, [&](Tensor h, reft::Columns columns) {
    ++calls;
    return reft::edit_rows(std::move(h), kEdited, columns, {edit, edit.parameters(), edit.dtype});
  });
  const auto edited = loss_and_gradients(model, context, parameters);
  CHECK(calls == 1);
  const auto hook = model->hook_point(site).add([&](Tensor h, const ForwardContext&) {
    return h.index_copy(0, kEdited, edit(h.index_select(0, kEdited)));
  });
  // Somebody who looks on: the last block is computed for all rows, wanted or not.
  const auto watch = model->hook_point({.layer = 1}).add([](Tensor h, const ForwardContext&) { return h; });
  return {edited, loss_and_gradients(model, ForwardContext(layout()), parameters)};
}

void check_equal(const std::vector<Tensor>& ours, const std::vector<Tensor>& expected, double tolerance) {
  REQUIRE(ours.size() == expected.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    INFO("tensor " << i);
    CHECK(relative_distance(ours[i], expected[i]) < tolerance);
  }
}

}  // namespace

TEST_CASE("at every component an edit in place has the gradients of a user's hook out of place") {
  const reft::CausalLM shared = exact_model();
  reft::CausalLM model = shared;
  const Tensor plain = model->loss(kIds, ForwardContext(layout()), kSupervised, kTargets);
  for (const Site& site : all_sites()) {
    INFO(to_string(site));
    const LowRank edit(model->width(site), torch::kFloat64);
    const auto [edited, hooked] = edited_and_hooked(model, site, edit, edit.parameters());
    check_equal(edited, hooked, 1e-10);
    // The edit matters there, so that equality means something; rotated or not, only the first two tensors could vanish.
    CHECK(std::abs((edited[0] - plain).item<double>()) > 1e-4);
    CHECK(hooked[1].abs().max().item<double>() > 1e-4);
  }
}

TEST_CASE("in blocks unlike Llama's too") {
  for (const reft::TransformerConfig& config : other_configs()) {
    INFO("placement " << static_cast<int>(config.norm_placement) << ", experts " << config.num_experts << ", parallel " << config.parallel_residual);
    reft::CausalLM model = exact_model(config);
    for (const Site& site : model->sites()) {
      INFO(to_string(site));
      const LowRank edit(model->width(site), torch::kFloat64);
      const auto [edited, hooked] = edited_and_hooked(model, site, edit, edit.parameters());
      check_equal(edited, hooked, 1e-10);
      CHECK(hooked[1].abs().max().item<double>() > 1e-6);
    }
  }
}

TEST_CASE("where only a few rows are not constant, the block above has the gradients of the plain computation") {
  const Tensor few = torch::tensor({0, 6}, torch::kInt64);
  std::vector<reft::TransformerConfig> configs = other_configs();
  configs.push_back(general_config());
  configs.push_back(general_config());
  configs.back().num_key_value_heads = configs.back().num_attention_heads;
  for (const reft::TransformerConfig& config : configs) {
    INFO("placement " << static_cast<int>(config.norm_placement) << ", experts " << config.num_experts << ", parallel " << config.parallel_residual);
    reft::CausalLM model = exact_model(config);
    for (const Site& site : {Site{{}, Component::embedding_output, {}}, Site{0, Component::block_input, {}}, Site{0, Component::block_output, {}}}) {
      INFO(to_string(site));
      const LowRank first(config.hidden_size, torch::kFloat64), second(config.hidden_size, torch::kFloat64);
      std::vector<Tensor> parameters = first.parameters();
      for (const Tensor& parameter : second.parameters()) parameters.push_back(parameter);
      ForwardContext context(layout());  // two edits at one site, one row in both
      context.add_action(site, [&](Tensor h, reft::Columns columns) {
        return reft::edit_rows(std::move(h), few, columns, {first, first.parameters(), first.dtype});
      });
      context.add_action(site, [&](Tensor h, reft::Columns columns) {
        return reft::edit_rows(std::move(h), few.narrow(0, 1, 1), columns, {second, second.parameters(), second.dtype});
      });
      Tensor live;
      const auto look = model->hook_point(site).add([&](Tensor h, const ForwardContext&) {
        live = reft::live_rows(h);
        return h;
      });
      const auto edited = loss_and_gradients(model, context, parameters);
      CHECK(torch::equal(live, few));
      // A hook that keeps the values hides the edits: more than their rows may have a graph, for all the block knows.
      const auto hide = model->hook_point(site).add([](Tensor h, const ForwardContext&) { return h * 1.0; });
      check_equal(edited, loss_and_gradients(model, context, parameters), 1e-10);
      CHECK(edited[1].abs().max().item<double>() > 1e-6);
    }
  }
}

TEST_CASE("checkpointed blocks give the same loss and gradients and keep less of a forward") {
  const auto num_nodes = [](const Tensor& loss) {
    std::set<torch::autograd::Node*> seen;
    std::vector<torch::autograd::Node*> next{loss.grad_fn().get()};
    while (!next.empty()) {
      torch::autograd::Node* node = next.back();
      next.pop_back();
      if (node == nullptr || !seen.insert(node).second) continue;
      for (const auto& edge : node->next_edges()) next.push_back(edge.function.get());
    }
    return seen.size();
  };
  for (const reft::TransformerConfig& config : other_configs()) {
    const reft::CausalLM model = exact_model(config);
    const LowRank edit(config.hidden_size, torch::kFloat64);
    const auto context_at = [&](const Site& site) {
      ForwardContext context(layout());
      context.add_action(site, [&](Tensor h, reft::Columns columns) {
        return reft::edit_rows(std::move(h), kEdited, columns, {edit, edit.parameters(), edit.dtype});
      });
      return context;
    };
    ForwardContext plain = context_at({{}, Component::embedding_output, {}}), checkpointed = plain;
    checkpointed.checkpoint_blocks();
    check_equal(loss_and_gradients(model, checkpointed, edit.parameters()), loss_and_gradients(model, plain, edit.parameters()), 1e-10);
    CHECK(num_nodes(model->loss(kIds, checkpointed, kSupervised, kTargets)) < num_nodes(model->loss(kIds, plain, kSupervised, kTargets)) / 2);
    // A block in which something acts is not checkpointed: its parameters would get no gradient.
    ForwardContext inside = context_at({1, Component::mlp_output, {}});
    const auto expected = loss_and_gradients(model, inside, edit.parameters());
    inside.checkpoint_blocks();
    check_equal(loss_and_gradients(model, inside, edit.parameters()), expected, 1e-10);
  }
}

TEST_CASE("with windows, soft caps and learned positions, cached logits equal uncached ones") {
  torch::NoGradGuard no_grad;
  for (const reft::TransformerConfig& config : other_configs()) {
    const reft::CausalLM model = general_model(config);
    const Tensor ids = kIds.narrow(0, 0, 8);
    const Tensor expected = model->forward(ids, ForwardContext(Layout::ragged({8})));
    reft::KvCache cache(config, 1, 8, torch::kFloat32);
    int64_t past = 0;
    for (const int64_t length : {3, 1, 2, 1, 1}) {
      const auto now = past == 0 ? Layout::ragged({length}) : Layout::ragged({length}, torch::kCPU, {past});
      const Tensor logits = model->forward(ids.narrow(0, past, length), ForwardContext(now), {}, &cache);
      CHECK(relative_distance(logits, expected.narrow(0, past, length)) < 1e-5);
      past += length;
    }
  }
}

TEST_CASE("a model refuses what its family lacks, and texts longer than its table of positions") {
  const auto configs = other_configs();
  reft::CausalLM experts = general_model(configs[3]), learned = general_model(configs[1]);
  CHECK(error_text([&] { experts->hook_point({0, Component::mlp_activation, {}}); }) ==
        "[reft::CausalLM] layers.0.mlp_activation: a LlamaForCausalLM has no such site");
  CHECK(error_text([&] { learned->hook_point({{}, Component::final_norm_output, {}}); }) ==
        "[reft::CausalLM] final_norm_output: a LlamaForCausalLM has no such site");
  auto config = configs[1];
  config.max_position_embeddings = 4;
  const reft::CausalLM shorter = general_model(config);
  CHECK(error_text([&] { shorter->forward(kIds, ForwardContext(layout())); }) ==
        "[reft::CausalLM] sequence 1: expected at most 4 tokens, for which the model has positions, got 5");
}

TEST_CASE("at every component the base's own parameters get the gradients of the out-of-place edit too") {
  reft::CausalLM model = exact_model();
  for (Tensor& parameter : model->parameters()) parameter.requires_grad_(true);
  for (const Site& site : all_sites()) {
    INFO(to_string(site));
    const auto [edited, hooked] = edited_and_hooked(model, site, LowRank(model->width(site), torch::kFloat64), model->parameters());
    check_equal(edited, hooked, 1e-10);
  }
}

TEST_CASE("a forward with nothing attached is the plain computation, written out") {
  // The tiny model without grouping tricks: every head's keys repeated, a dense mask, no merged weights.
  const reft::TransformerConfig config = general_config();
  const reft::CausalLM model = general_model();
  torch::NoGradGuard no_grad;
  std::map<std::string, Tensor> weights;
  for (const auto& slot : model->weight_slots()) weights[slot.name] = slot.values.to(torch::kFloat64);
  const auto linear = [&](const Tensor& x, const std::string& name) {
    const Tensor y = x.matmul(weights.at(name + ".weight").t());
    return weights.contains(name + ".bias") ? y + weights.at(name + ".bias") : y;
  };
  const auto norm = [&](const Tensor& x, const std::string& name) {
    return x / (x.square().mean(-1, true) + config.norm_eps).sqrt() * weights.at(name + ".weight");
  };
  const int64_t T = 5, E = config.head_dim, H = config.num_attention_heads, K = config.num_key_value_heads;
  const Tensor exponents = torch::arange(0, E / 2, torch::kFloat64) * (-2.0 / static_cast<double>(E));
  const Tensor angles = torch::arange(0, T, torch::kFloat64).unsqueeze(1) * torch::pow(config.rope_theta, exponents);
  const auto rotate = [&](const Tensor& x) {  // (heads, T, E)
    const Tensor a = x.narrow(2, 0, E / 2), b = x.narrow(2, E / 2, E / 2);
    return torch::cat({a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()}, 2);
  };
  const auto heads = [&](const Tensor& x, int64_t count) { return x.view({T, count, E}).transpose(0, 1); };

  const Tensor ids = kIds.narrow(0, 4, T);
  Tensor h = weights.at("model.embed_tokens.weight").index_select(0, ids);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    Tensor x = norm(h, prefix + "input_layernorm");
    const Tensor q = rotate(heads(linear(x, prefix + "self_attn.q_proj"), H));
    const Tensor k = rotate(heads(linear(x, prefix + "self_attn.k_proj"), K)).repeat_interleave(H / K, 0);
    const Tensor v = heads(linear(x, prefix + "self_attn.v_proj"), K).repeat_interleave(H / K, 0);
    const Tensor future = torch::ones({T, T}, torch::kBool).triu(1);
    const Tensor p = (q.matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(E))).masked_fill(future, -INFINITY).softmax(-1);
    h = h + linear(p.matmul(v).transpose(0, 1).reshape({T, H * E}), prefix + "self_attn.o_proj");
    x = norm(h, prefix + "post_attention_layernorm");
    h = h + linear(torch::silu(linear(x, prefix + "mlp.gate_proj")) * linear(x, prefix + "mlp.up_proj"), prefix + "mlp.down_proj");
  }
  const Tensor expected = linear(norm(h, "model.norm"), "lm_head");
  CHECK(relative_distance(model->forward(ids, ForwardContext(Layout::ragged({T}))), expected) < 1e-5);
}

TEST_CASE("hooks and captures see all rows, whatever rows are asked for") {
  reft::CausalLM model = general_model();
  torch::NoGradGuard no_grad;
  const Tensor some = torch::tensor({1, 8}, torch::kInt64);
  const Tensor plain = model->forward(kIds, ForwardContext(layout()));
  CHECK(relative_distance(model->forward(kIds, ForwardContext(layout()), some), plain.index_select(0, some)) < 1e-5);

  ForwardContext capturing(layout());
  for (const Site& site : all_sites()) capturing.capture(site);
  const Tensor with_captures = model->forward(kIds, capturing, some);
  CHECK(relative_distance(with_captures, plain.index_select(0, some)) < 1e-5);
  for (const Site& site : all_sites()) {
    INFO(to_string(site));
    const std::vector<int64_t> expected{9, model->width(site)};
    CHECK(capturing.activations().at(site).sizes() == expected);
    int64_t rows = 0;
    const auto handle = model->hook_point(site).add([&](Tensor h, const ForwardContext&) {
      CHECK(torch::equal(h, capturing.activations().at(site)));
      rows += h.size(0);
      return h;
    });
    model->forward(kIds, ForwardContext(layout()), some);
    CHECK(rows == 9);
  }
  CHECK(torch::equal(capturing.activations().at({{}, Component::logits, {}}), plain));
  CHECK(torch::equal(model->forward(kIds, ForwardContext(layout())), plain));  // every hook is gone again
}

TEST_CASE("cached logits equal uncached ones: prefill, chunks and single steps of a ragged batch") {
  const reft::CausalLM model = general_model();
  torch::NoGradGuard no_grad;
  const std::vector<Tensor> sequences{torch::tensor({1, 5, 9, 40, 7, 3, 10, 22}, torch::kInt64),
                                      torch::tensor({2, 30, 4, 17, 25, 8, 6, 41}, torch::kInt64)};
  std::vector<Tensor> expected;
  for (const Tensor& ids : sequences) expected.push_back(model->forward(ids, ForwardContext(Layout::ragged({ids.size(0)}))));

  // How many tokens each sequence takes per forward; the pasts differ or agree, chunks are longer than one or not.
  const std::vector<std::vector<std::vector<int64_t>>> schedules{
      {{3, 5}, {1, 1}, {1, 1}}, {{4, 4}, {1, 1}, {1, 1}}, {{2, 4}, {3, 1}, {1, 1}, {2, 2}}, {{4, 4}, {3, 3}, {1, 1}}, {{1, 1}, {1, 3}, {6, 4}}};
  for (const auto& schedule : schedules) {
    reft::KvCache cache(model->config(), 2, 8, torch::kFloat32);
    for (size_t step = 0; step < schedule.size(); ++step) {
      INFO("schedule " << &schedule - schedules.data() << ", step " << step);
      const std::vector<int64_t> past = cache.lengths();
      std::vector<Tensor> ids, wanted;
      for (size_t i = 0; i < 2; ++i) {
        ids.push_back(sequences[i].narrow(0, past[i], schedule[step][i]));
        wanted.push_back(expected[i].narrow(0, past[i], schedule[step][i]));
      }
      const auto now = step == 0 ? Layout::ragged(schedule[step]) : Layout::ragged(schedule[step], torch::kCPU, past);
      CHECK(relative_distance(model->forward(torch::cat(ids), ForwardContext(now), {}, &cache), torch::cat(wanted)) < 1e-5);
    }
  }
}

TEST_CASE("the cache refuses what does not continue it") {
  const reft::CausalLM model = general_model();
  torch::NoGradGuard no_grad;
  reft::KvCache cache(model->config(), 2, 6, torch::kFloat32);
  const auto text = [&](const Layout& now) {
    return error_text([&] { model->forward(torch::zeros({now.num_tokens()}, torch::kInt64), ForwardContext(now), {}, &cache); });
  };
  CHECK(text(Layout::ragged({3})) == "[reft::KvCache] expected 2 sequences, got 1");
  CHECK(text(Layout::ragged({3, 7})) == "[reft::KvCache] sequence 1: 7 tokens do not fit in a capacity of 6");
  CHECK(text(Layout::ragged({3, 5})) == "no error");
  CHECK(text(Layout::ragged({1, 1})) == "[reft::KvCache] sequence 0: expected a past of 3 tokens, got 0");
  CHECK(text(Layout::ragged({1, 1}, torch::kCPU, {3, 4})) == "[reft::KvCache] sequence 1: expected a past of 5 tokens, got 4");
  CHECK(text(Layout::ragged({1, 2}, torch::kCPU, {3, 5})) == "[reft::KvCache] sequence 1: 7 tokens do not fit in a capacity of 6");
}

TEST_CASE("a sequence alone gives the logits and the loss it has in a batch") {
  const reft::CausalLM model = general_model();
  torch::NoGradGuard no_grad;
  const Tensor together = model->forward(kIds, ForwardContext(layout()));
  const Tensor alone = model->forward(kIds.narrow(0, 4, 5), ForwardContext(Layout::ragged({5})));
  CHECK(relative_distance(alone, together.narrow(0, 4, 5)) < 1e-5);
  const Tensor loss = model->loss(kIds, ForwardContext(layout()), kSupervised, kTargets);
  const Tensor logits = together.index_select(0, kSupervised);
  CHECK(loss.item<double>() == Approx(at::cross_entropy_loss(logits, kTargets, {}, at::Reduction::Sum).item<double>()).epsilon(1e-5));
}

TEST_CASE("a training step never holds the logits of all tokens") {
  reft::TransformerConfig config = reft::test::tiny_config();
  config.vocab_size = 4096;
  const reft::CausalLM model = reft::test::tiny_model(config);
  constexpr int64_t kTokens = 256;
  const Tensor ids = torch::arange(kTokens), rows = torch::tensor({10, 11, 200}), targets = torch::tensor({4, 5, 6});
  const LowRank edit(config.hidden_size);
  ForwardContext context(Layout::ragged({kTokens}));
  context.add_action({.layer = 0}, [&](Tensor h, reft::Columns columns) {
    return reft::edit_rows(std::move(h), kEdited, columns, {edit, edit.parameters(), edit.dtype});
  });
  const reft::test::AllocationRecorder recorder;
  model->loss(ids, context, rows, targets).backward();
  // The largest thing is a merged projection of all tokens, 2F = 128 wide; (N, V) would be 32 times that.
  CHECK(recorder.largest() < 4 * kTokens * 128 * sizeof(float));
  CHECK(recorder.largest() >= kTokens * 32 * sizeof(float));
}

TEST_CASE("sites a model does not have are named") {
  reft::CausalLM model = reft::test::tiny_model();
  const auto text = [&](const Site& site) { return error_text([&] { model->hook_point(site); }); };
  CHECK(text({.layer = 2}) == "[reft::CausalLM] layers.2.block_output: layer 2, but the model has 2 layers (0..1)");
  CHECK(text({.layer = -1}) == "[reft::CausalLM] layers.-1.block_output: layer -1, but the model has 2 layers (0..1)");
  CHECK(text({1, Component::head_attention_value_output, 4}) ==
        "[reft::CausalLM] layers.1.head_attention_value_output.4: head 4, but the model has 4 heads (0..3)");
  CHECK(text({1, Component::head_attention_value_output, {}}) ==
        "[reft::check_site] layers.1.head_attention_value_output: expected a head, as in \"layers.1.head.0\"");
  CHECK(text({{}, Component::mlp_output, {}}) == "[reft::check_site] mlp_output: expected a layer, as in \"layers.0.mlp_output\"");
  CHECK(error_text([&] { model->width({.layer = 7}); }) == "[reft::CausalLM] layers.7.block_output: layer 7, but the model has 2 layers (0..1)");
  const auto forward = [&](const Tensor& ids, const Layout& rows) { return error_text([&] { model->forward(ids, ForwardContext(rows)); }); };
  CHECK(forward(kIds, Layout::ragged({8})) == "[reft::CausalLM] input_ids: expected shape [8], got [9]");
  CHECK(forward(kIds, Layout::padded(3, 3)) == "[reft::CausalLM] expected a ragged layout; padding is never computed here");
}

TEST_CASE("bfloat16: the model computes near its float32 self, edits keep the dtype") {
  const reft::CausalLM wide = general_model();
  reft::CausalLM narrow = general_model();
  narrow->to(torch::kBFloat16);
  const LowRank edit(32);
  const auto run = [&](const reft::CausalLM& model) {
    ForwardContext context(layout());
    context.add_action({.layer = 0}, [&](Tensor h, reft::Columns columns) {
      return reft::edit_rows(std::move(h), kEdited, columns, {edit, edit.parameters(), edit.dtype});
    });
    context.capture({.layer = 0});
    auto all = loss_and_gradients(model, context, edit.parameters());
    CHECK(context.activations().at({.layer = 0}).scalar_type() == model->dtype());
    return all;
  };
  const auto ours = run(narrow), expected = run(wide);
  // Two blocks of rounding to 8 bits each leave a few percent.
  check_equal(ours, expected, 0.15);
  CHECK(ours[1].scalar_type() == torch::kFloat32);
}
