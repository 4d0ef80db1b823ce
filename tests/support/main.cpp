#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include <cstdio>

#include "support/shared.hpp"

int main(int argc, char** argv) {
  const int result = Catch::Session().run(argc, argv);
  int total = 0;
  for (const auto& [reason, count] : reft::test::skips()) {
    std::printf("skip: %d x %s\n", count, reason.c_str());
    total += count;
  }
  std::printf("skipped: %d\n", total);
  return result;
}
