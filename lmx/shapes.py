# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Dimension letters, the check that holds them true where arrays cross a public boundary, and the axes of the mesh.

Dense code names arrays with these suffixes (`q_BLHK`); upper case, one letter a dimension.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

# Of the mesh, what travels least first: the outermost axes cross hosts, and the network between slices.
AXES = ("slice", "stage", "data", "fsdp", "expert", "sequence", "tensor")
# The batch dimension of data and activations is split over all of these: stages and experts, too, split what is
# computed outside the pipeline and outside the experts.
BATCH_AXES = ("slice", "stage", "data", "fsdp", "expert")


def in_use(sizes: Mapping[str, int], axes: Iterable[str] = AXES) -> list[str]:
  """Those of the mesh axes that something is split over, or may be: all but those of size 1."""
  return [axis for axis in axes if sizes[axis] != 1]


@dataclasses.dataclass(frozen=True)
class RowShare:
  """The rows of each batch that one process loads.

  Attributes:
    parts: how many equal, consecutive parts a batch is split into.
    held: those of this process, ascending. They need not be neighbours: a torus is not numbered host by host.
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
  """Checks that arrays have the shapes that `spec` spells, and returns each letter's size.

  Args:
    where: the caller's name, for the message.
    spec: one word per array, each a string of dimension letters: "BLHK BSGK BSGK". A word may start
      with "?" for an array that may be None.
    *arrays: the arrays (anything with `.shape`), in the order of the words.

  Raises:
    ValueError: an array has another rank, or a letter stands for two sizes.
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
