# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A model of ours as a Hugging Face directory: config.json, safetensors written tensor by tensor, tokenizer."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.errors import ConfigError, LmxError, choose, message
from lmx.hf.carried import (
  CONFIG_FILE,
  carried_config,
  carried_family,
  carried_keys,
  token_ids,
  write_beside_tokenizer,
  write_generation,
)
from lmx.hf.description import write_settings
from lmx.hf.families import FAMILIES
from lmx.hf.family import Bound, Family, bind
from lmx.hf.sentence import SentenceModel, normalizes, write_sentence_model
from lmx.hf.settings import Keys
from lmx.hf.tokenizer_files import Reading, check_padding, write_tokenizer
from lmx.hf.weights import WRITTEN, Planned, shards, write_weights
from lmx.models import MODELS
from lmx.training.state import abstract_model

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclasses.dataclass(frozen=True)
class Exported:
  """What was written.

  Attributes:
    directory: where.
    family: model_type.
    architecture: class of `transformers` that reads it.
    files: the weights'.
    tensors: how many.
    parameters: how many numbers they hold.
    bytes: size of the weights' files.
    tokenizer: whether its files are there.
    exact: whether they give lmx's ids for every text; else equally likely ways to write one may be split otherwise.
    base: of an adapter: the model that it belongs to.
  """

  directory: Path
  family: str
  architecture: str
  files: tuple[Path, ...]
  tensors: int
  parameters: int
  bytes: int
  tokenizer: bool
  exact: bool = True
  base: str | None = None


def export_hf(
  parameters: Mapping[str, jax.Array],
  spec: Any,
  model: Mapping[str, Any],
  directory: str | Path,
  *,
  family: str | None = None,
  labels: Sequence[str] = (),
  multi_label: bool = False,
  tokenizer: Tokenizer | None = None,
  framing: str = "own",
  carried: Path | None = None,
  length: int | None = None,
  stops: Sequence[int] = (),
  dtype: str = "float32",
  max_shard_size: str | int = "5GB",
) -> Exported:
  """Writes a model so that `transformers` reads it; host memory holds one tensor at a time beside the parameters.

  Args:
    parameters: {dotted name: array}, adapters merged.
    spec: of the model.
    model: config.model as a dictionary, for what the spec doesn't hold (the family).
    directory: new or empty.
    family: a row of `FAMILIES`; None: the first that can say everything about the model.
    labels: names of the classes.
    multi_label: whether a row may have several of them.
    tokenizer: its files are written beside the model.
    framing: the special tokens that the model reads around texts, a name of `lmx.objectives.examples.FRAMINGS`.
    carried: a folder with files of the model that this one was imported as, or started from.
    length: tokens that a text is cut to, for sentence-transformers to do the same; None: the context.
    stops: ids that end a text next to the tokenizer's own.
    dtype: float32, bfloat16 or float16.
    max_shard_size: "5GB", or bytes; a larger model is written in several files with an index.

  Raises:
    LmxError: a model that no family (or not this one) can express, a folder that isn't empty, a bad size or dtype.
  """
  directory, most = new_folder(directory), _bytes(max_shard_size)
  choose("dtype", dtype, WRITTEN)
  keys = {**model, **dataclasses.asdict(spec)}
  chosen, written, whole = choose_family(keys, spec, family, carried_family(carried))
  head, parameters = chosen.heads[spec.head], with_zeros(parameters, whole, keys["family"])
  shapes = {name: tuple(array.shape) for name, array in parameters.items()}
  bound = bind(chosen.rules(spec.head, prefix=not head.bare), shapes, spec.vocab_size, chosen.name)
  check_absent(parameters, bound, chosen.name)
  plan = plan_tensors(bound, chosen, spec)
  groups = shards([Planned(name, shape) for name, (shape, _) in plan.items()], dtype, most)
  reading = None if tokenizer is None else Reading.of(tokenizer, spec, chosen.ours, framing)
  ids = _token_ids(reading, chosen, carried, stops)
  directory.mkdir(parents=True, exist_ok=True)
  files = write_weights(directory, groups, make_tensors(plan, parameters), dtype)
  write_beside(directory, spec, reading, carried, chosen, length)
  if spec.head == "language":
    write_generation(directory, carried, ids, stops)
  config = carried_keys(carried, chosen) | written | _labels(spec.head, labels, multi_label) | ids
  _write_config(directory, config, chosen, spec, dtype)  # The last: a folder with it is whole.
  numbers, size = sum(math.prod(shape) for shape, _ in plan.values()), sum(file.stat().st_size for file in files)
  named = (directory, chosen.name, head.architectures[0], tuple(files))
  return Exported(*named, len(plan), numbers, size, tokenizer is not None, tokenizer is None or tokenizer.json_is_exact)


