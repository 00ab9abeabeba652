# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Checks of a spec's values, each by itself and together."""

import dataclasses
from typing import Any

from lmx.config.table import keys
from lmx.errors import Problems
from lmx.nn.block import PLACEMENTS
from lmx.nn.heads import HEADS, ROW_HEADS

_OTHER_NAMES = {"layer_loop": "compute.layers"}  # Fields that aren't called as their key is.


def check_values(spec: Any, problems: Problems) -> None:
  """Each field by the values that configs/base.py allows its key."""
  known = keys()
  for field in dataclasses.fields(spec):
    names = _OTHER_NAMES.get(field.name), f"model.{field.name}", f"compute.{field.name}"
    name = next((name for name in names if name in known), None)
    if name is not None:
      with problems.collect():
        known[name].check(f"config.{name}", getattr(spec, field.name))
  if spec.head not in HEADS:
    problems.add("model head", got=spec.head, allowed=HEADS)
  if spec.outputs < 1:
    problems.add("model outputs", got=spec.outputs, allowed="a positive whole number")


def check_remat(spec: Any, problems: Problems) -> None:
  """What is kept in the backward pass, where something is kept."""
  if spec.remat_keep and spec.remat != "full":
    problems.add("config.compute.remat_keep", got=spec.remat_keep, allowed=f"() with config.compute.remat={spec.remat}",
                 fix="--config.compute.remat=full")  # fmt: skip


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
