# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Checks of a config's values: each by base.py's allowed values, and those that must fit each other. No jax, no data.

Use `check` of `lmx.config.loading`, which looks for keys that nothing reads as well.
"""

import glob
import math
import os
from typing import Any

from lmx.config.table import keys
from lmx.errors import LmxError, Problems
from lmx.paths import any_path, local_path, objects_of, scheme_of
from lmx.shapes import BATCH_AXES, in_use

# What may stand before a colon in a source, to force how its files are read.
READINGS = ("text", "jsonl", "tsv", "csv", "conll", "parquet", "arrow", "tokens")


def check(config: Any) -> list[str]:
  """Everything that is wrong with the values of a well-typed config; an empty list when nothing is."""
  problems = Problems()
  for name, entry in keys().items():
    with problems.collect():
      entry.check(f"config.{name}", config[name])
  for rule in (_check_model, _check_rope, _check_batch, _check_tokenizer, _check_data):
    rule(config, problems)
  return list(dict.fromkeys(problems.messages))


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
  for key, path in {"data.cache_dir": data.cache_dir, "data.tfds_dir": data.tfds_dir}.items():
    with problems.collect():
      local_path(path or "", f"config.{key}", "its files are mapped into memory")
  if data.weights and len(data.weights) != len(data.sources):
    problems.add(
      "config.data.weights",
      got=data.weights,
      allowed=f"() or one number for each of the {len(data.sources)} sources {data.sources}",
    )


def check_files(config: Any) -> list[str]:
  """The files and folders that a config names and that are not there. Loading a finished run needs none of them."""
  problems = Problems()
  for key in (name for name, entry in keys().items() if entry.text == "path"):
    path = config[key]
    with problems.collect():
      if path is None or any_path(path, f"config.{key}").exists():
        continue
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
  found = objects_of(path, subject) if scheme_of(path) else os.path.exists(path) or glob.glob(path, recursive=True)
  if not found:
    problems = Problems()
    problems.add(
      subject, got=source, allowed='a file, folder or glob that exists, "stdlib", or "tfds:name"', fix=_where(path)
    )
    raise LmxError(problems.messages[0])


def _where(path: str) -> str:
  if scheme_of(path):
    return "correct the path"
  folder = os.path.abspath(os.path.expanduser(path))
  while not os.path.isdir(folder):
    folder = os.path.dirname(folder)
  return f"correct the path; the nearest folder that exists is {folder}"
