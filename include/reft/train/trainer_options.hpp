#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "reft/data/mixture.hpp"
#include "reft/train/communicator.hpp"
#include "reft/train/schedule.hpp"

namespace reft {

struct TrainerOptions {
  int64_t epochs = 3;
  std::optional<int64_t> max_steps = {};  ///< optimizer steps at most; 0 trains nothing
  int64_t batch_size = 8;                 ///< sequences of one forward, over all ranks
  int64_t accumulate = 1;                 ///< forwards of one optimizer step
  double learning_rate = 9e-4;
  ScheduleKind schedule = ScheduleKind::linear;
  double warmup_ratio = 0.0;
  double weight_decay = 0.0;
  double max_gradient_norm = 1.0;
  uint64_t seed = 42;  ///< of the order of examples
  bool shuffle = true;
  Mixture mixture = {};                   ///< how often each part of the examples is drawn from; empty = all alike
  int64_t evaluate_every = 0;             ///< steps between evaluations; 0 = after every epoch
  std::string metric_for_best = {};       ///< the parameters of the best evaluation are the result; empty = the last step's
  int64_t patience = 0;                   ///< evaluations without a better one that end the run; 0 = never
  std::filesystem::path checkpoint = {};  ///< file of the training state; empty = none is written
  int64_t checkpoint_every = 0;           ///< steps between two; 0 = only when stopped
  double checkpoint_minutes = 0.0;        ///< minutes between two; 0 = only as the other options say
  int64_t keep_checkpoints = 1;           ///< so many of the last; older ones stand beside `checkpoint`, with their step
  bool resume = false;                    ///< go on from `checkpoint` if it is there
  std::function<bool()> should_stop = {}; ///< asked after every step
  std::shared_ptr<Communicator> communicator = {};  ///< of the processes that share the batches; none = this one alone
};

struct TrainingResult {
  double train_loss = 0.0;          ///< mean over the last epoch's steps, of all steps if there were fewer
  std::optional<double> eval_loss;  ///< mean over the supervised tokens, or other terms, of the evaluation examples
  std::map<std::string, double> eval_metrics;  ///< of the last evaluation, or of the best with `metric_for_best`
  std::optional<int64_t> best_step;            ///< where `metric_for_best` was best
  int64_t steps = 0;
  int64_t tokens = 0;               ///< of all trained sequences
  double seconds = 0.0;             ///< the training loop
  bool stopped = false;             ///< `should_stop` said so before the last step
  bool out_of_patience = false;     ///< ended by `patience`

  double tokens_per_second() const { return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0; }
};

}  // namespace reft
