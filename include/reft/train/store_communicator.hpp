#pragma once

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "reft/error.hpp"
#include "reft/train/communicator.hpp"

namespace reft {

/// Where the ranks of a run find each other; what `torchrun` says in its environment.
struct Rendezvous {
  int64_t rank = 0, size = 1;
  std::string host = "127.0.0.1";  ///< of the first rank
  uint16_t port = 29500;
  bool is_hosted = false;     ///< something else listens there, as `torchrun` itself does; otherwise the first rank
  std::string name = "reft";  ///< of this run, among others that may use the same place
  std::chrono::seconds timeout{300};  ///< how long the other ranks may take to answer before they count as dead
};

/// Ranks that meet in c10d's key-value store over TCP, which needs nothing but LibTorch. Each puts its values there and adds up
/// everybody's, in the order of the ranks: size() messages of every rank go through the first, few and small as they are here.
class StoreCommunicator : public Communicator {
 public:
  /// Waits until the first rank listens.   @throws Error if it does not within the time-out, or cannot.
  explicit StoreCommunicator(Rendezvous rendezvous) : rendezvous_(std::move(rendezvous)) {
    c10d::TCPStoreOptions options{.port = rendezvous_.port, .isServer = is_first() && !rendezvous_.is_hosted};
    options.waitWorkers = false;
    options.timeout = rendezvous_.timeout;
    translate_errors([&] {
      store_ = c10::make_intrusive<c10d::PrefixStore>(rendezvous_.name, c10::make_intrusive<c10d::TCPStore>(rendezvous_.host, options));
    });
  }

  StoreCommunicator(const StoreCommunicator&) = delete;
  StoreCommunicator& operator=(const StoreCommunicator&) = delete;

  /// The first rank waits for the others, whose store it may be, but not after a failure.
  ~StoreCommunicator() override {
    if (failed_ || std::uncaught_exceptions() > 0) return;
    try {
      store_->set(key("left", rank()), Bytes{1});
      if (is_first()) store_->wait(keys("left"), rendezvous_.timeout);
    } catch (const std::exception&) {  // the others have ended some other way
    }
  }

  int64_t rank() const override { return rendezvous_.rank; }
  int64_t size() const override { return rendezvous_.size; }
  const Rendezvous& rendezvous() const { return rendezvous_; }
  const c10::intrusive_ptr<c10d::Store>& store() const { return store_; }

  void all_reduce_sum(torch::Tensor& values) override {
    const auto* begin = reinterpret_cast<const uint8_t*>(values.const_data_ptr<double>());
    std::vector<Bytes> parts = exchange({begin, begin + values.nbytes()});
    values.zero_();
    for (size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].size() != values.nbytes()) {
        fail_here("rank {} sent {} bytes, expected {}; do all of them have the same flags and files?", i, parts[i].size(), values.nbytes());
      }
      values.add_(torch::from_blob(parts[i].data(), values.sizes(), torch::kFloat64));
    }
  }

 private:
  using Bytes = std::vector<uint8_t>;

  static std::string key(std::string_view round, int64_t rank) { return fmt::format("{}/{}", round, rank); }

  std::vector<std::string> keys(std::string_view round) const {
    std::vector<std::string> all;
    for (int64_t i = 0; i < size(); ++i) all.push_back(key(round, i));
    return all;
  }

  /// What every rank gave, in their order. In a thread of its own, which is left alone when the time is over: the store's
  /// calls cannot give up on a first rank that is there and says nothing.
  std::vector<Bytes> exchange(Bytes own) {
    std::packaged_task<std::vector<Bytes>()> task([store = store_, own = std::move(own), all = keys(std::to_string(round_)),
                                                   old = key(std::to_string(round_ - 2), rank()), rank = rank(), round = round_,
                                                   patience = 2 * rendezvous_.timeout] {
      store->set(all[rank], own);
      store->wait(all, patience);
      if (round >= 2) store->deleteKey(old);  // all are past the last round, so have read the one before it
      return store->multiGet(all);
    });
    ++round_;
    std::future<std::vector<Bytes>> answer = task.get_future();
    std::thread(std::move(task)).detach();
    if (answer.wait_for(rendezvous_.timeout) != std::future_status::ready) {
      failed_ = true;
      detail::fail_unanswered("StoreCommunicator", *this, rendezvous_.timeout);
    }
    std::vector<Bytes> parts;
    translate_errors([&] { parts = answer.get(); });
    return parts;
  }

  template <class Call>
  void translate_errors(Call call) {
    try {
      call();
    } catch (const c10::Error& error) {
      const std::string_view text = error.what_without_backtrace();
      fail_here("no answer from {}:{}: {}", rendezvous_.host, rendezvous_.port, text.substr(0, text.find('\n')));
    }
  }

  template <class... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> message, Args&&... args) {
    failed_ = true;
    fail<Error>("StoreCommunicator", "rank {} of {}: {}", rank(), size(), fmt::format(message, std::forward<Args>(args)...));
  }

  Rendezvous rendezvous_;
  c10::intrusive_ptr<c10d::Store> store_;
  int64_t round_ = 0;
  bool failed_ = false;
};

}  // namespace reft
