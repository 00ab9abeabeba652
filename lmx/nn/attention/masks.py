# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The description of which keys a query may see, from which a kernel builds the mask that it needs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mask:
  """A key is seen when every condition holds.

  Attributes:
    query_segments (B, L), key_segments (B, S): only equal ids see each other; None: one segment a row.
    query_index (B, L), key_index (B, S): order within the row; None: the column number.
    key_prefix (B, S): not zero: keys that later order does not hide (a prefix LM); None: there are none.
    causal: only keys whose index is at most the query's, and those of the prefix.
    window: only keys whose index is less than `window` away from the query's, the query's own counted; None: no limit.
  """

  query_segments: Any = None
  key_segments: Any = None
  query_index: Any = None
  key_index: Any = None
  key_prefix: Any = None
  causal: bool = dataclasses.field(default=True, metadata={"static": True})
  window: int | None = dataclasses.field(default=None, metadata={"static": True})

  @property
  def is_regular(self) -> bool:
    """Whether only column numbers decide: kernels with causality and windows built in then need no array."""
    return self.query_segments is None and self.query_index is None and self.key_prefix is None

  def dense(self, queries: int, keys: int) -> jax.Array:
    """The mask as booleans, (B or 1, 1, L, S), True where a key is seen."""
    seen = jnp.ones((1, 1, queries, keys), bool)
    if self.causal or self.window is not None:
      query = jnp.arange(queries, dtype=jnp.int32)[None] if self.query_index is None else self.query_index
      key = jnp.arange(keys, dtype=jnp.int32)[None] if self.key_index is None else self.key_index
      seen = self._in_order(query[:, None, :, None] - key[:, None, None, :])
    if self.query_segments is not None:
      seen = seen & (self.query_segments[:, None, :, None] == self.key_segments[:, None, None, :])
    return seen

  def _in_order(self, before: jax.Array) -> jax.Array:
    """The part of the mask from order and window; `before` is how many places a key is before the query."""
    seen = jnp.ones_like(before, dtype=bool)
    if self.causal:
      seen &= before >= 0
    if self.key_prefix is not None:
      seen = seen | (self.key_prefix[:, None, None, :] != 0)
    if self.window is not None:
      seen &= before < self.window
      if not self.causal or self.key_prefix is not None:
        seen &= -before < self.window
    return seen
