// The operators whose backward is written by hand, each against its formula in plain operators.

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linalg_qr.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "reft/tensor/activation.hpp"
#include "reft/tensor/attention.hpp"
#include "reft/tensor/checks.hpp"
#include "reft/tensor/frozen_linear.hpp"
#include "reft/tensor/quantized_linear.hpp"
#include "reft/tensor/householder.hpp"
#include "reft/tensor/linear_cross_entropy.hpp"
#include "reft/tensor/live_row_attention.hpp"
#include "reft/tensor/rms_norm.hpp"
#include "reft/tensor/rotary.hpp"
#include "reft/tensor/swiglu.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"

namespace {

using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;
using Tensors = std::vector<Tensor>;
using Operator = std::function<Tensor(const Tensors& inputs)>;

Tensor random(std::vector<int64_t> shape, int64_t seed = 1) {
  torch::manual_seed(seed);
  return torch::randn(shape, torch::kFloat64);
}

/// The value and the gradients of all inputs, for a random upstream gradient; all inputs in `dtype`.
Tensors value_and_gradients(const Operator& function, const Tensors& inputs, torch::Dtype dtype) {
  Tensors leaves;
  for (const Tensor& input : inputs) leaves.push_back(input.to(dtype, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true));
  const Tensor value = function(leaves);
  CHECK(value.scalar_type() == dtype);
  Tensors all = torch::autograd::grad({value}, leaves, {random(value.sizes().vec(), 99).to(dtype)});
  all.insert(all.begin(), value.detach());
  return all;
}

/// `ours` in three dtypes against `formula` in float64, on inputs that bfloat16 holds exactly.
void check_operator(const Operator& ours, const Operator& formula, const Tensors& inputs) {
  Tensors exact;
  for (const Tensor& input : inputs) exact.push_back(input.to(torch::kBFloat16).to(torch::kFloat64));
  const Tensors expected = value_and_gradients(formula, exact, torch::kFloat64);
  for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
    const Tensors found = value_and_gradients(ours, exact, dtype);
    for (size_t i = 0; i < found.size(); ++i) {
      INFO(c10::toString(dtype) << ", tensor " << i);
      // A few roundings in a row; the upstream gradient is rounded to the dtype as well.
      CHECK(relative_distance(found[i], expected[i]) < 3 * reft::test::tolerance(dtype));
    }
  }
}

/// H_1 ⋯ H_r, each a dense I − 2 v vᵀ / |v|², v_i = e_i + X[i, i+1:].
Tensor dense_reflectors(const Tensor& X) {
  Tensor product = torch::eye(X.size(1), X.dtype());
  for (int64_t i = 0; i < X.size(0); ++i) {
    const Tensor v = torch::eye(X.size(1), X.dtype())[i] + torch::cat({torch::zeros({i + 1}, X.dtype()), X[i].narrow(0, i + 1, X.size(1) - i - 1)});
    product = product.matmul(torch::eye(X.size(1), X.dtype()) - 2 * torch::outer(v, v) / v.dot(v));
  }
  return product;
}

Tensor orthonormal_rows(int64_t rank, int64_t width, int64_t seed = 6) {
  // torch::nn::init::orthogonal_ computes in float32 whatever it is given.
  return std::get<0>(at::linalg_qr(random({width, rank}, seed))).t().contiguous();
}

}  // namespace

TEST_CASE("frozen_linear is at::linear, in value and gradient, whichever library multiplies") {
  for (const int64_t rows : {64, 65, 1001}) {  // a count that comes again, one that does not, a product worth a kernel of its own
    for (const bool has_bias : {false, true}) {
      INFO(rows << " rows, bias " << has_bias);
      const Tensor x = random({rows, 1024}, 1).to(torch::kFloat32).requires_grad_(true), weight = random({1030, 1024}, 2).to(torch::kFloat32);
      const Tensor bias = has_bias ? random({1030}, 3).to(torch::kFloat32) : Tensor(), g = random({rows, 1030}, 4).to(torch::kFloat32);
      const Tensor found = reft::frozen_linear(x, weight, bias), expected = at::linear(x, weight, bias);
      CHECK(relative_distance(found, expected) < 1e-5);
      CHECK(relative_distance(torch::autograd::grad({found}, {x}, {g})[0], torch::autograd::grad({expected}, {x}, {g})[0]) < 1e-5);
      CHECK(relative_distance(reft::frozen_linear(g, weight.t()), g.matmul(weight)) < 1e-5);
      const bool changes_library = reft::detail::is_for_onednn(x, weight);
      CHECK(changes_library == (rows != 65 && reft::detail::onednn_linear().has_value()));
      const Tensor trained = weight.clone().requires_grad_(true);
      CHECK(torch::autograd::grad({reft::frozen_linear(x, trained, bias)}, {trained}, {g})[0].sizes() == weight.sizes());
    }
  }
}

