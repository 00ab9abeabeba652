# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Stateful batching, for models that carry a state from batch to batch (truncated backpropagation through time).

All documents of all sources, concatenated in order, are split into B streams of equal length. Row b of batch k holds
tokens k * L .. (k + 1) * L - 1 of stream b, so it continues row b of batch k - 1. A document that ends within a row
starts a new segment. Nothing is shuffled. Each epoch starts again at the beginning of the streams, where positions
count
from 0 although a stream may begin within a document: models start there with an empty state.
"""

from collections.abc import Sequence

import numpy as np

from lmx.data.batches.rows import Segment
from lmx.data.cache.store import TokenStore
from lmx.errors import LmxError


class StatefulRows:
  """Row k * B + b is row b of batch k.

  With drop_remainder, the end of the text that doesn't fill a batch is dropped: fewer than B * L tokens. Without it,
  streams are long enough for all of the text, and the last ones may end in padding or empty rows.

  Attributes:
    targets: tokens in all rows.
    bytes: UTF-8 bytes of the text, reduced in proportion to the tokens that were dropped.
    dropped: tokens of the text that are in no row.
  """

  def __init__(
    self, stores: Sequence[TokenStore], *, batch_size: int, length: int, lookahead: int, drop_remainder: bool = True
  ):
    """See the class.

    Args:
      stores: tokenized documents.
      batch_size: B, over all processes.
      length: L, tokens per row.
      lookahead: ids that a window has beyond the tokens it adds to a row.
      drop_remainder: drop the end of the text that doesn't fill a batch (training); False: keep it (evaluation).

    Raises:
      LmxError: the text does not fill one batch.
    """
    self._stores, self._batch_size, self._length, self._lookahead = stores, batch_size, length, lookahead
    sizes = [np.maximum(store.lengths() + 2 - lookahead, 0) for store in stores]  # With bos and eos.
    self._ends = np.cumsum(np.concatenate(sizes))  # Where each document ends in the concatenated text.
    self._first_document = np.cumsum([0, *(store.documents for store in stores)])
    total, one = int(self._ends[-1]) if len(self._ends) else 0, batch_size * length
    self._batches = total // one if drop_remainder else -(-total // one)
    if not self._batches:
      raise LmxError(
        f"config.data.packing='streams': {total:,} tokens of text do not fill one batch of {batch_size} x {length}. "
        "Fix: a smaller --config.train.batch_size or --config.data.length, or more text."
      )
    self._stop = min(total, self._batches * one)
    self.targets = self._stop
    self.dropped = total - self._stop
    self.bytes = round(sum(store.text_bytes for store in stores) * self._stop / total)

  def __len__(self) -> int:
    return self._batches * self._batch_size

  def __getitem__(self, index: int) -> list[Segment]:
    batch, row = divmod(index, self._batch_size)
    begin = (row * self._batches + batch) * self._length
    end = min(begin + self._length, self._stop)
    segments: list[Segment] = []
    document = int(np.searchsorted(self._ends, begin, side="right"))
    while begin < end:
      origin = int(self._ends[document - 1]) if document else 0
      stop = min(end, int(self._ends[document]))
      if stop > begin:
        # The first segment of a stream has no state from before, so its positions count from 0 even within a document.
        fresh = batch == 0 and not segments
        window = self._window(document, begin - origin, stop - origin)
        segments.append(Segment(window, 0 if fresh else begin - origin))
        begin = stop
      document += 1
    return segments

  def _window(self, document: int, start: int, stop: int) -> np.ndarray:
    source = int(np.searchsorted(self._first_document, document, side="right")) - 1
    index = document - int(self._first_document[source])
    return self._stores[source].extended(index, start, stop + self._lookahead)
