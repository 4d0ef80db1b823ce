#include "reft/reft_model.hpp"

#include <torch/optim/adamw.h>

#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

namespace {

using reft::AttachOptions;
using reft::Component;
using reft::Layout;
using reft::LoReFT;
using reft::Phase;
using reft::PositionRule;
using reft::Site;
using reft::Tie;
using reft::test::error_text;
using reft::test::relative_distance;
using reft::test::tiny_model;
using torch::Tensor;
using Model = reft::ReftModel<reft::CausalLM>;
using Rows = std::vector<std::vector<int64_t>>;

const Tensor kIds = torch::tensor({1, 5, 9, 40, 7, 3, 10, 22}, torch::kInt64);
const std::vector<int64_t> kPrompt{4};

/// An intervention that writes down which rows it was given and changes nothing: what it sees is row i = i everywhere.
class Recorder : public reft::InterventionBase {
 public:
  struct Options {};
  static constexpr std::string_view kTypeName = "recorder";
  explicit Recorder(int64_t hidden_size, const Options& = {}) : hidden_size_(hidden_size) {
    register_parameter("p", torch::zeros({1}));
  }
  Tensor forward(const Tensor& x) override {
    seen.emplace_back();
    for (int64_t i = 0; i < x.size(0); ++i) seen.back().push_back(x[i][0].item<int64_t>());
    return x;
  }
  int64_t hidden_size() const override { return hidden_size_; }
  std::string_view type() const override { return kTypeName; }
  nlohmann::json options() const override { return nlohmann::json::object(); }
  std::map<std::string, Tensor> state() const override { return {}; }
  void load_state(const std::map<std::string, Tensor>&) override {}

  Rows seen;

 private:
  int64_t hidden_size_;
};

Rows rows_seen(const std::vector<std::shared_ptr<Recorder>>& recorders, const reft::ForwardContext& context, const Site& site) {
  for (const auto& recorder : recorders) recorder->seen.clear();
  const Tensor h = torch::arange(context.layout().num_tokens(), torch::kFloat32).unsqueeze(1).repeat({1, 32});
  torch::NoGradGuard no_grad;
  context.apply_actions(site, h, {0, 32});
  Rows rows;
  for (const auto& recorder : recorders) {
    REQUIRE(recorder->seen.size() <= 1);
    rows.push_back(recorder->seen.empty() ? std::vector<int64_t>{} : recorder->seen.front());
  }
  return rows;
}

Rows prompt_rows(const Model& model, const std::vector<std::shared_ptr<Recorder>>& recorders, const Layout& layout,
                 const std::vector<int64_t>& prompt_lengths) {
  return rows_seen(recorders, model.interventions().prompt_context(layout, prompt_lengths), {.layer = 0});
}

Tensor loss_of(const Model& model, const reft::ForwardContext& context) {
  const Tensor rows = torch::tensor({3, 4, 5, 6}, torch::kInt64);
  return model.base()->loss(kIds, context, rows, kIds.narrow(0, 4, 4)) / 4;
}

Tensor loss_of(const Model& model) { return loss_of(model, model.interventions().prompt_context(Layout::ragged({8}), kPrompt)); }

Model with_loreft(const reft::CausalLM& base, const std::string& positions = "f1+l1") {
  Model model(base);
  torch::manual_seed(3);
  for (int layer = 0; layer < 2; ++layer) model.attach<LoReFT>({.layer = layer, .positions = positions}, {.rank = 4});
  return model;
}

}  // namespace

TEST_CASE("a hand-written loop with torch's AdamW learns and keeps R orthonormal under weight decay") {
  const Model model = with_loreft(tiny_model());
  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(3e-2).weight_decay(0.01));
  float first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    const Tensor loss = loss_of(model);
    loss.backward();
    optimizer.step();
    last = loss.item<float>();
    if (step == 0) first = last;
  }
  CHECK(last < 0.5f * first);
  for (const auto& intervention : model.interventions().interventions()) {
    CHECK(reft::orthonormality_error(intervention->state().at("R")) < 1e-5);
  }
}