TEST_CASE("a quantized matrix is the nearest that its codes can say") {
  const Tensor weight = random({37, 50}, 1).to(torch::kFloat32);  // 1850 weights: the last block of 64 is not full
  SECTION("int8") {
    const reft::QuantizedMatrix matrix = reft::quantize(weight, reft::Quantization::int8);
    const Tensor step = weight.abs().amax(1, /*keepdim=*/true) / 127.0;
    CHECK(((reft::dequantize(matrix, torch::kFloat32) - weight).abs() / step).max().item<double>() < 0.5 + 1e-4);
    CHECK(matrix.num_bytes() == 37 * 50 + 37 * 4);
  }
  SECTION("nf4") {
    const reft::QuantizedMatrix matrix = reft::quantize(weight, reft::Quantization::nf4);
    const Tensor found = reft::dequantize(matrix, torch::kFloat32).flatten(), levels = reft::detail::nf4_levels(torch::kCPU);
    for (int64_t first = 0; first < weight.numel(); first += 64) {
      const int64_t count = std::min<int64_t>(64, weight.numel() - first);
      const Tensor block = weight.flatten().narrow(0, first, count), all = levels * block.abs().max();
      const Tensor nearest = (block.unsqueeze(1) - all).abs().amin(1);
      CHECK(((found.narrow(0, first, count) - block).abs() - nearest).abs().max().item<double>() < 1e-6);
    }
    CHECK(matrix.num_bytes() == 29 * 32 + 29 * 4);
  }
  CHECK(reft::dequantize(reft::quantize(torch::zeros({2, 64}), reft::Quantization::nf4), torch::kFloat32).abs().max().item<double>() == 0.0);
  CHECK_THROWS_AS(reft::quantize(weight, reft::Quantization::none), reft::ConfigError);
  CHECK_THROWS_AS(reft::parse_quantization("int4"), reft::ConfigError);
}

TEST_CASE("quantized_linear is at::linear of what the codes say, in value and gradient") {
  for (const auto kind : {reft::Quantization::int8, reft::Quantization::nf4}) {
    INFO(reft::to_string(kind));
    const reft::QuantizedMatrix matrix = reft::quantize(random({48, 64}, 1), kind);
    const Tensor bias = random({48}, 2).to(torch::kFloat32), g = random({3, 48}, 3).to(torch::kFloat32);
    const Tensor x = random({3, 64}, 4).to(torch::kFloat32).requires_grad_(true), weight = reft::dequantize(matrix, torch::kFloat32);
    const Tensor found = reft::quantized_linear(x, matrix, bias), expected = at::linear(x, weight, bias);
    CHECK(torch::equal(found, expected));
    CHECK(relative_distance(torch::autograd::grad({found}, {x}, {g})[0], torch::autograd::grad({expected}, {x}, {g})[0]) < 1e-6);
    // In bfloat16 without a graph: the product with the codes, where the processor has one.
    const Tensor narrow = reft::quantized_linear(x.detach().to(torch::kBFloat16), matrix, bias.to(torch::kBFloat16));
    CHECK(narrow.scalar_type() == torch::kBFloat16);
    CHECK(relative_distance(narrow.to(torch::kFloat32), expected.detach()) < 2e-2);  // two digits and a half
  }
}

