# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Exports a model as a Hugging Face directory: config.json, tokenizer, and safetensors written tensor by tensor."""

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
  restore_tokenizer_files,
  token_ids,
  write_generation,
)
from lmx.hf.description import write_settings
from lmx.hf.families import FAMILIES
from lmx.hf.family import Bound, Family, bind
from lmx.hf.sentence import SentenceModel, normalizes, write_sentence_model
from lmx.hf.settings import Keys
from lmx.hf.tokenizer_files import TextInputs, check_padding, write_tokenizer
from lmx.hf.weights import WRITTEN, Planned, shards, write_weights
from lmx.models import MODELS
from lmx.paths import any_path
from lmx.training.state import abstract_model

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclasses.dataclass(frozen=True)
class Exported:
  """The result of an export.

  Attributes:
    directory: the folder that was written.
    family: model_type.
    architecture: class of `transformers` that reads it.
    files: the weight files.
    tensors: number of tensors.
    parameters: number of elements of all tensors.
    bytes: size of the weight files.
    tokenizer: whether tokenizer files were written.
    exact: whether they give lmx's ids for every text; else equally likely segmentations of a text may differ.
    base: for an adapter: the model that it belongs to.
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
  """Writes a model that `transformers` reads; in addition to the parameters, host memory holds one tensor at a time.

  Args:
    parameters: {dotted name: array}, adapters merged.
    spec: of the model.
    model: config.model as a dictionary, for keys that the spec lacks (the family).
    directory: new or empty.
    family: a row of `FAMILIES`; None: the one it was imported as, or the first that can express the model exactly.
    labels: names of the classes.
    multi_label: whether an example may have several of them.
    tokenizer: written next to the model.
    framing: the special tokens around the model's texts, a name of `lmx.objectives.examples.FRAMINGS`.
    carried: the folder with the small files that the model, or the one it was fine-tuned from, was imported with.
    length: maximum length of a text in tokens, for sentence-transformers; None: the context.
    stops: token ids that end a text in addition to the tokenizer's own.
    dtype: float32, bfloat16 or float16.
    max_shard_size: "5GB", or bytes; a larger model is split into several files with an index.

  Raises:
    LmxError: a model that no family (or not the given one) can express; a folder that isn't empty; a bad size or dtype.
  """
  directory, most = new_folder(directory), _bytes(max_shard_size)
  choose("dtype", dtype, WRITTEN)
  keys = {**model, **dataclasses.asdict(spec)}
  chosen, written, filled = choose_family(keys, spec, family, carried_family(carried))
  head, parameters = chosen.heads[spec.head], with_zeros(parameters, filled, keys["family"])
  shapes = {name: tuple(array.shape) for name, array in parameters.items()}
  bound = bind(chosen.rules(spec.head, prefix=not head.bare), shapes, spec.vocab_size, chosen.name)
  check_absent(parameters, bound, chosen.name)
  plan = plan_tensors(bound, chosen, spec)
  groups = shards([Planned(name, shape) for name, (shape, _) in plan.items()], dtype, most)
  inputs = None if tokenizer is None else TextInputs.of(tokenizer, spec, chosen.ours, framing)
  ids = _token_ids(inputs, chosen, carried, stops)
  directory.mkdir(parents=True, exist_ok=True)
  files = write_weights(directory, groups, make_tensors(plan, parameters), dtype)
  write_side_files(directory, spec, inputs, carried, chosen, length)
  if spec.head == "language":
    write_generation(directory, carried, ids, stops)
  config = carried_keys(carried, chosen) | written | _labels(spec.head, labels, multi_label) | ids
  _write_config(directory, config, chosen, spec, dtype)  # Last, so that a folder with a config.json is complete.
  numbers, size = sum(math.prod(shape) for shape, _ in plan.values()), sum(file.stat().st_size for file in files)
  named = (directory, chosen.name, head.architectures[0], tuple(files))
  return Exported(*named, len(plan), numbers, size, tokenizer is not None, tokenizer is None or tokenizer.json_is_exact)


def with_zeros(parameters: Mapping[str, Any], spec: Any, family: str) -> Mapping[str, Any]:
  """Adds zeros for parameters that only the written model has: biases, and a table of token types.

  Args:
    parameters: {dotted name: array}.
    spec: of the written model.
    family: of the model, a key of `MODELS`.
  """
  build = MODELS[family].build
  abstract = abstract_model(lambda key: build(spec, rngs=nnx.Rngs(key)))
  missing = {name: shape for name, shape in abstract.dimensions.items() if name not in parameters}
  return {**parameters, **{name: np.zeros(shape, np.float32) for name, shape in missing.items()}}


def _write_config(directory: Path, config: Keys, family: Family, spec: Any, dtype: str) -> None:
  """Writes config.json, with the dtype under its older and its newer key."""
  named = {"architectures": [family.heads[spec.head].architectures[0]], "model_type": family.name}
  config = {**config, **family.fixed, **named, "torch_dtype": dtype, "dtype": dtype, "vocab_size": spec.vocab_size}
  text = json.dumps(config, indent=2, sort_keys=True) + "\n"
  (directory / CONFIG_FILE).write_text(text, encoding="utf-8")


def new_folder(path: str | Path) -> Path:
  """The path of an output folder, which need not exist yet.

  Raises:
    LmxError: it isn't empty, or is a file.
  """
  directory = any_path(path, "output directory")
  if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
    raise LmxError(message("output directory", got=str(directory), allowed="a new or empty folder"))
  return directory


def choose_family(model: Keys, spec: Any, name: str | None, origin: str | None = None) -> tuple[Family, Keys, Any]:
  """The family to write a model as, its config.json, and the spec of the written model: see `write_settings`.

  Args:
    model: keys of config.model and all fields of the spec, with derived sizes filled in.
    spec: of the model.
    name: the family to use; None: the first that can express the model.
    origin: the family that the model was imported as, which is tried first.

  Raises:
    LmxError: the given family, or every family of such models, can't express the model; it lists the reasons.
  """
  if name is not None:
    family = choose("family", name, FAMILIES)
    return family, *write_settings(family, model, spec)
  if not _candidates(model, origin):
    raise LmxError(_no_candidates(model))
  reasons: dict[str, LmxError] = {}
  for family in _candidates(model, origin):
    try:
      return family, *write_settings(family, model, spec)
    except LmxError as error:
      reasons[family.name] = error
  listed = "\n".join(f"  {family}: {_in_one_line(error)}" for family, error in reasons.items())
  raise LmxError(f"No Hugging Face family of lmx can express this model exactly:\n{listed}")


def _candidates(model: Keys, origin: str | None) -> list[Family]:
  """The families with the model's config.model.family, beginning with the one that it was imported as."""
  names = [origin, *FAMILIES] if origin in FAMILIES else list(FAMILIES)
  return [FAMILIES[str(name)] for name in dict.fromkeys(names) if FAMILIES[str(name)].ours == model["family"]]


