# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Pairs the tensors of a model's files with our parameters; what is left on either side is an error that names it."""

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

_FRESH = "head."  # Prefix of the parameters that files may lack when the model gets another head.


@dataclasses.dataclass(frozen=True, eq=False)
class Matching:
  """The tensors that each parameter is read from.

  Attributes:
    bound: parameter -> its rule with sizes.
    stored: name in the family's table -> name in the files.
    fresh: parameters of a new head, which the files lack.
    left_out: tensors that are not read and are known to be irrelevant.
  """

  bound: dict[str, Bound]
  stored: dict[str, str]
  fresh: tuple[str, ...]
  left_out: tuple[str, ...]


def match(description: Description, abstract: AbstractModel, files: WeightFiles) -> Matching:
  """Pairs tensors and parameters, and checks the shapes.

  Args:
    description: the contents of config.json.
    abstract: names and shapes of the parameters.
    files: the weights.

  Raises:
    LmxError: names the first tensor that is missing, that no parameter is read from, or whose shape is wrong.
  """
  family = description.family
  stored = _names(family, files)
  rules = family.rules(description.head, prefix=_has_prefix(family, stored))
  bound = bind(
    [_there(rule, family, stored) for rule in rules], abstract.dimensions, description.vocab_size, family.name
  )
  fresh = []
  expected: dict[str, tuple[int, ...]] = {}
  for name, one in bound.items():
    tensors = {their_name: one.their_shape for their_name, _ in one.tensors()}
    if description.other_head and name.startswith(_FRESH) and not all(their_name in stored for their_name in tensors):
      fresh.append(name)
    else:
      expected |= tensors
  _resolve_copies(description, files, stored)
  extra = {name for name in stored if name not in expected}
  unknown = sorted(name for name in extra if not _may_be_left_out(description, name))
  _check_names(files.directory, expected, stored, unknown, family.name)
  for name, shape in expected.items():
    got = files.tensors[stored[name]].shape
    if got != shape:
      raise LmxError(message(f"{files.tensors[stored[name]].file}: shape of {stored[name]}", got=list(got),
                             allowed=f"{list(shape)}, by config.json"))  # fmt: skip
  return Matching(bound, stored, tuple(fresh), tuple(sorted(extra)))


_SIZES = ("width", "heads", "mlp_width", "vocab_size", "experts", "token_types")


def check_sizes(description: Description, files: WeightFiles) -> None:
  """Compares the sizes of config.json with the tensors, before anything is allocated.

  A model has no more layers than tensors, and no size above the longest dimension of a non-empty tensor (or, where each
  expert has separate tensors, their number), so allocations are bounded by the size of the files.

  Raises:
    LmxError: a size that these files can't have.
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


_CHUNK = 4096  # Rows of a table that are read and compared at once.


def really_tied(description: Description, files: WeightFiles) -> Description:
  """The description, untied where the files have an output table that differs from the embedding.

  transformers 5 does the same: it writes tie_word_embeddings: true for every T5, even one with two tables.
  """
  family, names = description.family, _names(description.family, files)
  rules = {rule.ours: rule for rule in family.rules(description.head, prefix=_has_prefix(family, names))}
  tables = [rules[ours].theirs for ours in ("token_embedding.embedding", "unembedding.kernel") if ours in rules]
  if not description.model["tied"] or len(tables) < 2:
    return description
  if tables[0] in files.replaced and tables[1] not in names:
    raise LmxError(message(f"modules_to_save of the adapter of {files.directory}", got=tables[0],
                           allowed=f"{tables[1]} as well: the base ties the two, PEFT separates them"))  # fmt: skip
  if not all(table in names for table in tables):
    return description
  embedding, output = (names[str(table)] for table in tables)
  if files.tensors[output].shape != files.tensors[embedding].shape:
    return description  # `match` raises for it.
  if _equal(files, embedding, output):
    return description
  return dataclasses.replace(description, model=description.model | {"tied": False})


def _equal(files: WeightFiles, one: str, other: str) -> bool:
  """Whether two tensors are equal; they are read in chunks."""
  shape = files.tensors[one].shape
  if files.tensors[other].shape != shape:
    return False
  rest = tuple(slice(0, size) for size in shape[1:])
  parts = ((slice(n, min(n + _CHUNK, shape[0])), *rest) for n in range(0, shape[0] if shape else 0, _CHUNK))
  return all(np.array_equal(files.read(one, part), files.read(other, part)) for part in parts)


def _resolve_copies(description: Description, files: WeightFiles, stored: dict[str, str]) -> None:
  """Checks that copies equal their originals; an untied output bias replaces its original in `stored`.

  Raises:
    LmxError: a copy differs.
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
  """Whether a tensor that no parameter is read from is known to be irrelevant.

  It is a buffer or a copy, the copy of a tied table, or belongs to a head that was replaced.
  """
  family = description.family
  if family.is_ignored(name) or name in family.copies:
    return True
  others = {rule.theirs: rule.ours for row in family.heads.values() for rule in row.rules if rule.theirs is not None}
  return name in others and (
    description.other_head or (others[name] == "unembedding.kernel" and description.model["tied"])
  )


def _there(rule: Rule, family: Family, stored: Mapping[str, str]) -> Rule:
  """The rule; for an optional tensor that the files lack, a rule that reads zeros."""
  absent = rule.theirs in family.optional and rule.theirs not in stored
  return dataclasses.replace(rule, theirs=None) if absent else rule


def _check_names(directory: Path, expected: Mapping, stored: Mapping, unknown: list[str], family: str) -> None:
  missing = [name for name in expected if name not in stored]
  if missing:
    close = nearest(missing[0], stored)
    hint = f" The nearest there is {close!r}." if close else ""
    raise LmxError(
      f"{directory}: {len(missing)} of the {len(expected)} tensors of a {family} model are missing, first "
      f"{missing[0]!r}.{hint} Fix: check that these are the weights of the model in config.json."
    )
  if unknown:
    shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    raise LmxError(
      f"{directory}: {len(unknown)} tensors have no place in a {family} model of lmx: {shown}. Fix: check that these "
      "are the weights of the model in config.json, and that it has no adapters or quantization."
    )
