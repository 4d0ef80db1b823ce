#!/usr/bin/env bash
# From the same start the loss is pyreft's at every step, and training goes on here from what pyreft saved.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
[ -x "$bin/convert" ] || fail "$bin/convert is not built"
need "$shared/peers/pyreft_ref.py" "$stories" "$alpaca"
python=$(pyreft_python) || { [ -s "$work/no-peers" ] && skip "no pyreft: $(cat "$work/no-peers")"; fail "no peers"; }
"$python" "$source_dir/tests/golden/trajectory.py" "$shared/peers" "$bin" "$stories" "$alpaca" || fail "another trajectory"