TEST_CASE("with nothing attached, and with nothing trained, the base is the base, bit by bit") {
  const reft::CausalLM base = tiny_model();
  std::vector<Tensor> before;
  for (const Tensor& parameter : base->parameters()) before.push_back(parameter.clone());
  Model plain(base);
  CHECK(plain.interventions().empty());
  const Layout layout = Layout::ragged({8});
  CHECK(torch::equal(plain.forward(layout, kPrompt, kIds), base->forward(kIds, reft::ForwardContext(layout))));

  Model model = with_loreft(base);
  CHECK_FALSE(torch::equal(model.forward(layout, kPrompt, kIds), plain.forward(layout, kPrompt, kIds)));
  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(3e-2));
  loss_of(model).backward();
  optimizer.step();
  for (size_t i = 0; i < before.size(); ++i) CHECK(torch::equal(base->parameters()[i], before[i]));
  CHECK(torch::equal(plain.forward(layout, kPrompt, kIds), base->forward(kIds, reft::ForwardContext(layout))));
}

TEST_CASE("only chosen rows change, and what depends on them") {
  const reft::CausalLM base = tiny_model();
  Model model(base);
  model.attach<LoReFT>({.layer = 1, .positions = "2"}, {.rank = 4});
  torch::NoGradGuard no_grad;
  const Layout layout = Layout::ragged({8});
  const Tensor plain = base->forward(kIds, reft::ForwardContext(layout));
  const Tensor changed = (model.forward(layout, kPrompt, kIds) - plain).abs().amax(1) > 0;
  CHECK(torch::equal(changed, torch::arange(8) == 2));  // nothing attends after the last block
}

TEST_CASE("positions become rows, sequence by sequence, for each way to tie") {
  struct Case { std::string positions; Tie tie; std::vector<int64_t> prompts; Rows rows; };
  // Sequences of 6 and 5 tokens: rows 0..5 and 6..10.
  const std::vector<Case> cases{
      {"f2+l1", Tie::group, {4, 5}, {{0, 1, 6, 7}, {3, 10}}},
      {"f2+l1", Tie::all, {4, 5}, {{0, 1, 3, 6, 7, 10}}},
      {"f2+l1", Tie::position, {4, 5}, {{0, 6}, {1, 7}, {3, 10}}},
      {"all", Tie::group, {4, 2}, {{0, 1, 2, 3, 6, 7}}},
      {"-1", Tie::group, {4, 2}, {{3, 7}}},
      {"1:3", Tie::position, {4, 2}, {{1, 7}, {2}}},
      {"f5+l5", Tie::group, {3, 1}, {{0}, {1, 2, 6}}},  // p = n/2, s = (n+1)/2
      {"f3+l3", Tie::position, {3, 4}, {{0, 6}, {7}, {}, {}, {1, 8}, {2, 9}}},
      {"5", Tie::group, {4, 5}, {{}}},
  };
  const reft::CausalLM base = tiny_model();
  for (const Case& c : cases) {
    INFO(c.positions << ", tied by " << to_string(c.tie));
    Model model(base);
    const auto recorders = model.attach<Recorder>({.layer = 0, .positions = c.positions, .tie = c.tie});
    CHECK(prompt_rows(model, recorders, Layout::ragged({6, 5}), c.prompts) == c.rows);
  }
  Model model(base);
  const auto recorders = model.attach<Recorder>({.layer = 0, .positions = "f1+l1"});
  CHECK(prompt_rows(model, recorders, Layout::padded({3, 2}, 4), {3, 2}) == Rows{{0, 4}, {2, 5}});
  // A prompt said to be longer than its sequence ends with it.
  CHECK(prompt_rows(model, recorders, Layout::ragged({3}), {9}) == Rows{{0}, {2}});
  CHECK(error_text([&] { prompt_rows(model, recorders, Layout::ragged({3, 3}), {3}); }) ==
        "[reft::ReftModel] expected 2 prompt lengths, got 1");
}

TEST_CASE("each attachment keeps its own position rule") {
  Model model(tiny_model());
  auto recorders = model.attach<Recorder>({.layer = 0, .positions = "f5", .position_rule = PositionRule::paper});
  const auto more = model.attach<Recorder>({.layer = 0, .positions = "l5", .position_rule = PositionRule::pyreft});
  recorders.insert(recorders.end(), more.begin(), more.end());
  CHECK(prompt_rows(model, recorders, Layout::ragged({3}), {3}) == Rows{{0}, {2}});
}

