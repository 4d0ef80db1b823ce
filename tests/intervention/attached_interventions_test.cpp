#include "reft/intervention/attached_interventions.hpp"

#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"

namespace {

using reft::Attachment;
using reft::Layout;
using reft::Phase;
using Rows = std::vector<std::vector<int64_t>>;  // of each attachment
using Ids = std::vector<int64_t>;

const reft::Site kSite{.layer = 0};

Attachment attachment(const std::string& positions, Phase phase = Phase::prompt, Ids token_ids = {}) {
  torch::manual_seed(4);
  Attachment made{std::make_shared<reft::LoReFT>(8, reft::LowRankOptions{.rank = 2}), {kSite}, reft::Positions::parse(positions), phase};
  made.token_ids = std::move(token_ids);
  return made;
}

Rows rows_of(const std::vector<Attachment>& attachments, const Layout& layout, const std::vector<reft::EditedSequence>& sequences,
             const Ids& ids = {}) {
  reft::AttachedInterventions interventions;
  for (const Attachment& each : attachments) interventions.add(each);
  const auto edits = interventions.plan(layout, sequences, ids);
  Rows rows;
  for (const Attachment& each : attachments) {
    const auto found = std::find_if(edits.begin(), edits.end(), [&](const auto& edit) { return edit.intervention == each.intervention; });
    rows.push_back(found == edits.end() ? Ids{} : found->rows);
  }
  return rows;
}

Rows rows_of(const Attachment& one, const Layout& layout, const std::vector<reft::EditedSequence>& sequences, const Ids& ids = {}) {
  return rows_of(std::vector{one}, layout, sequences, ids);
}

}  // namespace

TEST_CASE("tokens behind the prompt count as decoded, alone over a cache or with all others") {
  const Attachment every = attachment("f1+l2", Phase::every);
  CHECK(rows_of(every, Layout::ragged({6}), {{0, 4}}) == Rows{{0, 2, 3, 4, 5}});
  for (int64_t step = 0; step < 2; ++step) {
    CHECK(rows_of(every, Layout::ragged({1}, torch::kCPU, {4 + step}), {{0, 4}}) == Rows{{0}});
  }
  CHECK(rows_of(attachment("f1+l2", Phase::prompt), Layout::ragged({6}), {{0, 4}}) == Rows{{0, 2, 3}});
  CHECK(rows_of(attachment("f1+l2", Phase::decode), Layout::ragged({6}), {{0, 4}}) == Rows{{4, 5}});
  CHECK(rows_of(attachment("f1", Phase::decode), Layout::ragged({6}), {{0, 4}}) == Rows{{}});
}

TEST_CASE("a phase with steps acts in those") {
  const Layout layout = Layout::ragged({8});  // a prompt of 3, five tokens decoded
  CHECK(rows_of(attachment("all", Phase::decode.first_steps(2)), layout, {{0, 3}}) == Rows{{3, 4}});
  CHECK(rows_of(attachment("l1", Phase::every.in_steps(1, 3)), layout, {{0, 3}}) == Rows{{2, 4, 5}});
}

TEST_CASE("a prompt in two forwards is edited as in one") {
  const Attachment one = attachment("f2+l3");
  CHECK(rows_of(one, Layout::ragged({7}), {{0, 7}}) == Rows{{0, 1, 4, 5, 6}});
  CHECK(rows_of(one, Layout::ragged({5}), {{0, 7}}) == Rows{{0, 1, 4}});
  CHECK(rows_of(one, Layout::ragged({2}, torch::kCPU, {5}), {{0, 7}}) == Rows{{0, 1}});
}

TEST_CASE("a condition on token ids keeps an edit to those tokens, in the prompt and at decode") {
  const Ids ids{7, 9, 7, 8, 9, 7};
  CHECK(rows_of(attachment("all", Phase::every, {7}), Layout::ragged({6}), {{0, 4}}, ids) == Rows{{0, 2, 5}});
  CHECK(rows_of(attachment("all", Phase::prompt, {9, 8}), Layout::ragged({6}), {{0, 4}}, ids) == Rows{{1, 3}});
  CHECK(rows_of(attachment("all", Phase::decode, {7}), Layout::ragged({1, 1}, torch::kCPU, {3, 5}), {{0, 3}, {1, 4}}, {9, 7}) == Rows{{1}});
  // Two at one site, each with its own tokens; where both might claim one, the first has it.
  CHECK(rows_of({attachment("all", Phase::every, {7}), attachment("all", Phase::every, {9})}, Layout::ragged({6}), {{0, 4}}, ids) ==
        Rows{{0, 2, 5}, {1, 4}});
  CHECK(rows_of({attachment("f3", Phase::every, {9}), attachment("l3")}, Layout::ragged({5}), {{0, 5}}, {1, 9, 1, 1, 1}) ==
        Rows{{1}, {2, 3, 4}});
}

TEST_CASE("what two attachments may both want is refused, and token ids are asked for") {
  reft::AttachedInterventions interventions;
  interventions.add(attachment("all", Phase::decode.first_steps(4), {7}));
  const auto text = [&](const Attachment& other) { return reft::test::error_text([&] { interventions.check(other); }); };
  CHECK(text(attachment("all", Phase::decode, {7, 8})) ==
        "[reft::attach] layers.0.block_output: positions all overlap all, which another intervention edits there");
  CHECK(text(attachment("all", Phase::decode, {8})) == "no error");
  CHECK(text(attachment("all", Phase::decode.in_steps(4, 6))) == "no error");
  CHECK(reft::test::error_text([&] { interventions.prompt_context(Layout::ragged({3}), Ids{3}); }) ==
        "[reft::ReftModel] an intervention acts on certain token ids: expected those of all 3 rows, got 0");
}

TEST_CASE("a scale moves the edit along its line, per sequence; 1 is the edit to the last bit, 0 none") {
  const Attachment one = attachment("all");
  reft::AttachedInterventions interventions;
  interventions.add(one);
  torch::manual_seed(9);
  const torch::Tensor h = torch::randn({8, 8});
  torch::NoGradGuard no_grad;
  const auto edited = [&](std::vector<reft::EditedSequence> sequences) {
    reft::ForwardContext context(Layout::ragged({2, 2, 2, 2}));
    reft::add_edits(context, interventions.plan(context.layout(), sequences));
    return context.apply_actions(kSite, h.clone(), {0, 8});
  };
  const torch::Tensor plain = edited({{0, 2}, {1, 2}, {2, 2}, {3, 2}}), scaled = edited({{0, 2, 1.0}, {1, 2, 0.5}, {2, 2, 0.0}, {3, 2, -2.0}});
  CHECK((plain - h).abs().max().item<double>() > 0.1);
  const torch::Tensor scales = torch::tensor({1.0, 1.0, 0.5, 0.5, 0.0, 0.0, -2.0, -2.0}, torch::kFloat32).unsqueeze(1);
  CHECK(reft::test::relative_distance(scaled, h + scales * (plain - h)) < 1e-6);
  CHECK(torch::equal(scaled.narrow(0, 4, 2), h.narrow(0, 4, 2)));
  CHECK(torch::equal(edited({{0, 2}}).narrow(0, 0, 2), plain.narrow(0, 0, 2)));
}
