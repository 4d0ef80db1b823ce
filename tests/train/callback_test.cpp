#include "reft/train/callback.hpp"

#include <sstream>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace {

reft::StepReport report(int64_t step, int64_t total_steps = 4) {
  return {.step = step, .total_steps = total_steps, .epoch = 0.5, .loss = 1.0 / 3.0, .learning_rate = 1e-3, .gradient_norm = 2.0,
          .tokens_per_second = 1000.0, .seconds = static_cast<double>(step)};
}

}  // namespace

TEST_CASE("metrics are one JSON object a step, with the loss at full precision") {
  const reft::test::TemporaryFolder folder;
  reft::MetricsFile metrics(folder / "metrics.jsonl");
  metrics.on_begin(0, 2);
  metrics.on_step(report(1));
  metrics.on_evaluation({1, {{"loss", 0.25}, {"exact_match", 0.5}}});
  CHECK(reft::test::read_text(folder / "metrics.jsonl") ==
        "{\"step\":1,\"loss\":0.3333333333333333,\"learning_rate\":0.001,\"gradient_norm\":2.0,\"tokens_per_second\":1000.0}\n"
        "{\"step\":1,\"eval_exact_match\":0.5,\"eval_loss\":0.25}\n");
}

TEST_CASE("a resumed run's metrics have every step once") {
  const reft::test::TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  {
    reft::MetricsFile metrics(path);
    metrics.on_begin(0, 4);
    for (int64_t step = 1; step <= 3; ++step) metrics.on_step(report(step));
  }
  // Stopped after step 3, but the checkpoint is of step 2; a line cut off by a crash is there too.
  reft::test::write_text(path, reft::test::read_text(path) + "{\"step\":4,\"lo");
  reft::MetricsFile metrics(path);
  metrics.on_begin(2, 4);
  metrics.on_step(report(3));
  metrics.on_step(report(4));
  std::istringstream lines(reft::test::read_text(path));
  int64_t expected = 0;
  for (std::string line; std::getline(lines, line);) CHECK(nlohmann::json::parse(line)["step"] == ++expected);
  CHECK(expected == 4);
}

TEST_CASE("a run that starts anew drops the metrics of an earlier one") {
  const reft::test::TemporaryFolder folder;
  reft::test::write_text(folder / "metrics.jsonl", "{\"step\":1}\n");
  reft::MetricsFile metrics(folder / "metrics.jsonl");
  metrics.on_begin(0, 4);
  CHECK(reft::test::read_text(folder / "metrics.jsonl").empty());
}

TEST_CASE("metrics that cannot be written are an error") {
  CHECK(reft::test::error_text([] { reft::MetricsFile metrics("no/such/folder/metrics.jsonl"); }) ==
        "[reft::MetricsFile] no/such/folder/metrics.jsonl: cannot be written");
}

TEST_CASE("progress is quiet lines in a file and a bar on a terminal") {
  std::ostringstream lines, bar;
  reft::Progress to_file(lines, false), to_terminal(bar, true);
  for (reft::Progress* progress : {&to_file, &to_terminal}) {
    progress->on_begin(0, 40);
    for (int64_t step = 1; step <= 40; ++step) progress->on_step(report(step, 40));
  }
  const std::string text = lines.str();
  CHECK(std::count(text.begin(), text.end(), '\n') == 20);
  CHECK(text.find("step 2/40  epoch 0.50  loss 0.3333  1000 tokens/s  0:38 left") == 0);
  CHECK(text.find('\r') == std::string::npos);
  const std::string last = bar.str().substr(bar.str().rfind('\r'));
  CHECK(reft::test::contains(last, "████████████████████████ step 40/40"));
  CHECK(last.back() == '\n');
}

TEST_CASE("times are written as clocks show them") {
  CHECK(reft::clock_text(65.4) == "1:05");
  CHECK(reft::clock_text(7390) == "2:03:10");
  CHECK(reft::clock_text(-1) == "0:00");
}
