# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a config's values may be: choices, ranges, and values that must fit each other. Needs no jax and no data.

Use `check` of `lmx.config.loading`, which looks for keys that nothing reads as well.
"""

import glob
import math
import os
import re
from collections.abc import Callable
from typing import Any

from lmx.errors import LmxError, Problems
from lmx.limits import LIMITS, limit, variable
from lmx.shapes import BATCH_AXES, in_use
from lmx.units import parse_duration

# Each enumerated key and its values; the comments of configs/base.py list the same (a test compares them).
CHOICES: dict[str, tuple[str, ...]] = {
  "model.family": ("transformer", "encoder", "encoder_decoder", "lstm"),
  "model.position": ("learned", "rotary", "sinusoidal", "relative", "none"),
  "model.rope_scaling": ("none", "linear", "ntk", "llama3"),
  "model.norm": ("layernorm", "rmsnorm", "zero_centered_rmsnorm"),
  "model.norm_position": ("pre", "post", "output", "sandwich"),
  "model.activation": ("gelu", "gelu_tanh", "relu", "silu", "swiglu", "geglu", "geglu_exact"),
  "model.qk_norm": ("none", "head", "width"),
  "model.pooling": ("cls", "mean", "last"),
  "model.mixer": ("attention", "mamba2"),
  "model.init": ("gpt2", "normal", "xavier", "lecun", "uniform"),
  "compute.dtype": ("bfloat16", "float32"),
  "compute.quantization": ("none", "int8", "fp8", "fp8_b11"),
  "compute.attention": ("auto", "reference", "einsum", "xla", "cpu", "cudnn", "mosaic", "splash"),
  "compute.layers": ("auto", "scanned", "unrolled"),
  "optimizer.momentum_dtype": ("float32", "bfloat16"),
  "compute.remat": ("none", "full", "dots", "offload"),
  "tokenizer.kind": ("bytes", "sentencepiece", "huggingface", "marian"),
  "tokenizer.model_type": ("bpe", "unigram", "char"),
  "data.heldout_split": ("document", "tail"),
  "tokenizer.framing": ("auto", "own", "document"),
  "data.packing": ("packed", "concatenated", "padded", "streams"),
  "data.bad_documents": ("error", "skip"),
  "objective.chat_answers": ("auto", "together", "apart"),
  "train.nonfinite": ("stop", "skip"),
  "optimizer.schedule": ("constant", "cosine", "linear", "inverse_sqrt", "wsd", "plateau"),
}

OPTIONAL = ("model.pooling",)  # Enumerated keys that may be None.

# What the items of a tuple are: "str" items may be typed as a comma list, a "text" item may contain commas.
TUPLE_ITEMS = {
  "data.sources": "str",
  "data.weights": "float",
  "data.heldout_sources": "str",
  "evaluation.prompts": "text",
  "objective.denoisers": "triple",
  "objective.labels": "str",
  "compute.remat_keep": "str",
  "optimizer.decay_rules": "rule",
  "optimizer.lr_rules": "rule",
}

# What may stand before a colon in a source, to force how its files are read.
READINGS = ("text", "jsonl", "tsv", "csv", "conll", "parquet", "arrow", "tokens")

# Keys that hold characters rather than a name or a path: typed in a shell, \n is a newline and \\ a backslash.
CHARACTERS = ("data.separator", "evaluation.prompts")

DURATIONS = {
  "train.duration": "a positive number of steps, tokens, examples or epochs (percent has nothing to refer to)",
  "optimizer.warmup": "",
  "optimizer.decay": "",
  "evaluation.every": "",
  "checkpoint.every": "",
  "checkpoint.keep_every": "",
  "log.every": "",
}


Rule = tuple[Callable[[Any], bool], str]
_COUNT: Rule = (lambda x: x >= 1, "a whole number of at least 1")
_LAYERS: Rule = (
  lambda x: 1 <= x <= limit("layers"),
  f"at least 1, at most {variable('layers')} ({LIMITS['layers'][0]:,})",
)
_WHOLE: Rule = (lambda x: x >= 0, "a whole number of at least 0")
_POSITIVE: Rule = (lambda x: math.isfinite(x) and x > 0, "a number above 0")
_NOT_NEGATIVE: Rule = (lambda x: math.isfinite(x) and x >= 0, "a number of at least 0")
_BELOW_ONE: Rule = (lambda x: 0 <= x < 1, "a number from 0 up to, not including, 1")
_BETWEEN: Rule = (lambda x: 0 < x < 1, "a number between 0 and 1")
_UP_TO_ONE: Rule = (lambda x: 0 <= x <= 1, "a number from 0 to 1")
_FACTOR: Rule = (lambda x: math.isfinite(x) and x > 1, "a number above 1")
_FILLED: Rule = (lambda x: len(x) > 0, "at least one character or item")

_MESH: Rule = (lambda x: x == -1 or x >= 1, "a whole number of at least 1, or -1 for what the other axes leave")
_SEED: Rule = (lambda x: 0 <= x < 2**31, "a whole number from 0 to 2147483647")
_NAME: Rule = (
  lambda x: bool(re.fullmatch(r"[\w.+=,@-]+", x)) and x.strip(".") != "",
  "letters, digits, and any of . _ + = , @ -, as it names a folder",
)

_DAY: Rule = (lambda x: bool(re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", x)), "a day, as 2024-07-26")

_RANGES = (
  (_NAME, "name"),
  (_DAY, "objective.chat_date"),
  (_SEED, "seed"),
  (_LAYERS, "model.layers model.encoder_layers"),
  (
    _COUNT,
    """model.width model.heads model.kv_heads model.head_width model.context
    model.vocab_size model.vocab_multiple model.rope_original_context model.window tokenizer.vocab_size
    tokenizer.train_bytes
    model.relative_buckets model.relative_distance model.global_every model.mup_base_width
    model.experts model.experts_per_token model.expert_width model.shared_expert_width model.mamba_state
    model.mamba_head_width model.mamba_expand model.mamba_groups model.mamba_conv model.mamba_chunk
    data.length data.encoder_length data.pad_multiple
    data.max_document_bytes data.prefetch_batches data.threads train.batch_size train.micro_batches
    compute.loss_chunks compute.stage_rounds compute.stage_micro_batches compute.scoped_vmem
    train.max_skipped evaluation.max_rows evaluation.batch_size evaluation.sample_tokens checkpoint.keep_last
    processes.start_seconds processes.lost_seconds""",
  ),
  (
    _POSITIVE,
    """model.rope_theta model.rope_factor model.norm_eps model.attention_softcap model.logits_softcap
    model.init_std model.rope_local_theta model.attention_scale model.embedding_scale model.logits_scale
    objective.span_length objective.dpo_beta objective.temperature
    objective.teacher_temperature lora.alpha optimizer.peak_lr optimizer.eps""",
  ),
  (
    _NOT_NEGATIVE,
    """model.load_balance model.router_z objective.z_loss optimizer.weight_decay optimizer.clip_norm
    evaluation.temperature""",
  ),
  (_WHOLE, "model.mlp_width model.token_types tokenizer.extra_ids lora.rank"),
  (_BELOW_ONE, "model.dropout objective.label_smoothing optimizer.b1 optimizer.b2"),
  (
    _BETWEEN,
    """data.heldout_fraction objective.mask_rate objective.corrupted optimizer.ema optimizer.plateau_factor""",
  ),
  (_UP_TO_ONE, "objective.fim_rate objective.fim_spm objective.distilled optimizer.final_lr_ratio"),
  (_FACTOR, "train.spike_factor"),
  (
    _FILLED,
    """tokenizer.path data.sources data.separator data.tfds_split data.tfds_dir data.cache_dir optimizer.decay_rules
    optimizer.lr_rules objective.denoisers objective.chat_template objective.teacher lora.targets checkpoint.start_from
    log.wandb_project""",
  ),
  (_MESH, "mesh.slice mesh.stage mesh.data mesh.fsdp mesh.expert mesh.sequence mesh.tensor"),
)
# A placeholder's None always passes; other values are reported with the rule's phrase.
RANGES: dict[str, Rule] = {key: rule for rule, keys in _RANGES for key in keys.split()}


def check(config: Any) -> list[str]:
  """Everything that is wrong with the values of a well-typed config; an empty list when nothing is."""
  problems = Problems()
  _check_each_value(config, problems)
  for rule in (_check_durations, _check_model, _check_rope, _check_batch, _check_tokenizer, _check_data, _check_rules):
    rule(config, problems)
  return list(dict.fromkeys(problems.messages))


def _check_each_value(config: Any, problems: Problems) -> None:
  for key, allowed in CHOICES.items():
    value = config[key]
    if value not in allowed and not (value is None and key in OPTIONAL):
      problems.add(f"config.{key}", got=value, allowed=allowed)
  for key, (passes, phrase) in RANGES.items():
    value = config[key]
    if value is not None and not passes(value):
      problems.add(f"config.{key}", got=value, allowed=phrase)


def _check_durations(config: Any, problems: Problems) -> None:
  for key, no_percent in DURATIONS.items():
    text, subject = config[key], f"config.{key}"
    if text is None:
      continue
    with problems.collect():
      number, unit = parse_duration(text, subject)
      if key in ("optimizer.warmup", "optimizer.decay"):
        if unit == "percent" and number > 100:
          problems.add(subject, got=text, allowed="0% to 100% of the run")
      elif number <= 0:
        problems.add(subject, got=text, allowed=no_percent or "a duration above 0")
      if unit == "percent" and no_percent:
        problems.add(subject, got=text, allowed=no_percent, fix=f'--{subject}="10000 steps"')


def _check_model(config: Any, problems: Problems) -> None:
  model = config.model
  if config.data.length > model.context:
    problems.add(
      "config.data.length",
      got=config.data.length,
      allowed=f"at most config.model.context = {model.context}",
      fix=f"--config.model.context={config.data.length}",
    )
  if min(model.heads, model.width) < 1 or model.family == "lstm":
    return  # Already reported, or without heads.
  if model.head_width is None and model.width % model.heads:
    good = [n for n in range(1, model.width + 1) if model.width % n == 0]
    problems.add(
      "config.model.heads",
      got=model.heads,
      allowed=f"a divisor of config.model.width = {model.width}, unless head_width is given",
      fix=f"--config.model.heads={min(good, key=lambda n: abs(n - model.heads))}",
    )
  if model.kv_heads and model.heads % model.kv_heads:
    problems.add(
      "config.model.kv_heads",
      got=model.kv_heads,
      allowed=[n for n in range(1, model.heads + 1) if model.heads % n == 0],
      fix=f"a divisor of config.model.heads = {model.heads}",
    )
  head_width = model.head_width or model.width // model.heads
  if model.position == "rotary" and head_width % 2:
    problems.add("config.model.head_width", got=head_width, allowed="an even number: RoPE rotates pairs of dimensions")


def _check_rope(config: Any, problems: Problems) -> None:
  model = config.model
  if model.rope_scaling == "none":
    if model.rope_factor != 1.0:
      problems.add(
        "config.model.rope_factor",
        got=model.rope_factor,
        allowed="1.0 while config.model.rope_scaling is 'none'",
        fix="--config.model.rope_scaling=linear (or ntk, llama3)",
      )
    return
  if model.position != "rotary":
    problems.add(
      "config.model.rope_scaling",
      got=model.rope_scaling,
      allowed=f"'none' while config.model.position is {model.position!r}",
      fix="--config.model.position=rotary",
    )
  if model.rope_scaling == "llama3" and model.rope_original_context is None:
    problems.add(
      "config.model.rope_original_context",
      got=None,
      allowed="the context before the growth, in tokens, which llama3 scaling needs",
      fix="--config.model.rope_original_context=8192",
    )


def _check_batch(config: Any, problems: Problems) -> None:
  rows, parts = config.train.batch_size, config.train.micro_batches
  if min(rows, parts) < 1:
    return
  if rows % parts:
    problems.add(
      "config.train.batch_size",
      got=rows,
      allowed=f"a multiple of config.train.micro_batches = {parts}",
      fix=f"--config.train.batch_size={math.ceil(rows / parts) * parts}",
    )
  mesh = dict(config.mesh)
  free = [name for name, size in mesh.items() if size == -1]
  if len(free) > 1:
    problems.add("config.mesh", got=mesh, allowed="one axis of -1", fix=f"--config.mesh.{free[1]}=1")
  shards = math.prod(mesh[name] for name in BATCH_AXES if mesh[name] >= 1)
  if rows % parts == 0 and rows // parts % shards:
    problems.add(
      "config.train.batch_size",
      got=rows,
      allowed=f"a multiple of {parts * shards}: micro_batches = {parts} times the mesh's "
      f"{' * '.join(in_use(mesh, BATCH_AXES)) or 'data'} = {shards}",
      fix=f"--config.train.batch_size={math.ceil(rows / parts / shards) * parts * shards}",
    )


def _check_tokenizer(config: Any, problems: Problems) -> None:
  kind, path = config.tokenizer.kind, config.tokenizer.path
  if kind == "huggingface" and path is None:
    problems.add(
      "config.tokenizer.path",
      got=None,
      allowed="a tokenizer.json, which config.tokenizer.kind = 'huggingface' needs",
      fix="--config.tokenizer.path=path/to/tokenizer.json",
    )
  if kind == "bytes" and path is not None:
    problems.add(
      "config.tokenizer.path", got=path, allowed="None: bytes need no file", fix="--config.tokenizer.path=none"
    )


def _check_data(config: Any, problems: Problems) -> None:
  data = config.data
  if data.weights and len(data.weights) != len(data.sources):
    problems.add(
      "config.data.weights",
      got=data.weights,
      allowed=f"() or one number for each of the {len(data.sources)} sources {data.sources}",
    )
  if not all(math.isfinite(weight) and weight > 0 for weight in data.weights):
    problems.add("config.data.weights", got=data.weights, allowed="numbers above 0", fix="leave the source out")
  for key in ("sources", "heldout_sources"):
    if not all(data[key]):
      problems.add(f"config.data.{key}", got=data[key], allowed="no empty names")


def _check_rules(config: Any, problems: Problems) -> None:
  for key in ("optimizer.decay_rules", "optimizer.lr_rules"):
    for pattern, multiplier in config[key]:
      _check_pattern(f"config.{key}", pattern, problems)
      if not (math.isfinite(multiplier) and multiplier >= 0):
        problems.add(f"config.{key}", got=multiplier, allowed="a multiplier of at least 0")
  for key in ("lora.targets", "lora.train_also"):
    _check_pattern(f"config.{key}", config[key], problems)


def _check_pattern(subject: str, pattern: str, problems: Problems) -> None:
  try:
    re.compile(pattern)
  except re.error as error:
    problems.add(subject, got=pattern, allowed=f"a regular expression ({error})")


def check_files(config: Any) -> list[str]:
  """The files and folders that a config names and that are not there. Loading a finished run needs none of them."""
  problems = Problems()
  for key in ("tokenizer.path", "checkpoint.start_from", "objective.chat_template", "objective.teacher"):
    path = config[key]
    if path is not None and not os.path.exists(os.path.expanduser(path)):
      problems.add(f"config.{key}", got=path, allowed="a path that exists", fix=_where(path))
  for key in ("data.sources", "data.heldout_sources"):
    for source in config[key]:
      with problems.collect():
        _check_source(f"config.{key}", source)
  return problems.messages


def _check_source(subject: str, source: str) -> None:
  prefix, colon, rest = source.partition(":")
  if source == "stdlib" or (colon and prefix == "tfds"):
    return
  path = os.path.expanduser(rest if colon and prefix in READINGS else source)
  if not os.path.exists(path) and not glob.glob(path, recursive=True):
    problems = Problems()
    problems.add(
      subject, got=source, allowed='a file, folder or glob that exists, "stdlib", or "tfds:name"', fix=_where(path)
    )
    raise LmxError(problems.messages[0])


def _where(path: str) -> str:
  folder = os.path.abspath(os.path.expanduser(path))
  while not os.path.isdir(folder):
    folder = os.path.dirname(folder)
  return f"correct the path; the nearest folder that exists is {folder}"
