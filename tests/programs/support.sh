# Sourced by the tests of this folder: where things are, a folder to work in, and small checks.
set -euo pipefail

source_dir=${REFT_SOURCE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
shared=${REFT_SHARED_DIR:-$source_dir/../shared}
bin=${REFT_BIN:?REFT_BIN names the folder of the programs}
models=$shared/assets/models
stories=$models/tinystories656k_hf
alpaca=$shared/assets/datasets/alpaca/llamafactory_alpaca_en_demo.json
export OMP_NUM_THREADS=1  # small models gain nothing from more, and results stay the same from run to run

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() { echo "skip: $*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# need PATH...: skips the test where one of them is missing.
need() {
  local path
  for path; do [ -e "$path" ] || skip "$path is missing"; done
}

for program in activations alpaca_sft generate tokenize; do
  [ -x "$bin/$program" ] || fail "$bin/$program is not built"
done
command -v python3 >/dev/null || skip "python3 is missing; it reads the programs' JSON"

# json FILE EXPRESSION: what a Python expression says of the JSON object `o` in the last line of a file.
json() {
  python3 -c 'import json, sys
o = json.loads(open(sys.argv[1]).read().strip().split("\n")[-1])
print(eval(sys.argv[2]))' "$@"
}

# expect_code CODE WHAT COMMAND...: runs it with stdout and stderr in $work/out and $work/err.
expect_code() {
  local expected=$1 what=$2 code=0
  shift 2
  "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
  [ "$code" -eq "$expected" ] || { tail -n 5 "$work/err" >&2; fail "$what: exit code $code, expected $expected: $*"; }
}

# expect_error CODE TEXT COMMAND...: it fails so, with one `error: ` line that holds TEXT and nothing on stdout.
expect_error() {
  local expected=$1 text=$2
  shift 2
  expect_code "$expected" "expected an error" "$@"
  local lines
  lines=$(grep -c '^error: ' "$work/err" || true)
  [ "$lines" -eq 1 ] || { cat "$work/err" >&2; fail "$lines error lines, expected 1: $*"; }
  grep '^error: ' "$work/err" | grep -qF -- "$text" || { cat "$work/err" >&2; fail "the error does not say \"$text\": $*"; }
  [ ! -s "$work/out" ] || { cat "$work/out" >&2; fail "something was printed on stdout: $*"; }
}

# at_least A B: of two numbers, A >= B.
at_least() { python3 -c 'import sys; sys.exit(not float(sys.argv[1]) >= float(sys.argv[2]))' "$1" "$2"; }

# picture FILE TEXT...: well-formed XML with these texts.
picture() {
  python3 - "$@" <<'PY' || fail "$1 is not the picture that was promised"
import sys
import xml.etree.ElementTree as tree
texts = [e.text for e in tree.parse(sys.argv[1]).iter("{http://www.w3.org/2000/svg}text")]
missing = [text for text in sys.argv[2:] if text not in texts]
assert not missing, (missing, texts)
PY
}

# peer_venv NAME CHECK PACKAGE...: prints a Python in which CHECK runs, made once per build folder with those packages, and
# those of $no_deps without what they ask for; skips where pip cannot. LibTorch from a Python's own packages is used again
# instead of being installed a second time. Versions are the peers' own, or the two would not be comparable.
peer_venv() {
  local folder=${REFT_BUILD_DIR:-$source_dir/build/test}/$1 check=$2 packages=("${@:3}") log=$work/pip.log
  local python=$folder/bin/python pip=("$folder/bin/python" -m pip --disable-pip-version-check install -q)
  mkdir -p "$folder"
  exec 9>"$folder.lock"
  flock 9
  if ! "$python" -c "$check" >/dev/null 2>&1; then
    echo "installing ${packages[*]} into $folder" >&2
    python3 -m venv "$folder" >"$log" 2>&1 || skip_peers "$log"
    if [[ ${REFT_TORCH_ROOT:-} == */site-packages/torch ]]; then
      dirname "$REFT_TORCH_ROOT" >"$("$python" -c 'import site; print(site.getsitepackages()[0])')/reft_torch.pth"
    fi
    "$python" -c 'import torch, sys; sys.exit(not torch.__version__.startswith("2.13."))' 2>/dev/null || packages+=(torch)
    "${pip[@]}" -c "$shared/peers/requirements.txt" "${packages[@]}" >"$log" 2>&1 || skip_peers "$log"
    [ -z "${no_deps:-}" ] || "${pip[@]}" --no-deps $no_deps >"$log" 2>&1 || skip_peers "$log"
    "$python" -c "$check" >"$log" 2>&1 || skip_peers "$log"
  fi
  exec 9>&-
  echo "$python"
}

# peer_python PACKAGE...: a Python with torch and transformers, and these.
peer_python() {
  local modules=(numpy safetensors torch transformers "${@/#protobuf/google.protobuf}")
  peer_venv peers "import $(IFS=,; echo "${modules[*]}")" numpy safetensors transformers "$@"
}

# pyreft and the others whose adapters are read and written; their own pins ask for far more than they import.
pyreft_python() {
  no_deps="pyreft==0.1.0 pyvene==0.1.8 adapters==1.3.0 gguf==0.19.0" peer_venv peers-pyreft \
    'import adapters, gguf, pyreft, pyvene, safetensors, torch, transformers' \
    numpy safetensors transformers accelerate peft datasets scikit-learn matplotlib
}

# package_python PACKAGE: prints a Python that can import it, installed once per build folder; skips where pip cannot.
package_python() {
  local folder=${REFT_BUILD_DIR:-$source_dir/build/test}/python-$1 log=$work/pip.log
  mkdir -p "$folder"
  exec 9>"$folder.lock"
  flock 9
  if ! "$folder/bin/python" -c "import $1" 2>/dev/null; then
    python3 -m venv "$folder" >"$log" 2>&1 || skip_peers "$log"
    "$folder/bin/python" -m pip --disable-pip-version-check install -q "$1" >"$log" 2>&1 || skip_peers "$log"
    "$folder/bin/python" -c "import $1" 2>"$log" || skip_peers "$log"
  fi
  exec 9>&-
  echo "$folder/bin/python"
}

# Called in a subshell: the reason goes to a file that the caller reads.
skip_peers() { tail -n 1 "$1" >"$work/no-peers"; exit 77; }