TEST_CASE("householder_rows is an explicit product of dense reflectors, in value and gradient") {
  const auto [rank, width] = GENERATE(std::pair{1, 5}, std::pair{3, 8}, std::pair{5, 5}, std::pair{1, 1});
  INFO(rank << " x " << width);
  const Tensor R = orthonormal_rows(rank, width);
  const reft::OrthogonalBase base = reft::orthogonal_base(R);
  const Tensor B = reft::dense(base);
  CHECK(relative_distance(B.matmul(B.t()), torch::eye(width, torch::kFloat64)) < 1e-12);
  CHECK(relative_distance(B.narrow(1, 0, rank).t(), R) < 1e-12);  // its first columns are the start

  const auto ours = [&](const Tensor& X) { return reft::householder_rows(X, base); };
  // pyreft's −1 on the diagonal of its parameter gives the sign: at X = 0 every H_i is I − 2 e_i e_iᵀ.
  const auto dense_form = [&](const Tensor& X) { return B.matmul(-dense_reflectors(X).narrow(1, 0, rank)).t(); };
  CHECK(relative_distance(ours(torch::zeros({rank, width}, torch::kFloat64)), R) < 1e-12);
  const Tensor a = random({rank, width}).requires_grad_(true), b = a.detach().clone().requires_grad_(true), g = random({rank, width}, 2);
  const Tensor found = ours(a), expected = dense_form(b);
  CHECK(reft::orthonormality_error(found) < 1e-12);
  CHECK(relative_distance(found, expected) < 1e-12);
  const Tensor found_gradient = torch::autograd::grad({found}, {a}, {g})[0];
  const Tensor expected_gradient = torch::autograd::grad({expected}, {b}, {g})[0];
  CHECK((found_gradient - expected_gradient).abs().max().item<double>() < 1e-11);
  CHECK(found_gradient.tril().abs().max().item<double>() == 0.0);  // entries that are never read
}

TEST_CASE("householder_rows of a stack is that of each, and never allocates a D x D buffer") {
  const auto a = reft::orthogonal_base(orthonormal_rows(3, 9, 1)), b = reft::orthogonal_base(orthonormal_rows(3, 9, 2));
  const reft::OrthogonalBase both{torch::stack({a.U, b.U}), torch::stack({a.T, b.T}), torch::stack({a.signs, b.signs})};
  const Tensor X = random({2, 3, 9});
  const Tensor stacked = reft::householder_rows(X, both);
  CHECK(relative_distance(stacked[0], reft::householder_rows(X[0], a)) < 1e-12);
  CHECK(relative_distance(stacked[1], reft::householder_rows(X[1], b)) < 1e-12);

  constexpr int64_t kWidth = 1024, kRank = 4;
  const Tensor R = orthonormal_rows(kRank, kWidth), start = torch::zeros({kRank, kWidth}, torch::kFloat64).requires_grad_(true);
  const reft::test::AllocationRecorder recorder;
  reft::householder_rows(start, reft::orthogonal_base(R)).sum().backward();
  CHECK(recorder.largest() >= kRank * kWidth * sizeof(double));
  CHECK(recorder.largest() <= 8 * kRank * kWidth * sizeof(double));  // D x D would be 256 of them
}

TEST_CASE("householder factors: float32 keeps the start and stays orthonormal; wrong shapes are named") {
  const Tensor R = orthonormal_rows(4, 64).to(torch::kFloat32);
  const auto base = reft::orthogonal_base(R);
  CHECK(base.U.scalar_type() == torch::kFloat32);
  CHECK(relative_distance(reft::householder_rows(torch::zeros_like(R), base), R) < 1e-5);
  for (const double scale : {1e-3, 1.0, 1e3}) {
    CHECK(reft::orthonormality_error(reft::householder_rows(scale * random({4, 64}).to(torch::kFloat32), base)) < 1e-5);
  }
  CHECK(reft::orthonormality_error(2 * R) == Approx(3.0).epsilon(1e-5));
  CHECK(error_text([&] { reft::orthogonal_base(R.t()); }) == "[reft::orthogonal_base] expected R (r, D) with r <= D, got [64, 4]");
  CHECK(error_text([&] { reft::orthogonal_base(R[0]); }) == "[reft::orthogonal_base] expected R (r, D) with r <= D, got [64]");
}

TEST_CASE("linear_cross_entropy is cross entropy on all logits, in value and both gradients") {
  const Tensor targets = torch::tensor({3, 0, 9, 3, 5}, torch::kInt64);
  const double scale = GENERATE(1.0, 0.01, -2.0);  // what the sum is divided by, or weighted with
  for (const auto dtype : {torch::kFloat64, torch::kFloat32, torch::kBFloat16}) {
    INFO(c10::toString(dtype) << ", scale " << scale);
    Tensors gradients[2];
    double values[2];
    for (const bool fused : {true, false}) {
      const auto type = fused ? dtype : torch::kFloat64;
      const auto leaf = [&](const Tensor& tensor) { return tensor.to(torch::kBFloat16).to(type).requires_grad_(true); };
      const Tensor hidden = leaf(random({5, 6})), weight = leaf(random({10, 6}, 2));
      const Tensor loss = fused ? reft::linear_cross_entropy(hidden, weight, targets)
                                : at::cross_entropy_loss(hidden.matmul(weight.t()), targets, {}, at::Reduction::Sum);
      if (fused) CHECK(loss.scalar_type() == (dtype == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32));
      values[fused] = loss.item<double>();
      gradients[fused] = torch::autograd::grad({loss * scale}, {hidden, weight});
    }
    CHECK(values[1] == Approx(values[0]).epsilon(reft::test::tolerance(dtype)));
    for (size_t i = 0; i < 2; ++i) CHECK(relative_distance(gradients[1][i], gradients[0][i]) < 2 * reft::test::tolerance(dtype));
  }
}

