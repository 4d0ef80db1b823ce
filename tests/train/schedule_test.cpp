#include "reft/train/schedule.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::LearningRateSchedule;
using reft::ScheduleKind;

TEST_CASE("the learning rate follows transformers' schedules") {
  const LearningRateSchedule linear(ScheduleKind::linear, 10, 0.15);  // ceil(1.5) = 2 steps of warm-up
  CHECK(linear.warmup_steps() == 2);
  CHECK(linear.factor(0) == 0.0);
  CHECK(linear.factor(1) == 0.5);
  CHECK(linear.factor(2) == 1.0);
  CHECK(linear.factor(6) == 0.5);
  CHECK(linear.factor(9) == 0.125);
  CHECK(linear.factor(10) == 0.0);

  const LearningRateSchedule cosine(ScheduleKind::cosine, 8);
  CHECK(cosine.factor(0) == 1.0);
  CHECK(cosine.factor(4) == Approx(0.5));
  CHECK(cosine.factor(2) == Approx(0.5 * (1.0 + std::sqrt(0.5))));

  const LearningRateSchedule constant(ScheduleKind::constant, 4, 0.5);
  CHECK(constant.factor(1) == 0.5);
  CHECK(constant.factor(3) == 1.0);
}

TEST_CASE("schedules have names, and a warm-up ratio has bounds") {
  for (const auto kind : {ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::constant}) {
    CHECK(reft::parse_schedule(to_string(kind)) == kind);
  }
  CHECK(reft::test::error_text([] { reft::parse_schedule("step"); }) ==
        "[reft::parse_schedule] \"step\": expected linear, cosine or constant");
  CHECK(reft::test::error_text([] { LearningRateSchedule(ScheduleKind::linear, 10, 1.5); }) ==
        "[reft::LearningRateSchedule] expected a warm-up ratio from 0 to 1, got 1.5");
}
