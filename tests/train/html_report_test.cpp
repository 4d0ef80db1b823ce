#include "reft/train/html_report.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

using reft::test::contains;
using reft::test::read_text;

namespace {

reft::ReportContent content() {
  return {.title = "<adapter>",
          .subtitle = "a & b",
          .configuration = {{"--rank", "<4>"}},
          .interventions = {{"layers.0.block_output", "loreft", "f1+l1", "12"}},
          .trained_parameters = 12,
          .base_parameters = 12000,
          .samples = {{"<q>", "<b>", "right", "right"}},
          .memory_bytes = [] { return int64_t{1'500'000'000}; }};
}

reft::StepReport report(int64_t step) {
  return {.step = step,
          .total_steps = 40,
          .epoch = 0.5,
          .loss = 4.0 / static_cast<double>(step),
          .learning_rate = 1e-3,
          .gradient_norm = 2.0,
          .tokens_per_second = 1234.0,
          .seconds = 0.1 * static_cast<double>(step)};
}

void run(reft::HtmlReport& page, int64_t from, int64_t to) {
  page.on_begin(from, 40);
  for (int64_t step = from + 1; step <= to; ++step) page.on_step(report(step));
}

}  // namespace

TEST_CASE("a report shows curves, figures, samples, interventions and configuration, and escapes them") {
  const reft::test::TemporaryFolder folder;
  reft::HtmlReport page(folder / "report.html", content());
  run(page, 0, 40);
  page.on_evaluation({40, {{"loss", 0.125}, {"exact_match", 0.75}}});
  page.on_end();
  const std::string html = read_text(folder / "report.html");
  for (const char* part : {"&lt;adapter&gt;",
                           "a &amp; b",
                           ">Loss<",
                           ">Learning rate<",
                           ">Gradient norm, before clipping<",
                           ">Tokens per second<",
                           ">Memory in use (bytes)<",
                           ">Evaluation: exact_match<",
                           "40 of 40",
                           "0.1250",
                           "0.7500",
                           "1.5 GB",
                           "1.23k",
                           "0.1 %",
                           "layers.0.block_output",
                           "&lt;4&gt;",
                           "&lt;q&gt;",
                           "&lt;b&gt;",
                           "class=\"same\">right ✓",
                           "evaluation 40: 0.125"}) {
    CAPTURE(part);
    CHECK(contains(html, part));
  }
  CHECK(!contains(html, "<q>"));
  CHECK(!contains(html, "<script"));
}

TEST_CASE("a report is there from the beginning") {
  const reft::test::TemporaryFolder folder;
  reft::HtmlReport page(folder / "report.html", content());
  page.on_begin(0, 40);
  CHECK(contains(read_text(folder / "report.html"), "nothing was measured"));
}

TEST_CASE("a resumed report goes on with the curves it had") {
  const reft::test::TemporaryFolder folder;
  reft::HtmlReport whole(folder / "whole.html", content()), first(folder / "first.html", content()),
      second(folder / "second.html", content());
  run(whole, 0, 40);
  run(first, 0, 15);
  nlohmann::json states;
  first.save_state(states);
  second.load_state(nlohmann::json::parse(states.dump()));
  run(second, 15, 40);
  CHECK(whole.html() == second.html());
  // One that was not there before begins with what it sees.
  second.load_state(nlohmann::json::object());
  second.on_begin(15, 40);
  CHECK(contains(second.html(), "nothing was measured"));
}

TEST_CASE("a report that cannot be written is an error") {
  reft::HtmlReport page("no/such/folder/report.html", content());
  CHECK(contains(reft::test::error_text([&] { page.on_begin(0, 1); }), "no/such/folder/report.html: cannot create"));
}
