#!/usr/bin/env bash
# The instructions of two training steps on tinystories656k, counted by Callgrind, are within 5 % of those on record for the
# same LibTorch and compiler, in the build of the tests. A count that is new, or meant to change, is put on record by
#   REFT_BIN=build/test/bin tests/programs/instructions_test.sh --record
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
command -v valgrind >/dev/null || skip "valgrind is missing"
need "$stories"
[ -x "$bin/reft_bench" ] || fail "$bin/reft_bench is not built"
record=$source_dir/tests/golden/instructions.json
torch=${REFT_TORCH_ROOT:-$(echo "$source_dir"/.venv/lib/python3*/site-packages/torch)}
key="LibTorch $(sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' "$torch/include/torch/headeronly/version.h" | paste -sd.), $(g++ --version | head -n 1), $(valgrind --version)"

# Valgrind shows every machine the same processor; without ATEN_CPU_CAPABILITY LibTorch would still look for more than it shows.
ATEN_CPU_CAPABILITY=default valgrind --tool=callgrind --callgrind-out-file="$work/callgrind" --collect-atstart=no \
  --toggle-collect='reft::Trainer<*>::train_step(*' "$bin/reft_bench" --model "$stories" --mode train --rank 4 --positions f1+l1 \
  --threads 1 --batch 2 --seq 64 --warmup 1 --steps 1 >"$work/out" 2>"$work/err" || { tail -n 5 "$work/err" >&2; fail "reft_bench under Callgrind"; }
count=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$work/err")
[ "${count:-0}" -gt 1000000 ] || fail "Callgrind counted ${count:-nothing}: is train_step still called so?"

python3 - "$record" "$key" "$count" "${1:-}" <<'PY'
import json, os, sys
path, key, count, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
known = json.load(open(path)) if os.path.exists(path) else {}
if mode == "--record":
    known[key] = count
    json.dump(known, open(path, "w"), indent=2, sort_keys=True)
    open(path, "a").write("\n")
elif key not in known:
    print(f"skip: no count is on record for {key}; this one is {count}")
    sys.exit(77)
elif count > 1.05 * known[key]:
    sys.exit(f"FAILED: {count} instructions, {count / known[key] - 1:+.1%} from the {known[key]} on record for {key}")
print(f"{count} instructions, {key}")
PY
