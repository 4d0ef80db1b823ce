#pragma once

// Data-parallel training by NCCL; empty unless the build found a CUDA LibTorch and nccl.h and defines REFT_WITH_NCCL.
#ifdef REFT_WITH_NCCL

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <exception>
#include <string_view>
#include <vector>

#include "reft/error.hpp"
#include "reft/train/communicator.hpp"
#include "reft/train/store_communicator.hpp"

namespace reft {

/// Ranks with a CUDA device each, whose gradients never leave the devices.
class NcclCommunicator : public Communicator {
 public:
  /// Waits for all ranks.
  /// @param device  of this rank alone.
  /// @throws Error if one does not come within the time-out.
  NcclCommunicator(const Rendezvous& rendezvous, torch::Device device) : ranks_(rendezvous), device_(device) {
    // NCCL could not give up on a rank that never comes.
    torch::Tensor nothing = torch::zeros({1}, torch::kFloat64);
    ranks_.all_reduce_sum(nothing);
    const auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = 2 * rendezvous.timeout;  // ours is over first
    translate_errors([&] {
      group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(ranks_.store(), static_cast<int>(rank()), static_cast<int>(size()), options);
    });
  }

  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  ~NcclCommunicator() override {
    try {
      if (failed_ || std::uncaught_exceptions() > 0) group_->abort();  // does not wait for the others
      else group_->shutdown();
    } catch (const std::exception&) {  // nothing is left to be done
    }
  }

  int64_t rank() const override { return ranks_.rank(); }
  int64_t size() const override { return ranks_.size(); }
  torch::Device device() const override { return device_; }

  // Asked for its end, not waited for: waiting could not give up on a rank that has died.
  void all_reduce_sum(torch::Tensor& values) override {
    std::vector<torch::Tensor> message{values};
    translate_errors([&] {
      const c10::intrusive_ptr<c10d::Work> work = group_->allreduce(message);
      if (!detail::poll([&] { return work->isCompleted(); }, ranks_.rendezvous().timeout)) {
        failed_ = true;
        detail::fail_unanswered("NcclCommunicator", *this, ranks_.rendezvous().timeout);
      }
      if (const std::exception_ptr error = work->exception()) std::rethrow_exception(error);
      work->synchronize();
    });
  }

 private:
  template <class Call>
  void translate_errors(Call call) {
    try {
      call();
    } catch (const c10::Error& error) {
      failed_ = true;
      const std::string_view text = error.what_without_backtrace();
      fail<Error>("NcclCommunicator", "rank {} of {}: {}", rank(), size(), text.substr(0, text.find('\n')));
    }
  }

  StoreCommunicator ranks_;
  torch::Device device_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
  bool failed_ = false;
};

}  // namespace reft

#endif  // REFT_WITH_NCCL