def with_zeros(parameters: Mapping[str, Any], spec: Any, family: str) -> Mapping[str, Any]:
  """Parameters with zeros for those that only the written model has: biases, and a table of token types."""
  build = MODELS[family].build
  plan = abstract_model(lambda key: build(spec, rngs=nnx.Rngs(key)))
  missing = {name: shape for name, shape in plan.dimensions.items() if name not in parameters}
  return {**parameters, **{name: np.zeros(shape, np.float32) for name, shape in missing.items()}}


def _write_config(directory: Path, config: Keys, family: Family, spec: Any, dtype: str) -> None:
  """config.json, with the names of class and dtype that older and newer programs read."""
  named = {"architectures": [family.heads[spec.head].architectures[0]], "model_type": family.name}
  config = {**config, **family.fixed, **named, "torch_dtype": dtype, "dtype": dtype, "vocab_size": spec.vocab_size}
  text = json.dumps(config, indent=2, sort_keys=True) + "\n"
  (directory / CONFIG_FILE).write_text(text, encoding="utf-8")


def new_folder(path: str | Path) -> Path:
  """The path of a folder to write into.

  Raises:
    LmxError: there is something in it.
  """
  directory = Path(path).expanduser()
  if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
    raise LmxError(message("output directory", got=str(directory), allowed="a new or empty folder"))
  return directory


def choose_family(model: Keys, spec: Any, name: str | None, origin: str | None = None) -> tuple[Family, Keys, Any]:
  """The family to write a model as, its config.json, and the spec of what is written: see `write_settings`.

  Args:
    model: keys of config.model, resolved.
    spec: the same, as a spec.
    name: the one asked for, or None.
    origin: the one that the model was imported as, tried first.

  Raises:
    LmxError: the one asked for, or every one with models of its kind, can't express the model; it says why for each.
  """
  if name is not None:
    family = choose("family", name, FAMILIES)
    return family, *write_settings(family, model, spec)
  if not _kin(model, origin):
    raise LmxError(_no_kin(model))
  reasons: dict[str, LmxError] = {}
  for family in _kin(model, origin):
    try:
      return family, *write_settings(family, model, spec)
    except LmxError as error:
      reasons[family.name] = error
  said = "\n".join(f"  {family}: {_in_one_line(error)}" for family, error in reasons.items())
  raise LmxError(f"No Hugging Face family of lmx can express this model exactly:\n{said}")


def _kin(model: Keys, origin: str | None) -> list[Family]:
  """The families with models of a kind, the one that the model was imported as first."""
  names = [origin, *FAMILIES] if origin in FAMILIES else list(FAMILIES)
  return [FAMILIES[str(name)] for name in dict.fromkeys(names) if FAMILIES[str(name)].ours == model["family"]]


def _in_one_line(error: LmxError) -> str:
  return "; ".join(error.problems) if isinstance(error, ConfigError) else str(error)


def _no_kin(model: Keys) -> str:
  """What to say of a kind of model that nobody else has a format for."""
  return (
    f"no Hugging Face format holds a model of config.model.family={model['family']}, whatever its other keys are; "
    'share the run\'s folder instead, which is complete by itself: lmx.load("runs/name") opens it anywhere'
  )


_FAR = 100  # More differences than a spec has fields.


def export_note(model: Keys, spec: Any, origin: str | None = None) -> str:
  """What `lmx export` will write a model as; or that it can't, with the keys to change for the nearest family."""
  if not _kin(model, origin):
    return _no_kin(model)
  keys = {**model, **dataclasses.asdict(spec)}
  nearest: tuple[int, str] = (_FAR, "")
  for family in _kin(model, origin):
    try:
      write_settings(family, keys, spec)
      return f"as {family.name}, {family.heads[spec.head].architectures[0]}"
    except ConfigError as error:
      nearest = min(nearest, (len(error.problems), f"; the nearest is {family.name}: {_in_one_line(error)}"))
    except LmxError as error:  # It lacks the head, or a word for a setting; there may be more.
      nearest = min(nearest, (_FAR - 1, f"; the nearest is {family.name}: {error}"))
  return "no Hugging Face format of lmx holds this model exactly" + nearest[1]