def _in_one_line(error: LmxError) -> str:
  return "; ".join(error.problems) if isinstance(error, ConfigError) else str(error)


def _no_candidates(model: Keys) -> str:
  """The message for a model that no Hugging Face family describes."""
  return (
    f"no Hugging Face format holds a model of config.model.family={model['family']}, whatever its other keys are; "
    'share the run\'s folder instead, which is complete by itself: lmx.load("runs/name") opens it anywhere'
  )


_FAR = 100  # More than the fields of a spec: the distance of a family that can't be compared field by field.


def export_note(model: Keys, spec: Any, origin: str | None = None) -> str:
  """One line on `lmx export`: the family it will write, or why there is none, with the keys to change for the nearest.

  Args:
    model: keys of config.model.
    spec: of the model.
    origin: the family that the model was imported as.
  """
  if not _candidates(model, origin):
    return _no_candidates(model)
  keys = {**model, **dataclasses.asdict(spec)}
  nearest: tuple[int, str] = (_FAR, "")
  for family in _candidates(model, origin):
    try:
      write_settings(family, keys, spec)
      return f"as {family.name}, {family.heads[spec.head].architectures[0]}"
    except ConfigError as error:
      nearest = min(nearest, (len(error.problems), f"; the nearest is {family.name}: {_in_one_line(error)}"))
    except LmxError as error:  # It lacks the head or a value of a setting; further differences are unknown.
      nearest = min(nearest, (_FAR - 1, f"; the nearest is {family.name}: {error}"))
  return "no Hugging Face format of lmx holds this model exactly" + nearest[1]


