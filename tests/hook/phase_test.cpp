#include "reft/hook/phase.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::Phase;
using reft::test::error_text;

TEST_CASE("phases are written and read back, with steps") {
  for (const char* text : {"prompt", "decode", "every", "decode:8", "every:1", "decode:2:8", "every:3:"}) {
    CHECK(to_string(reft::parse_phase(text)) == text);
  }
  CHECK(reft::parse_phase("decode:8") == Phase::decode.first_steps(8));
  CHECK(reft::parse_phase("every:0:8") == Phase::every.first_steps(8));
  CHECK(reft::parse_phase("decode:0:") == Phase::decode);
}

TEST_CASE("a phase says where it acts") {
  const auto steps = [](const char* text) {
    std::string acting;
    for (int step = 0; step < 5; ++step) acting += reft::parse_phase(text).at_step(step) ? '1' : '0';
    return acting;
  };
  CHECK(steps("prompt") == "00000");
  CHECK(steps("every") == "11111");
  CHECK(steps("decode:2") == "11000");
  CHECK(steps("every:1:3") == "01100");
  CHECK(steps("decode:3:") == "00011");
  CHECK(Phase::prompt.on_prompt());
  CHECK(Phase::every.first_steps(2).on_prompt());
  CHECK_FALSE(Phase::decode.on_prompt());
}

TEST_CASE("phases overlap where they share the prompt or a step") {
  const auto overlap = [](const char* a, const char* b) { return reft::parse_phase(a).overlaps(reft::parse_phase(b)); };
  CHECK(overlap("prompt", "every:1"));
  CHECK(overlap("decode:2:", "every"));
  CHECK_FALSE(overlap("prompt", "decode"));
  CHECK_FALSE(overlap("decode:2", "decode:2:4"));
}

TEST_CASE("texts that are no phase are refused") {
  for (const char* text : {"never", "", "prompt:3", "decode:", "decode:0", "decode:-1", "decode:3:3", "every:1:2:3", "decode:x"}) {
    CHECK(error_text([&] { reft::parse_phase(text); }) ==
          fmt::format("[reft::parse_phase] \"{}\": expected prompt, decode or every, the latter with steps as in decode:8 or decode:2:8", text));
  }
  CHECK(error_text([] { (void)Phase::prompt.first_steps(2); }) == "[reft::Phase] prompt: it has no decoding steps; expected decode or every");
}
