#pragma once

#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "reft/error.hpp"
#include "reft/hook/parse_integer.hpp"
#include "reft/model/loading.hpp"
#include "reft/train/communicator.hpp"
#include "reft/train/mpi_communicator.hpp"
#include "reft/train/nccl_communicator.hpp"
#include "reft/train/store_communicator.hpp"

namespace reft::program {

/// Where a launcher put this process.
struct Launch {
  Rendezvous rendezvous;
  int64_t local_rank = 0;  // among those of this machine
  bool by_mpirun = false;

  bool is_alone() const { return rendezvous.size < 2; }
};

/// An environment variable that holds a number of lowest to highest, or `otherwise` where it is not set.
/// @throws ConfigError for another text, and where it is not set and there is no `otherwise`.
inline int64_t environment_number(const char* name, int64_t lowest, int64_t highest, std::optional<int64_t> otherwise = {}) {
  const char* text = std::getenv(name);
  if (text == nullptr && otherwise) return *otherwise;
  const std::optional<int64_t> number = text == nullptr ? std::nullopt : detail::parse_integer<int64_t>(text);
  if (!number || *number < lowest || *number > highest) {
    fail<ConfigError>("environment", "{}: expected {} to {}, got {}", name, lowest, highest, text == nullptr ? "nothing" : text);
  }
  return *number;
}

/// The ranks that `mpirun` or `torchrun --no-python` started this process among; it alone, if it was started by itself.
/// @param timeout  seconds that the others may take to answer.
/// @throws ConfigError where the environment is incomplete.
inline Launch find_launch(int64_t timeout) {
  struct Names {
    const char *size, *rank, *local_rank;
    bool by_mpirun;
  };
  constexpr int64_t kMost = 1 << 20;
  for (const Names& names : {Names{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", true},
                             Names{"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", true},  // MPICH and its relatives
                             Names{"WORLD_SIZE", "RANK", "LOCAL_RANK", false}}) {
    Launch launch{.by_mpirun = names.by_mpirun};
    Rendezvous& rendezvous = launch.rendezvous;
    rendezvous.size = environment_number(names.size, 1, kMost, 1);
    if (launch.is_alone()) continue;
    rendezvous.rank = environment_number(names.rank, 0, rendezvous.size - 1);
    launch.local_rank = environment_number(names.local_rank, 0, rendezvous.size - 1, rendezvous.rank);
    rendezvous.port = static_cast<uint16_t>(environment_number("MASTER_PORT", 1, 65535, rendezvous.port));
    if (const char* host = std::getenv("MASTER_ADDR")) rendezvous.host = host;
    rendezvous.timeout = std::chrono::seconds(timeout);
    // torchrun listens itself, and lets the ranks meet again after a failure.
    const char* hosted = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
    rendezvous.is_hosted = hosted != nullptr && std::string(hosted) == "True";
    rendezvous.name = fmt::format("reft/{}", environment_number("TORCHELASTIC_RESTART_COUNT", 0, kMost, 0));
    return launch;
  }
  return {};
}

/// @throws ConfigError for one of several processes, which would all do the same and write the same folder.
inline void expect_alone(const char* program) {
  const Launch launch = find_launch(/*timeout=*/1);
  if (!launch.is_alone()) fail<ConfigError>(program, "started as one of {} processes, but only alpaca_sft shares its work among several", launch.rendezvous.size);
}

/// Each of several ranks on a machine has a GPU of its own; a CPU is shared.   @throws ConfigError for one GPU for all.
inline std::string device_of(const Launch& launch, const std::string& device) {
  if (launch.is_alone() || device == "cpu" || (device == "auto" && best_device().is_cpu())) return device;
  if (device != "auto" && device != "cuda") {
    fail<ConfigError>("device", "{}: several processes have a device each; expected auto, cuda or cpu", device);
  }
  return fmt::format("cuda:{}", launch.local_rank);
}

/// How these ranks speak to each other: by NCCL where each has a GPU and by MPI under `mpirun`, as far as this build has them;
/// otherwise through LibTorch's own store.
inline std::shared_ptr<Communicator> make_communicator(const Launch& launch, [[maybe_unused]] torch::Device device) {
  if (launch.is_alone()) return std::make_shared<SingleProcess>();
#ifdef REFT_WITH_NCCL
  if (device.is_cuda()) {
    ::setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*replace=*/0);  // its errors are ours to report
    return std::make_shared<NcclCommunicator>(launch.rendezvous, device);
  }
#endif
#ifdef REFT_WITH_MPI
  if (launch.by_mpirun) return std::make_shared<MpiCommunicator>(launch.rendezvous.timeout);
#endif
  return std::make_shared<StoreCommunicator>(launch.rendezvous);
}

}  // namespace reft::program