def _bytes(size: str | int) -> int:
  """Parses a size such as 5GB."""
  if isinstance(size, int) and size > 0:
    return size
  text = str(size).upper().strip()
  number, unit = text[:-2].strip(), text[-2:]
  if unit in _UNITS and number.replace(".", "", 1).isdigit() and float(number) > 0:
    return int(float(number) * _UNITS[unit])
  raise LmxError(message("max_shard_size", got=size, allowed="a number with KB, MB or GB, as 5GB"))


# ---------------------------------------------------------------- weights

Parts = list[tuple[str, Bound, tuple[int, ...]]]  # (our name, its rule, index into the stacked dimensions)


def plan_tensors(bound: Mapping[str, Bound], family: Family, spec: Any) -> dict[str, tuple[tuple[int, ...], Parts]]:
  """Their tensor -> (its shape, the parameters that it consists of), sorted by name.

  Args:
    bound: parameter -> its rule with sizes.
    family: of the written model.
    spec: of the written model.
  """
  plan: dict[str, tuple[tuple[int, ...], Parts]] = {}
  for name, one in bound.items():
    for their_name, index in one.tensors():
      plan.setdefault(their_name, (one.their_shape, []))[1].append((name, one, index))
  if family.output_bias is not None and not spec.tied and family.copies[family.output_bias] in plan:
    plan[family.output_bias] = plan[family.copies[family.output_bias]]
  return dict(sorted(plan.items()))


def make_tensors(plan: Mapping, parameters: Mapping[str, jax.Array]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name, array) of each of their tensors, with one in host memory at a time."""
  for their_name, (shape, parts) in plan.items():
    tensor = np.zeros(shape, np.float32)
    for name, one, index in parts:
      part = parameters[name]
      for number in index:  # Traced, so that all layers share one compiled program.
        part = jax.lax.dynamic_index_in_dim(part, np.int32(number), 0, keepdims=False)
      one.rule.view.write(np.asarray(jax.device_get(part), np.float32), tensor, one.sizes, one.start)
    yield their_name, tensor


def check_absent(parameters: Mapping[str, jax.Array], bound: Mapping[str, Bound], family: str) -> None:
  """Checks that parameters without a tensor in the family are zero.

  Args:
    parameters: {dotted name: array}.
    bound: parameter -> its rule with sizes.
    family: name, for the message.

  Raises:
    LmxError: names one that isn't.
  """
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


def _tokens(inputs: TextInputs | None, family: Family) -> Keys:
  """Ids of special tokens. The decoder of an encoder-decoder starts with the padding token, as in T5."""
  starts = family.ours == "encoder_decoder"
  if inputs is not None and "pad_token_id" in family.fixed:
    check_padding(inputs, int(str(family.fixed["pad_token_id"])), family.name)
  if inputs is None:
    return {"pad_token_id": 0, "decoder_start_token_id": 0} if starts else {}
  tokenizer = inputs.tokenizer
  ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": inputs.pad_id}
  return ids | ({"decoder_start_token_id": tokenizer.pad_id} if starts else {})


def _token_ids(inputs: TextInputs | None, family: Family, carried: Path | None, stops: Sequence[int]) -> Keys:
  """Ids of special tokens for config.json: the tokenizer's, and those the model was imported with."""
  ids = token_ids(_tokens(inputs, family), carried_config(carried), stops)
  if inputs is not None and inputs.pad_id is not None:
    ids["pad_token_id"] = inputs.pad_id  # As in the exported tokenizer_config.json.
  return ids


def write_side_files(
  directory: Path, spec: Any, inputs: TextInputs | None, carried: Path | None, family: Family, length: int | None
) -> None:
  """Writes the files of the tokenizer and, for an embedding model, of sentence-transformers.

  Args:
    directory: of the exported model.
    spec: of the model.
    inputs: how the model's texts are tokenized; None: without a tokenizer, files it was imported with are copied.
    carried: see `export_hf`.
    family: of the written model.
    length: see `export_hf`.
  """
  if inputs is None:
    restore_tokenizer_files(directory, carried)
  else:
    write_tokenizer(directory, inputs, family.name)
  if spec.head == "embedding":
    sentence = SentenceModel(spec.pooling, carried is None or normalizes(carried), length)
    write_sentence_model(directory, sentence, spec.width, carried)
