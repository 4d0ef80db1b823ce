#include "reft/intervention/low_rank.hpp"

#include <torch/optim/adamw.h>

#include <functional>

#include "reft/intervention/registry.hpp"
#include "reft/tensor/edit_rows.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"

namespace {

using reft::LowRankOptions;
using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;
using State = std::map<std::string, Tensor>;

constexpr int64_t kWidth = 12;

/// One of the six forms: its name, its formula in plain operators, and what it has.
struct Form {
  std::string name;
  std::function<Tensor(const Tensor& h, const State& s)> formula;
  bool orthonormal, has_weight, replaces;
};

Tensor linear(const Tensor& h, const State& s) { return h.matmul(s.at("W").t()) + s.at("b"); }
Tensor content(const Tensor& h, const State& s) {
  const Tensor Rh = h.matmul(s.at("R").t());
  return s.contains("c") ? Rh + s.at("c") : Rh;
}

const std::vector<Form> kForms{
    {"loreft", [](const Tensor& h, const State& s) { return h + (linear(h, s) - content(h, s)).matmul(s.at("R")); }, true, true, true},
    {"consreft", [](const Tensor& h, const State& s) { return h + (s.at("b") - content(h, s)).matmul(s.at("R")); }, true, false, true},
    {"lobireft", [](const Tensor& h, const State& s) { return h + s.at("b").matmul(s.at("R")); }, true, false, false},
    {"noreft", [](const Tensor& h, const State& s) { return h + (linear(h, s) - content(h, s)).matmul(s.at("R")); }, false, true, true},
    {"direft", [](const Tensor& h, const State& s) { return h + linear(h, s).matmul(s.at("R")); }, false, true, false},
    {"ortho_direft", [](const Tensor& h, const State& s) { return h + linear(h, s).matmul(s.at("R")); }, true, true, false},
};

std::shared_ptr<reft::InterventionBase> make(const std::string& name, nlohmann::json options = {{"rank", 3}}, int64_t seed = 2) {
  torch::manual_seed(seed);
  return reft::make_intervention(name, kWidth, options);
}

/// Away from its start, where all gradients are ordinary.
void disturb(reft::InterventionBase& intervention) {
  torch::NoGradGuard no_grad;
  torch::manual_seed(9);
  for (Tensor& parameter : intervention.parameters()) parameter.add_(0.3 * torch::randn_like(parameter));
}

Tensor states(torch::Dtype dtype = torch::kFloat32) {
  torch::manual_seed(4);
  return torch::randn({5, kWidth}).to(dtype);
}

std::string refusal(const std::string& name, const nlohmann::json& options) {
  return error_text([&] { reft::make_intervention(name, kWidth, options); });
}

}  // namespace

TEST_CASE("each form is its formula, and so are the gradients of h, R, W and b") {
  const Form& form = kForms[GENERATE(range(0, 6))];
  const std::string dtype = GENERATE("float32", "float64");
  INFO(form.name << ", " << dtype);
  const auto intervention = make(form.name, {{"rank", 3}, {"dtype", dtype}});
  disturb(*intervention);
  CHECK(intervention->type() == form.name);
  CHECK(intervention->hidden_size() == kWidth);
  CHECK((intervention->orthonormal() != nullptr) == form.orthonormal);
  const double tolerance = reft::test::tolerance(intervention->dtype());
  State state = intervention->state();
  CHECK(state.contains("W") == form.has_weight);
  if (form.orthonormal) CHECK(reft::orthonormality_error(state.at("R")) < 10 * tolerance);

  // R as a leaf, and the parameters themselves for the rest.
  std::vector<Tensor> leaves, ours_wanted;
  const std::vector<Tensor> read = intervention->forward_tensors();  // R, b and, as the form has them, W and c
  State plain;
  const std::vector<std::string> names = form.has_weight ? std::vector<std::string>{"R", "b", "W"} : std::vector<std::string>{"R", "b"};
  REQUIRE(read.size() == names.size());
  for (const std::string& name : names) leaves.push_back(plain[name] = state.at(name).clone().requires_grad_(true));
  Tensor h = states(intervention->dtype()).requires_grad_(true), other = h.detach().clone().requires_grad_(true);
  const Tensor weights = torch::linspace(-1, 2, h.numel(), h.dtype()).view(h.sizes());
  const Tensor value = intervention->forward(h), expected = form.formula(other, plain);
  CHECK(relative_distance(value, expected) < tolerance);

  std::vector<Tensor> inputs = read;
  inputs.push_back(h);
  leaves.push_back(other);
  const auto gradients = torch::autograd::grad({(value * weights).sum()}, inputs, {}, /*retain_graph=*/true);
  const auto reference = torch::autograd::grad({(expected * weights).sum()}, leaves);
  for (size_t i = 0; i < gradients.size(); ++i) CHECK(relative_distance(gradients[i], reference[i]) < 10 * tolerance);

  if (form.orthonormal) {
    // The way on from R to X, against the chain rule through householder_rows alone.
    auto& projection = *intervention->orthonormal();
    const Tensor X = projection.X().detach().clone().requires_grad_(true);
    const Tensor R = reft::householder_rows(X, projection.base());
    CHECK(relative_distance(R, state.at("R")) < tolerance);
    const auto through = torch::autograd::grad({R}, {X}, {reference[0]});
    const auto direct = torch::autograd::grad({(value * weights).sum()}, {projection.X()});
    CHECK(relative_distance(direct[0], through[0]) < 10 * tolerance);
  }
}

