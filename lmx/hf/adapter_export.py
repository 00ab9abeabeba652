# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Exports a run trained with LoRA as an adapter folder of PEFT.

The folder has adapter_config.json, adapter_model.safetensors and a tokenizer, see
https://huggingface.co/docs/peft/developer_guides/checkpoint. The base is read and compared with the run, since an
adapter is only valid on the weights that it was trained on. Layers that were trained together with the adapters (a new
head) are written as modules_to_save.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.errors import LmxError, choose, message
from lmx.hf.adapter import ADAPTER_CONFIG, ADAPTER_FILE, BEGINNING, TASKS
from lmx.hf.adapter_base import MERGED, base_name, compare_with_base
from lmx.hf.description import LABELLED
from lmx.hf.exporting import (
  Exported,
  Parts,
  check_absent,
  make_tensors,
  new_folder,
  plan_tensors,
  with_zeros,
  write_side_files,
)
from lmx.hf.family import Bound, Family, bind
from lmx.hf.tokenizer_files import TextInputs
from lmx.hf.weights import WRITTEN, Planned, write_weights
from lmx.nn.layers.lora import LoraSpec, merge_lora

Plan = Mapping[str, tuple[tuple[int, ...], Parts]]  # Of `plan_tensors`.
Factors = dict[str, tuple[np.ndarray, np.ndarray]]  # Their module -> A (r, in) and B (out, r).


@dataclasses.dataclass(frozen=True)
class _Model:
  """The model behind the adapter: its family, its tensors, and its parameters with the adapters separate and merged."""

  family: Family
  spec: Any
  lora: LoraSpec
  plan: Plan
  parameters: Mapping[str, jax.Array]
  merged: Mapping[str, jax.Array]


def export_adapter(
  parameters: Mapping[str, jax.Array],
  spec: Any,
  model: Mapping[str, Any],
  directory: str | Path,
  *,
  lora: LoraSpec | None,
  train_also: str,
  base: str | Path | None = None,
  labels: Sequence[str] = (),
  tokenizer: Tokenizer | None = None,
  framing: str = "own",
  carried: Path | None = None,
  length: int | None = None,
  dtype: str = "float32",
) -> Exported:
  """Writes a run's adapters, which PEFT loads onto the model that the run started from.

  Args:
    parameters: {dotted name: array}, adapters included.
    spec, model, labels, tokenizer, framing, carried, length, dtype: as in `lmx.hf.exporting.export_hf`.
    directory: new or empty.
    lora: config.lora; None: the run has no adapters, which is refused.
    train_also: config.lora.train_also, a regex of the parameters that were trained together with the adapters.
    base: the model that the adapters belong to, a directory or a hub name; None: the one that was imported.

  Raises:
    LmxError: a run without adapters; a base that can't be found, or that the run wasn't trained on; a layer that PEFT
      can't adapt; a folder that isn't empty.
  """
  if lora is None:
    raise LmxError(message("config.lora.rank", got=0, allowed="the rank of a run trained with adapters",
                           fix=f"train it with --config.lora.rank=16, or {MERGED}"))  # fmt: skip
  directory = new_folder(directory)
  choose("dtype", dtype, WRITTEN)
  named = base_name(base, carried)
  family, filled, trained = compare_with_base(
    parameters, spec, model, named, labels if spec.head in LABELLED else (), train_also
  )
  merged = with_zeros(merge_lora(parameters, lora), filled, str(model["family"]))
  shapes = {name: tuple(array.shape) for name, array in merged.items()}
  bound = bind(family.rules(spec.head, prefix=not family.heads[spec.head].bare), shapes, spec.vocab_size, family.name)
  check_absent(merged, bound, family.name)
  one = _Model(family, filled, lora, plan_tensors(bound, family, filled), parameters, merged)
  saved = _saved_modules(one, trained)
  factors = {module: both for module, both in _factors(one) if not any(_inside(module, unit) for unit in saved)}
  if not factors:
    raise LmxError(f"Every layer with an adapter was also trained fully. Fix: {MERGED}.")
  inputs = None if tokenizer is None else TextInputs.of(tokenizer, spec, family.ours, framing)
  directory.mkdir(parents=True, exist_ok=True)
  arrays = dict(sorted({**_adapter_tensors(factors), **dict(_saved_tensors(one, saved))}.items()))
  planned = [[Planned(name, array.shape) for name, array in arrays.items()]]
  files = write_weights(directory, planned, iter(arrays.items()), dtype, single=ADAPTER_FILE)
  write_side_files(directory, spec, inputs, carried, family, length)
  _write_config(directory / ADAPTER_CONFIG, one, factors, saved, named)
  numbers, size = sum(array.size for array in arrays.values()), sum(file.stat().st_size for file in files)
  architecture = family.heads[spec.head].architectures[0]
  exact = tokenizer is None or tokenizer.json_is_exact
  return Exported(directory, family.name, architecture, tuple(files), len(arrays), numbers, size, inputs is not None,
                  exact, named)  # fmt: skip


# ---------------------------------------------------------------- adapters


