# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`config.data` as a frozen dataclass, and the sources it names."""

import dataclasses
from collections.abc import Mapping

from lmx.config.table import check_values, default
from lmx.data.cache.prepare import Split
from lmx.data.document import ReadOptions, Source
from lmx.data.sources.sources import open_source
from lmx.errors import LmxError, message


@dataclasses.dataclass(frozen=True)
class DataSpec:
  """`config.data`, checked. The fields are its keys."""

  sources: tuple[str, ...] = default("data.sources")
  weights: tuple[float, ...] = default("data.weights")
  columns: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"text": "text"})
  tfds_split: str = default("data.tfds_split")
  tfds_dir: str | None = default("data.tfds_dir")
  separator: str | None = default("data.separator")
  heldout_sources: tuple[str, ...] = default("data.heldout_sources")
  heldout_fraction: float = default("data.heldout_fraction")
  heldout_split: str = default("data.heldout_split")
  length: int = default("data.length")
  encoder_length: int | None = default("data.encoder_length")
  packing: str = default("data.packing")
  pad_multiple: int | None = default("data.pad_multiple")
  bad_documents: str = default("data.bad_documents")
  max_document_bytes: int = default("data.max_document_bytes")
  cache_dir: str = default("data.cache_dir")
  prefetch_batches: int = default("data.prefetch_batches")
  threads: int = default("data.threads")

  def __post_init__(self) -> None:
    check_values("data", {"sources": self.sources, "weights": self.weights})
    if self.weights and len(self.weights) != len(self.sources):
      allowed = f"(), or one weight for each of the {len(self.sources)} sources"
      raise LmxError(message("config.data.weights", got=self.weights, allowed=allowed))
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
      cache_dir=self.cache_dir,
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