TEST_CASE("at decode the new token is a last position, where the phase says so") {
  struct Case { std::string positions; Tie tie; Phase phase; Rows rows; };
  const std::vector<Case> cases{
      {"f2+l2", Tie::group, Phase::every, {{}, {0, 1, 2}}},
      {"f2+l2", Tie::group, Phase::decode, {{}, {0, 1, 2}}},
      {"f2+l2", Tie::group, Phase::prompt, {{}, {}}},
      {"f2+l2", Tie::all, Phase::every, {{0, 1, 2}}},
      {"f1+l2", Tie::position, Phase::every, {{}, {}, {0, 1, 2}}},
      {"all", Tie::group, Phase::every, {{0, 1, 2}}},
      {"-1", Tie::group, Phase::every, {{}}},  // an index names a token of the prompt
  };
  const reft::CausalLM base = tiny_model();
  const Layout step = Layout::ragged({1, 1, 1}, torch::kCPU, {4, 6, 2});
  for (const Case& c : cases) {
    INFO(c.positions << ", tied by " << to_string(c.tie) << ", " << to_string(c.phase));
    Model model(base);
    const auto recorders = model.attach<Recorder>({.layer = 0, .positions = c.positions, .tie = c.tie, .phase = c.phase});
    CHECK(rows_seen(recorders, model.interventions().decode_context(step), {.layer = 0}) == c.rows);
    const Rows in_prompt = prompt_rows(model, recorders, Layout::ragged({6}), {6});
    const bool acts = std::any_of(in_prompt.begin(), in_prompt.end(), [](const auto& rows) { return !rows.empty(); });
    CHECK(acts == (c.phase != Phase::decode));
  }
}

TEST_CASE("positions that certainly overlap at one site are refused, and nothing of them stays attached") {
  Model model(tiny_model());
  model.attach<LoReFT>({.layer = 0, .positions = "l2"}, {.rank = 2});
  const auto text = [&](const AttachOptions& where) {
    const size_t before = model.interventions().attachments().size();
    const std::string found = error_text([&] { model.attach<LoReFT>(where, {.rank = 2}); });
    if (found != "no error") CHECK(model.interventions().attachments().size() == before);
    return found;
  };
  CHECK(text({.layer = 0, .positions = "f1+l1"}) ==
        "[reft::attach] layers.0.block_output: positions l1 overlap l2, which another intervention edits there");
  CHECK(text({.layer = 0, .positions = "all"}) ==
        "[reft::attach] layers.0.block_output: positions all overlap l2, which another intervention edits there");
  CHECK(text({.layer = 0, .positions = "l1", .phase = Phase::every}) ==
        "[reft::attach] layers.0.block_output: positions l1 overlap l2, which another intervention edits there");
  CHECK(text({.layer = 0, .positions = "l1", .phase = Phase::decode}) == "no error");
  CHECK(text({.layer = 0, .positions = "f1"}) == "no error");  // the group before the refused l1 is not there
  CHECK(text({.layer = 1, .positions = "l1"}) == "no error");
  CHECK(text({.layer = 0, .component = Component::block_input, .positions = "l1"}) == "no error");
}

TEST_CASE("attach refuses what cannot be meant, each with its reason") {
  Model model(tiny_model());
  const auto text = [&](const AttachOptions& where, const reft::LowRankOptions& options = {}) {
    return error_text([&] { model.attach<LoReFT>(where, options); });
  };
  CHECK(text({.layer = 2}) == "[reft::CausalLM] layers.2.block_output: layer 2, but the model has 2 layers (0..1)");
  CHECK(text({}) == "[reft::check_site] block_output: expected a layer, as in \"layers.0.block_output\"");
  CHECK(text({.layer = 0, .component = Component::head_attention_value_output, .head = 4}) ==
        "[reft::CausalLM] layers.0.head_attention_value_output.4: head 4, but the model has 4 heads (0..3)");
  CHECK(text({.layer = 0, .positions = "f7-l7"}) ==
        "[reft::parse_positions] \"f7-l7\": expected f<n>, l<n>, all, an index or a range, joined by '+'");
  CHECK(text({.layer = 0, .positions = "all", .tie = Tie::position}) ==
        "[reft::split_positions] \"all\": all has as many as the prompt positions, so it cannot be tied by position; use group");
  CHECK(text({.layer = 0, .component = Component::head_attention_value_output, .head = 1}, {.rank = 9}) ==
        "[reft::Orthonormal] expected a rank in 1..8 (the hidden size), got 9");
  CHECK(error_text([&] { model.attach("lorefd", {.layer = 0}); }) ==
        "[reft::make_intervention] \"lorefd\": expected one of activation_addition, consreft, das, direft, interchange, lobireft, loreft, mean_ablation, nodireft, noise_ablation, noreft, "
        "ortho_direft, red, reft_r1, zero_ablation");
  const auto wide = std::make_shared<LoReFT>(16);
  CHECK(error_text([&] { model.attach({wide, {{.layer = 0}}, reft::Positions::parse("f1")}); }) ==
        "[reft::attach] layers.0.block_output: the site is 32 wide, the intervention 16");
  CHECK(error_text([] { reft::parse_phase("never"); }) == "[reft::parse_phase] \"never\": expected prompt, decode or every, the latter with steps as in decode:8 or decode:2:8");
  for (const Phase phase : {Phase::prompt, Phase::decode, Phase::every}) CHECK(reft::parse_phase(to_string(phase)) == phase);
  CHECK(model.interventions().empty());
}

