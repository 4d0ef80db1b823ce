#include <cstdio>
#include <reft/reft.hpp>

torch::Tensor edited_elsewhere(const torch::Tensor& rows);

int main() {
  const torch::Tensor rows = torch::ones({2, 8});
  reft::LoReFT intervention(8, {.rank = 2});
  const bool same_shape = intervention.forward(rows).sizes() == edited_elsewhere(rows).sizes();
  std::printf("reft %s %s\n", reft::kVersion, same_shape ? "works" : "is broken");
  return same_shape ? 0 : 1;
}
