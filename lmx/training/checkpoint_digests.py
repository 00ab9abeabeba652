# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Digests of checkpoints, with which every read checks that the files of a step are still those that were saved.

`<step>/digests.json` holds the size of every file and an xxHash (XXH3, 64 bits) of each of its blocks. It is written
before Orbax commits the step, so that a committed checkpoint always has it, except those of older versions of lmx. It
detects damage, and does not protect against forgery.
"""

import itertools
import json
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorstore as ts
import xxhash
from etils import epath

from lmx.errors import LmxError
from lmx.paths import files_under, in_bucket, is_bucket_error
from lmx.storage import write_atomically

DIGESTS = "digests.json"
COMMITTED = "_CHECKPOINT_METADATA"  # Orbax writes the time of the commit into it.
BLOCK = 16 << 20  # Bytes per digest: threads hash blocks in parallel, and damage is located to within one.
SUCCESS = "commit_success.txt"  # In a bucket, where a folder has its final name from the start, Orbax writes this last.
_AFTERWARDS = (DIGESTS, COMMITTED, SUCCESS)
_READ_BYTES = 1 << 20
_verified: dict[
  str, tuple[int, ...]
] = {}  # File -> its values of `files_under` when this process last found it intact.


class CheckpointDamageError(LmxError):
  """A checkpoint differs from what was saved, or was never complete.

  Attributes:
    folder: the checkpoint's.
    reason: which file is damaged and how.
  """

  def __init__(self, folder: Path, reason: str, fix: str = ""):
    self.folder, self.reason = folder, reason
    super().__init__(f"checkpoint {folder} is damaged: {reason}." + (f" Fix: {fix}" if fix else ""))


def write_digests(folder: Path) -> None:
  """Writes the digests of a checkpoint that Orbax is about to commit."""
  root = epath.Path(folder)
  found = {name: stamp for name, stamp in files_under(folder).items() if name.rpartition("/")[2] not in _AFTERWARDS}
  sizes = {name: found[name][0] for name in sorted(found)}
  files = {
    name: [size, digests] for (name, size), digests in zip(sizes.items(), _block_digests(root, sizes), strict=True)
  }
  text = json.dumps(files, sort_keys=True)
  record = {"digest": xxhash.xxh3_64_intdigest(text.encode()), "block": BLOCK, "files": files}
  write_atomically(folder / DIGESTS, json.dumps(record))


def _block_digests(root: Any, sizes: dict[str, int]) -> list[list[int]]:
  """The digest of every block of every file, in threads: xxhash releases the interpreter's lock."""
  starts = [range(0, size, BLOCK) for size in sizes.values()]
  blocks = [(root / name, start) for name, of_file in zip(sizes, starts, strict=True) for start in of_file]
  with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
    results: Iterator[int] = iter(list(pool.map(_block_digest, blocks)))
  return [list(itertools.islice(results, len(of_file))) for of_file in starts]


def _block_digest(block: tuple[Any, int]) -> int:
  path, start = block
  digest, left, buffer = xxhash.xxh3_64(), BLOCK, bytearray(_READ_BYTES)
  with path.open("rb") as file:
    file.seek(start)
    while left > 0 and (count := file.readinto(memoryview(buffer)[: min(_READ_BYTES, left)])):
      digest.update(memoryview(buffer)[:count])
      left -= count
  return digest.intdigest()


def uncommitted(folder: Path) -> str:
  """The reason why a folder named like a step is no checkpoint; "" for one that Orbax committed."""
  try:
    committed = json.loads((epath.Path(folder) / COMMITTED).read_text())["commit_timestamp_nsecs"]
    if in_bucket(folder) and not (folder / SUCCESS).exists():
      return f"it has no {SUCCESS}: it was never committed"
  except FileNotFoundError:
    return f"it has no {COMMITTED}: it was never committed, or copied in part"
  except (OSError, ValueError, KeyError, TypeError) as error:
    if is_bucket_error(error):  # A bucket that doesn't answer says nothing about the checkpoint.
      raise
    return f"its {COMMITTED} can't be read ({type(error).__name__})"
  return "" if committed else "it was never committed"


def has_digests(folder: Path) -> bool:
  """Whether a checkpoint has digests; those of older versions of lmx have none."""
  return (epath.Path(folder) / DIGESTS).exists()


