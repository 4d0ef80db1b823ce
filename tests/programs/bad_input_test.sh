#!/usr/bin/env bash
# What the programs say to bad input: the exit code, one `error: ` line that helps, and nothing written.
source "$(dirname "${BASH_SOURCE[0]}")/support.sh"
need "$stories" "$alpaca"

# A flag that is given twice is an error of its own, so these hold only what no line below gives again.
train=("$bin/alpaca_sft" --threads 1)
sft=("${train[@]}" --output "$work/never")
on_stories=("${sft[@]}" --model "$stories" --data "$alpaca" --max-examples 8)
activations=("$bin/activations" --threads 1 --output "$work/never.safetensors")
logits=("${activations[@]}" --tokens 1,2,3 --sites logits)
generate=("$bin/generate" --threads 1)
continued=("${generate[@]}" --model "$stories" --tokens 1,2,3)
tokenize=("$bin/tokenize")

usage_errors() {
  # unknown and missing flags
  expect_error 2 "--nonsense" "${on_stories[@]}" --nonsense
  expect_error 2 "--nonsense" "${logits[@]}" --model "$stories" --nonsense
  expect_error 2 "--nonsense" "${continued[@]}" --nonsense
  expect_error 2 "--nonsense" "${tokenize[@]}" --model "$stories" --text a --nonsense
  expect_error 2 "--rank" "${on_stories[@]}" --rank 2 --rank 4
  expect_error 2 "--model" "${logits[@]}"
  expect_error 2 "--model" "${generate[@]}" --tokens 1
  expect_error 2 "--model" "${tokenize[@]}" --text a
  expect_error 2 "--tokens" "${activations[@]}" --model "$stories" --sites logits
  expect_error 2 "--sites" "${activations[@]}" --model "$stories" --tokens 1
  expect_error 2 "--output" "$bin/activations" --model "$stories" --tokens 1 --sites logits
  expect_error 2 "--prompt" "${generate[@]}" --model "$stories"
  expect_error 2 "--prompt" "${continued[@]}" --prompt a
  # values that no run could use
  expect_error 2 "[reft::parse_positions] \"f7-l7\": expected f<n>, l<n>, all, an index or a range, joined by '+'" "${on_stories[@]}" --positions f7-l7
  expect_error 2 '"f0"' "${on_stories[@]}" --positions f0
  expect_error 2 '"loreftt"' "${on_stories[@]}" --intervention loreftt
  expect_error 2 '"nowhere": expected one of block_input' "${on_stories[@]}" --component nowhere
  expect_error 2 '"1;x"' "${on_stories[@]}" --layers "1;x"
  expect_error 2 '"-1"' "${on_stories[@]}" --layers=-1
  expect_error 2 "--tie" "${on_stories[@]}" --tie nobody
  expect_error 2 "--learning-rate: expected a finite number, got nan" "${on_stories[@]}" --learning-rate nan
  expect_error 2 "--scale: expected a finite number, got nan" "${generate[@]}" --model "$stories" --tokens 1 --scale nan
  expect_error 2 "--max-new-tokens" "${generate[@]}" --model "$stories" --tokens 1 --max-new-tokens 10000000000
  expect_error 1 "show one answer as it comes" "${generate[@]}" --model "$stories" --prompt a --stream --num-samples 2
  expect_error 2 "--phase" "${on_stories[@]}" --phase later
  expect_error 2 "--rank" "${on_stories[@]}" --rank 0
  expect_error 2 "--rank" "${on_stories[@]}" --rank=-4
  expect_error 2 "--rank" "${on_stories[@]}" --rank four
  expect_error 2 "--dropout" "${on_stories[@]}" --dropout 1.5
  expect_error 2 "--epochs" "${on_stories[@]}" --epochs=-1
  expect_error 2 "--max-steps" "${on_stories[@]}" --max-steps=-2
  expect_error 2 "--batch-size" "${on_stories[@]}" --batch-size 0
  expect_error 2 "--accumulate" "${on_stories[@]}" --accumulate=-1
  expect_error 2 "--learning-rate" "${on_stories[@]}" --learning-rate=-1
  expect_error 2 "--warmup-ratio" "${on_stories[@]}" --warmup-ratio 2
  expect_error 2 "--max-length" "${on_stories[@]}" --max-length=-5
  expect_error 2 "--schedule" "${on_stories[@]}" --schedule steep
  expect_error 2 "--template" "${on_stories[@]}" --template llama
  expect_error 2 "--seed" "${on_stories[@]}" --seed=-1
  expect_error 2 "--threads" "${logits[@]}" --model "$stories" --threads=-1
  expect_error 2 "--dtype" "${logits[@]}" --model "$stories" --dtype int8
  expect_error 2 "--device" "${logits[@]}" --model "$stories" --device tpu
  expect_error 2 '"1,x"' "${activations[@]}" --model "$stories" --sites logits --tokens 1,x
  expect_error 2 '"1,-2"' "${activations[@]}" --model "$stories" --sites logits --tokens 1,-2
  expect_error 2 '"nowhere": expected one of' "${activations[@]}" --model "$stories" --tokens 1 --sites layers.0.nowhere
  expect_error 2 "layers.0.logits" "${activations[@]}" --model "$stories" --tokens 1 --sites layers.0.logits
  expect_error 2 "--max-new-tokens" "${continued[@]}" --max-new-tokens=-1
  expect_error 2 "--temperature" "${continued[@]}" --temperature=-1
  expect_error 2 "--top-p" "${continued[@]}" --top-p 0
  expect_error 2 '"llama": expected alpaca, none or chat' "${generate[@]}" --model "$stories" --prompt a --template llama
  expect_error 2 "--top-k" "${continued[@]}" --top-k=-1
  expect_error 2 "--repetition-penalty" "${continued[@]}" --repetition-penalty 0
}

