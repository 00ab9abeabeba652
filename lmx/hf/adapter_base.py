# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The base of an exported adapter: finds the model that a LoRA run started from, and compares it with the run."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from lmx.errors import LmxError, message
from lmx.hf.adapter import ADAPTER_CONFIG
from lmx.hf.carried import carried_origin
from lmx.hf.description import describe, differences, make_spec
from lmx.hf.exporting import choose_family, with_zeros
from lmx.hf.family import Family
from lmx.hf.hub import model_directory
from lmx.hf.importing import load_tensors
from lmx.hf.matching import match, really_tied
from lmx.hf.weights import WeightFiles
from lmx.models import MODELS
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.training.state import abstract_model

MERGED = "export it without --adapter (adapter=True), which merges the adapters into the weights"
# Largest difference of an untrained parameter from the base's, relative to its largest number: the average of equal
# weights may round.
_ROUNDING = 1e-6


def base_name(base: str | Path | None, carried: Path | None) -> str:
  """base_model_name_or_path of adapter_config.json: an absolute path, or a hub name.

  Args:
    base: directory or hub name given by the user, or None.
    carried: the folder with the small files that the model was imported with, which name its origin; or None.

  Raises:
    LmxError: neither names a base, or it is an adapter itself.
  """
  named = carried_origin(carried) if base is None else str(base)
  if named is None:
    raise LmxError(message("base of the adapter", got=None, allowed="the model that the run was started from",
                           fix="--base=FOLDER (base=...), a Hugging Face folder or hub name; a run that was trained in "
                           "lmx gets one by lmx export RUN --output=FOLDER"))  # fmt: skip
  path = Path(named).expanduser()
  if (path / ADAPTER_CONFIG).is_file():
    raise LmxError(message("base of the adapter", got=named, allowed="a complete model: this is an adapter itself",
                           fix=MERGED))  # fmt: skip
  return str(path.resolve()) if path.is_dir() else named


def compare_with_base(
  parameters: Mapping[str, jax.Array], spec: Any, model: Mapping[str, Any], named: str, labels: Sequence[str],
  train_also: str,
) -> tuple[Family, Any, set[str]]:  # fmt: skip
  """Compares a run with its base.

  Args:
    parameters: {dotted name: array} of the run, adapters included.
    spec, model: of the run.
    named: directory or hub name of the base.
    labels: names of the classes of a new head.
    train_also: regex of the parameters that may differ from the base's.

  Returns:
    (the base's family, the spec of the run in that family, names of the parameters that aren't the base's).

  Raises:
    LmxError: the base has other settings, shapes or numbers than the model that the run was trained on.
  """
  with WeightFiles(model_directory(named)) as files:
    try:
      description = really_tied(describe(files.directory, spec.head, labels), files)
    except LmxError as error:
      raise LmxError(f"The base {named}: {error}") from error
    if description.model["family"] != model["family"]:
      raise _other_base(named, "config.model.family", model["family"], description.model["family"])
    size, outputs = description.vocab_size, description.outputs
    theirs = make_spec(description.model, vocab_size=size, head=spec.head, outputs=outputs, dtype=spec.dtype)
    filled = choose_family({**model, **dataclasses.asdict(spec)}, spec, description.family.name)[2]
    if found := differences(filled, theirs):
      raise _other_base(named, f"config.model.{found[0][0]}", *found[0][1:])
    abstract = abstract_model(lambda key: MODELS[description.model["family"]].build(theirs, rngs=nnx.Rngs(key)))
    matching = match(description, abstract, files)
    layout = Layout(make_mesh({}, jax.local_devices()[:1]))
    ours = with_zeros(parameters, filled, str(model["family"]))
    trained = set(matching.fresh)
    for name, bound in matching.bound.items():
      one = dataclasses.replace(matching, bound={name: bound})
      if name in trained or _equal(ours[name], load_tensors(files, one, abstract, layout)[name]):
        continue
      if not re.fullmatch(train_also, name):
        raise _other_base(named, name, "other numbers, and config.lora.train_also doesn't train it", "the base's")
      trained.add(name)
  return description.family, filled, trained


def _equal(ours: jax.Array, theirs: jax.Array) -> bool:
  one, other = np.asarray(jax.device_get(ours), np.float32), np.asarray(jax.device_get(theirs), np.float32)
  most = float(np.abs(other).max(initial=0.0))
  return one.shape == other.shape and bool(np.abs(one - other).max(initial=0.0) <= _ROUNDING * most)


def _other_base(named: str, subject: str, got: Any, allowed: Any) -> LmxError:
  fix = "--base=FOLDER (base=...) of the model that the run was started from (a run: lmx export RUN --output=FOLDER); "
  return LmxError(message(f"{subject} of the run, against the base {named}", got=got, allowed=f"{allowed}",
                          fix=fix + f"or {MERGED}"))  # fmt: skip
