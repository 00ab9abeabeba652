# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows that go on from batch to batch, for models that carry a state: truncated backpropagation through time.

All documents of all sources, one after another in their order, are cut into B streams of equal length. Row b of batch k
holds places k * L .. (k + 1) * L - 1 of stream b, so it goes on where row b of batch k - 1 ended. Where a document ends
within a row, a new piece begins. Nothing is shuffled, and an epoch begins again at the start of the streams, where
positions count from 0 although a stream may begin within a document: models begin there without a state.
"""

from collections.abc import Sequence

import numpy as np

from lmx.data.batches.rows import Piece
from lmx.data.cache.store import TokenStore
from lmx.errors import LmxError


class StreamRows:
  """Row k * B + b is row b of batch k.

  For training, the end of the text that does not fill a batch is dropped: fewer than B * L places. For evaluation
  nothing is: streams are as long as needed, and the last ones may end in empty places or empty rows.

  Attributes:
    targets: places filled.
    bytes: UTF-8 bytes of the text, in proportion where places were dropped.
    dropped: places of the text that are in no row.
  """

  def __init__(
    self, stores: Sequence[TokenStore], *, batch_size: int, length: int, lookahead: int, whole: bool = False
  ):
    """See the class.

    Args:
      stores: tokenized documents.
      batch_size: B, over all processes.
      length: L, places of a row.
      lookahead: ids that a window has beyond the places it fills.
      whole: keep the end of the text, for evaluation.

    Raises:
      LmxError: the text does not fill one batch.
    """
    self._stores, self._batch_size, self._length, self._lookahead = stores, batch_size, length, lookahead
    places = [np.maximum(store.lengths() + 2 - lookahead, 0) for store in stores]
    self._ends = np.cumsum(np.concatenate(places))  # Of each document, in places of the whole text.
    self._first_document = np.cumsum([0, *(store.documents for store in stores)])
    total, one = int(self._ends[-1]) if len(self._ends) else 0, batch_size * length
    self._batches = -(-total // one) if whole else total // one
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

  def __getitem__(self, index: int) -> list[Piece]:
    batch, row = divmod(index, self._batch_size)
    begin = (row * self._batches + batch) * self._length
    end = min(begin + self._length, self._stop)
    pieces: list[Piece] = []
    document = int(np.searchsorted(self._ends, begin, side="right"))
    while begin < end:
      origin = int(self._ends[document - 1]) if document else 0
      stop = min(end, int(self._ends[document]))
      if stop > begin:
        fresh = batch == 0 and not pieces  # Nothing went before it: the state of an epoch before is another stream's.
        window = self._window(document, begin - origin, stop - origin)
        pieces.append(Piece(window, 0 if fresh else begin - origin))
        begin = stop
      document += 1
    return pieces

  def _window(self, document: int, start: int, stop: int) -> np.ndarray:
    source = int(np.searchsorted(self._first_document, document, side="right")) - 1
    place = document - int(self._first_document[source])
    return self._stores[source].extended(place, start, stop + self._lookahead)