# broken NAME: a copy of the model folder to damage; its path is in $folder.
broken() {
  folder=$work/$1
  cp -r "$stories" "$folder"
  chmod -R u+w "$folder"
}

# rewrite_json FILE STATEMENT: changes the JSON object `o` of a file.
rewrite_json() {
  python3 -c 'import json, sys
o = json.load(open(sys.argv[1]))
exec(sys.argv[2])
json.dump(o, open(sys.argv[1], "w"))' "$@"
}

# with_tensor FOLDER NAME ROWS COLUMNS: writes model.safetensors anew with a tensor of zeros in place of that name's.
with_tensor() {
  python3 - "$@" <<'PY'
import json, sys
folder, name, rows, columns = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
path = folder + "/model.safetensors"
data = open(path, "rb").read()
length = int.from_bytes(data[:8], "little")
header, payload, new, tensors = json.loads(data[8:8 + length]), data[8 + length:], b"", {}
header.pop("__metadata__", None)
for key, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
    begin, end = entry["data_offsets"]
    tensors[key] = (entry["dtype"], entry["shape"], payload[begin:end])
tensors.pop(name, None)
if rows:
    tensors[name] = ("F32", [rows, columns], bytes(4 * rows * columns))
header = {}
for key, (dtype, shape, values) in tensors.items():
    header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [len(new), len(new) + len(values)]}
    new += values
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(path, "wb").write(len(text).to_bytes(8, "little") + text + new)
PY
}

