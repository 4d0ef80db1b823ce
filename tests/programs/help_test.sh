#!/usr/bin/env bash
# --help of every program: exit code 0, every flag with a word about it, and the defaults.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"

# grouped PROGRAM GROUP...: its flags stand under these headings.
grouped() {
  local program=$1 group
  shift
  expect_code 0 "$program --help" "$bin/$program" --help
  for group; do grep -q "^$group:\$" "$work/out" || fail "$program --help has no group $group"; done
}

# shows PROGRAM FLAG...: its help has a line for each; FLAG=VALUE also asks for the default.
shows() {
  local program=$1 flag
  shift
  expect_code 0 "$program --help" "$bin/$program" --help
  [ ! -s "$work/err" ] || fail "$program --help writes to stderr"
  for flag; do
    local pattern="^ +(-[a-z],)?--${flag%%=*}( |$)"
    [[ $flag != *=* ]] || pattern="^ +--${flag%%=*} .*=${flag#*=}( |\$)"
    grep -qE -- "$pattern" "$work/out" || fail "$program --help does not show: $flag"
  done
}

for program in "$bin"/*; do
  name=$(basename "$program")
  [[ -x $program && ! -d $program && $name != *test* ]] || continue
  shows "$name" help
done

machine=(device=auto dtype=auto threads=0 seed=42 quiet)
shows alpaca_sft "${machine[@]}" quantize=none start=random activation-checkpointing intervention=loreft layers=all 'positions=f1\+l1' tie=group rank=4 dropout=0 component=block_output \
  phase=prompt token-ids position-rule=paper epochs=3 batch-size=8 accumulate=1 learning-rate=0.0009 schedule=linear warmup-ratio=0 weight-decay=0 \
  max-grad-norm=1 template=alpaca eval-fraction=0 model data output overwrite eval-data max-steps max-length max-examples no-shuffle \
  init-adapter config resume checkpoint-every=0 checkpoint-minutes=0 keep-checkpoints=1 metrics tensorboard report data-weights data-cache stream \
  deterministic eval-every=0 eval-generation eval-max-new-tokens=64 metric-for-best patience=0 activation dropout-on projection-bias rank-timeout=300 \
  trunk-cache=auto
trainer=("${machine[@]}" output overwrite no-shuffle epochs=3 max-steps batch-size=8 accumulate=1 learning-rate=0.0009 schedule=linear warmup-ratio=0
  weight-decay=0 max-grad-norm=1 eval-data eval-fraction=0 eval-every=0 metric-for-best patience=0 checkpoint-every=0 resume metrics tensorboard report
  max-length max-examples intervention=loreft layers=all 'positions=f1\+l1' tie=group rank=4 init-adapter)
shows classification "${trainer[@]}" model data task=classification text-column second-text-column label-column head-learning-rate=0 start=random
shows preference "${trainer[@]}" model data objective=dpo beta=0.1 template=alpaca head-learning-rate=0 start=identity
shows generate "${machine[@]}" max-new-tokens=128 temperature=0 top-k=0 top-p=1 min-p=0 repetition-penalty=1 no-repeat-ngram=0 \
  num-samples=1 num-beams=1 length-penalty=1 early-stopping=no batch-size=16 scale=1 model adapter positions tie prompt prompt-file tokens \
  json interactive template stop logprobs stream score score-tokens
shows activations "${machine[@]}" model adapter tokens prompt sites output list-sites
shows composition "${machine[@]}" model data layers=0 positions=all rank=4 epochs=3 batch-size=16 learning-rate=0.01 max-questions=0 \
  output=composition
shows few_examples "${machine[@]}" model data questions format template=alpaca counts=1,2,5,10,20 layers=all 'positions=f4\+l4' rank=4 steps=150 \
  draws=5 learning-rate=0.01 max-questions=0 max-new-tokens=32 output=few_examples
shows ablation "${machine[@]}" model data questions forms 'positions=f4\+l4' rank=4 epochs=3 batch-size=16 seeds=3 learning-rate=0.01 \
  max-examples=0 max-questions=0 output=ablation
shows overhead "${machine[@]}" model output=overhead phase=prompt ranks=1,4,8,16,32 layers=1,2,4,6 positions=1,2,4,8,16 prompt-tokens=64 \
  new-tokens=16 repeats=30
shows tokenize model file text decode lines chat no-special
for program in alpaca_sft classification preference; do grouped $program Interventions Data Training Evaluation Machine; done
grouped generate Adapter "Choosing tokens" Output Machine
! (shows alpaca_sft rank=5) 2>/dev/null || fail "a wrong default went unseen"