def note_without_digests(folder: Path) -> str:
  """A sentence on a checkpoint that was written before there were digests; "" for one that has them."""
  if has_digests(folder):
    return ""
  return f"{folder} has no {DIGESTS} (an older lmx wrote it): damage to its files can't be found"


def check_checkpoint(folder: Path, parts: Collection[str] | None = None) -> None:
  """Compares the files of a checkpoint with their digests.

  A file that this process has checked before, and that has the same size and times, is not read again.

  Args:
    folder: of one step.
    parts: the parts to check, such as "parameters"; None: all.

  Raises:
    CheckpointDamageError: the first file that differs.
  """
  root = epath.Path(folder)
  if reason := uncommitted(folder):
    raise CheckpointDamageError(folder, reason)
  if not has_digests(folder):
    return
  files = {name: kept for name, kept in _read_digests(folder).items() if _belongs(name, parts)}
  known = files_under(folder)
  missing = [name for name in files if name not in known]
  if missing:
    raise CheckpointDamageError(
      folder, f"{len(missing)} of {len(files)} files are missing (the first is {missing[0]}): it was copied in part"
    )
  sizes = {name: known[name][0] for name in files}
  for name, size in sizes.items():
    if size != files[name][0]:
      reason = f"{name} has {size:,} bytes, and had {files[name][0]:,} when it was saved"
      raise CheckpointDamageError(folder, f"{reason}{': it was copied in part' if size < files[name][0] else ''}")
  unread = {name: size for name, size in sizes.items() if _verified.get(str(folder / name)) != known[name]}
  try:
    found = _block_digests(root, unread)
  except OSError as error:
    if is_bucket_error(error):
      raise
    raise CheckpointDamageError(folder, f"{error.filename or folder} can't be read: {error.strerror}") from error
  for name, digests in zip(unread, found, strict=True):
    if digests != files[name][1]:
      raise CheckpointDamageError(folder, _describe_damage(folder, name, digests, files[name][1]))
    _verified[str(folder / name)] = known[name]


def _belongs(name: str, parts: Collection[str] | None) -> bool:
  return parts is None or name.partition("/")[0] in parts


def _read_digests(folder: Path) -> dict[str, Any]:
  try:
    record = json.loads((epath.Path(folder) / DIGESTS).read_text())
    text = json.dumps(record["files"], sort_keys=True)
    intact = record["block"] == BLOCK and xxhash.xxh3_64_intdigest(text.encode()) == record["digest"]
  except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
    if is_bucket_error(error):
      raise
    raise CheckpointDamageError(folder, f"its {DIGESTS} can't be read ({type(error).__name__})") from error
  if not intact:
    raise CheckpointDamageError(folder, f"its {DIGESTS} is not what was written")
  return record["files"]


def _describe_damage(folder: Path, name: str, found: list[int], kept: list[int]) -> str:
  """The first damaged block of a file, and the arrays in it where the index of the database can be read."""
  block = next(number for number, (a, b) in enumerate(zip(found, kept, strict=True)) if a != b)
  start = block * BLOCK
  arrays = _arrays_at(folder, name, start, start + BLOCK)
  shown = f", in {' or '.join(arrays[:3])}{' or others' if len(arrays) > 3 else ''}" if arrays else ""
  return f"{name} is not what was saved{shown} (within {BLOCK >> 20} MiB from byte {start:,})"


def _arrays_at(folder: Path, name: str, start: int, end: int) -> list[str]:
  """Names of the arrays with values in bytes `start` to `end` of a file, by the index of its OCDBT database."""
  part, _, inside = name.partition("/")
  try:
    place = f"{folder / part}/" if in_bucket(folder) else f"file://{(folder / part).absolute()}/"
    store = ts.KvStore.open(place).result()
    nodes = [ts.ocdbt.dump(store).result()["versions"][-1]["root"]["location"]]
    found: set[str] = set()
    while nodes:
      for entry in ts.ocdbt.dump(store, nodes.pop()).result()["entries"]:
        if "location" in entry:
          nodes.append(entry["location"])
        elif "indirect_value" in entry:
          _, first, second, offset, length = entry["indirect_value"].split(":")
          same = f"{first}{second}" == inside
          if same and int(offset) < end and int(offset) + int(length) > start:
            found.add(entry["key"].decode().rpartition("/")[0])
  except Exception:  # The index itself may be damaged, and its format belongs to TensorStore.
    return []
  return sorted(found)