bad_models() {
  expect_error 1 "no such file" "${logits[@]}" --model "$work/nothing"
  expect_error 1 "no such file" "${generate[@]}" --model "$work/nothing" --tokens 1
  expect_error 1 "no such file" "${sft[@]}" --model "$work/nothing" --data "$alpaca"
  expect_error 1 "nothing" "${tokenize[@]}" --model "$work/nothing" --text a
  mkdir "$work/empty_folder"
  expect_error 1 "config.json: no such file" "${logits[@]}" --model "$work/empty_folder"
  expect_error 1 "alpaca_en_demo.json" "${logits[@]}" --model "$alpaca"  # a file, but no llama2.c model
  head -c 100000 "$models/stories260K/stories260K.bin" >"$work/short.bin"
  expect_error 1 "short.bin: the file has 100000 bytes" "${logits[@]}" --model "$work/short.bin"

  broken no_weights; rm "$folder/model.safetensors"
  expect_error 1 "expected model.safetensors" "${logits[@]}" --model "$folder"
  expect_error 1 "expected model.safetensors" "${sft[@]}" --model "$folder" --data "$alpaca"
  broken truncated; truncate -s 1000000 "$folder/model.safetensors"
  expect_error 1 "truncated" "${logits[@]}" --model "$folder"
  broken header_only; truncate -s 6 "$folder/model.safetensors"
  expect_error 1 "too few for a header" "${logits[@]}" --model "$folder"
  broken no_header; printf '\xff\xff\xff\xff\xff\xff\xff\x7f' | dd of="$folder/model.safetensors" conv=notrunc status=none
  expect_error 1 "not a safetensors file" "${logits[@]}" --model "$folder"
  broken wrong_shape; with_tensor "$folder" model.layers.1.mlp.up_proj.weight 128 384
  expect_error 1 "model.layers.1.mlp.up_proj.weight: expected shape [384, 128], got [128, 384]" "${logits[@]}" --model "$folder"
  broken lost_tensor; with_tensor "$folder" model.layers.0.self_attn.k_proj.weight 0 0
  expect_error 1 "tensor model.layers.0.self_attn.k_proj.weight is missing" "${logits[@]}" --model "$folder"
  broken more_layers; with_tensor "$folder" model.layers.2.self_attn.k_proj.weight 64 128
  expect_error 1 "tensor model.layers.2.self_attn.k_proj.weight has no place" "${logits[@]}" --model "$folder"
  broken lost_shard; mv "$folder/model.safetensors" "$folder/other.safetensors"
  echo '{"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}' >"$folder/model.safetensors.index.json"
  expect_error 1 "model-00001-of-00002.safetensors" "${logits[@]}" --model "$folder"

  broken malformed; truncate -s 300 "$folder/config.json"
  expect_error 1 "config.json: not valid JSON" "${logits[@]}" --model "$folder"
  broken unknown; rewrite_json "$folder/config.json" 'o["architectures"] = ["MambaForCausalLM"]'
  expect_error 1 'architecture "MambaForCausalLM"' "${logits[@]}" --model "$folder"
  expect_error 1 'architecture "MambaForCausalLM"' "${sft[@]}" --model "$folder" --data "$alpaca"
  broken keyless; rewrite_json "$folder/config.json" 'del o["hidden_size"]'
  expect_error 1 "hidden_size is missing" "${logits[@]}" --model "$folder"
  broken negative; rewrite_json "$folder/config.json" 'o["num_hidden_layers"] = -2'
  expect_error 1 "num_hidden_layers" "${logits[@]}" --model "$folder"
  broken wordy; rewrite_json "$folder/config.json" 'o["num_attention_heads"] = "eight"'
  expect_error 1 "num_attention_heads" "${logits[@]}" --model "$folder"
  broken no_heads; rewrite_json "$folder/config.json" 'o["num_attention_heads"] = 0'
  expect_error 1 "num_attention_heads" "${logits[@]}" --model "$folder"
  broken act; rewrite_json "$folder/config.json" 'o["hidden_act"] = "sine"'
  expect_error 1 '"sine"' "${logits[@]}" --model "$folder"
  broken rope; rewrite_json "$folder/config.json" 'o["rope_scaling"] = {"rope_type": "spiral", "factor": 2.0}'
  expect_error 1 '"spiral"' "${logits[@]}" --model "$folder"

  broken wordless; rm "$folder/tokenizer.json"
  expect_error 1 "no tokenizer" "${sft[@]}" --model "$folder" --data "$alpaca"
  expect_error 1 "no tokenizer" "${generate[@]}" --model "$folder" --prompt hello
  expect_error 1 "no tokenizer" "${generate[@]}" --model "$folder" --interactive
  expect_error 1 "tokenizer.json" "${activations[@]}" --model "$folder" --prompt hello --sites logits
  expect_error 1 "tokenizer.json" "${tokenize[@]}" --model "$folder" --text hello
  expect_error 1 "chat: the model comes without a chat template" "${on_stories[@]}" --template chat
  expect_error 1 "without a chat template" "${generate[@]}" --model "$stories" --prompt hello --template chat
  broken garbled; truncate -s 50000 "$folder/tokenizer.json"
  expect_error 1 "tokenizer.json" "${sft[@]}" --model "$folder" --data "$alpaca"
  expect_error 1 "tokenizer.json" "${tokenize[@]}" --model "$folder" --text hello
  broken emptied; echo '{}' >"$folder/tokenizer.json"
  expect_error 1 "tokenizer.json" "${tokenize[@]}" --model "$folder" --text hello
}