TEST_CASE("one intervention at several sites is one set of parameters with the sum of their gradients") {
  const reft::CausalLM base = tiny_model();
  const auto make = [] { torch::manual_seed(8); return std::make_shared<LoReFT>(32, reft::LowRankOptions{.rank = 4}); };
  const auto positions = reft::Positions::parse("f1+l1");
  Model tied(base), apart(base);
  tied.attach({make(), {{.layer = 0}, {.layer = 1}}, positions});
  for (int layer = 0; layer < 2; ++layer) apart.attach({make(), {{.layer = layer}}, positions});
  CHECK(tied.parameters().size() == 3);
  CHECK(tied.num_trainable_parameters() == 2 * 32 * 4 + 4);
  CHECK(apart.num_trainable_parameters() == 2 * (2 * 32 * 4 + 4));
  CHECK(tied.interventions().interventions().size() == 1);

  const Tensor loss = loss_of(tied), expected = loss_of(apart);
  CHECK(torch::equal(loss, expected));
  loss.backward();
  expected.backward();
  for (size_t i = 0; i < 3; ++i) {
    CHECK(relative_distance(tied.parameters()[i].grad(), apart.parameters()[i].grad() + apart.parameters()[i + 3].grad()) < 1e-5);
  }

  // The same object attached in two calls is still one.
  Model twice(base);
  const auto shared = make();
  twice.attach({shared, {{.layer = 0}}, positions});
  twice.attach({shared, {{.layer = 1}}, positions});
  CHECK(twice.parameters().size() == 3);
  CHECK(twice.num_trainable_parameters() == 2 * 32 * 4 + 4);
  CHECK(torch::equal(loss_of(twice), loss));
}

TEST_CASE("every parameter gets its gradient, however contexts and forwards are interleaved") {
  const Model model = with_loreft(tiny_model());
  const auto context = [&] { return model.interventions().prompt_context(Layout::ragged({8}), kPrompt); };
  const auto gradients = [&](auto run) {
    for (const Tensor& parameter : model.parameters()) parameter.mutable_grad().reset();
    run();
    std::vector<Tensor> found;
    for (const Tensor& parameter : model.parameters()) found.push_back(parameter.grad().defined() ? parameter.grad().clone() : torch::zeros_like(parameter));
    return found;
  };
  const auto expected = gradients([&] {
    loss_of(model, context()).backward();
    loss_of(model, context()).backward();
  });
  // The last block's edit of the first token reaches no supervised row: its gradient is rightly zero.
  for (size_t i = 0; i < 6; ++i) CHECK(expected[i].abs().max().item<double>() > 0);

  const std::vector<std::pair<std::string, std::function<void()>>> orders{
      {"both contexts made first", [&] { const auto a = context(), b = context(); loss_of(model, a).backward(); loss_of(model, b).backward(); }},
      {"one backward of two forwards", [&] { const auto a = context(), b = context(); (loss_of(model, a) + loss_of(model, b)).backward(); }},
      {"both forwards before either backward", [&] { const Tensor a = loss_of(model, context()), b = loss_of(model, context()); a.backward(); b.backward(); }},
      {"one context used twice", [&] { const auto a = context(); loss_of(model, a).backward(); loss_of(model, a).backward(); }},
      {"contexts made without gradients", [&] { const auto a = [&] { torch::NoGradGuard no_grad; return context(); }(); loss_of(model, a).backward(); loss_of(model, a).backward(); }},
      {"an evaluation between forward and backward", [&] {
         const Tensor a = loss_of(model, context());
         { torch::NoGradGuard no_grad; loss_of(model, context()); }
         a.backward();
         loss_of(model, context()).backward();
       }},
  };
  for (const auto& [name, run] : orders) {
    INFO(name);
    const auto found = gradients(run);
    for (size_t i = 0; i < found.size(); ++i) CHECK(relative_distance(found[i], expected[i]) < 1e-5);
  }
}

