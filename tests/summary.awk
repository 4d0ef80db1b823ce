# Reads what `ctest --verbose` printed: shows the output of what failed, then what was skipped and why, then the count.
# A Catch2 program counts its test cases, a script counts as one; a program that dies without a count counts as one failed.
# -v status: ctest's exit status. Exits with 1 where a test failed or none ran.

match($0, /^[0-9]+: /) {
  id = substr($0, 1, RLENGTH - 2)
  line = substr($0, RLENGTH + 1)
  output[id] = output[id] line "\n"
  if (line ~ /^All tests passed \(.* in [0-9]+ test cases?\)/) {
    sub(/.* in /, "", line)
    cases[id] += line + 0
    counted[id] = 1
  } else if (line ~ /^test cases: /) {
    fields = split(line, field, "|")
    for (i = 2; i <= fields; ++i) {
      if (field[i] ~ /passed/) cases[id] += field[i] + 0
      if (field[i] ~ /failed as expected/) cases[id] += field[i] + 0
      else if (field[i] ~ /failed/) broken[id] += field[i] + 0
      if (field[i] ~ /skipped/) left_out[id] += field[i] + 0
    }
    counted[id] = 1
  } else if (line ~ /^skipped: [0-9]+$/) {
    # These returned early, so Catch2 counts them as passed.
    sub(/^skipped: /, "", line)
    left_out[id] += line
    cases[id] -= line
  } else if (line ~ /^skip: /) {
    reasons[id] = reasons[id] line "\n"
  }
  next
}

/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
  id = $0; sub(/^[^#]*#/, "", id); name = id
  sub(/:.*/, "", id)
  sub(/^[0-9]+: /, "", name); sub(/ \.*.*/, "", name)
  names[++results] = name; ids[results] = id
  outcome[id] = /\*\*\*Skipped/ ? "skipped" : / Passed +[0-9.]+ sec/ ? "passed" : "failed"
  if (outcome[id] == "failed") { state = $0; sub(/.*\*\*\*/, "", state); states[id] = state }
}

END {
  for (r = 1; r <= results; ++r) {
    id = ids[r]
    if (cases[id] < 0) cases[id] = 0
    if (outcome[id] == "skipped") left_out[id] = 1
    else if (outcome[id] == "passed" && !counted[id]) cases[id] = 1
    else if (outcome[id] == "failed" && !broken[id]) broken[id] = 1
    if (outcome[id] == "failed") printf "==== %s: %s\n%s", names[r], states[id], output[id]
    passed += cases[id]; failed += broken[id]; skipped += left_out[id]
  }
  for (r = 1; r <= results; ++r) {
    id = ids[r]
    if (outcome[id] == "skipped" && reasons[id] == "") reasons[id] = "skip: no reason given\n"
    count = split(reasons[id], reason, "\n")
    for (i = 1; i < count; ++i) { sub(/^skip: /, "", reason[i]); printf "skip: %s: %s\n", names[r], reason[i] }
  }
  if (status != 0 && failed == 0) failed = 1
  if (passed + failed == 0) print "no test ran"
  printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
  exit passed == 0 || failed > 0
}
