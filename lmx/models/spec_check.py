# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What the values of a spec may be, each by itself and together."""

from typing import Any

from lmx.errors import Problems
from lmx.nn.attention.kernels import KERNEL_CHOICES
from lmx.nn.block import PLACEMENTS
from lmx.nn.heads import HEADS, POOLINGS, ROW_HEADS
from lmx.nn.layers.activations import ACTIVATIONS
from lmx.nn.layers.initializers import INITS
from lmx.nn.layers.norm import NORMS
from lmx.nn.layers.positions import ROPE_SCALINGS
from lmx.nn.layers.quantized import QUANTIZATIONS
from lmx.nn.stack import KEEPS, LAYER_LOOPS, REMATS

POSITIONS = ("learned", "rotary", "sinusoidal", "relative", "none")
QK_NORMS = ("none", "head", "width")
DTYPES = ("bfloat16", "float32")

_COUNTS = "vocab_size layers width heads context vocab_multiple relative_buckets relative_distance outputs"
_OPTIONAL_COUNTS = """kv_heads head_width window global_every rope_original_context mup_base_width experts expert_width
  shared_expert_width"""
_POSITIVE = "rope_theta rope_factor norm_eps init_std embedding_scale logits_scale"
_OPTIONAL_POSITIVE = "attention_softcap logits_softcap rope_local_theta attention_scale"
_NOT_NEGATIVE = "load_balance router_z"


def check_choices(spec: Any, problems: Problems) -> None:
  """Names that must be rows of a table."""
  choices = {
    "model.position": (spec.position, POSITIONS),
    "model.rope_scaling": (spec.rope_scaling, ROPE_SCALINGS),
    "model.norm": (spec.norm, NORMS),
    "model.norm_position": (spec.norm_position, PLACEMENTS),
    "model.activation": (spec.activation, ACTIVATIONS),
    "model.qk_norm": (spec.qk_norm, QK_NORMS),
    "model.init": (spec.init, INITS),
    "model.pooling": (spec.pooling, (*POOLINGS, None)),
    "compute.dtype": (spec.dtype, DTYPES),
    "compute.quantization": (spec.quantization, QUANTIZATIONS),
    "compute.attention": (spec.attention, KERNEL_CHOICES),
    "compute.layers": (spec.layer_loop, LAYER_LOOPS),
    "compute.remat": (spec.remat, REMATS),
    "model head": (spec.head, HEADS),
  }
  for key, (got, allowed) in choices.items():
    if got not in allowed:
      problems.add(f"config.{key}", got=got, allowed=allowed)
  for name in spec.remat_keep:
    if name not in KEEPS:
      problems.add("config.compute.remat_keep", got=name, allowed=KEEPS)
  if spec.remat_keep and spec.remat != "full":
    problems.add("config.compute.remat_keep", got=spec.remat_keep, allowed=f"() with config.compute.remat={spec.remat}",
                 fix="--config.compute.remat=full")  # fmt: skip


def _check(spec: Any, problems: Problems, keys: str, passes: Any, allowed: str) -> None:
  for key in keys.split():
    value = getattr(spec, key)
    if not passes(value):
      problems.add(f"config.model.{key}", got=value, allowed=allowed)


def check_sizes(spec: Any, problems: Problems) -> None:
  """Numbers in their ranges."""
  _check(spec, problems, _COUNTS, lambda x: x >= 1, "a positive whole number")
  _check(spec, problems, _OPTIONAL_COUNTS, lambda x: x is None or x >= 1, "a positive whole number, or None")
  _check(spec, problems, "mlp_width", lambda x: x is None or x >= 0, "a whole number of at least 0, or None")
  _check(spec, problems, _POSITIVE, lambda x: x > 0, "a positive number")
  _check(spec, problems, _OPTIONAL_POSITIVE, lambda x: x is None or x > 0, "a positive number, or None")
  _check(spec, problems, _NOT_NEGATIVE, lambda x: x >= 0, "a number of at least 0")
  _check(spec, problems, "dropout", lambda x: 0 <= x < 1, "a number from 0 up to, but not including, 1")


