#pragma once

// Data-parallel training by MPI; empty unless the build found it and defines REFT_WITH_MPI.
#ifdef REFT_WITH_MPI

#include <mpi.h>

#include <chrono>
#include <exception>
#include <string_view>

#include "reft/error.hpp"
#include "reft/train/communicator.hpp"

namespace reft {

/// The ranks of `mpirun`. One object in a process, from its start to its end: it begins and ends MPI.
class MpiCommunicator : public Communicator {
 public:
  /// @param timeout  how long the other ranks may take to answer before they count as dead.
  explicit MpiCommunicator(std::chrono::seconds timeout = std::chrono::seconds(300)) : timeout_(timeout) {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }

  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  /// Waits for the others, but not after a failure: a process that ends without having said so makes `mpirun` end them all.
  ~MpiCommunicator() override {
    if (!failed_ && std::uncaught_exceptions() == 0) MPI_Finalize();
  }

  int64_t rank() const override { return rank_; }
  int64_t size() const override { return size_; }

  // Not the blocking call: it could not give up on a rank that has died.
  void all_reduce_sum(torch::Tensor& values) override {
    MPI_Request request;
    check(MPI_Iallreduce(MPI_IN_PLACE, values.data_ptr<double>(), static_cast<int>(values.numel()), MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD, &request));
    const bool answered = detail::poll([&] {
      int done = 0;
      check(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
      return done != 0;
    }, timeout_);
    if (answered) return;
    failed_ = true;
    detail::fail_unanswered("MpiCommunicator", *this, timeout_);
  }

 private:
  void check(int code) {
    if (code == MPI_SUCCESS) return;
    failed_ = true;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    fail<Error>("MpiCommunicator", "rank {} of {}: {}", rank_, size_, std::string_view(text, static_cast<size_t>(length)));
  }

  int rank_ = 0, size_ = 1;
  std::chrono::seconds timeout_;
  bool failed_ = false;
};

}  // namespace reft

#endif  // REFT_WITH_MPI