def _factors(one: _Model) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
  """(their module, (A, B)) of each layer with adapters, A of shape (r, inputs) and B of shape (outputs, r).

  A tensor that holds several layers of ours gets one adapter of the sum of their ranks: the As are stacked, the Bs are
  the blocks of a block-diagonal matrix.

  Raises:
    LmxError: a layer that PEFT can't adapt.
  """
  for module, shape, adapted in _adapted(one):
    if any(re.fullmatch(pattern, module) for pattern in one.family.unadapted):
      raise LmxError(message("config.lora.targets", got=one.lora.targets,
                             allowed=f"layers that PEFT adapts, not {adapted[0][0]}, which is {module} in "
                             f"a {one.family.name} model", fix=MERGED))  # fmt: skip
    matrices = [_matrices(one, *part) for part in adapted]
    rank, along = one.lora.rank, _transposed(one, adapted[0][0], adapted[0][1])
    b_OR = np.zeros((shape[1 if along else 0], rank * len(adapted)), np.float32)
    for number, ((_, bound, _), (_, part)) in enumerate(zip(adapted, matrices, strict=True)):
      first = 0 if bound.rule.view.along is None else bound.start
      b_OR[first : first + len(part), rank * number : rank * (number + 1)] = part
    yield module, (np.concatenate([a_RI for a_RI, _ in matrices]), b_OR)


def _adapted(one: _Model) -> Iterator[tuple[str, tuple[int, ...], Parts]]:
  """(their module, shape of its weight, our adapted layers that it holds, in order)."""
  for their_name, (shape, parts) in one.plan.items():
    layers = [(name.removesuffix(".kernel"), bound, at) for name, bound, at in parts if name.endswith(".kernel")]
    if adapted := [part for part in layers if f"{part[0]}.lora_a" in one.parameters]:
      yield their_name.removesuffix(".weight"), shape, sorted(adapted, key=lambda part: part[1].start)


def _transposed(one: _Model, layer: str, bound: Bound) -> bool:
  """Whether their tensor is (inputs, outputs), as in GPT-2, and not (outputs, inputs).

  Raises:
    LmxError: it is no matrix of inputs and outputs.
  """
  view, rank = bound.rule.view, one.parameters[f"{layer}.lora_a"].ndim - len(bound.leading) - 1
  inputs, outputs = frozenset(view.ours[:rank]), frozenset(view.ours[rank:])
  groups = [frozenset(group) for group in view.groups]
  output_side = 1 if groups == [inputs, outputs] else 0
  if groups not in ([outputs, inputs], [inputs, outputs]) or view.along not in (None, output_side):
    raise LmxError(message("config.lora.targets", got=one.lora.targets,
                           allowed=f"layers that PEFT adapts, not {layer}", fix=MERGED))  # fmt: skip
  return output_side == 1


