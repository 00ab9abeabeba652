# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Dimension letters, a check of shapes by them, and the axes of the mesh.

Dense code names arrays with these suffixes (`q_BLHK`): upper case, one letter per dimension.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

# The mesh's axes, least communication first: the outermost ones cross hosts, and the network between slices.
AXES = ("slice", "stage", "data", "fsdp", "expert", "sequence", "tensor")
# The batch dimension of data and activations is split over all of these: outside the pipeline and the experts, the
# devices of stages and experts share the rows, too.
BATCH_AXES = ("slice", "stage", "data", "fsdp", "expert")


def in_use(sizes: Mapping[str, int], axes: Iterable[str] = AXES) -> list[str]:
  """The mesh axes that split anything: those of a size other than 1 (-1 included, in a config)."""
  return [axis for axis in axes if sizes[axis] != 1]


@dataclasses.dataclass(frozen=True)
class RowShare:
  """The rows of each batch that one process loads.

  Attributes:
    parts: number of equal, consecutive parts of a batch.
    held: indices of this process's parts, ascending. They need not be neighbors: a torus isn't numbered host by host.
  """

  parts: int = 1
  held: tuple[int, ...] = (0,)


ALL_ROWS = RowShare()
LETTERS = {
  "B": "batch",
  "L": "sequence",
  "S": "cache slots, or keys attended to",
  "M": "encoder memory",
  "D": "model width",
  "H": "query heads",
  "G": "key-value heads",
  "K": "head width",
  "F": "feed-forward width",
  "V": "vocabulary",
  "E": "experts",
  "N": "layers",
}


def check(where: str, spec: str, *arrays: Any) -> dict[str, int]:
  """Checks the shapes of arrays against dimension letters, and returns the size of each letter.

  Args:
    where: the caller's name, for the message.
    spec: one word per array, each a string of dimension letters: "BLHK BSGK BSGK". A word may start
      with "?" for an array that may be None.
    *arrays: the arrays (anything with `.shape`), in the order of the words.

  Raises:
    ValueError: an array has another rank, or a letter has two sizes.
  """
  sizes: dict[str, int] = {}
  words = spec.split()
  if len(words) != len(arrays):
    raise ValueError(f"{where}: {len(arrays)} arrays for the {len(words)} words of {spec!r}")
  for word, array in zip(words, arrays, strict=True):
    letters = word.lstrip("?")
    if array is None and word.startswith("?"):
      continue
    shape = tuple(array.shape)
    if len(shape) != len(letters):
      raise ValueError(f"{where}: expected an array of shape ({', '.join(letters)}), got {shape}")
    for letter, size in zip(letters, shape, strict=True):
      if sizes.setdefault(letter, size) != size:
        raise ValueError(
          f"{where}: {LETTERS.get(letter, letter)} ({letter}) is {sizes[letter]} in one array and {size} in "
          f"{word}, whose shape is {shape}"
        )
  return sizes