out_of_range() {
  expect_error 1 "layer" "${on_stories[@]}" --layers 2
  expect_error 1 "layer" "${on_stories[@]}" --layers "0;7"
  expect_error 1 "rank" "${on_stories[@]}" --rank 129
  expect_error 1 "token 2048, but the model's vocabulary has 2048 (0..2047)" "${activations[@]}" --model "$stories" --sites logits --tokens 1,2048
  expect_error 1 "token 2048, but the model's vocabulary has 2048 (0..2047)" "${generate[@]}" --model "$stories" --tokens 1,2048
  expect_error 1 "layers.2.block_output" "${activations[@]}" --model "$stories" --tokens 1 --sites logits,layers.2.block_output
  expect_error 1 "head" "${activations[@]}" --model "$stories" --tokens 1 --sites layers.0.head.8
  command -v nvidia-smi >/dev/null || expect_error 1 "usable CUDA devices" "${on_stories[@]}" --device cuda
  expect_error 1 "CUDA" "${logits[@]}" --model "$stories" --device cuda:99
}

# on_data TEXT EXPECTED: training on a file with that text is refused.
on_data() {
  printf '%s\n' "$1" >"$work/data.jsonl"
  expect_error 1 "$2" "${sft[@]}" --model "$stories" --data "$work/data.jsonl"
}

bad_data() {
  expect_error 1 "nothing.json" "${sft[@]}" --model "$stories" --data "$work/nothing.json"
  expect_error 1 "a folder" "${sft[@]}" --model "$stories" --data "$work"
  on_data '' "data.jsonl: the file is empty"
  on_data '[]' "data.jsonl: the list is empty"
  on_data '[{"instruction":"a","output":"b"}' "data.jsonl: not JSON: line 2, column 1"
  on_data $'{"instruction":"a","output":"b"}\n{"instruction":"a",' "data.jsonl: line 2: not JSON"
  on_data $'{"instruction":"a","output":"b"}\n\n{"instruction":"a"}' 'data.jsonl: line 3: "output" is missing'
  on_data '[{"instruction":"a","output":"b"},{"instruction":"a","output":7}]' 'data.jsonl: row 2: expected "output" to be a text'
  on_data '{"question":"a","answer":"b"}' "line 1: expected instruction and output"
  on_data $'{"text":"a b"}\n{"messages":[{"role":"user"}]}' 'line 2: "messages"[0]: "content" is missing'
  on_data '[1]' "row 1: expected an object, got number"
  on_data '{"input_ids":[1,2],"labels":[2],"prompt_length":1}' "line 1: expected as many labels as input_ids, got 1 and 2"
  on_data '{"input_ids":[1,-2],"labels":[1,2],"prompt_length":1}' '"input_ids" holds -2'
  on_data '{"input_ids":[1,2],"labels":[1,2],"prompt_length":3}' '"prompt_length" from 0 to 2, got 3'
  on_data $'{"input_ids":[1,2],"labels":[1,2],"prompt_length":1}\n{"input_ids":[1,9999],"labels":[1,2],"prompt_length":1}' "line 2: token 9999"
  on_data '{"input_ids":[1,2],"labels":[5,-100],"prompt_length":1}' "none of 1 examples is usable"
  expect_error 1 "none of 8 examples is usable: within 8 tokens" "${on_stories[@]}" --max-length 8
  head -c 5000 "$stories/model.safetensors" >"$work/data.jsonl"
  expect_error 1 "data.jsonl: line 1" "${sft[@]}" --model "$stories" --data "$work/data.jsonl"
  echo '{"instruction":"a","output":"b"}' >"$work/data.jsonl"
  expect_error 1 "nothing.json" "${sft[@]}" --model "$stories" --data "$work/data.jsonl" --eval-data "$work/nothing.json"
  expect_error 1 "step 2" "${on_stories[@]}" --quiet --learning-rate 1e38 --max-grad-norm 0 --batch-size 1

  expect_error 1 "no such file" "${generate[@]}" --model "$stories" --prompt-file "$work/nothing.txt"
  : >"$work/none.txt"
  expect_error 1 "holds no prompt" "${generate[@]}" --model "$stories" --prompt-file "$work/none.txt"
  printf '{"prompt":"a"}\n{"text":"b"}\n' >"$work/prompts.jsonl"
  expect_error 1 "prompts.jsonl: line 2" "${generate[@]}" --model "$stories" --prompt-file "$work/prompts.jsonl"
  expect_error 1 "nothing.txt" "${tokenize[@]}" --model "$stories" --file "$work/nothing.txt"
}