def _bytes(size: str | int) -> int:
  """5GB as a number of bytes."""
  if isinstance(size, int) and size > 0:
    return size
  text = str(size).upper().strip()
  number, unit = text[:-2].strip(), text[-2:]
  if unit in _UNITS and number.replace(".", "", 1).isdigit() and float(number) > 0:
    return int(float(number) * _UNITS[unit])
  raise LmxError(message("max_shard_size", got=size, allowed="a number with KB, MB or GB, as 5GB"))


# ---------------------------------------------------------------- numbers

Parts = list[tuple[str, Bound, tuple[int, ...]]]  # (our name, its rule, place in the stacked dimensions)


def plan_tensors(bound: Mapping[str, Bound], family: Family, spec: Any) -> dict[str, tuple[tuple[int, ...], Parts]]:
  """Their tensor -> its shape and the parts of ours that it is made of, in the order of their names."""
  plan: dict[str, tuple[tuple[int, ...], Parts]] = {}
  for name, one in bound.items():
    for their_name, index in one.tensors():
      plan.setdefault(their_name, (one.their_shape, []))[1].append((name, one, index))
  if family.output_bias is not None and not spec.tied and family.copies[family.output_bias] in plan:
    plan[family.output_bias] = plan[family.copies[family.output_bias]]
  return dict(sorted(plan.items()))


def make_tensors(plan: Mapping, parameters: Mapping[str, jax.Array]) -> Iterator[tuple[str, np.ndarray]]:
  """Each of their tensors, one in host memory at a time."""
  for their_name, (shape, parts) in plan.items():
    tensor = np.zeros(shape, np.float32)
    for name, one, index in parts:
      part = parameters[name]
      for place in index:
        part = jax.lax.dynamic_index_in_dim(part, np.int32(place), 0, keepdims=False)
      one.rule.view.write(np.asarray(jax.device_get(part), np.float32), tensor, one.sizes, one.start)
    yield their_name, tensor


def check_absent(parameters: Mapping[str, jax.Array], bound: Mapping[str, Bound], family: str) -> None:
  """What the family has no tensor for must be zero."""
  for name, one in bound.items():
    if one.rule.theirs is None and np.any(np.asarray(parameters[name])):
      raise LmxError(
        f"A {family} model has no place for {name!r}, and it isn't zero. Fix: export it as another family."
      )


# ---------------------------------------------------------------- the small files


def _labels(head: str, labels: Sequence[str], multi_label: bool) -> Keys:
  if head == "regression":
    return {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "problem_type": "regression"}
  if not labels:
    return {}
  problem = {"problem_type": "multi_label_classification" if multi_label else "single_label_classification"}
  names = {
    "id2label": {str(i): name for i, name in enumerate(labels)},
    "label2id": {n: i for i, n in enumerate(labels)},
  }
  return names | (problem if head == "classification" else {})


def _tokens(reading: Reading | None, family: Family) -> Keys:
  """Ids of special tokens. A decoder that reads an encoder starts with the padding token, in lmx as in T5."""
  starts = family.ours == "encoder_decoder"
  if reading is not None and "pad_token_id" in family.fixed:
    check_padding(reading, int(str(family.fixed["pad_token_id"])), family.name)
  if reading is None:
    return {"pad_token_id": 0, "decoder_start_token_id": 0} if starts else {}
  tokenizer = reading.tokenizer
  ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": reading.pad_id}
  return ids | ({"decoder_start_token_id": tokenizer.pad_id} if starts else {})


def _token_ids(reading: Reading | None, family: Family, carried: Path | None, stops: Sequence[int]) -> Keys:
  """Ids of special tokens for config.json: the tokenizer's, and what the model came with."""
  ids = token_ids(_tokens(reading, family), carried_config(carried), stops)
  if reading is not None and reading.pad_id is not None:
    ids["pad_token_id"] = reading.pad_id  # As its tokenizer_config.json has it.
  return ids


def write_beside(
  directory: Path, spec: Any, reading: Reading | None, carried: Path | None, family: Family, length: int | None
) -> None:
  """The tokenizer's files, or those it came with, and sentence-transformers'."""
  if reading is None:
    write_beside_tokenizer(directory, carried)
  else:
    write_tokenizer(directory, reading, family.name)
  if spec.head == "embedding":
    sentence = SentenceModel(spec.pooling, carried is None or normalizes(carried), length)
    write_sentence_model(directory, sentence, spec.width, carried)
