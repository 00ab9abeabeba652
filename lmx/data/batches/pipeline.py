# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Input pipeline from rows to batches: Grain datasets in which every step is by random access.

No step has a state, so batch k is a pure function of (seed, k). The position that a checkpoint saves is one integer,
and the order of the rows is the same for any number of processes.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from lmx.data.batches.assemble import Assemble
from lmx.data.batches.mixing import Mixture
from lmx.data.batches.rows import Rows, Segment
from lmx.data.batches.trim import trimmed
from lmx.data.cache.encoding import DataRequirements
from lmx.errors import LmxError, message
from lmx.shapes import ALL_ROWS, RowShare

Batch = dict[str, np.ndarray]
_FINGERPRINT_BITS = 64


@dataclasses.dataclass(frozen=True)
class BatchShape:
  """How rows become batches.

  Attributes:
    length: L, tokens per row.
    encoder_length: M, tokens per row of an encoder.
    batch_size: B, rows per batch, over all processes.
    share: the rows of each batch that this process makes.
    pad_id: the token that pads rows.
    vocab_size: tokens must be 0 to vocab_size - 1; None: not checked.
    pad_multiple: batches are as long as their longest row, rounded up to a multiple of it; None: always `length`.
    threads: threads that make batches; 0: each batch is made when it is requested.
    prefetch: batches made in advance.
  """

  length: int
  encoder_length: int
  batch_size: int
  share: RowShare = ALL_ROWS
  pad_id: int = 0
  vocab_size: int | None = None
  pad_multiple: int | None = None
  threads: int = 1
  prefetch: int = 4

  def __post_init__(self) -> None:
    if self.batch_size < 1 or self.batch_size % self.share.parts:
      allowed = f"a multiple of the parts that the mesh splits a batch into ({self.share.parts})"
      raise LmxError(message("config.train.batch_size", got=self.batch_size, allowed=allowed))

  @property
  def lengths(self) -> dict[str, int]:
    """Group of arrays -> tokens per row."""
    return {"": self.length, "encoder_": self.encoder_length}

  @property
  def part_size(self) -> int:
    """Rows of one part."""
    return self.batch_size // self.share.parts


def _stack(rows: Sequence[Batch]) -> Batch:
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _join(parts: Sequence[Batch]) -> Batch:
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _seeds(seed: int, count: int) -> list[int]:
  """Independent 32-bit seeds: Grain adds the epoch to a seed, so consecutive seeds would repeat each other's orders."""
  return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


def _endless(sources: Sequence[Rows], weights: Sequence[float], seed: int, shuffle: bool) -> grain.MapDataset:
  """An infinite dataset of rows: each source reshuffled in each of its epochs, and mixed by weight.

  Without weights the sources are concatenated: an epoch has every row of every source once. Without shuffling there is
  one source, and its rows come in order.
  """
  if not shuffle:
    (rows,) = sources
    return grain.MapDataset.source(rows).repeat()
  seeds = _seeds(seed, len(sources))
  datasets: list[Any] = [grain.MapDataset.source(rows) for rows in sources]
  if not weights:
    joined = grain.MapDataset.concatenate(datasets) if len(datasets) > 1 else datasets[0]
    return joined.shuffle(seed=seeds[0]).repeat()
  endless = [dataset.shuffle(seed=s).repeat() for dataset, s in zip(datasets, seeds, strict=True)]
  return grain.MapDataset.select_from_datasets(endless, Mixture(weights)) if len(endless) > 1 else endless[0]


def _batches(rows: grain.MapDataset, requirements: DataRequirements, shape: BatchShape, seed: int) -> grain.MapDataset:
  assemble = Assemble(requirements, shape.lengths, shape.pad_id, shape.vocab_size)
  return _parts(rows.random_map(assemble, seed=seed), requirements, shape)