bad_outputs() {
  mkdir -p "$work/full/inner"
  echo precious >"$work/full/inner/file"
  local before
  before=$(cd "$work/full" && find . -printf '%p %s %T@\n' | sort)
  train+=(--model "$stories" --data "$alpaca" --max-examples 8)
  expect_error 1 "the folder exists and is not empty" "${train[@]}" --output "$work/full"
  [ "$(cd "$work/full" && find . -printf '%p %s %T@\n' | sort)" = "$before" ] || fail "a folder that was refused was changed"
  expect_error 1 "expected a folder, got a file" "${train[@]}" --output "$work/full/inner/file"
  expect_error 1 "cannot create the folder" "${train[@]}" --output "$work/full/inner/file/below"
  [ "$(cat "$work/full/inner/file")" = precious ] || fail "a file was overwritten"
  expect_error 1 "missing/m.jsonl" "${on_stories[@]}" --metrics "$work/missing/m.jsonl"
  expect_error 1 "missing/o.safetensors" "$bin/activations" --threads 1 --model "$stories" --tokens 1 --sites logits --output "$work/missing/o.safetensors"
  # A link, so that nothing of the system is at stake; what it points to takes no byte.
  ln -s /dev/full "$work/no_room"
  expect_error 1 "no_room: cannot be written" "${on_stories[@]}" --quiet --metrics "$work/no_room"
  [ -L "$work/no_room" ] || fail "--metrics replaced a device by a file"
  rm -rf "$work/never"  # training had begun
}

full_disk() {
  mkdir "$work/disk"
  if ! mount -t tmpfs -o size=16k tmpfs "$work/disk" 2>/dev/null; then
    echo "a full disk is not tried: nothing can be mounted here"
    return
  fi
  # shellcheck disable=SC2064
  trap "umount '$work/disk'; rm -rf '$work'" EXIT
  expect_error 1 "No space left on device" "${train[@]}" --quiet --rank 64 --output "$work/disk/adapter"
  expect_error 1 "No space left on device" "$bin/activations" --threads 1 --model "$stories" --tokens 1,2,3 --sites logits --output "$work/disk/o.safetensors"
  [ -z "$(find "$work/disk" -type f)" ] || fail "something half-written is left on a full disk: $(find "$work/disk" -type f)"
  umount "$work/disk"
  trap 'rm -rf "$work"' EXIT
}

# on_adapter TEXT STATEMENT: the good adapter, its config changed by a Python statement on `o`, is refused with the text.
on_adapter() {
  rm -rf "$work/bad_adapter"
  cp -r "$work/good" "$work/bad_adapter"
  rewrite_json "$work/bad_adapter/adapter_config.json" "$2"
  expect_error 1 "$1" "${continued[@]}" --adapter "$work/bad_adapter"
}