TEST_CASE("a bfloat16 state is edited in float32 and keeps its dtype") {
  const auto intervention = make(GENERATE("loreft", "lobireft", "direft"));
  disturb(*intervention);
  const Tensor rows = torch::tensor({4, 1}, torch::kInt64), h = states(torch::kBFloat16);
  const Tensor expected = intervention->forward(h.to(torch::kFloat32).index_select(0, rows)).to(torch::kBFloat16);
  const Tensor edited = reft::edit_rows(
      h, rows, {0, kWidth},
      {[&](const Tensor& x) { return intervention->forward(x); }, intervention->forward_tensors(), intervention->dtype()});
  CHECK(edited.scalar_type() == torch::kBFloat16);
  CHECK(torch::equal(edited.index_select(0, rows), expected));
  CHECK(error_text([&] { intervention->forward(torch::zeros({2, 7})); }) ==
        fmt::format("[reft::{}] expected hidden states of width 12, got [2, 7]", intervention->type()));
}

TEST_CASE("dropout acts on the state or on the edit, in training only, and keeps the mean") {
  const std::string where = GENERATE("state", "edit"), name = GENERATE("loreft", "lobireft");
  INFO(where << " of " << name);
  const auto dropped = make(name, {{"rank", 3}, {"dropout", 0.25}, {"dropout_on", where}}), plain = make(name);
  const Tensor h = states().repeat({2000, 1});
  torch::NoGradGuard no_grad;
  const Tensor expected = plain->forward(h);
  dropped->eval();
  CHECK(torch::equal(dropped->forward(h), expected));
  dropped->train();
  const Tensor trained = dropped->forward(h);
  const Tensor kept = where == "state" ? torch::zeros_like(h) : h;  // what a dropped element leaves
  const Tensor scaled = kept + (expected - kept) / 0.75;
  const Tensor is_dropped = (trained - kept).abs() < 1e-6, is_scaled = (trained - scaled).abs() < 1e-5;
  CHECK((is_dropped | is_scaled).all().item<bool>());
  // 120000 draws: the share's standard deviation is 0.00125.
  CHECK(is_dropped.to(torch::kFloat64).mean().item<double>() == Approx(0.25).margin(0.01));
}

TEST_CASE("an activation acts on Wh + b alone; a projection bias joins the content that is taken out") {
  const Tensor h = states();
  torch::NoGradGuard no_grad;
  for (const Form& form : kForms) {
    if (!form.has_weight) continue;
    INFO(form.name);
    const auto intervention = make(form.name, {{"rank", 3}, {"activation", "relu"}});
    const State s = intervention->state();
    Tensor written = torch::relu(linear(h, s));
    if (form.replaces) written = written - content(h, s);
    CHECK(relative_distance(intervention->forward(h), h + written.matmul(s.at("R"))) < 1e-5);
  }
  const auto biased = make("noreft", {{"rank", 3}, {"projection_bias", true}});
  REQUIRE(biased->state().contains("c"));
  CHECK(biased->num_parameters() == 2 * 3 * kWidth + 3 + 3);
  CHECK(relative_distance(biased->forward(h), kForms[3].formula(h, biased->state())) < 1e-5);
}