def _matrices(one: _Model, layer: str, bound: Bound, index: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """A (r, inputs) and B (outputs, r) of one layer, each dimension flattened in the order of their tensor."""
  a, b = (np.asarray(jax.device_get(one.parameters[f"{layer}.{name}"][index])) for name in ("lora_a", "lora_b"))
  view = bound.rule.view
  groups = view.groups[::-1] if _transposed(one, layer, bound) else view.groups
  outputs, inputs = (list(group) for group in groups)
  ins, outs = view.ours[: a.ndim - 1], view.ours[a.ndim - 1 :]
  a = a.transpose([ins.index(letter) for letter in inputs] + [a.ndim - 1]).reshape(-1, one.lora.rank)
  b = b.transpose([0] + [1 + outs.index(letter) for letter in outputs]).reshape(one.lora.rank, -1)
  return a.T.astype(np.float32), b.T.astype(np.float32)


def _adapter_tensors(factors: Factors) -> dict[str, np.ndarray]:
  return {f"{BEGINNING}{module}.lora_{letter}.weight": array
          for module, both in factors.items() for letter, array in zip("AB", both, strict=True)}  # fmt: skip


# ---------------------------------------------------------------- fully trained modules


def _saved_modules(one: _Model, trained: set[str]) -> list[str]:
  """Their modules for modules_to_save: those that differ from the base's, and the heads that PEFT requires there.

  Raises:
    LmxError: a parameter that PEFT can't save as part of a module, or that several modules share.
  """
  if "token_embedding.embedding" in trained and one.spec.tied and one.spec.head in ("language", "masked"):
    raise _unsaved("token_embedding.embedding", "it is the output table as well, and PEFT would copy one of the two")
  head = {str(rule.theirs).partition(".")[0] for rule in one.family.heads[one.spec.head].rules if _of_head(one, rule)}
  units = set(head) if one.spec.head in _HEADS_OF_PEFT else set()
  for their_name, (_, parts) in one.plan.items():
    name = next((name for name, _, _ in parts if name in trained), None)
    if name is None:
      continue
    module, dot, last = their_name.rpartition(".")
    first = their_name.partition(".")[0]
    unit = first if first in head else module
    if not dot or last not in ("weight", "bias"):
      raise _unsaved(name, f"{their_name} isn't the weight or bias of a module")
    if any(re.fullmatch(pattern, unit) for pattern in one.family.unadapted) or _has_children(one, unit, first in head):
      raise _unsaved(name, f"{unit} is no plain module in a {one.family.name} model")
    units.add(unit)
  for copy, name in one.family.copies.items():
    if any(_inside(name, unit) and not _inside(copy, unit) for unit in units):
      raise _unsaved(name, f"{copy} is the same tensor, and PEFT would copy one of the two")
  for unit in units:
    for module in _modules(one):
      if module != unit and module.endswith(unit) and not _inside(module, unit):
        raise _unsaved(unit, f"PEFT would take {module} for it as well")
  return sorted(units)


# PEFT adds the modules of these heads to modules_to_save.
_HEADS_OF_PEFT = ("classification", "regression", "tagging", "span")


def _of_head(one: _Model, rule: Any) -> bool:
  """Whether a row of a head's table isn't a part of the backbone."""
  prefix = one.family.prefix
  return rule.theirs is not None and bool(prefix) and not rule.theirs.startswith(prefix)


def _has_children(one: _Model, unit: str, head: bool) -> bool:
  return not head and any(_inside(module, unit) and module != unit for module in _modules(one))


def _modules(one: _Model) -> list[str]:
  return sorted({name.rpartition(".")[0] for name in one.plan})


def _inside(module: str, unit: str) -> bool:
  return module == unit or module.startswith(f"{unit}.")


def _unsaved(name: str, reason: str) -> LmxError:
  fix = f"train without it (--config.lora.train_also=''), or {MERGED}"
  return LmxError(message(f"{name}, trained next to the adapters", got=reason,
                          allowed="modules that modules_to_save of PEFT can hold", fix=fix))  # fmt: skip


def _copies(one: _Model) -> dict[str, Any]:
  """Their tensors that are copies of others: PEFT requires every tensor of a module that it saves."""
  found = {copy: one.plan[name] for copy, name in one.family.copies.items() if name in one.plan}
  table = next((entry for entry in one.plan.values() if entry[1][0][0] == "token_embedding.embedding"), None)
  output = next(
    (rule.theirs for rule in one.family.heads[one.spec.head].rules if rule.ours == "unembedding.kernel"), None
  )
  return found | ({output: table} if one.spec.tied and output is not None else {})


def _saved_tensors(one: _Model, saved: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
  some = {name: entry for name, entry in {**one.plan, **_copies(one)}.items() if any(_inside(name, x) for x in saved)}
  for name, array in make_tensors(some, one.merged):
    yield BEGINNING + name, array


# ---------------------------------------------------------------- the config


def _write_config(file: Path, one: _Model, factors: Factors, saved: Sequence[str], base: str) -> None:
  """Writes adapter_config.json with the keys that change what is computed; PEFT fills in the rest.

  Args:
    file: to write.
    one: the model.
    factors: their module -> (A, B).
    saved: modules_to_save.
    base: directory or hub name of the base.
  """
  lora, ranks = one.lora, {module: len(a_RI) for module, (a_RI, _) in factors.items()}
  targets = _shortest(set(factors), _other_modules(one, factors))
  pattern = {target: rank for target, modules in targets.items() if (rank := ranks[modules[0]]) != lora.rank}
  transposed = any(_transposed(one, *parts[0][:2]) for module, _, parts in _adapted(one) if module in factors)
  config = {
    "base_model_name_or_path": base,
    "bias": "none",
    "fan_in_fan_out": transposed,
    "inference_mode": True,
    "init_lora_weights": True,
    "lora_alpha": _number(lora.alpha),
    "lora_dropout": 0.0,
    "modules_to_save": list(saved) or None,
    "peft_type": "LORA",
    "r": lora.rank,
    "alpha_pattern": {target: _number(lora.alpha * rank / lora.rank) for target, rank in pattern.items()},
    "rank_pattern": pattern,
    "target_modules": sorted(targets),
    "task_type": _task(one),
    "use_dora": False,
    "use_rslora": False,
  }
  file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _task(one: _Model) -> str | None:
  if one.spec.head == "language":
    return "SEQ_2_SEQ_LM" if one.family.ours == "encoder_decoder" else "CAUSAL_LM"
  return next((task for task, heads in TASKS.items() if one.spec.head in heads), None)


def _number(value: float) -> int | float:
  return int(value) if math.isclose(value, round(value)) and value == round(value) else value


def _other_modules(one: _Model, factors: Factors) -> set[str]:
  """Modules that must not match target_modules: the others of the model, and those of all heads of its family."""
  heads = {str(rule.theirs) for row in one.family.heads.values() for rule in row.rules if rule.theirs is not None}
  return ({name.rpartition(".")[0] for name in heads} | set(_modules(one))) - set(factors)


def _shortest(modules: set[str], others: set[str]) -> dict[str, list[str]]:
  """End of a name -> the modules that it matches; each end is the shortest that matches none of `others`."""
  found: dict[str, list[str]] = {}
  for module in sorted(modules):
    parts = module.split(".")
    ends = [".".join(parts[-size:]) for size in range(1, len(parts) + 1)]
    chosen = next(end for end in ends if end == module or not any(f".{other}".endswith(f".{end}") for other in others))
    found.setdefault(chosen, []).append(module)
  return found
