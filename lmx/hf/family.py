# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The description of a Hugging Face model family: a table of settings, a table of names, and its output heads.

A row of the table of names works in both directions. Rows for parameters that a model doesn't have (a bias, a gate, a
norm of the queries) are not used; anything left over on either side is an error that names it.
"""

import dataclasses
import itertools
import re
import string
from collections.abc import Iterable, Iterator, Mapping

from lmx.errors import LmxError, nearest
from lmx.hf.settings import Always, Line
from lmx.hf.views import View

Shape = tuple[int, ...]
VOCABULARY = "v"  # The pattern letter of the vocabulary, which is padded in ours.


@dataclasses.dataclass(frozen=True)
class Rule:
  """One row of a table of names: a parameter of ours and the tensors that hold it.

  Attributes:
    ours: dotted name of the parameter.
    theirs: name of the tensor, with {layer} and {expert} where ours is stacked. None: they have no such tensor; the
      parameter is zero after an import, and an export is refused unless it is.
    view: the mapping between the two, without the stacked dimensions.
    requires: the row applies only to models that also have this parameter; "": to all.
    first: index of the first layer that has the tensor; earlier layers of ours hold `unused`, and are not exported.
    unused: fill value of the layers before `first`.
  """

  ours: str
  theirs: str | None
  view: View
  requires: str = ""
  first: int = 0
  unused: float = 0.0

  @property
  def stacked(self) -> tuple[str, ...]:
    """Placeholders of `theirs`, in the order of our leading dimensions."""
    return tuple(field for _, field, _, _ in string.Formatter().parse(self.theirs or "") if field)

  def their_name(self, index: Iterable[int]) -> str:
    """The tensor's name at one index into the stacked dimensions."""
    return (self.theirs or "").format(**dict(zip(self.stacked, index, strict=True)))


def tensor(
  ours: str, theirs: str | None, pattern: str, *, along: int | None = None, before: int = 0, requires: str = ""
) -> tuple[Rule, ...]:
  """One row of a table of names.

  Args:
    ours, theirs, requires: see `Rule`.
    pattern, along, before: see `View`.
  """
  return (Rule(ours, theirs, View(pattern, along, before), requires),)


def linear(ours: str, theirs: str, kernel: str, bias: str, *, along: int | None = None) -> tuple[Rule, ...]:
  """The rows of a linear layer: `ours`.kernel is `theirs`.weight, and .bias is .bias.

  Args:
    ours, theirs: names of the layer.
    kernel, bias: patterns of the two, see `View`.
    along: the dimension of the weight along which the kernels of several layers are concatenated (their biases share
      the bias in the same order); None: the layer has tensors to itself.
  """
  shared = None if along is None else 0
  return (*tensor(f"{ours}.kernel", f"{theirs}.weight", kernel, along=along),
          *tensor(f"{ours}.bias", f"{theirs}.bias", bias, along=shared))  # fmt: skip


def norm(ours: str, theirs: str, *, letter: str = "d") -> tuple[Rule, ...]:
  """The rows of a norm: `ours`.scale is `theirs`.weight, and .bias is .bias.

  Args:
    ours, theirs: names of the norm.
    letter: pattern letter of the normalized dimension.
  """
  pattern = f"{letter} -> {letter}"
  return (*tensor(f"{ours}.scale", f"{theirs}.weight", pattern), *tensor(f"{ours}.bias", f"{theirs}.bias", pattern))