bad_adapters() {
  expect_code 0 "a good adapter" "${train[@]}" --max-steps 0 --output "$work/good"
  expect_error 1 "nothing" "${continued[@]}" --adapter "$work/nothing"
  on_adapter '[reft::load_adapter] adapter_config.json: interventions[3].layer = 40, but the model has 2 layers (0..1)' \
    'o["interventions"][3]["sites"] = ["layers.40.block_output"]'
  on_adapter 'the model has 2 of width 128' 'o["base_model"]["num_layers"] = 32'
  on_adapter 'format_version = 1' 'o["format_version"] = 1'
  on_adapter 'interventions[1]' 'o["interventions"][1]["type"] = "loreftt"'
  on_adapter 'interventions[0]' 'o["interventions"][0]["positions"] = "f7-l7"'
  on_adapter 'interventions[2]' 'o["interventions"][2]["rank"] = 5'
  on_adapter 'interventions[2]' 'o["interventions"][2]["rank"] = -1'
  on_adapter 'interventions[2]' 'o["interventions"][2]["rank"] = "four"'
  on_adapter 'interventions[0]' 'o["interventions"][0]["sites"] = []'
  on_adapter 'interventions' 'del o["interventions"]'
  on_adapter 'content_hash' 'del o["content_hash"]'
  on_adapter 'not written together' 'o["content_hash"] = "0123456789abcdef"'
  on_adapter 'interventions' 'o["interventions"].append(dict(o["interventions"][0]))'
  on_adapter 'interventions' 'o["interventions"].pop()'

  rm -rf "$work/bad_adapter"; cp -r "$work/good" "$work/bad_adapter"
  # one bit, in the values
  python3 - "$work/bad_adapter/adapter_model.safetensors" <<'PY'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[-1000] ^= 4
open(sys.argv[1], "wb").write(data)
PY
  expect_error 1 "the file is damaged" "${continued[@]}" --adapter "$work/bad_adapter"
  expect_error 1 "the file is damaged" "${logits[@]}" --model "$stories" --adapter "$work/bad_adapter"
  expect_error 1 "the file is damaged" "${on_stories[@]}" --init-adapter "$work/bad_adapter"
  truncate -s 5000 "$work/bad_adapter/adapter_model.safetensors"
  expect_error 1 "truncated" "${continued[@]}" --adapter "$work/bad_adapter"
  rm "$work/bad_adapter/adapter_model.safetensors"
  expect_error 1 "adapter_model.safetensors" "${continued[@]}" --adapter "$work/bad_adapter"
  echo '[' >"$work/bad_adapter/adapter_config.json"
  expect_error 1 "adapter_config.json: expected a JSON object" "${continued[@]}" --adapter "$work/bad_adapter"

  # an adapter of another base
  expect_error 1 "but the model has 5 of width 64" "${generate[@]}" --model "$models/stories260K/stories260K.bin" --tokens 1 --adapter "$work/good"
  expect_error 1 "--init-adapter" "${on_stories[@]}" --init-adapter "$work/good" --rank 8
  expect_error 1 "nothing" "${on_stories[@]}" --init-adapter "$work/nothing"
  echo '{"type":"loreft"}' >"$work/list.json"
  expect_error 1 "expected a JSON list" "${on_stories[@]}" --config "$work/list.json"
  expect_error 1 "no such file" "${on_stories[@]}" --config "$work/nothing.json"
}

# The checks themselves: each must notice what it is for.
checks_notice() {
  noisy() { printf 'error: one\nerror: two\n' >&2; return 1; }
  ! (expect_error 1 one noisy) 2>/dev/null || fail "two error lines went unseen"
  ! (expect_error 2 "--prompt" "${continued[@]}" --adapter "$work/nothing") 2>/dev/null || fail "a wrong exit code went unseen"
  ! (expect_error 1 "other words" "${continued[@]}" --adapter "$work/nothing") 2>/dev/null || fail "wrong words went unseen"
}

checks_notice
usage_errors
bad_models
out_of_range
bad_data
bad_outputs
full_disk
bad_adapters
[ -z "$(find "$work" -maxdepth 1 -name 'never*')" ] || fail "refused commands left: $(find "$work" -maxdepth 1 -name 'never*')"
[ -z "$(find "$work" -name '*.tmp')" ] || fail "temporary files are left: $(find "$work" -name '*.tmp')"