TEST_CASE("a loop that makes its context once trains as one that makes it in every step") {
  const auto train = [](bool once) {
    const Model model = with_loreft(tiny_model());
    torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(1e-2));
    const auto make = [&] { return model.interventions().prompt_context(Layout::ragged({8}), kPrompt); };
    const auto kept = make();
    for (int step = 0; step < 3; ++step) {
      optimizer.zero_grad();
      loss_of(model, once ? kept : make()).backward();
      optimizer.step();
    }
    return loss_of(model).item<double>();
  };
  CHECK(train(true) == Approx(train(false)).epsilon(1e-6));
}

TEST_CASE("a model is a module: modes, gradients, counts and a summary") {
  Model model(tiny_model());
  model.attach<LoReFT>({.layer = 0, .positions = "f1+l1"}, {.rank = 2, .dropout = 0.5});
  model.attach("lobireft", {.layer = 1, .component = Component::mlp_output, .positions = "all"}, {{"rank", 3}});
  CHECK(model.num_trainable_parameters() == 2 * (2 * 32 * 2 + 2) + 32 * 3 + 3);
  CHECK(model.num_base_parameters() == model.base()->num_parameters());
  CHECK(model.hidden_size() == 32);
  for (const Tensor& parameter : model.parameters()) CHECK(parameter.requires_grad());
  for (const Tensor& parameter : model.base()->parameters()) CHECK_FALSE(parameter.requires_grad());

  CHECK(model.is_training());
  model.eval();
  CHECK_FALSE(model.is_training());
  CHECK(torch::equal(loss_of(model), loss_of(model)));
  model.train();
  CHECK_FALSE(torch::equal(loss_of(model), loss_of(model)));  // dropout
  loss_of(model).backward();
  CHECK(model.parameters().front().grad().defined());
  model.zero_grad();
  for (const Tensor& parameter : model.parameters()) CHECK_FALSE(parameter.grad().defined());

  CHECK(model.trainable_summary() ==
        "layers.0.block_output (32)  loreft  positions f1  X (2, 32), W (2, 32), b (2)  130 parameters\n"
        "layers.0.block_output (32)  loreft  positions l1  X (2, 32), W (2, 32), b (2)  130 parameters\n"
        "layers.1.mlp_output (32)  lobireft  positions all  X (3, 32), b (3)  99 parameters\n"
        "trainable parameters: 359 || base parameters: 20192 || trainable: 1.7779%");
}

TEST_CASE("a user's (B, T, D) state is edited as the flat rows it is") {
  Model model(tiny_model());
  model.attach<LoReFT>({.layer = 0, .positions = "f1+l1"}, {.rank = 4});
  torch::manual_seed(1);
  const Tensor padded = torch::randn({2, 4, 32});
  const Site site{.layer = 0};
  const std::vector<int64_t> prompts{4, 3};
  const auto run = [&](const Tensor& h) {
    return model.interventions().prompt_context(Layout::padded({4, 3}, 4), prompts).apply_actions(site, h, {0, 32});
  };
  const Tensor before = padded.clone(), edited = run(padded);
  CHECK(edited.sizes() == padded.sizes());
  CHECK(torch::equal(padded, before));
  CHECK(torch::equal(edited.view({8, 32}), run(padded.view({8, 32}))));
  CHECK(torch::equal(run(padded.transpose(0, 1).contiguous().transpose(0, 1)), edited));
  const Tensor changed = (edited - padded).abs().amax(2) > 0;
  CHECK(torch::equal(changed, torch::tensor({{1, 0, 0, 1}, {1, 0, 1, 0}}).to(torch::kBool)));
}

TEST_CASE("num_dropped counts positions outside their prompts, once for the same positions at several sites") {
  Model model(tiny_model());
  for (int layer = 0; layer < 2; ++layer) model.attach<LoReFT>({.layer = layer, .positions = "5"}, {.rank = 2});
  CHECK(model.interventions().num_dropped(std::vector<int64_t>{3, 6, 5}) == 2);
}
