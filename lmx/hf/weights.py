# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Safetensors files, one or many: read slice by slice, written tensor by tensor.

Format: https://huggingface.co/docs/safetensors: a JSON header with names, dtypes, shapes and offsets, then the data.
Pickle-based files (.bin, .pt) are refused, since opening one can run any code that its author put into it.
"""

import dataclasses
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

from lmx.errors import LmxError, message
from lmx.hf.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED_ADAPTER = "adapter_model.bin"
GGUF = "a folder with config.json and safetensors: a .gguf is a converted copy; fetch the model that it was made from"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
_FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64}
WRITTEN = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # dtype -> its name in the header.


@dataclasses.dataclass(frozen=True)
class Stored:
  """A tensor of a file: the file, the shape, and the name of the dtype in the header ("BF16")."""

  file: Path
  shape: tuple[int, ...]
  kind: str


class WeightFiles:
  """The tensors of a directory by name. Opening it reads the headers; numbers are read on demand."""

  def __init__(self, directory: Path):
    """Reads the headers.

    Raises:
      LmxError: no safetensors here, a broken file, or an index with a missing file or tensor.
    """
    self.directory = directory
    self._open = {}
    self.tensors: dict[str, Stored] = {}
    indexed = read_index(directory)
    for file in weight_files(directory, indexed):
      try:
        handle = self._open[file] = safetensors.safe_open(file, framework="numpy")
      except Exception as error:  # The library's own SafetensorError, or OSError.
        raise LmxError(f"{file} is not a complete safetensors file: {error}. Fix: fetch it again.") from error
      for name in handle.keys():  # noqa: SIM118 (not a dictionary)
        if name in self.tensors:
          raise LmxError(
            f"{file}: the tensor {name!r} is in {self.tensors[name].file.name} too. Fix: fetch them again."
          )
        part = handle.get_slice(name)
        self.tensors[name] = Stored(file, tuple(part.get_shape()), part.get_dtype())

    for name, place in (indexed or {}).items():
      if name not in self.tensors or self.tensors[name].file.name != place:
        raise LmxError(
          f"{directory / INDEX}: {place} has no tensor {name!r}. Fix: fetch the index and its files again."
        )

  @property
  def replaced(self) -> frozenset[str]:
    """Names of the tensors that an adapter replaces; none without one."""
    return frozenset()

  @property
  def kinds(self) -> set[str]:
    """dtypes of the tensors, as the headers name them."""
    return {stored.kind for stored in self.tensors.values()}

  @property
  def bytes(self) -> int:
    """Size of the files, in bytes."""
    return sum(file.stat().st_size for file in self._open)

  def dtype(self, name: str) -> np.dtype:
    """dtype of a tensor.

    Raises:
      LmxError: it isn't floating point.
    """
    stored = self.tensors[name]
    if stored.kind not in _FLOATS:
      fix = "use a checkpoint that isn't quantized"
      raise LmxError(message(f"type of {name} in {stored.file}", got=stored.kind, allowed=list(_FLOATS), fix=fix))
    return np.dtype(_FLOATS[stored.kind])

  def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
    """A rectangle of one tensor in its stored dtype; only that part of the file is read.

    Args:
      name: of the tensor.
      index: one slice per dimension; (): the complete tensor.

    Raises:
      LmxError: its dtype isn't floating point.
    """
    self.dtype(name)
    stored = self.tensors[name]
    full = tuple(slice(0, size) for size in stored.shape)
    return np.asarray(self._open[stored.file].get_slice(name)[index or full])

  def close(self) -> None:
    self._open.clear()

  def __enter__(self) -> "WeightFiles":
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def read_index(directory: Path) -> dict[str, str] | None:
  """Tensor name -> file name; None for a directory without an index.

  Raises:
    LmxError: the file is no index, or names a file outside of the directory.
  """
  if not (directory / INDEX).is_file():
    return None
  places = {"weight_map": None, **read_json(directory / INDEX)}["weight_map"]
  if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
    raise LmxError(f"{directory / INDEX} is not an index of safetensors files: weight_map is {str(places)[:100]}.")
  for tensor, name in places.items():
    if Path(name).name != name or not name.endswith(".safetensors") or "\\" in name or "\0" in name:
      allowed = "the name of a file in this folder"
      raise LmxError(message(f"{directory / INDEX}: file of {tensor!r}", got=name, allowed=allowed))
  return places


def weight_files(directory: Path, indexed: Mapping[str, str] | None) -> list[Path]:
  """The safetensors files of a model: the single one, or those of its index.

  Raises:
    LmxError: there are none, or one is missing.
  """
  files = [directory / name for name in ([SINGLE] if indexed is None else sorted(set(indexed.values())))]
  missing = [file.name for file in files if not file.is_file()]
  if not missing:
    return files
  converted = [file.name for file in sorted(directory.glob("*.gguf"))]
  if converted:
    raise LmxError(message(str(directory), got=converted[0], allowed=GGUF))
  pickles = [file.name for pattern in _PICKLES for file in sorted(directory.glob(pattern))]
  if pickles:
    raise LmxError(
      f"{directory}: has {', '.join(pickles[:3])}, and no {missing[0]}. lmx reads safetensors only: a pickled file can "
      f"run any code when it is opened. Fix: fetch the model's safetensors, or convert the file where you trust it: "
      f'from transformers import AutoModel; AutoModel.from_pretrained("{directory.name}").save_pretrained("converted")'
    )
  raise LmxError(message(f"{directory}", got=f"no {missing[0]}", allowed=f"a directory with {SINGLE} or {INDEX}"))


@dataclasses.dataclass(frozen=True)
class Planned:
  """Name and shape of a tensor that will be written."""

  name: str
  shape: tuple[int, ...]

  def bytes(self, dtype: str) -> int:
    return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(_FLOATS[WRITTEN[dtype]]).itemsize


def shards(planned: Iterable[Planned], dtype: str, max_bytes: int) -> list[list[Planned]]:
  """Splits tensors into files.

  Args:
    planned: the tensors, in the order of the files.
    dtype: they are written in, a key of `WRITTEN`.
    max_bytes: largest size of a file; a larger tensor gets a file to itself.

  Returns:
    The tensors of each file.
  """
  groups: list[list[Planned]] = [[]]
  size = 0
  for tensor in planned:
    if groups[-1] and size + tensor.bytes(dtype) > max_bytes:
      groups.append([])
      size = 0
    groups[-1].append(tensor)
    size += tensor.bytes(dtype)
  return groups


def write_weights(
  directory: Path,
  groups: list[list[Planned]],
  arrays: Iterator[tuple[str, np.ndarray]],
  dtype: str,
  single: str = SINGLE,
) -> list[Path]:
  """Writes the files, and an index where there is more than one.

  Args:
    directory: an existing folder.
    groups: the tensors of each file, see `shards`.
    arrays: (name, array) in the order of the groups; each is written and released before the next is requested.
    dtype: a key of `WRITTEN`.
    single: file name for the only file, where there is one group.

  Returns:
    The paths of the weight files.
  """
  count = len(groups)
  names = [single] if count == 1 else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
  for name, group in zip(names, groups, strict=True):
    with open(directory / name, "wb") as file:
      file.write(_header(group, dtype))
      for tensor in group:
        given, array = next(arrays)
        if (given, array.shape) != (tensor.name, tensor.shape):
          raise ValueError(f"{given} {array.shape} came where {tensor} was planned")
        numbers = np.ascontiguousarray(array, dtype=_FLOATS[WRITTEN[dtype]])
        numbers.tofile(file)
  if count > 1:
    total = sum(tensor.bytes(dtype) for group in groups for tensor in group)
    weight_map = {tensor.name: name for name, group in zip(names, groups, strict=True) for tensor in group}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
  return [directory / name for name in names]


def _header(group: list[Planned], dtype: str) -> bytes:
  entries: dict[str, Mapping] = {"__metadata__": {"format": "pt"}}  # transformers requires this entry.
  offset = 0
  for tensor in group:
    end = offset + tensor.bytes(dtype)
    entries[tensor.name] = {"dtype": WRITTEN[dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
    offset = end
  text = json.dumps(entries).encode()
  text += b" " * (-len(text) % 8)  # The data must begin at a multiple of eight bytes.
  return struct.pack("<Q", len(text)) + text