TEST_CASE("linear_cross_entropy does not round what the loss is divided by to the dtype of the states") {
  // 1/3 is 0.2 % larger in bfloat16: the whole gradient would be.
  const Tensor targets = torch::randint(0, 50, {64}, torch::kInt64);
  const Tensor hidden = random({64, 32}).to(torch::kBFloat16).requires_grad_(true), weight = random({50, 32}, 2).to(torch::kBFloat16);
  const auto gradient = [&](double divisor) {
    return torch::autograd::grad({reft::linear_cross_entropy(hidden, weight, targets) / divisor}, {hidden})[0].to(torch::kFloat64);
  };
  const Tensor whole = gradient(1.0), third = gradient(3.0);
  const double ratio = (whole * third).sum().item<double>() / (whole * whole).sum().item<double>();
  CHECK(ratio == Approx(1.0 / 3.0).epsilon(5e-4));  // independent roundings of 2048 numbers cancel
}

TEST_CASE("linear_cross_entropy works chunk by chunk") {
  constexpr int64_t kVocabulary = 1 << 20, kRows = 37;  // 16 rows of float32 logits are one chunk of 64 MiB
  static_assert(reft::detail::kLogitBytesPerChunk / (kVocabulary * 4) < kRows / 2);
  torch::manual_seed(1);
  const Tensor hidden = torch::randn({kRows, 2}).requires_grad_(true), weight = torch::randn({kVocabulary, 2});
  const Tensor targets = torch::randint(0, kVocabulary, {kRows}, torch::kInt64);
  Tensor loss, gradient;
  {
    const reft::test::AllocationRecorder recorder;
    loss = reft::linear_cross_entropy(hidden, weight, targets);
    gradient = torch::autograd::grad({loss}, {hidden})[0];
    CHECK(recorder.largest() <= reft::detail::kLogitBytesPerChunk);
  }
  for (const int64_t row : {0, 15, 16, 36}) {  // both sides of a border between chunks, and both ends
    const Tensor one = hidden.detach().narrow(0, row, 1).to(torch::kFloat64).requires_grad_(true);
    const Tensor logits = one.matmul(weight.to(torch::kFloat64).t());
    const Tensor expected = at::cross_entropy_loss(logits, targets.narrow(0, row, 1), {}, at::Reduction::Sum);
    // A float32 sum over 2^20 tokens; a row of the wrong chunk would be wrong altogether.
    CHECK(relative_distance(gradient.narrow(0, row, 1), torch::autograd::grad({expected}, {one})[0]) < 5e-3);
  }
  torch::NoGradGuard no_grad;
  double sum = 0.0;
  for (int64_t row = 0; row < kRows; ++row) {
    sum += reft::linear_cross_entropy(hidden.narrow(0, row, 1), weight, targets.narrow(0, row, 1)).item<double>();
  }
  CHECK(loss.item<double>() == Approx(sum).epsilon(1e-5));
}

TEST_CASE("linear_cross_entropy of a target whose probability underflows is exact") {
  const Tensor hidden = torch::tensor({{1.0f, 0.0f}}).requires_grad_(true), weight = torch::tensor({{0.0f, 1.0f}, {300.0f, 1.0f}, {299.0f, 1.0f}});
  const Tensor loss = reft::linear_cross_entropy(hidden, weight, torch::tensor({0}, torch::kInt64));
  CHECK(loss.item<double>() == Approx(300.0 + std::log1p(std::exp(-1.0))).epsilon(1e-6));
  loss.backward();
  CHECK(hidden.grad()[0][0].item<double>() == Approx(300.0 / (1.0 + std::exp(-1.0)) + 299.0 / (1.0 + std::exp(1.0))).epsilon(1e-6));
}