def check_combinations(spec: Any, problems: Problems) -> None:
  """Values that must fit each other, derived ones included."""
  if spec.usual_pooling == "last" and spec.pooling == "cls" and spec.head in ROW_HEADS:
    problems.add("config.model.pooling", got="cls", allowed="mean or last: the first token of a causal model sees no "
                 "other, so that every text would be the same", fix="--config.model.pooling=last")  # fmt: skip
  if spec.head_width is None:
    fix = "--config.model.head_width=64 sets the width of a head on its own"
    problems.add("config.model.heads", got=spec.heads, allowed=f"a divisor of width = {spec.width}", fix=fix)
  if spec.heads % spec.kv_heads:
    problems.add("config.model.kv_heads", got=spec.kv_heads, allowed=f"a divisor of heads = {spec.heads}")
  if spec.experts and spec.experts_per_token not in range(1, spec.experts + 1):
    allowed = f"a number from 1 to experts = {spec.experts}"
    problems.add("config.model.experts_per_token", got=spec.experts_per_token, allowed=allowed)
  if spec.experts and spec.quantization != "none":
    problems.add("config.compute.quantization", got=spec.quantization, allowed="none with experts, whose products are "
                 "not quantized", fix="--config.compute.quantization=none")  # fmt: skip
  _check_positions(spec, problems)
  _check_window(spec, problems)
  _check_norms(spec, problems)


def _check_positions(spec: Any, problems: Problems) -> None:
  rotary = spec.position == "rotary"
  if rotary and spec.head_width is not None and spec.head_width % 2:
    problems.add("config.model.head_width", got=spec.head_width, allowed="an even number with rotary positions")
  if spec.rope_scaling != "none" and not rotary:
    problems.add("config.model.rope_scaling", got=spec.rope_scaling, allowed="none unless position is rotary")
  if spec.rope_scaling == "llama3" and spec.rope_original_context is None:
    fix = "--config.model.rope_original_context=8192 (the context before it was stretched)"
    problems.add("config.model.rope_original_context", got=None, allowed="a number of tokens", fix=fix)
  if spec.position == "sinusoidal" and spec.width % 2:
    problems.add("config.model.width", got=spec.width, allowed="an even number with sinusoidal positions")
  if spec.position == "relative":
    if spec.relative_buckets % 4:
      problems.add("config.model.relative_buckets", got=spec.relative_buckets, allowed="a multiple of 4")
    if spec.relative_distance <= spec.relative_buckets // 2:
      allowed = f"more than relative_buckets / 2 = {spec.relative_buckets // 2} tokens"
      problems.add("config.model.relative_distance", got=spec.relative_distance, allowed=allowed)


def _check_window(spec: Any, problems: Problems) -> None:
  if spec.global_every is not None and spec.window is None:
    fix = "--config.model.window=4096, or leave global_every out"
    problems.add("config.model.global_every", got=spec.global_every, allowed="None without a window", fix=fix)
  if spec.rope_local_theta is not None and (spec.window is None or spec.position != "rotary"):
    allowed = "None unless there is a window and position is rotary"
    problems.add("config.model.rope_local_theta", got=spec.rope_local_theta, allowed=allowed)
  if spec.global_first and spec.global_every is None:
    fix = "--config.model.global_every=3, or leave global_first out"
    problems.add("config.model.global_first", got=True, allowed="False without global_every", fix=fix)


def _check_norms(spec: Any, problems: Problems) -> None:
  if not spec.first_attention_norm and not PLACEMENTS[spec.norm_position].before:
    allowed = f"True with norm_position={spec.norm_position}, where no norm is before attention"
    problems.add("config.model.first_attention_norm", got=False, allowed=allowed,
                 fix="--config.model.first_attention_norm=true")  # fmt: skip
  if spec.pooler and spec.head_transform and spec.head in ROW_HEADS:
    allowed = "False with head_transform, which is in its place"
    problems.add("config.model.pooler", got=True, allowed=allowed, fix="--config.model.pooler=false")
