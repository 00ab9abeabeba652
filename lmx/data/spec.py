# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`config.data` as a frozen dataclass, and the sources it names."""

import dataclasses
import math
from collections.abc import Mapping

from lmx.data.cache.prepare import Split
from lmx.data.document import ReadOptions, Source
from lmx.data.sources.sources import open_source
from lmx.errors import LmxError, message


@dataclasses.dataclass(frozen=True)
class DataSpec:
  """`config.data`, checked. The fields are its keys."""

  sources: tuple[str, ...] = ("stdlib",)
  weights: tuple[float, ...] = ()
  columns: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"text": "text"})
  tfds_split: str = "train"
  tfds_dir: str | None = None
  separator: str | None = None
  heldout_sources: tuple[str, ...] = ()
  heldout_fraction: float = 0.05
  heldout_split: str = "document"
  length: int = 1024
  encoder_length: int | None = None
  packing: str = "packed"
  pad_multiple: int | None = None
  bad_documents: str = "error"
  max_document_bytes: int = 50_000_000
  cache_dir: str = "~/.cache/lmx/tokens"
  prefetch_batches: int = 4
  threads: int = 1

  def __post_init__(self) -> None:
    if not self.sources:
      raise LmxError(message("config.data.sources", got=self.sources, allowed="at least one source"))
    if self.weights and len(self.weights) != len(self.sources):
      allowed = f"(), or one weight for each of the {len(self.sources)} sources"
      raise LmxError(message("config.data.weights", got=self.weights, allowed=allowed))
    if any(not 0 < weight < math.inf for weight in self.weights):
      raise LmxError(
        message("config.data.weights", got=self.weights, allowed="finite weights over 0; drop the source instead")
      )
    if not 0 <= self.heldout_fraction < 1:
      raise LmxError(message("config.data.heldout_fraction", got=self.heldout_fraction, allowed="0 <= fraction < 1"))

  @property
  def read_options(self) -> ReadOptions:
    return ReadOptions(
      columns=self.columns,
      separator=self.separator,
      max_document_bytes=self.max_document_bytes,
      tfds_split=self.tfds_split,
      tfds_dir=self.tfds_dir,
    )

  @property
  def split(self) -> Split:
    return Split(self.heldout_split, 0.0 if self.heldout_sources else self.heldout_fraction)


def open_sources(spec: DataSpec) -> list[Source]:
  """The training sources.

  Raises:
    LmxError: a source that doesn't exist.
  """
  return [open_source(source, spec.read_options) for source in spec.sources]
