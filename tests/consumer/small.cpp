#include <cstdio>
#include <reft/hook/layout.hpp>
#include <reft/version.hpp>

int main() {
  const auto tensor = torch::ones({2});
  std::printf("reft %s, %d elements\n", reft::kVersion, static_cast<int>(tensor.numel()));
}
