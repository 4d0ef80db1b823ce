#!/usr/bin/env bash
# Prints how far the six forms are from pyreft's own: the largest distance of any output or gradient, relative to the
# largest |reference|, over every size, activation and dtype. Needs a Python with torch, transformers and pyreft:
#   tests/golden/fidelity.sh PYTHON      after tests/run.sh, which builds reft_tests
set -euo pipefail
python=${1:?usage: tests/golden/fidelity.sh PYTHON (one that has torch, transformers, pyreft and pyvene)}
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
values=$(mktemp --suffix .safetensors)
trap 'rm -f "$values"' EXIT
"$python" "$project/tests/golden/make_pyreft_values.py" "$values" --full >&2
REFT_PYREFT_VALUES=$values "$project/build/test/bin/reft_tests" "the six forms give pyreft's values and gradients" | grep -v '^[=~ ]*$'