TEST_CASE("an identity start changes nothing until it is trained") {
  const Tensor h = states();
  for (const std::string name : {"loreft", "lobireft", "noreft", "direft", "ortho_direft"}) {
    INFO(name);
    const auto intervention = make(name, {{"rank", 3}, {"identity_start", true}});
    CHECK(relative_distance(intervention->forward(h), h) < 1e-6);
    (void)intervention->forward_tensors();
    intervention->forward(h).square().sum().backward();
    CHECK(intervention->named_parameters()["b"].grad().abs().max().item<double>() > 1e-3);  // it can leave
  }
  CHECK(relative_distance(make("noreft", {{"rank", 3}, {"identity_start", true}, {"projection_bias", true}})->forward(h), h) < 1e-6);
}

TEST_CASE("options without a meaning are refused, each by name") {
  using nlohmann::json;
  struct Refused { std::string name; json options; std::string text; };
  const std::vector<Refused> cases{
      {"loreft", {{"rank", 0}}, "[reft::Orthonormal] expected a rank in 1..12 (the hidden size), got 0"},
      {"loreft", {{"rank", 13}}, "[reft::Orthonormal] expected a rank in 1..12 (the hidden size), got 13"},
      {"direft", {{"rank", 13}}, "[reft::Free] expected a rank in 1..12 (the hidden size), got 13"},
      {"loreft", {{"dropout", 1.0}}, "[reft::loreft] expected a dropout in [0, 1), got 1"},
      {"loreft", {{"dropout", -0.1}}, "[reft::loreft] expected a dropout in [0, 1), got -0.1"},
      {"loreft", {{"dropout_on", "h"}}, "[reft::parse_dropout_on] \"h\": expected state or edit"},
      {"loreft", {{"dtype", "bfloat16"}}, "[reft::parse_parameter_dtype] \"bfloat16\": expected float32 or float64"},
      {"loreft", {{"projection_bias", true}}, "[reft::loreft] projection_bias: only noreft has a projection with a bias"},
      {"direft", {{"projection_bias", true}}, "[reft::direft] projection_bias: only noreft has a projection with a bias"},
      {"consreft", {{"activation", "relu"}}, "[reft::consreft] activation \"relu\": this form has no W h + b to apply it to"},
      {"consreft", {{"identity_start", true}}, "[reft::consreft] identity_start: a form that writes a constant cannot start as the identity"},
      {"loreft", {{"identity_start", true}, {"activation", "relu"}}, "[reft::loreft] identity_start: expected no activation, got \"relu\""},
      {"loreft", {{"rang", 4}}, "[reft::parse_low_rank_options] unknown option \"rang\""},
      {"loreft", {{"rank", "four"}}, "[reft::parse_low_rank_options] option \"rank\": unexpected value \"four\""},
      {"rod", json::object(),
       "[reft::make_intervention] \"rod\": expected one of activation_addition, consreft, das, direft, interchange, lobireft, loreft, "
       "mean_ablation, nodireft, noise_ablation, noreft, ortho_direft, red, reft_r1, zero_ablation"},
  };
  for (const auto& [name, options, text] : cases) CHECK(refusal(name, options) == text);
  CHECK(reft::test::contains(refusal("loreft", {{"activation", "gelo"}}), "\"gelo\": expected one of linear, relu,"));
  CHECK(error_text([] { reft::LoReFT(8, {.dtype = torch::kBFloat16}); }) ==
        "[reft::loreft] expected parameters in float32 or float64, got BFloat16");
}

TEST_CASE("nodireft is pyreft's name of direft; options are written as they are read") {
  CHECK(make("nodireft")->type() == "direft");
  for (const Form& form : kForms) {
    const nlohmann::json options{{"rank", 2}, {"dropout", 0.125}, {"dropout_on", "edit"}, {"dtype", "float64"}};
    const auto written = make(form.name, options)->options();
    CHECK(make(form.name, written)->options() == written);
    for (const auto& [key, value] : options.items()) CHECK(written.at(key) == value);
  }
}

