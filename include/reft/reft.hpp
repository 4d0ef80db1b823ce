#pragma once

// The whole library. The order of the rooms is the order in which data flows; each includes only those above it.

#include "reft/error.hpp"
#include "reft/fwd.hpp"
#include "reft/version.hpp"

// tensor: numerics that know nothing of language models
#include "reft/tensor/activation.hpp"
#include "reft/tensor/attention.hpp"
#include "reft/tensor/checks.hpp"
#include "reft/tensor/edit_rows.hpp"
#include "reft/tensor/householder.hpp"
#include "reft/tensor/linear_cross_entropy.hpp"
#include "reft/tensor/rms_norm.hpp"
#include "reft/tensor/rotary.hpp"
#include "reft/tensor/swiglu.hpp"

// io: file formats that know nothing of models
#include "reft/io/atomic_file.hpp"
#include "reft/io/crc.hpp"
#include "reft/io/event_file.hpp"
#include "reft/io/hub_cache.hpp"
#include "reft/io/llama2c.hpp"
#include "reft/io/mapped_file.hpp"
#include "reft/io/near_names.hpp"
#include "reft/io/pickle.hpp"
#include "reft/io/safetensors.hpp"
#include "reft/io/safetensors_torch.hpp"
#include "reft/io/torch_zip.hpp"
#include "reft/io/torch_zip_torch.hpp"
#include "reft/io/zip.hpp"

// report: charts and pages that know nothing of models
#include "reft/report/heat_map.hpp"
#include "reft/report/html.hpp"
#include "reft/report/page.hpp"
#include "reft/report/series.hpp"
#include "reft/report/svg_chart.hpp"

// hook: where hidden states are seen and edited
#include "reft/hook/hook_point.hpp"
#include "reft/hook/layout.hpp"
#include "reft/hook/parse_integer.hpp"
#include "reft/hook/phase.hpp"
#include "reft/hook/positions.hpp"
#include "reft/hook/site.hpp"

// intervention: what is done there
#include "reft/intervention/attached_interventions.hpp"
#include "reft/intervention/attachment.hpp"
#include "reft/intervention/edit.hpp"
#include "reft/intervention/intervention.hpp"
#include "reft/intervention/loreft.hpp"
#include "reft/intervention/low_rank.hpp"
#include "reft/intervention/planned_edit.hpp"
#include "reft/intervention/projection.hpp"
#include "reft/intervention/registry.hpp"
#include "reft/intervention/subspaces.hpp"

// model: the frozen transformer
#include "reft/model/attention.hpp"
#include "reft/model/block.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/model/config_json.hpp"
#include "reft/model/config_keys.hpp"
#include "reft/model/families.hpp"
#include "reft/model/json_key.hpp"
#include "reft/model/kv_cache.hpp"
#include "reft/model/loading.hpp"
#include "reft/model/masked_lm.hpp"
#include "reft/model/mixture_of_experts.hpp"
#include "reft/model/mlp.hpp"
#include "reft/model/norm.hpp"
#include "reft/model/rope.hpp"
#include "reft/model/rope_scaling.hpp"
#include "reft/model/sequence_classifier.hpp"
#include "reft/model/transformer.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/model/weight_names.hpp"
#include "reft/model/weights.hpp"

// where a base and its interventions meet
#include "reft/reft_model.hpp"

// checkpoint: adapters on disk
#include "reft/checkpoint/adapter.hpp"
#include "reft/checkpoint/any_adapter.hpp"
#include "reft/checkpoint/pyreft.hpp"
#include "reft/checkpoint/pyreft_format.hpp"
#include "reft/checkpoint/pyreft_key.hpp"
#include "reft/checkpoint/pyreft_reader.hpp"
#include "reft/checkpoint/pyreft_writer.hpp"

// tokenizer: text to ids and back
#include "reft/tokenizer/added_tokens.hpp"
#include "reft/tokenizer/bpe.hpp"
#include "reft/tokenizer/byte_level.hpp"
#include "reft/tokenizer/decoder.hpp"
#include "reft/tokenizer/json_node.hpp"
#include "reft/tokenizer/normalizer.hpp"
#include "reft/tokenizer/pipeline.hpp"
#include "reft/tokenizer/post_processor.hpp"
#include "reft/tokenizer/pre_tokenizer.hpp"
#include "reft/tokenizer/regex.hpp"
#include "reft/tokenizer/text_pieces.hpp"
#include "reft/tokenizer/tokenizer.hpp"
#include "reft/tokenizer/tokenizer_json.hpp"
#include "reft/tokenizer/unicode.hpp"
#include "reft/tokenizer/vocabulary.hpp"

// data: examples to ragged batches
#include "reft/data/batch.hpp"
#include "reft/data/example.hpp"
#include "reft/data/json_rows.hpp"
#include "reft/data/load_examples.hpp"
#include "reft/data/prompt_template.hpp"
#include "reft/data/readers.hpp"
#include "reft/data/sampler.hpp"
#include "reft/data/tokenize.hpp"

// generate: continuations
#include "reft/generate/generate.hpp"
#include "reft/generate/generate_text.hpp"
#include "reft/generate/token_sampler.hpp"

// train: the interventions, and nothing else
#include "reft/train/callback.hpp"
#include "reft/train/html_report.hpp"
#include "reft/train/objective.hpp"
#include "reft/train/optimizer.hpp"
#include "reft/train/schedule.hpp"
#include "reft/train/tensorboard.hpp"
#include "reft/train/trainer.hpp"
#include "reft/train/training_state.hpp"