TEST_CASE("linear_cross_entropy: no rows are no loss; shapes that do not fit are named") {
  const Tensor weight = random({10, 6}), none = torch::zeros({0, 6}, torch::kFloat64).requires_grad_(true);
  const Tensor loss = reft::linear_cross_entropy(none, weight, torch::zeros({0}, torch::kInt64));
  CHECK(loss.item<double>() == 0.0);
  loss.backward();
  CHECK(none.grad().sizes() == none.sizes());
  const auto text = [&](std::vector<int64_t> hidden, int64_t targets) {
    return error_text([&] { reft::linear_cross_entropy(random(hidden), weight, torch::zeros({targets}, torch::kInt64)); });
  };
  CHECK(text({3, 5}, 3) == "[reft::linear_cross_entropy] hidden: expected shape [-1, 6], got [3, 5]");
  CHECK(text({3, 6}, 4) == "[reft::linear_cross_entropy] targets: expected shape [3], got [4]");
  CHECK(error_text([] { reft::check_shape("f", "x", Tensor(), {2}); }) == "[reft::f] x: expected shape [2], got none");
}

TEST_CASE("rms_norm is its formula, and its reference") {
  const auto shape = GENERATE(std::vector<int64_t>{6, 16}, std::vector<int64_t>{2, 3, 16}, std::vector<int64_t>{16});
  const Operator ours = [](const Tensors& in) { return reft::rms_norm(in[0], in[1], 1e-2); };
  const Operator formula = [](const Tensors& in) { return in[0] / (in[0].square().mean(-1, true) + 1e-2).sqrt() * in[1]; };
  check_operator(ours, formula, {random(shape), random({16}, 2)});
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const Tensor x = random(shape).to(dtype), weight = random({16}, 2).to(dtype);
    CHECK(relative_distance(reft::rms_norm(x, weight, 1e-2), reft::rms_norm_reference(x, weight, 1e-2)) < reft::test::tolerance(dtype));
  }
}

TEST_CASE("swiglu is silu(gate) times up") {
  check_operator([](const Tensors& in) { return reft::swiglu(in[0]); },
                 [](const Tensors& in) {
                   const Tensor gate = in[0].narrow(-1, 0, 8), up = in[0].narrow(-1, 8, 8);
                   return gate / (1 + (-gate).exp()) * up;
                 },
                 {random({5, 16})});
}

TEST_CASE("rotary is a product with a rotation matrix per token") {
  const Tensor angles = random({4, 3}, 8);
  const auto table = [&](torch::Dtype dtype) { return reft::RotaryTable{angles.cos().to(dtype), angles.sin().to(dtype)}; };
  const Operator formula = [&](const Tensors& in) {
    const Tensor c = torch::diag_embed(angles.cos()), s = torch::diag_embed(angles.sin());  // (N, E/2, E/2)
    const Tensor rotation = torch::cat({torch::cat({c, -s}, 2), torch::cat({s, c}, 2)}, 1);  // (N, E, E)
    return in[0].matmul(rotation.transpose(1, 2));
  };
  check_operator([&](const Tensors& in) { return reft::rotary(in[0], table(in[0].scalar_type())); }, formula, {random({4, 2, 6})});
  const Tensor x = random({2, 4, 6}).transpose(0, 1);  // other strides
  CHECK(relative_distance(reft::rotary(x, table(torch::kFloat64)), formula({x})) < 1e-12);
}

TEST_CASE("attention is the softmax formula within every sequence, none across") {
  struct Case { std::vector<int64_t> lengths; int64_t heads, key_value_heads; };
  const auto c = GENERATE(Case{{4}, 2, 2}, Case{{3, 3}, 4, 2}, Case{{1, 5, 2}, 4, 1}, Case{{1, 1}, 2, 1});
  constexpr int64_t E = 8;
  int64_t N = 0;
  for (const int64_t length : c.lengths) N += length;
  INFO(N << " tokens, " << c.heads << " heads on " << c.key_value_heads);
  const Operator ours = [&](const Tensors& in) { return reft::ragged_attention(in[0], in[1], in[2], c.lengths); };
  const Operator formula = [&](const Tensors& in) {
    // One dense (N, N) mask: same sequence, not later.
    std::vector<int64_t> owner;
    for (size_t i = 0; i < c.lengths.size(); ++i) owner.insert(owner.end(), static_cast<size_t>(c.lengths[i]), static_cast<int64_t>(i));
    const Tensor sequence = torch::tensor(owner, torch::kInt64);
    const Tensor allowed = (sequence.unsqueeze(1) == sequence.unsqueeze(0)).logical_and(torch::ones({N, N}, torch::kBool).tril());
    const auto by_head = [&](const Tensor& x) { return x.repeat_interleave(c.heads / x.size(1), 1).transpose(0, 1); };
    const Tensor scores = by_head(in[0]).matmul(by_head(in[1]).transpose(1, 2)) / std::sqrt(static_cast<double>(E));
    return scores.masked_fill(~allowed, -INFINITY).softmax(-1).matmul(by_head(in[2])).transpose(0, 1);
  };
  check_operator(ours, formula, {random({N, c.heads, E}, 1), random({N, c.key_value_heads, E}, 2), random({N, c.key_value_heads, E}, 3)});
}

