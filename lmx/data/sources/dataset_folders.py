# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Files of a data set's folder: as saved by Hugging Face's `datasets`, in the layout of its hub, or any files.

https://huggingface.co/docs/datasets/repository_structure. A folder with several splits is refused, since reading all of
it would train on its test set.
"""

import glob
import json
import re
from pathlib import Path

from lmx.data.sources.bucket_files import fetched
from lmx.data.sources.opening import bare_suffix
from lmx.errors import LmxError, message
from lmx.paths import scheme_of

_WILDCARDS = "*?["
_TABLES = {".jsonl", ".ndjson", ".json", ".tsv", ".csv", ".parquet", ".pq", ".arrow", ".feather", ".conll", ".conllu"}
_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_NO_DATA = {_DICT, _STATE, _INFO, "dataset_infos.json"}
_SHARD = re.compile(r"(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]+)?(\.[A-Za-z0-9]+)+")
_TRAINING = {"train", "training"}
_SPLITS = _TRAINING | {"test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation"}


def find_files(pattern: str, cache_dir: str) -> list[Path]:
  """The files of a path, folder or glob, sorted by name, without hidden files and folders.

  Args:
    pattern: on a disk, or in a bucket, whose files are copied first.
    cache_dir: for those copies.

  Raises:
    LmxError: there are none, or a folder has several splits or lacks shards of one.
  """
  if scheme_of(pattern):
    path, files = fetched(pattern, cache_dir)
    return _files_of(path) if path.is_dir() and not any(c in pattern for c in _WILDCARDS) else files
  path = Path(pattern).expanduser()
  if path.is_file():
    return [path]
  if path.is_dir():
    files = _files_of(path)
  elif any(c in pattern for c in _WILDCARDS):
    files = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
  else:
    raise LmxError(
      message(
        "config.data.sources",
        got=pattern,
        allowed='"stdlib", "tfds:NAME", or a file, folder or glob that exists',
        fix=f"{path.absolute()} doesn't exist; check for a typo",
      )
    )
  if not files:
    raise LmxError(message("config.data.sources", got=pattern, allowed="a folder or glob with at least one file"))
  return files


def _files_of(folder: Path) -> list[Path]:
  """The data files of a folder: those saved by `datasets`, the shards of the hub's layout, or all files."""
  if (folder / _DICT).is_file():
    splits = _read_json(folder / _DICT).get("splits", [])
    if len(splits) != 1:
      raise _several(folder, {str(split): f"{folder}/{split}" for split in splits})
    return _files_of(folder / str(splits[0]))
  if (folder / _STATE).is_file() and (folder / _INFO).is_file():
    return _saved_files(folder)
  files = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p.relative_to(folder)))
  if shards := {file: match for file in files if (match := _SHARD.fullmatch(file.name))}:
    return _shards_of(folder, shards)
  tables = [file for file in files if bare_suffix(file) in _TABLES and file.name not in _NO_DATA]
  splits = {_split_of(file): str(file) for file in tables}
  if splits.keys() & _TRAINING and len(splits) > 1 and splits.keys() <= _SPLITS:
    raise _several(folder, splits)
  return tables if any(file.name in _NO_DATA for file in files) and tables else files


def _split_of(file: Path) -> str:
  """The last word of a file's name before its suffixes: "train" of "squad-train.arrow"."""
  return re.split(r"[-_]", file.name.partition(".")[0].lower())[-1]


def _saved_files(folder: Path) -> list[Path]:
  """The Arrow files of a data set that `save_to_disk` wrote, in the order of its state.json."""
  state = _read_json(folder / _STATE)
  files = [folder / str(file["filename"]) for file in state.get("_data_files", [])]
  if state.get("_indices_data_files"):
    raise LmxError(f"{folder} was saved with an index of selected rows. Fix: ds.flatten_indices().save_to_disk(PATH)")
  if missing := next((file for file in files if not file.is_file()), None):
    raise LmxError(f"{folder / _STATE} lists {missing.name}, which doesn't exist. Fix: save the data set again.")
  return files


def _shards_of(folder: Path, shards: dict[Path, re.Match]) -> list[Path]:
  """All shards of a folder's only split.

  Raises:
    LmxError: there are several splits, or shards are missing.
  """
  sets = {
    (file.parent, match["split"], match["count"]): str(file.parent / match["split"]) for file, match in shards.items()
  }
  if len(sets) > 1:
    raise _several(folder, {f"{path.removeprefix(f'{folder}/')}": f"{path}-*" for path in sets.values()})
  ((parent, split, count),) = sets
  numbers = {int(match["index"]) for match in shards.values()}
  if missing := sorted(set(range(int(count))) - numbers):
    raise LmxError(
      f"{parent}: shard {missing[0]:05d} of {count} of {split!r} doesn't exist ({len(missing)} missing). Fix: get it, "
      f"or --config.data.sources='{parent}/{split}-*' for the others."
    )
  return sorted(shards)


def _several(folder: Path, splits: dict[str, str]) -> LmxError:
  return LmxError(
    f"config.data.sources: {folder} has several splits: {', '.join(splits)}. Fix: name one, as "
    f"--config.data.sources='{_training_first(splits)}'"
  )


def _training_first(splits: dict[str, str]) -> str:
  return next(
    (path for name, path in splits.items() if name.rpartition("/")[2] in _TRAINING), next(iter(splits.values()), "")
  )


def _read_json(file: Path) -> dict:
  try:
    found = json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise LmxError(f"{file} cannot be read: {error}. Fix: save the data set again.") from error
  if not isinstance(found, dict):
    raise LmxError(f"{file} is not a JSON object. Fix: save the data set again.")
  return found


def _hidden(path: Path) -> bool:
  return any(part.startswith(".") for part in path.parts)
