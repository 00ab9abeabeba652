# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Pairs the tensors of a model's files with our parameters: every one on either side has its place, or is named."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lmx.errors import LmxError, message, nearest
from lmx.hf.carried import CONFIG_FILE
from lmx.hf.description import Description
from lmx.hf.family import Bound, Family, Rule, bind
from lmx.hf.weights import WeightFiles
from lmx.training.state import AbstractModel

_FRESH = "head."  # Parameters under this name may be missing from the files, when another head is asked for.


@dataclasses.dataclass(frozen=True, eq=False)
class Matching:
  """Which tensors each parameter is made of.

  Attributes:
    bound: parameter -> its rule with sizes.
    stored: name in the family's table -> name in the files.
    fresh: parameters that the files lack and may lack.
    left_out: tensors without a parameter, known to be harmless.
  """

  bound: dict[str, Bound]
  stored: dict[str, str]
  fresh: tuple[str, ...]
  left_out: tuple[str, ...]


def match(description: Description, plan: AbstractModel, files: WeightFiles) -> Matching:
  """Pairs tensors and parameters; every one on either side has its place, and the right shape.

  Raises:
    LmxError: it names the first tensor that is missing, has no place, or has another shape.
  """
  family = description.family
  stored = _names(family, files)
  rules = family.rules(description.head, prefix=_has_prefix(family, stored))
  bound = bind([_there(rule, family, stored) for rule in rules], plan.dimensions, description.vocab_size, family.name)
  fresh = []
  wanted: dict[str, tuple[int, ...]] = {}
  for name, one in bound.items():
    tensors = {their_name: one.their_shape for their_name, _ in one.tensors()}
    if description.other_head and name.startswith(_FRESH) and not all(their_name in stored for their_name in tensors):
      fresh.append(name)
    else:
      wanted |= tensors
  _resolve_copies(description, files, stored)
  extra = {name for name in stored if name not in wanted}
  unknown = sorted(name for name in extra if not _may_be_left_out(description, name))
  _check_names(files.directory, wanted, stored, unknown, family.name)
  for name, shape in wanted.items():
    got = files.tensors[stored[name]].shape
    if got != shape:
      raise LmxError(message(f"{files.tensors[stored[name]].file}: shape of {stored[name]}", got=list(got),
                             allowed=f"{list(shape)}, by config.json"))  # fmt: skip
  return Matching(bound, stored, tuple(fresh), tuple(sorted(extra)))


_SIZES = ("width", "heads", "mlp_width", "vocab_size", "experts", "token_types")


def check_sizes(description: Description, files: WeightFiles) -> None:
  """Compares config.json's numbers with the tensors there are, before anything is made of either.

  A model has no more layers than tensors, and no size above the longest dimension of a tensor that holds numbers (or,
  where each expert has tensors of its own, their number), so what is made is bounded by the size of the files.

  Raises:
    LmxError: a number that these files can't have.
  """
  model, count = description.model, len(files.tensors)
  longest = max(
    (max(one.shape, default=0) for one in files.tensors.values() if np.prod(one.shape, dtype=object)), default=0
  )
  bounds = dict.fromkeys(("layers", "encoder_layers"), (count, f"{count}, the number of tensors"))
  bounds |= dict.fromkeys(_SIZES, (max(longest, count), f"{longest}, the longest dimension of a tensor"))
  if model.get("position") == "learned":
    bounds["context"] = bounds["width"]
  sizes = {**model, "vocab_size": description.vocab_size}
  for key, (most, phrase) in bounds.items():
    if (sizes.get(key) or 0) > most:
      raise LmxError(message(f"{files.directory / CONFIG_FILE}: config.model.{key}", got=sizes[key],
                             allowed=f"at most {phrase} in these files",
                             fix="check that these are the weights of the model in config.json"))  # fmt: skip


def _names(family: Family, files: WeightFiles) -> dict[str, str]:
  """Name in the family's table -> name in the files."""
  return {family.old_name(name): name for name in files.tensors}


def _has_prefix(family: Family, names: Iterable[str]) -> bool:
  return not family.prefix or any(name.startswith(family.prefix) for name in names)