def _parts(rows: grain.MapDataset, requirements: DataRequirements, shape: BatchShape) -> grain.MapDataset:
  """This process's rows of every batch. The number of rows is a multiple of the batch size, or infinite."""
  # drop_remainder=True although there is no remainder: without it, Grain overflows on infinite rows in batches of 1.
  if shape.pad_multiple is not None:  # A batch's length depends on all of its rows, so every process makes all of them.
    return rows.batch(shape.batch_size, drop_remainder=True, batch_fn=_stack).map(_TrimmedShare(requirements, shape))
  parts = rows.batch(shape.part_size, drop_remainder=True, batch_fn=_stack)
  count = shape.share.parts
  held = [parts[index : len(parts) // count * count : count] for index in shape.share.held]
  return held[0] if len(held) == 1 else grain.experimental.ZipMapDataset(held).map(_join)


class _TrimmedShare:
  """Trims a batch to its longest row and takes this process's rows of it."""

  def __init__(self, requirements: DataRequirements, shape: BatchShape):
    self._requirements, self._shape = requirements, shape

  def __call__(self, batch: Batch) -> Batch:
    shape = self._shape
    cut = trimmed(batch, shape.pad_multiple or 1, self._requirements.per_row)
    starts = [index * shape.part_size for index in shape.share.held]
    return {name: np.concatenate([a[start : start + shape.part_size] for start in starts]) for name, a in cut.items()}


def _iterate(batches: grain.MapDataset, shape: BatchShape) -> Any:
  ahead = max(shape.prefetch, shape.threads) if shape.threads else 0
  options = grain.ReadOptions(num_threads=shape.threads, prefetch_buffer_size=ahead)
  return iter(batches.to_iter_dataset(options))


class Loader:
  """An infinite iterator of training batches; `position` and `seek` make it resumable.

  Attributes:
    position: batches drawn so far; prefetched ones don't count.
    wait_seconds: total time that the caller has waited in `next`.
  """

  def __init__(
    self,
    sources: Sequence[Rows],
    requirements: DataRequirements,
    shape: BatchShape,
    *,
    seed: int,
    weights: Sequence[float] = (),
    shuffle: bool = True,
  ):
    """Starts at batch 0.

    Args:
      sources: the rows of each source.
      requirements: of the objective.
      shape: of the batches.
      seed: of the order of the rows and of the objective's random choices.
      weights: proportions in which rows are drawn from the sources; (): every row of every source once per epoch.
      shuffle: False: the rows of the only source in order.
    """
    self._shape = shape
    endless = _endless(sources, weights, seed, shuffle)
    self._batches = _batches(endless, requirements, shape, _seeds(seed, len(sources) + 1)[-1])
    self._last: Batch | None = None
    self._iterator: Any = None
    self.wait_seconds = 0.0
    self.position = 0

  def __iter__(self) -> "Loader":
    return self

  def __next__(self) -> Batch:
    """This process's rows of the next batch: arrays (rows, L or M), or (rows, ...)."""
    start = time.perf_counter()
    if self._iterator is None:
      self._iterator = _iterate(self._batches[self.position :], self._shape)
    self._last = next(self._iterator)
    self.position += 1
    self.wait_seconds += time.perf_counter() - start
    return self._last

  def seek(self, position: int) -> None:
    """Makes batch number `position` the next one, in constant time."""
    self.close()
    self.position = position
    self._last = None

  @property
  def parts(self) -> int:
    """Number of parts that each batch is split into over the mesh."""
    return self._shape.share.parts

  def fingerprints(self) -> dict[int, str]:
    """A hash of the rows of each part of the last batch; `combine_fingerprints` adds up those of all parts."""
    held, size = self._shape.share.held, self._shape.part_size
    if self._last is None:
      return dict.fromkeys(held, _hex(0))
    return {
      part: batch_fingerprint({name: a[number * size : (number + 1) * size] for name, a in self._last.items()})
      for number, part in enumerate(held)
    }

  def close(self) -> None:
    """Stops the threads; `next` starts them again."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None


def batch_fingerprint(batch: Mapping[str, np.ndarray]) -> str:
  """A hash of a batch's rows that doesn't depend on their order, as 16 hexadecimal digits."""
  names = sorted(batch)
  total = 0
  for index in range(len(batch["tokens"])):
    state = hashlib.blake2b(digest_size=_FINGERPRINT_BITS // 8)
    for name in names:
      state.update(np.ascontiguousarray(batch[name][index]).data)
    total += int.from_bytes(state.digest(), "little")
  return _hex(total)


def combine_fingerprints(fingerprints: Sequence[str]) -> str:
  """The fingerprint of a batch from those of its parts, for any number of processes."""
  return _hex(sum(int(text, 16) for text in fingerprints))


def _hex(total: int) -> str:
  return f"{total % 2**_FINGERPRINT_BITS:0{_FINGERPRINT_BITS // 4}x}"


class _ChosenRows:
  """Rows at the given indices of several sources; index -1 is a row of padding."""

  def __init__(self, sources: Sequence[Rows], indices: np.ndarray):
    self._sources, self._indices = sources, indices
    self._ends = np.cumsum([len(rows) for rows in sources])

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, position: int) -> tuple[bool, list[Segment]]:
    """(whether the row counts, its segments). Padding has the segments of row 0, for their types."""
    index = int(self._indices[position])
    segments = self._row(index) if index >= 0 else []
    return bool(segments), segments or self._row(0)

  def _row(self, index: int) -> list[Segment]:
    source = int(np.searchsorted(self._ends, index, side="right"))
    first = int(self._ends[source]) - len(self._sources[source])
    return self._sources[source][index - first]


class _AssembleChosen(Assemble):
  """Assembles a row, and zeroes it if it only pads the last batch."""

  def __call__(self, chosen: Any, rng: np.random.Generator) -> Batch:
    real, segments = chosen
    row = super().__call__(segments, rng)
    return row if real else {name: np.zeros_like(array) for name, array in row.items()}


class EvalBatches:
  """Validation batches: each row once, in a fixed order; the last batch is padded with rows of zero weight.

  Every iteration yields the same batches, the objective's random choices included.

  Attributes:
    rows: number of rows evaluated.
    targets, bytes: tokens and UTF-8 bytes of these rows; with max_rows, in proportion to those of all rows.
  """

  def __init__(
    self,
    sources: Sequence[Rows],
    requirements: DataRequirements,
    shape: BatchShape,
    *,
    max_rows: int | None = None,
    in_order: bool = False,
  ):
    """See the class.

    Args:
      sources: the rows of each validation part.
      requirements: of the objective.
      shape: of the batches.
      max_rows: evaluate at most this many rows, spread evenly over all.
      in_order: evaluate the first rows instead, in complete batches, because each batch continues the one before.
    """
    total = sum(len(rows) for rows in sources)
    self.rows = min(total, max_rows) if max_rows else total
    if in_order:
      self.rows = min(total, -(-self.rows // shape.batch_size) * shape.batch_size)
    share = self.rows / total
    self.targets = share * sum(rows.targets for rows in sources)
    self.bytes = share * sum(rows.bytes for rows in sources)
    # Row i of `rows` evaluated ones is row i * total // rows of all, or row i in order.
    indices = np.arange(self.rows) * (1 if in_order else total) // (1 if in_order else self.rows)
    filled = np.full(-(-self.rows // shape.batch_size) * shape.batch_size, -1, np.int64)
    filled[: self.rows] = indices
    assembled = grain.MapDataset.source(_ChosenRows(sources, filled)).random_map(
      _AssembleChosen(requirements, shape.lengths, shape.pad_id, shape.vocab_size), seed=0
    )
    self._shape = shape
    self._batches = _parts(assembled, requirements, shape)

  def __len__(self) -> int:
    return len(self._batches)

  def __iter__(self) -> Iterator[Batch]:
    iterator = _iterate(self._batches, self._shape)
    try:
      yield from iterator
    finally:
      iterator.close()

  @property
  def bytes_per_target(self) -> float | None:
    """UTF-8 bytes of text per target; None for examples."""
    return self.bytes / self.targets if self.bytes else None
