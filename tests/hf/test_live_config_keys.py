# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every key of config.json, changed in every way, is read as the classes of `transformers` read it, or refused.

What lmx read is written again, and both files are given to the family's class: whatever the two then disagree in was
read otherwise, or not at all.
"""

import dataclasses
import importlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from golden_models import GOLDEN, NAMES
from hf_folders import write

from lmx.errors import LmxError
from lmx.hf.description import describe, make_spec

pytestmark = pytest.mark.live
pytest.importorskip("transformers")

REMOVED = object()
VALUES = (REMOVED, None, True, False, 0, 1, 2, 3, 7, -1, 0.5, 2.5, "x", "relu", "gelu", "default", "3", [], {}, 
          {"a": 1}, [1], [0])  # fmt: skip
ROPES: tuple[dict[str, Any], ...] = (
  {"rope_type": "linear", "factor": 2.0}, {"type": "linear", "factor": 2.0}, {"rope_theta": 5e3},
  {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
   "original_max_position_embeddings": 16},
  {"rope_type": "yarn", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0, "attention_factor": 2.0},
  {"rope_type": "default", "partial_rotary_factor": 0.5}, {"rope_type": "dynamic", "factor": 2.0},
)  # fmt: skip
# Keys of any class, or of older ones, that a file may have whatever its family.
ALSO = ("rope_theta", "rope_scaling", "partial_rotary_factor", "sliding_window_pattern", "layer_types", "n_ctx",
        "rope_local_base_freq", "normalize_before", "position_embedding_type", "head_dim", "hidden_act",
        "normalize_embedding", "static_position_embeddings", "tie_encoder_decoder", "sliding_window")  # fmt: skip
# Keys that don't change what a trained model computes from ids: of training, of its outputs' form, of generation, of
# the labels (lmx/hf/description.py reads those), and those that only say how layer_types come about.
NO_NUMBERS = {
  "attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "attn_pdrop", "resid_pdrop", "embd_pdrop",
  "dropout", "dropout_rate", "activation_dropout", "classifier_dropout", "encoder_layerdrop", "decoder_layerdrop",
  "summary_first_dropout", "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
  "router_aux_loss_coef", "output_router_logits", "initializer_range", "initializer_factor", "init_std",
  "return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "chunk_size", "use_cache",
  "id2label", "label2id", "problem_type", "architectures", "dtype", "transformers_version", "model_type",
  "_name_or_path", "cls_token_id", "sep_token_id",
  "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_eos_token_id",
  "max_window_layers", "_sliding_window_pattern", "reorder_and_upcast_attn", "residual_in_fp32", "is_encoder_decoder",
  "rescale_prenorm_residual", "time_step_rank", "time_step_min", "time_step_max", "time_step_floor", "vocab_size",
  "decoder_vocab_size", "is_decoder", "mlp_dropout", "embedding_dropout", "initializer_cutoff_factor",
  "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
}  # fmt: skip
ALIKE = {"swish": "silu", "gelu_pytorch_tanh": "gelu_new"}


def changed(values: dict, known: set[str]) -> Iterator[tuple[str, Any, dict]]:
  """(key, its new value, the file) for every key and every value."""
  for key in sorted((set(values) | known | set(ALSO)) - {"model_type"}):
    for value in VALUES:
      yield key, value, {k: v for k, v in values.items() if k != key} | ({} if value is REMOVED else {key: value})
  for key in ("rope_parameters", "rope_scaling"):
    for rope in ROPES:
      yield key, rope, values | {key: rope}


def written_again(folder: Path, values: dict) -> dict:
  """The config.json that lmx reads from another one of the same family."""
  write(folder, "config.json", values)
  found = describe(folder)
  spec = make_spec(found.model, vocab_size=found.vocab_size, head=found.head, outputs=found.outputs)
  written: dict[str, Any] = {"model_type": found.family.name}
  for line in found.family.lines:
    line.write(dataclasses.asdict(spec) | {"family": found.model["family"]}, written)
  return written


def numbers(config: Any) -> dict:
  """The numbers of a configuration of `transformers`, each under one name."""
  found = {key: value for key, value in config.to_dict().items() if key not in NO_NUMBERS}
  heads = found.get("num_attention_heads", 1)
  derived = {"n_inner": 4 * found.get("n_embd", 0), "head_dim": found.get("hidden_size", 0) // (heads or 1)}
  found = {key: derived.get(key) if value is None else value for key, value in found.items()}
  found["use_bidirectional_attention"] = bool(found.get("use_bidirectional_attention"))
  found["use_sliding_window"] = bool(found.get("sliding_window")) and "sliding_attention" in found.get(
    "layer_types", ["sliding_attention"]
  )
  if isinstance(found.get("local_attention"), int):  # Half of it, rounded down, on either side.
    found["local_attention"] = found["local_attention"] // 2
  if found.get("d_model") == 1:  # Logits over sqrt(1).
    found["scale_decoder_outputs"] = False
  if isinstance(found.get("hidden_act"), str):
    found["hidden_act"] = ALIKE.get(found["hidden_act"], found["hidden_act"])
  return json.loads(json.dumps({key: _rope(value) if key == "rope_parameters" else value
                                for key, value in found.items()}, default=str))  # fmt: skip


def _rope(values: Any) -> Any:
  if not isinstance(values, dict):
    return float(values) if isinstance(values, int) else values
  return {key: _rope(value) for key, value in values.items() if key not in ("type", "partial_rotary_factor")}


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("bert-") or name == "bert-masked-8"])
def test_every_changed_config_is_read_as_transformers_reads_it_or_refused(tmp_path, name):
  logging.disable(logging.CRITICAL)
  mapping = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
  values = json.loads((GOLDEN / name / "config.json").read_text())
  if "time_step_limit" in values:
    values["time_step_limit"] = [0.0, math.inf]  # As files of older versions spell it, and from_dict takes it.
  kind = mapping[values["model_type"]]
  known = set(kind().to_dict()) | set(kind.attribute_map)
  otherwise, alike = [], 0
  for key, value, file in changed(values, known):
    try:
      ours = written_again(tmp_path, file)
    except LmxError:
      continue
    try:
      theirs = numbers(kind.from_dict(json.loads(json.dumps(file))))
    except Exception:  # A type that the class doesn't take; its errors have no class of their own.
      continue
    mine = numbers(kind.from_dict(ours))
    differs = {k: (theirs[k], mine.get(k)) for k in theirs if k in known and theirs[k] != mine.get(k)}
    alike += not differs
    otherwise += [f"{key} = {value!r}: {differs}"] if differs else []
  logging.disable(logging.NOTSET)
  assert not otherwise, "\n".join(otherwise[:20])
  assert alike > 50