@dataclasses.dataclass(frozen=True)
class HeadMap:
  """One output head that models of a family have.

  Attributes:
    architectures: class names in `transformers`; exports write the first.
    rules: rows for the parameters that this head adds.
    bare: the class is the backbone without a head: names have no prefix.
    ours: keys of config.model that this head sets.
    needs: keys of config.model that must have this value, since the class supports no other.
  """

  architectures: tuple[str, ...]
  rules: tuple[Rule, ...] = ()
  bare: bool = False
  ours: Mapping[str, object] = dataclasses.field(default_factory=dict)
  needs: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Family:
  """One row of `FAMILIES`.

  Attributes:
    name: their model_type.
    lines: the table of settings; an `Always` in it names our family (a key of `lmx.models.MODELS`).
    prefix: what backbone names begin with in models that have a head; a file of the bare backbone lacks it.
    backbone: the table of names without the prefix.
    heads: row of our HEADS -> that head in this family.
    ignored: regexes of tensors that are no parameters, are copies of others, or belong to a part that lmx lacks.
    copies: tensors that are copies of others -> the original; a file where the two differ is refused.
    output_bias: one of `copies` that is a parameter itself, and is exported, where the output table isn't tied.
    renamed: (regex, replacement) from the names of older files to those of this table.
    optional: tensors that are zero where a file lacks them.
    aliases: another name that files have for a key of the table of settings -> the key.
    fixed: keys of config.json that exports of this family always have, whatever the model or its tokenizer has.
    unadapted: regexes of modules that PEFT can neither adapt nor save: they are no linear layers in `transformers`,
      although the files store them as such.
  """

  name: str
  lines: tuple[Line, ...]
  prefix: str
  backbone: tuple[Rule, ...]
  heads: Mapping[str, HeadMap]
  ignored: tuple[str, ...] = ()
  copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
  output_bias: str | None = None
  renamed: tuple[tuple[str, str], ...] = ()
  optional: tuple[str, ...] = ()
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
  fixed: Mapping[str, object] = dataclasses.field(default_factory=dict)
  unadapted: tuple[str, ...] = ()

  @property
  def ours(self) -> str:
    """Our family: a key of `lmx.models.MODELS`."""
    return next(line.ours["family"] for line in self.lines if isinstance(line, Always) and "family" in line.ours)

  def rules(self, head: str, *, prefix: bool) -> tuple[Rule, ...]:
    """The rows for a model with this head, with full names; `prefix`: the files' backbone names have the prefix."""
    start = self.prefix if prefix else ""
    backbone = (
      dataclasses.replace(rule, theirs=None if rule.theirs is None else start + rule.theirs) for rule in self.backbone
    )
    return (
      *self._head_rules(head, start),
      *backbone,
    )  # `bind` takes the first row of a name: heads override the backbone.

  def _head_rules(self, head: str, start: str) -> Iterator[Rule]:
    """The head's rows; those of a part of the backbone (BERT's pooler) lose the prefix in a bare file as well."""
    for rule in self.heads[head].rules:
      inside = rule.theirs is not None and self.prefix and rule.theirs.startswith(self.prefix)
      yield dataclasses.replace(rule, theirs=start + str(rule.theirs)[len(self.prefix) :]) if inside else rule

  def old_name(self, name: str) -> str:
    """The name of an older file's tensor, as this table has it."""
    for pattern, replacement in self.renamed:
      name = re.sub(pattern, replacement, name)
    return name

  def is_ignored(self, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in self.ignored)


@dataclasses.dataclass(frozen=True)
class Bound:
  """A rule with the sizes of one model.

  Attributes:
    rule: the row.
    shape: of the parameter, stacked dimensions first.
    sizes: pattern letter -> size in their tensor.
    start: offset of our part in their tensor, along the view's `along`.
    their_shape: of the complete tensor, all parts included.
  """

  rule: Rule
  shape: Shape
  sizes: Mapping[str, int]
  start: int
  their_shape: Shape

  @property
  def leading(self) -> Shape:
    """Sizes of the stacked dimensions."""
    return self.shape[: len(self.rule.stacked)]

  def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(their name, index into the stacked dimensions) of each tensor; nothing where they have no such tensor."""
    if self.rule.theirs is not None:
      for index in itertools.product(*map(range, self.leading)):
        if self.has(index):
          yield self.rule.their_name(index), index

  def has(self, index: tuple[int, ...]) -> bool:
    """Whether they have a tensor at this index into the stacked dimensions."""
    return not self.rule.first or index[0] >= self.rule.first


def bind(rules: Iterable[Rule], shapes: Mapping[str, Shape], vocab_size: int, family: str) -> dict[str, Bound]:
  """Parameter name -> its rule with sizes.

  Args:
    rules: a table of names; the first row of a parameter wins.
    shapes: name -> shape of every parameter of the model.
    vocab_size: tokens, without the padding rows of ours.
    family: name, for messages.

  Raises:
    LmxError: a parameter that the table has no row for.
  """
  table: dict[str, Rule] = {}
  for rule in rules:
    if not rule.requires or rule.requires in shapes:
      table.setdefault(rule.ours, rule)
  for name in shapes:
    if name not in table:
      close = nearest(name, table)
      hint = f" The nearest it has is {close!r}." if close else ""
      raise LmxError(
        f"A {family} model has no place for the parameter {name!r}.{hint} Fix: another family; merge adapters first."
      )
  used = [rule for rule in table.values() if rule.ours in shapes]  # In the order of the table, which orders the parts.
  bound: dict[str, Bound] = {}
  ends: dict[str | None, int] = {}  # Their tensor -> where the next of its parts begins, in the order of the table.
  for rule in used:
    view = rule.view
    sizes = view.sizes(shapes[rule.ours][len(rule.stacked) :], {VOCABULARY: vocab_size})
    shape = list(view.part_shape(sizes))
    along = view.along or 0
    start = view.before if view.along is None else ends.get(rule.theirs, 0)
    shape[along] += start
    ends[rule.theirs] = shape[along]
    bound[rule.ours] = Bound(rule, shapes[rule.ours], sizes, start, tuple(shape))
  # A part's own shape ends where the part ends, so the last part has the shape of the complete tensor.
  complete = {rule.theirs: bound[rule.ours].their_shape for rule in used}
  return {name: dataclasses.replace(bound[name], their_shape=complete[bound[name].rule.theirs]) for name in shapes}
