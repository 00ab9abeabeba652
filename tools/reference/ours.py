# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Outputs of lmx with the same weights, and their errors relative to those of `transformers`."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmx.hf.importing import Imported, import_hf, load_tensors
from lmx.hf.matching import match
from lmx.hf.weights import WeightFiles
from lmx.models import MODELS
from lmx.objectives.parts import token_loss
from lmx.training.state import AbstractModel

Answers = dict[str, np.ndarray]
# Tiny programs spend their time in the compiler; machine code of the lowest optimisation is as correct.
_QUICK = {"xla_backend_optimization_level": 0}


def read(directory: Path, **options: Any) -> Imported:
  """A model that computes in float32."""
  return import_hf(directory, dtype="float32", **options)


def answers(imported: Imported, batch: dict[str, np.ndarray]) -> Answers:
  """Outputs of the imported model, under the names of `theirs.answers`."""
  plan = imported.abstract
  given = {name: batch[name] for name in MODELS[imported.description.model["family"]].build.inputs if name in batch}

  def run(parameters):
    outputs = plan.join(parameters)(
      given["tokens"], **{k: v for k, v in given.items() if k != "tokens"}, keep_layers=True
    )
    found = {"layers": outputs.layers, "hidden": outputs.hidden, "scores": outputs.scores}
    if outputs.unembedding is not None:
      found["logits"] = outputs.logits()
    if outputs.encoder_layers is not None:
      read = {name: given[name] for name in ("encoder_tokens", "encoder_segment_ids")}
      found |= {"encoder_layers": outputs.encoder_layers, "encoder_final": plan.join(parameters).encode(**read)}
    if "targets" in batch:
      found["loss"] = _loss(plan, parameters, batch)
    return found

  found = jax.jit(run, compiler_options=_QUICK)(imported.parameters)
  layers = {"hidden": found.pop("layers"), "encoder_hidden": found.pop("encoder_layers", ())}
  numbered = {f"{name}.{i}": layer for name, stack in layers.items() for i, layer in enumerate(stack)}
  named = found | {"final": found.pop("hidden")} | numbered
  return {name: np.asarray(value) for name, value in named.items() if value is not None}


def _loss(
  plan: AbstractModel, parameters: Any, batch: dict[str, np.ndarray], *, differentiated: bool = False
) -> jax.Array:
  """The mean over the weighted tokens; what is differentiated holds the losses of the model's parts as well."""
  loss = token_loss()(plan.join(parameters), batch, None, None)
  return (loss.sum if differentiated else loss.metrics["nll"][0]) / loss.weight


def gradients(imported: Imported, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
  """Of the mean loss, by our names. A mixture of experts adds losses of its own; compare only models without."""
  plan = imported.abstract
  return jax.jit(jax.grad(lambda p: _loss(plan, p, batch, differentiated=True)), compiler_options=_QUICK)(
    imported.parameters
  )


def their_gradients(imported: Imported, folder: Path) -> dict[str, jax.Array]:
  """Gradients that were saved under the names of the weights, read as weights are."""
  with WeightFiles(folder) as files:
    matching = match(imported.description, imported.abstract, files)
    for name, one in matching.bound.items():  # What isn't used has no gradient.
      matching.bound[name] = dataclasses.replace(one, rule=dataclasses.replace(one.rule, unused=0.0))
    return load_tensors(files, matching, imported.abstract, imported.layout)


def error(ours: np.ndarray, theirs: np.ndarray, where: np.ndarray | None = None) -> float:
  """Norm of the difference over the norm, at the positions where `where` is true."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  if ours.shape != theirs.shape:
    return float("inf")
  if where is not None:
    ours, theirs = ours[where], theirs[where]
  return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30))


def errors(ours: Answers, theirs: Answers, batch: dict[str, np.ndarray]) -> dict[str, float]:
  """Relative error, over real tokens, of all outputs of `transformers`; one that lmx lacks is infinitely wrong."""
  found = {}
  for name, value in theirs.items():
    real = batch["encoder_segment_ids" if name.startswith("encoder") else "segment_ids"] > 0
    of_tokens = value.shape[:2] == real.shape
    found[name] = error(ours[name], value, real if of_tokens else None) if name in ours else float("inf")
  return found
