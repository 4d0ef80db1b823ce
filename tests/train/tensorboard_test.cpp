#include "reft/train/tensorboard.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace {

/// The values of all event files of a folder, in order: their tags are followed by a float each.
std::string bytes_in(const std::filesystem::path& folder) {
  std::string bytes;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) bytes += reft::test::read_text(entry.path());
  return bytes;
}

std::string scalar(std::string_view tag, float value) {
  std::string bytes(tag);
  bytes += '\x15';
  reft::detail::append_number(bytes, value);
  return bytes;
}

}  // namespace

TEST_CASE("a step's and an evaluation's numbers are written under their tags") {
  const reft::test::TemporaryFolder folder;
  reft::TensorBoard board(folder / "logs");
  board.on_begin(0, 2);
  board.on_step(
      {.step = 1, .total_steps = 2, .epoch = 0.5, .loss = 2.5, .learning_rate = 1e-3, .gradient_norm = 4.0, .tokens_per_second = 1000.0});
  board.on_evaluation({1, {{"loss", 2.25}, {"exact_match", 0.75}}});
  const std::string bytes = bytes_in(folder / "logs");
  for (const auto& [tag, value] : {std::pair("train/loss", 2.5F),
                                   {"train/learning_rate", 1e-3F},
                                   {"train/gradient_norm", 4.0F},
                                   {"train/tokens_per_second", 1000.0F},
                                   {"train/epoch", 0.5F},
                                   {"eval/loss", 2.25F},
                                   {"eval/exact_match", 0.75F}}) {
    CAPTURE(tag);
    CHECK(reft::test::contains(bytes, scalar(tag, value)));
  }
}

TEST_CASE("a resumed run's events begin a session at its first step") {
  const reft::test::TemporaryFolder folder;
  reft::TensorBoard board(folder.path());
  board.on_begin(299, 400);
  // Event 2: step 300, event 7: SessionLog START.
  CHECK(reft::test::contains(bytes_in(folder.path()), std::string_view("\x10\xac\x02\x3a\x02\x08\x01", 7)));
}
