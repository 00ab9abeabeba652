# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a family of Hugging Face models is: a table of settings, a table of names, and the matching of both with ours.

A row of the table of names works in both directions. Rows for parameters that a model doesn't have (a bias, a gate, a
norm of queries) are simply not used; what is left over on either side is an error that names it.
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
VOCABULARY = "v"  # The letter of patterns whose size is padded in ours.


@dataclasses.dataclass(frozen=True)
class Rule:
  """One parameter of ours and the tensors that it is made of.

  Attributes:
    ours: dotted name.
    theirs: their name, with {layer} and {expert} where ours is stacked; None: they have no such thing, so that it is
      zero here, and can't be exported when it isn't.
    view: how one becomes the other, without the stacked dimensions.
    beside: the row counts only in a model that also has this parameter; "": always.
    first: the first layer that they have the tensor for; the rows of ours before it aren't used, and are `unused`.
    unused: what those are filled with.
  """

  ours: str
  theirs: str | None
  view: View
  beside: str = ""
  first: int = 0
  unused: float = 0.0

  @property
  def stacked(self) -> tuple[str, ...]:
    """Placeholders in the order of our leading dimensions."""
    return tuple(field for _, field, _, _ in string.Formatter().parse(self.theirs or "") if field)

  def their_name(self, index: Iterable[int]) -> str:
    """The name at one place of the stacked dimensions."""
    return (self.theirs or "").format(**dict(zip(self.stacked, index, strict=True)))


def tensor(
  ours: str, theirs: str | None, pattern: str, *, along: int | None = None, before: int = 0, beside: str = ""
) -> tuple[Rule, ...]:
  """A row of a table of names; see `View` and `Rule`."""
  return (Rule(ours, theirs, View(pattern, along, before), beside),)


def linear(ours: str, theirs: str, kernel: str, bias: str, *, along: int | None = None) -> tuple[Rule, ...]:
  """The rows of a linear map: `ours`.kernel is `theirs`.weight, and .bias is .bias.

  With `along`, the kernels of several maps share a tensor along that dimension, and their biases another.
  """
  shared = None if along is None else 0
  return (*tensor(f"{ours}.kernel", f"{theirs}.weight", kernel, along=along),
          *tensor(f"{ours}.bias", f"{theirs}.bias", bias, along=shared))  # fmt: skip


def norm(ours: str, theirs: str, *, letter: str = "d") -> tuple[Rule, ...]:
  """The rows of a norm: `ours`.scale is `theirs`.weight, and .bias is .bias."""
  pattern = f"{letter} -> {letter}"
  return (*tensor(f"{ours}.scale", f"{theirs}.weight", pattern), *tensor(f"{ours}.bias", f"{theirs}.bias", pattern))


@dataclasses.dataclass(frozen=True)
class HeadMap:
  """One way that models of a family end.

  Attributes:
    architectures: their class names; the first is written.
    rules: for what this head adds.
    bare: the class is the backbone alone: names have no prefix.
    ours: keys of config.model that belong to it.
    needs: keys of config.model that must have this value, since this head can't be otherwise.
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
    lines: the table of settings; the first says our family.
    prefix: what backbone names begin with in models that have a head; a file of the backbone alone lacks it.
    backbone: the table of names without the prefix.
    heads: row of our HEADS -> how it is there.
    ignored: regexes of tensors that are no parameters, are copies of others, or belong to a part that lmx lacks.
    copies: tensors that are copies of others -> the one that counts; a file where the two differ is refused.
    output_bias: one of `copies` that counts itself, and is written, where the output table isn't tied.
    renamed: (regex, replacement) for names as older files have them.
    optional: tensors that are zero where a file lacks them.
    aliases: another name that files have for a key of the table of settings -> the key.
    fixed: keys of config.json that every model of the family is written with, whatever it or its tokenizer says.
    unadapted: regexes of modules that PEFT takes no adapter on, and keeps no copy of: in `transformers` they are no
      linear layers, whatever the file has.
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
    """Our family, as the table of settings says it."""
    return next(line.ours["family"] for line in self.lines if isinstance(line, Always) and "family" in line.ours)

  def rules(self, head: str, *, prefix: bool) -> tuple[Rule, ...]:
    """The rows for a model with that head, with whole names."""
    start = self.prefix if prefix else ""
    backbone = (
      dataclasses.replace(rule, theirs=None if rule.theirs is None else start + rule.theirs) for rule in self.backbone
    )
    return (*self._head_rules(head, start), *backbone)  # A head may say otherwise than the backbone: it comes first.

  def _head_rules(self, head: str, start: str) -> Iterator[Rule]:
    """A head may read what the backbone's file has, as BERT's pooler: there it lacks the prefix, too."""
    for rule in self.heads[head].rules:
      inside = rule.theirs is not None and self.prefix and rule.theirs.startswith(self.prefix)
      yield dataclasses.replace(rule, theirs=start + str(rule.theirs)[len(self.prefix) :]) if inside else rule

  def old_name(self, name: str) -> str:
    """A name as this table has it."""
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
    shape: ours, the stacked dimensions first.
    sizes: letter -> size in theirs.
    start: where our part of their tensor begins.
    their_shape: of the whole tensor.
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
    """(their name, place in the stacked dimensions) of each tensor; none where they have no such thing."""
    if self.rule.theirs is not None:
      for index in itertools.product(*map(range, self.leading)):
        if self.has(index):
          yield self.rule.their_name(index), index

  def has(self, index: tuple[int, ...]) -> bool:
    """Whether they have a tensor at this place of the stacked dimensions."""
    return not self.rule.first or index[0] >= self.rule.first


def bind(rules: Iterable[Rule], shapes: Mapping[str, Shape], vocab_size: int, family: str) -> dict[str, Bound]:
  """Our parameter -> its rule with sizes.

  Args:
    rules: the first row for a name counts.
    shapes: of all of our parameters.
    vocab_size: the real one.
    family: for messages.

  Raises:
    LmxError: a parameter that the table has no row for.
  """
  table: dict[str, Rule] = {}
  for rule in rules:
    if not rule.beside or rule.beside in shapes:
      table.setdefault(rule.ours, rule)
  for name in shapes:
    if name not in table:
      close = nearest(name, table)
      hint = f" The nearest it has is {close!r}." if close else ""
      raise LmxError(
        f"A {family} model has no place for the parameter {name!r}.{hint} Fix: another family; merge adapters first."
      )
  used = [rule for rule in table.values() if rule.ours in shapes]
  bound: dict[str, Bound] = {}
  ends: dict[str | None, int] = {}  # Of what is placed so far in a tensor of several parts.
  for rule in used:
    view = rule.view
    sizes = view.sizes(shapes[rule.ours][len(rule.stacked) :], {VOCABULARY: vocab_size})
    shape = list(view.part_shape(sizes))
    along = view.along or 0
    start = view.before if view.along is None else ends.get(rule.theirs, 0)
    shape[along] += start
    ends[rule.theirs] = shape[along]
    bound[rule.ours] = Bound(rule, shapes[rule.ours], sizes, start, tuple(shape))
  whole = {rule.theirs: bound[rule.ours].their_shape for rule in used}  # The last part knows the tensor's size.
  return {name: dataclasses.replace(bound[name], their_shape=whole[bound[name].rule.theirs]) for name in shapes}
