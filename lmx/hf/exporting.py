# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A model of ours as a Hugging Face directory: config.json, safetensors written tensor by tensor, tokenizer."""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmx.data.tokenizer import Tokenizer
from lmx.errors import LmxError, choose, message
from lmx.hf.description import CONFIG_FILE, write_settings
from lmx.hf.families import FAMILIES
from lmx.hf.family import Bound, Family, bind
from lmx.hf.settings import Keys
from lmx.hf.tokenizer_files import Reading, check_padding, write_tokenizer
from lmx.hf.views import View
from lmx.hf.weights import WRITTEN, Planned, shards, write_weights

GENERATION_FILE = "generation_config.json"
# Small files that say how a model is used; a run that was imported keeps them, and an export gives them back.
CARRIED = (GENERATION_FILE, "special_tokens_map.json", "added_tokens.json", "merges.txt", "modules.json",
           "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json")  # fmt: skip
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
  """

  directory: Path
  family: str
  architecture: str
  files: tuple[Path, ...]
  tensors: int
  parameters: int
  bytes: int
  tokenizer: bool


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
  dtype: str = "float32",
  max_shard_size: str | int = "5GB",
) -> Exported:
  """Writes a model so that `transformers` reads it.

  Host memory holds one tensor at a time beside the parameters themselves.

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
    carried: a folder with files of the model that this one was imported as.
    dtype: float32, bfloat16 or float16.
    max_shard_size: "5GB", or bytes; a larger model is written in several files with an index.

  Raises:
    LmxError: a model that no family (or not this one) can express, a folder that isn't empty, a bad size or dtype.
  """
  directory = new_folder(directory)
  choose("dtype", dtype, WRITTEN)
  most = _bytes(max_shard_size)
  keys = {**model, **dataclasses.asdict(spec)}
  chosen, written = choose_family(keys, spec, family, _carried_family(carried))
  head = chosen.heads[spec.head]
  shapes = {name: tuple(array.shape) for name, array in parameters.items()}
  bound = bind(chosen.rules(spec.head, prefix=not head.bare), shapes, spec.vocab_size, chosen.name)
  _check_absent(parameters, bound, chosen.name)
  plan = _plan(bound, chosen, spec.vocab_size)
  groups = shards([Planned(name, shape) for name, (shape, _) in plan.items()], dtype, most)
  reading = None if tokenizer is None else Reading.of(tokenizer, spec, chosen.ours, framing)
  config = _carried_keys(carried, chosen) | written | _labels(spec.head, labels, multi_label) | _tokens(reading, chosen)
  config |= {**chosen.fixed, "architectures": [head.architectures[0]], "model_type": chosen.name, "torch_dtype": dtype}
  directory.mkdir(parents=True, exist_ok=True)
  files = write_weights(directory, groups, _tensors(plan, parameters), dtype)
  _write_beside(directory, reading, carried, chosen)
  text = json.dumps(config | {"vocab_size": spec.vocab_size}, indent=2, sort_keys=True) + "\n"
  (directory / CONFIG_FILE).write_text(text, encoding="utf-8")  # The last: a folder with it is whole.
  numbers = sum(int(np.prod(shape, dtype=np.int64)) for shape, _ in plan.values())
  size = sum(file.stat().st_size for file in files)
  return Exported(
    directory, chosen.name, head.architectures[0], tuple(files), len(plan), numbers, size, tokenizer is not None
  )


def new_folder(path: str | Path) -> Path:
  """The path of a folder to write into.

  Raises:
    LmxError: there is something in it.
  """
  directory = Path(path).expanduser()
  if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
    raise LmxError(message("output directory", got=str(directory), allowed="a new or empty folder"))
  return directory


def choose_family(model: Keys, spec: Any, name: str | None, origin: str | None = None) -> tuple[Family, Keys]:
  """The family to write a model as, and its config.json.

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
    return family, write_settings(family, model, spec)
  reasons = []
  names = [origin, *FAMILIES] if origin in FAMILIES else list(FAMILIES)
  kin = [name for name in dict.fromkeys(names) if FAMILIES[name].ours == model["family"]]
  for family in map(FAMILIES.__getitem__, kin):
    try:
      return family, write_settings(family, model, spec)
    except LmxError as error:
      reasons.append(f"  {family.name}: {error}")
  raise LmxError("No Hugging Face family of lmx can express this model exactly:\n" + "\n".join(reasons))


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


def _plan(bound: Mapping[str, Bound], family: Family, vocab_size: int) -> dict[str, tuple[tuple[int, ...], Parts]]:
  """Their tensor -> its shape and the parts of ours that it is made of, in the order of their names."""
  plan: dict[str, tuple[tuple[int, ...], Parts]] = {}
  for name, one in bound.items():
    for their_name, index in one.tensors():
      plan.setdefault(their_name, (one.their_shape, []))[1].append((name, one, index))
  for name, pattern in family.zeros.items():
    view = View(pattern)
    groups = view.part_shape(dict.fromkeys(view.letters, vocab_size))
    plan[name] = (groups, [])
  return dict(sorted(plan.items()))


def _tensors(plan: Mapping, parameters: Mapping[str, jax.Array]) -> Iterator[tuple[str, np.ndarray]]:
  """Each of their tensors, one in host memory at a time."""
  for their_name, (shape, parts) in plan.items():
    tensor = np.zeros(shape, np.float32)
    for name, one, index in parts:
      part = parameters[name]
      for place in index:
        part = jax.lax.dynamic_index_in_dim(part, np.int32(place), 0, keepdims=False)
      one.rule.view.write(np.asarray(jax.device_get(part), np.float32), tensor, one.sizes, one.start)
    yield their_name, tensor


def _check_absent(parameters: Mapping[str, jax.Array], bound: Mapping[str, Bound], family: str) -> None:
  """What the family has no tensor for must be zero."""
  for name, one in bound.items():
    if one.rule.theirs is None and np.any(np.asarray(parameters[name])):
      raise LmxError(
        f"A {family} model has no place for {name!r}, and it isn't zero. Fix: export it as another family."
      )


# ---------------------------------------------------------------- the small files


def _carried_family(carried: Path | None) -> str | None:
  return _carried_values(carried).get("model_type")


def _carried_values(carried: Path | None) -> Keys:
  """The config.json that a model was imported with, or nothing."""
  file = None if carried is None else carried / CONFIG_FILE
  return json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}


def _carried_keys(carried: Path | None, family: Family) -> Keys:
  """What that config.json said, where the model is exported as the same family."""
  values = _carried_values(carried)
  stale = ("dtype", "torch_dtype", "rope_parameters", "transformers_version", "id2label", "label2id", "problem_type")
  same = values.get("model_type") == family.name
  return {key: value for key, value in values.items() if key not in stale} if same else {}


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


def _write_beside(directory: Path, reading: Reading | None, carried: Path | None, family: Family) -> None:
  """The files that came with the model, and the tokenizer's."""
  if carried is not None:
    carry(carried, directory)
  if reading is not None:
    write_tokenizer(directory, reading, family.name)


def carry(source: Path, target: Path) -> list[str]:
  """Copies the small files of a model's directory; their names."""
  copied = []
  for name in CARRIED:
    if (source / name).is_file():
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(source / name, target / name)
      copied.append(name)
  return copied