_CHUNK = 4096  # Rows of a table that are compared at once.


def really_tied(description: Description, files: WeightFiles) -> Description:
  """The description, untied where the files hold an output table that differs from the embedding.

  transformers 5 decides so too: it writes tie_word_embeddings: true for every T5, those with two tables included.
  """
  family, names = description.family, _names(description.family, files)
  rules = {rule.ours: rule for rule in family.rules(description.head, prefix=_has_prefix(family, names))}
  tables = [rules[ours].theirs for ours in ("token_embedding.embedding", "unembedding.kernel") if ours in rules]
  if not description.model["tied"] or len(tables) < 2:
    return description
  if tables[0] in files.replaced and tables[1] not in names:
    raise LmxError(message(f"modules_to_save of the adapter of {files.directory}", got=tables[0],
                           allowed=f"{tables[1]} as well: the base ties the two, PEFT parts them"))  # fmt: skip
  if not all(table in names for table in tables):
    return description
  embedding, output = (names[str(table)] for table in tables)
  if files.tensors[output].shape != files.tensors[embedding].shape:
    return description  # `match` says so.
  if _equal(files, embedding, output):
    return description
  return dataclasses.replace(description, model=description.model | {"tied": False})


def _equal(files: WeightFiles, one: str, other: str) -> bool:
  """Whether two tensors hold the same numbers; they are read in parts."""
  shape = files.tensors[one].shape
  if files.tensors[other].shape != shape:
    return False
  rest = tuple(slice(0, size) for size in shape[1:])
  parts = ((slice(n, min(n + _CHUNK, shape[0])), *rest) for n in range(0, shape[0] if shape else 0, _CHUNK))
  return all(np.array_equal(files.read(one, part), files.read(other, part)) for part in parts)


def _resolve_copies(description: Description, files: WeightFiles, stored: dict[str, str]) -> None:
  """Checks that copies equal what they are copies of; an output bias of its own takes the other's place.

  Raises:
    LmxError: a copy has other numbers.
  """
  family = description.family
  for copy, original in family.copies.items():
    if copy not in stored or original not in stored or _equal(files, stored[copy], stored[original]):
      continue
    if copy != family.output_bias or description.model["tied"]:
      raise LmxError(message(f"{files.directory}: {stored[copy]}", got="other numbers than in " + stored[original],
                             allowed="a copy of it, as in every " + family.name, fix="correct the file"))  # fmt: skip
    stored[original] = stored[copy]


def _may_be_left_out(description: Description, name: str) -> bool:
  """Whether a tensor without a parameter is known to be harmless.

  It is a buffer or a copy, the copy of a tied table, or belongs to the head that isn't wanted.
  """
  family = description.family
  if family.is_ignored(name) or name in family.copies:
    return True
  others = {rule.theirs: rule.ours for row in family.heads.values() for rule in row.rules if rule.theirs is not None}
  return name in others and (
    description.other_head or (others[name] == "unembedding.kernel" and description.model["tied"])
  )


def _there(rule: Rule, family: Family, stored: Mapping[str, str]) -> Rule:
  """The rule, or for a tensor that may be absent and is, one that makes zeros."""
  absent = rule.theirs in family.optional and rule.theirs not in stored
  return dataclasses.replace(rule, theirs=None) if absent else rule


def _check_names(directory: Path, wanted: Mapping, stored: Mapping, unknown: list[str], family: str) -> None:
  missing = [name for name in wanted if name not in stored]
  if missing:
    close = nearest(missing[0], stored)
    hint = f" The nearest there is {close!r}." if close else ""
    raise LmxError(
      f"{directory}: {len(missing)} of the {len(wanted)} tensors of a {family} model are missing, first {missing[0]!r}."
      f"{hint} Fix: check that these are the weights of the model in config.json."
    )
  if unknown:
    shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    raise LmxError(
      f"{directory}: {len(unknown)} tensors have no place in a {family} model of lmx: {shown}. Fix: check that these "
      "are the weights of the model in config.json, and that it has no adapters or quantization."
    )
