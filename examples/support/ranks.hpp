#pragma once

#include <chrono>
#include <cstdlib>
#include <memory>

#include "reft/error.hpp"
#include "reft/train/communicator.hpp"
#include "reft/train/mpi_communicator.hpp"

namespace reft::program {

/// The ranks that this process was started among by `mpirun`; it alone, if it was started by itself.
/// @param timeout  seconds that the others may take to answer.
/// @throws ConfigError where there are several and this build has no MPI.
inline std::shared_ptr<Communicator> make_communicator([[maybe_unused]] int64_t timeout) {
  // OpenMPI's name, and that of MPICH and its relatives.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* size = std::getenv(name);
    if (size == nullptr || std::atoi(size) < 2) continue;
#ifdef REFT_WITH_MPI
    return std::make_shared<MpiCommunicator>(std::chrono::seconds(timeout));
#else
    fail<ConfigError>("mpirun", "{} processes, but this program was built without MPI (Debian: libopenmpi-dev)", size);
#endif
  }
  return std::make_shared<SingleProcess>();
}

}  // namespace reft::program