TEST_CASE("state and load_state restore the function, and training goes on from there") {
  const Form& form = kForms[GENERATE(range(0, 6))];
  INFO(form.name);
  const auto trained = make(form.name), loaded = make(form.name, {{"rank", 3}}, /*seed=*/77);
  disturb(*trained);
  const Tensor h = states();
  CHECK(relative_distance(loaded->forward(h), trained->forward(h)) > 1e-3);
  State stored;
  for (const auto& [name, tensor] : trained->state()) stored[name] = tensor.clone();
  loaded->load_state(stored);
  (void)loaded->forward_tensors();
  CHECK(relative_distance(loaded->forward(h), trained->forward(h)) < 1e-6);
  for (const auto& [name, tensor] : loaded->state()) CHECK(torch::equal(tensor, stored.at(name)));

  // pyreft loses orthogonality when a loaded R is trained on; here R is the start of a new trajectory.
  torch::optim::AdamW optimizer(loaded->parameters(), torch::optim::AdamWOptions(1e-2));
  for (int step = 0; step < 50; ++step) {
    optimizer.zero_grad();
    (void)loaded->forward_tensors();
    (loaded->forward(h) - 1).square().sum().backward();
    optimizer.step();
  }
  if (form.orthonormal) CHECK(reft::orthonormality_error(loaded->state().at("R")) < 1e-5);
  CHECK(relative_distance(loaded->state().at("R"), stored.at("R")) > 1e-3);
}

TEST_CASE("load_state says which tensor is wrong, and changes nothing then") {
  const auto intervention = make("loreft");
  const State before = intervention->state();
  const auto text = [&](auto change) {
    State tensors = before;
    change(tensors);
    return error_text([&] { intervention->load_state(tensors); });
  };
  CHECK(text([](State& s) { s.erase("W"); }) == "[reft::loreft] missing tensor \"W\"");
  CHECK(text([](State& s) { s["P"] = s.at("W"); }) == "[reft::loreft] unexpected tensor \"P\"");
  CHECK(text([](State& s) { s["R"] = s.at("R").t(); }) == "[reft::loreft] tensor \"R\": expected shape [3, 12], got [12, 3]");
  CHECK(text([](State& s) { s["R"] = 2 * s.at("R"); }) == "[reft::loreft] the rows of R are not orthonormal: |R Rᵀ - I| is up to 3");
  CHECK(reft::test::contains(text([](State& s) { s["R"] = s.at("R") * NAN; }), "the rows of R are not orthonormal"));
  for (const auto& [name, tensor] : intervention->state()) CHECK(torch::equal(tensor, before.at(name)));
}

TEST_CASE("R stays orthonormal over 1000 steps of torch's AdamW with weight decay") {
  const std::string dtype = GENERATE("float32", "float64");
  const auto intervention = make("loreft", {{"rank", 4}, {"dtype", dtype}});
  torch::optim::AdamW optimizer(intervention->parameters(), torch::optim::AdamWOptions(1e-2).weight_decay(0.01));
  const Tensor start = intervention->state().at("R").clone(), h = states(intervention->dtype());
  torch::manual_seed(21);
  const Tensor target = torch::randn_like(h);
  for (int step = 0; step < 1000; ++step) {
    optimizer.zero_grad();
    (void)intervention->forward_tensors();
    (intervention->forward(h) - target).square().sum().backward();
    optimizer.step();
  }
  CHECK(reft::orthonormality_error(intervention->state().at("R")) < 1e-5);
  CHECK(relative_distance(intervention->state().at("R"), start) > 0.1);  // it did move
}

TEST_CASE("pure decay pulls R to its start, not to zero") {
  const auto intervention = make("loreft", {{"rank", 4}});
  const Tensor start = intervention->state().at("R").clone();
  disturb(*intervention);
  const double away = relative_distance(intervention->state().at("R"), start);
  REQUIRE(away > 0.1);
  torch::optim::AdamW optimizer(intervention->parameters(), torch::optim::AdamWOptions(0.1).weight_decay(0.5));
  for (const Tensor& parameter : intervention->parameters()) parameter.mutable_grad() = torch::zeros_like(parameter);
  for (int step = 0; step < 200; ++step) optimizer.step();  // X shrinks by 0.95 a step: to 3.5e-5 of itself
  CHECK(relative_distance(intervention->state().at("R"), start) < 1e-3 * away);
  CHECK(reft::orthonormality_error(intervention->state().at("R")) < 1e-5);
}

TEST_CASE("b and c do not decay, the other parameters do") {
  const auto intervention = make("noreft", {{"rank", 3}, {"projection_bias", true}});
  for (const auto& item : intervention->named_parameters()) {
    CHECK(intervention->decays(item.key()) == (item.key() == "R" || item.key() == "W"));
  }
}