TEST_CASE("attention of live rows has the values and the gradients of attention where all else is constant") {
  const std::vector<int64_t> lengths{5, 3, 70};
  const Tensor rows = torch::tensor({0, 4, 5, 40, 77}, torch::kInt64);  // the ends of sequences, and one of their middle
  for (const bool causal : {true, false}) {
    for (const std::optional<double> scale : {std::optional<double>(), std::optional<double>(0.7)}) {
      const reft::AttentionScores scores{.scale = scale, .causal = causal};
      const Tensor q = random({78, 2, 8}, 1), k = random({78, 2, 8}, 2), v = random({78, 2, 8}, 3), g = random({78, 2, 8}, 4);
      Tensors live, spread;
      for (const Tensor& x : {q, k, v}) {
        live.push_back(x.index_select(0, rows).requires_grad_(true));
        spread.push_back(x.index_copy(0, rows, live.back()));
      }
      const Tensor expected = reft::ragged_attention(spread[0], spread[1], spread[2], lengths, scores);
      const Tensor found = reft::live_row_attention(q, k, v, live[0], live[1], live[2], rows, lengths, scores);
      CHECK(relative_distance(found, expected) < 1e-12);
      const Tensors wanted = torch::autograd::grad({expected}, live, {g}), gradients = torch::autograd::grad({found}, live, {g});
      for (size_t i = 0; i < 3; ++i) {
        INFO("input " << i << ", causal " << causal);
        CHECK(relative_distance(gradients[i], wanted[i]) < 1e-12);
      }
    }
  }
}

TEST_CASE("attention: queries are the last of the keys") {
  const Tensor q = random({2, 4, 5, 8}, 1), k = random({2, 2, 5, 8}, 2), v = random({2, 2, 5, 8}, 3);
  const Tensor whole = reft::attention(q, k, v);
  for (const int64_t last : {1, 2, 4}) {
    INFO(last << " queries");
    CHECK(relative_distance(reft::attention(q.narrow(2, 5 - last, last), k, v), whole.narrow(2, 5 - last, last)) < 1e-12);
  }
}

TEST_CASE("activations have the values and names of transformers' table") {
  // At x = 1.5, from their definitions; gelu_new and gelu_pytorch_tanh are one.
  const std::vector<std::pair<std::string, double>> values{
      {"linear", 1.5},  {"relu", 1.5},   {"relu2", 2.25},   {"relu6", 1.5},      {"leaky_relu", 1.5},
      {"gelu", 0.5 * 1.5 * (1 + std::erf(1.5 / std::sqrt(2.0)))},
      {"gelu_new", 0.5 * 1.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (1.5 + 0.044715 * 3.375)))},
      {"gelu_pytorch_tanh", 0.5 * 1.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (1.5 + 0.044715 * 3.375)))},
      {"quick_gelu", 1.5 / (1 + std::exp(-1.702 * 1.5))},
      {"silu", 1.5 / (1 + std::exp(-1.5))},  {"swish", 1.5 / (1 + std::exp(-1.5))},
      {"sigmoid", 1 / (1 + std::exp(-1.5))}, {"tanh", std::tanh(1.5)}};
  CHECK(values.size() == reft::detail::kActivations.size());
  const auto at = [](const std::string& name, double x) {
    return reft::activation_function(name)(torch::full({1}, x, torch::kFloat64)).item<double>();
  };
  for (const auto& [name, value] : values) {
    INFO(name);
    CHECK(at(name, 1.5) == Approx(value).epsilon(1e-12));
  }
  CHECK(at("relu", -2) == 0.0);
  CHECK(at("relu2", -2) == 0.0);
  CHECK(at("relu6", 9) == 6.0);
  CHECK(at("leaky_relu", -2) == Approx(-0.02));
  CHECK(error_text([] { reft::activation_function("glu"); }) ==
        "[reft::activation_function] \"glu\": expected one of linear, relu, relu2, relu6, leaky_relu, gelu, gelu_new, "
        "gelu_pytorch_tanh, quick_gelu, silu, swish, sigmoid, tanh");
}
