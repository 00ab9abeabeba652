# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""TensorFlow Datasets without TensorFlow: reads ArrayRecord and Parquet sets, and builds sets from a user's files.

https://www.tensorflow.org/datasets/data_source. TFDS is imported on first use, because that takes half a second.
"""

import collections
import dataclasses
import itertools
import multiprocessing
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from lmx.data.document import (
  TEXT,
  BadDocuments,
  Document,
  ReadOptions,
  Record,
  RequiredColumns,
  Source,
  columns_hint,
  texts_of,
)
from lmx.data.sources.files import FileSource
from lmx.data.sources.values import BadValueError, class_name, find, plain, top_column
from lmx.errors import LmxError, message

_READ_AT_ONCE = 256
_FORMAT = "array_record"
_VALUES = 2  # Raised when the values read from the same file change.


@dataclasses.dataclass
class TfdsSource:
  """One split of a prepared data set. `spec` is name, name/config or name/config:version."""

  spec: str
  options: ReadOptions

  def __post_init__(self) -> None:
    self.name = f"tfds:{self.spec}"
    self.total_bytes: int | None = None
    self._builder, self._data = _open(self.spec, self.options)

  @property
  def files(self) -> list[Path]:
    return [Path(path) for path in self._builder.info.splits[self.options.tfds_split].filepaths]

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    return texts_of(self.records(TEXT, bad), self.options.columns["text"], bad)

  def records(self, wanted: RequiredColumns, bad: BadDocuments) -> Iterator[Record]:
    columns, features = self._columns(wanted), self._builder.info.features
    tops = {top for name in columns.values() if (top := top_column(name, features))}
    for first in range(0, len(self._data), _READ_AT_ONCE):
      for index, row in self._rows(first):
        where = f"{self.name} {self.options.tfds_split}[{index}]"
        try:
          values = {name: _value(row[name], features[name], self.options.max_document_bytes) for name in tops}
        except BadValueError as error:
          bad.add(where, *error.args)
        else:
          yield Record({ours: find(values, name)[1] for ours, name in columns.items()}, where)

  def _rows(self, first: int) -> Iterator[tuple[int, Any]]:
    """(index, row) of one block of rows."""
    indices = range(first, min(first + _READ_AT_ONCE, len(self._data)))
    with _damage(f"{self.name} {self.options.tfds_split}[{first}] to [{indices[-1]}]"):
      return zip(indices, self._data.__getitems__(list(indices)), strict=True)

  def _columns(self, wanted: RequiredColumns) -> dict[str, str]:
    """lmx's name -> the data set's name, of the wanted columns that the data set has."""
    columns, present = self.options.resolve(wanted), _names(self._builder.info.features)
    chosen = {**columns.optional, **columns.required}
    for ours, name in chosen.items():
      if name not in present and columns.must_exist(ours):
        raise LmxError(f"{self.name}: no column {name!r} ({columns_hint(ours, name, present, columns)})")
    return {ours: name for ours, name in chosen.items() if name in present}

  def fingerprint(self, wanted: RequiredColumns = TEXT) -> dict:
    """The full name with version, the split, the columns, and the sizes and times of the set's files."""
    split = self._builder.info.splits[self.options.tfds_split]
    stats = [(os.path.basename(path), os.stat(path)) for path in split.filepaths]
    return {
      "kind": "tfds",
      "values": _VALUES,
      "name": self._builder.info.full_name,
      "split": self.options.tfds_split,
      "columns": dataclasses.asdict(self.options.resolve(wanted)),
      "documents": len(self._data),
      "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
    }


def _value(value: Any, feature: Any, limit: int) -> Any:
  """A value of a TFDS row as JSON would hold it. A label is read as its name.

  TFDS returns a sequence of objects as an object of sequences, at any depth; it is turned back into a list of objects.
  Without TensorFlow, sequences are lists of NumPy scalars, of bytes, or of arrays.

  Args:
    value: from TFDS.
    feature: its TFDS feature.
    limit: bytes that a text may have (config.data.max_document_bytes).

  Raises:
    BadValueError: text that isn't UTF-8 or is too long, a label without a name.
  """
  import tensorflow_datasets as tfds

  if isinstance(feature, tfds.features.Dataset):
    return [_value(part, feature.feature, limit) for part in value]
  if isinstance(feature, tfds.features.Sequence):
    return [_value(_item(value, index), feature.feature, limit) for index in range(_length(value))]
  if isinstance(feature, tfds.features.FeaturesDict):
    return {name: _value(value[name], feature[name], limit) for name in feature}
  if isinstance(feature, tfds.features.ClassLabel):
    return class_name(value, feature.names)
  return plain(value, limit)


def _length(value: Any) -> int:
  return _length(next(iter(value.values()))) if isinstance(value, dict) else len(value)


def _item(value: Any, index: int) -> Any:
  return {name: _item(part, index) for name, part in value.items()} if isinstance(value, dict) else value[index]


def _names(feature: Any, prefix: str = "") -> list[str]:
  """The columns of a data set: its features, and with dots those of objects in them."""
  import tensorflow_datasets as tfds

  while isinstance(feature, tfds.features.Sequence | tfds.features.Dataset):
    feature = feature.feature
  if not isinstance(feature, tfds.features.FeaturesDict):
    return []
  return [found for name in feature for found in (prefix + name, *_names(feature[name], f"{prefix}{name}."))]


@contextmanager
def _damage(where: str, *excepted: type[Exception]) -> Iterator[None]:
  """Turns whatever TFDS and its libraries raise for damaged files into an `LmxError`, except for the given types."""
  try:
    yield
  except Exception as error:
    if isinstance(error, (LmxError, *excepted)):
      raise
    why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    raise LmxError(f"{where}: the files are damaged ({why}). Fix: build the data set again.") from error


def _open(spec: str, options: ReadOptions) -> tuple[Any, Any]:
  """(builder, random-access data) of a prepared data set; every error message says how to make such a set."""
  import tensorflow_datasets as tfds

  folder = options.tfds_dir and os.path.expanduser(options.tfds_dir)
  place = folder or tfds.core.constants.DATA_DIR
  try:
    with _damage(f"tfds:{spec}", tfds.core.DatasetNotFoundError, ValueError, RuntimeError):
      builder = tfds.builder(spec, data_dir=folder)
  except tfds.core.DatasetNotFoundError as error:
    name = re.split("[/:]", spec)[0]
    raise LmxError(
      f"config.data.sources: found no TFDS data set {spec!r} in {place}. "
      f"Fix: build one with `lmx data build --name={name} FILES`, or set --config.data.tfds_dir."
    ) from error
  except (ValueError, RuntimeError) as error:
    why = " ".join(str(error).split())[:200]
    raise LmxError(
      f"config.data.sources: TFDS does not understand {spec!r}. Fix: tfds:name/config:1.0.0, or if it already has "
      f"that form, build it again in {place} ({why})"
    ) from error
  if not builder.is_prepared():
    raise LmxError(
      f"config.data.sources: the TFDS data set {spec!r} is known, but not prepared in {place}. "
      f"Fix: tfds build --file_format={_FORMAT} {spec}"
    )
  if options.tfds_split not in builder.info.splits:
    raise LmxError(message("config.data.tfds_split", got=options.tfds_split, allowed=sorted(builder.info.splits)))
  random_access = tfds.core.FileFormat.with_random_access()
  if builder.info.file_format not in random_access:
    kind = builder.info.file_format.value if builder.info.file_format else "unknown"
    raise LmxError(
      f"config.data.sources: {spec!r} was prepared as {kind} files, which need TensorFlow. "
      f"Fix: tfds convert_format --dataset={spec} --out_file_format={_FORMAT}, or build it again."
    )
  with _damage(f"tfds:{spec} {options.tfds_split}"):
    data = builder.as_data_source(split=options.tfds_split)
  promised = builder.info.splits[options.tfds_split].num_examples
  if len(data) != promised:  # The Parquet writer of TFDS 4.9.10 loses rows.
    raise LmxError(
      f"config.data.sources: {spec!r} has {len(data):,} rows in the files of its split {options.tfds_split!r}, and "
      f"{promised:,} by its own metadata. Fix: tfds build --file_format={_FORMAT} {spec}"
    )
  return builder, data


def _features() -> Any:
  import tensorflow_datasets as tfds

  return tfds.features.FeaturesDict({"text": tfds.features.Text()})


@dataclasses.dataclass(frozen=True)
class BuildReport:
  """Result of `build_tfds`: the folder, documents and bytes of text per split, and skipped documents by reason."""

  folder: Path
  documents: dict[str, int]
  bytes: dict[str, int]
  skipped: dict[str, int]


def _write_shard(path: str, source: Source, index: int, count: int, policy: str) -> tuple[int, int, dict[str, int]]:
  """Writes one ArrayRecord file; runs in its own process.

  If there are enough files, each process reads its share of them. Otherwise each process reads the complete source,
  because a gzip file can't be read from the middle, and takes every `count`-th document; the first process then counts
  the bad documents.

  Args:
    path: of the file to write.
    source: of the documents.
    index: of the shard.
    count: number of shards.
    policy: for bad documents.

  Returns:
    Documents, bytes of text, and skipped documents by reason.
  """
  bad, features = BadDocuments(policy), _features()
  own_files = isinstance(source, FileSource) and len(source.paths) >= count
  if isinstance(source, FileSource) and own_files:
    chosen = dataclasses.replace(source, paths=source.paths[index::count]).documents(bad)
  else:
    chosen = itertools.islice(source.documents(bad), index, None, count)
  writer = array_record_module.ArrayRecordWriter(path, "group_size:1")
  documents = size = 0
  for document in chosen:
    writer.write(features.serialize_example(features.encode_example({"text": document.text})))
    documents, size = documents + 1, size + len(document.text.encode())
  writer.close()
  return documents, size, dict(bad.counts) if own_files or index == 0 else {}


def _check_name(name: str, version: str) -> None:
  if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
    raise LmxError(message("--name", got=name, allowed="lower-case letters, digits and _, a letter first"))
  if not re.fullmatch(r"\d+\.\d+\.\d+", version):
    raise LmxError(message("--version", got=version, allowed='three numbers, as "1.0.0"'))


def build_tfds(
  splits: dict[str, Source],
  *,
  name: str,
  directory: str | os.PathLike,
  version: str = "1.0.0",
  shards: int = 0,
  bad_documents: str = "error",
) -> BuildReport:
  """Builds a TFDS data set with one column, "text", from the user's sources, to be read as `tfds:name`.

  Each shard is written by its own process. The folder is renamed into place at the end, so an interrupted build leaves
  nothing that looks complete.

  Args:
    splits: split name -> source, as {"train": open_source("corpus/*.jsonl.gz")}.
    name: of the data set: lower-case letters, digits and _.
    directory: the TFDS data directory; the data set is written to directory/name/version.
    version: three numbers.
    shards: files per split, and processes; 0: one per core.
    bad_documents: error | skip.

  Raises:
    LmxError: a bad name, a data set that exists already, a bad document, or a split without documents.
  """
  _check_name(name, version)
  shards = shards or os.cpu_count() or 1
  root = Path(directory).expanduser() / name
  final, partial = root / version, root / f"incomplete.{os.getpid()}.{version}"
  if final.exists():
    raise LmxError(f"{final} exists. Fix: --version with a higher number, or remove that folder.")
  partial.mkdir(parents=True)
  try:
    results = _write_splits(partial, splits, name, shards, bad_documents)
    description = f"Text of {', '.join(source.name for source in splits.values())}."
    _write_metadata(partial, results, name, version, description)
    partial.rename(final)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  skipped: collections.Counter[str] = collections.Counter()
  for _, _, counts in itertools.chain.from_iterable(results.values()):
    skipped.update(counts)
  return BuildReport(
    folder=final,
    documents={split: sum(r[0] for r in result) for split, result in results.items()},
    bytes={split: sum(r[1] for r in result) for split, result in results.items()},
    skipped=dict(skipped),
  )


_Results = dict[str, Sequence[tuple[int, int, dict[str, int]]]]


def _write_splits(folder: Path, splits: dict[str, Source], name: str, shards: int, policy: str) -> _Results:
  results: _Results = {}
  workers = min(shards, os.cpu_count() or 1)
  # "spawn", because a fork would copy locks held by threads of JAX or of a tokenizer.
  with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
    for split, source in splits.items():
      files = [str(folder / f"{name}-{split}.{_FORMAT}-{i:05d}-of-{shards:05d}") for i in range(shards)]
      jobs = [pool.submit(_write_shard, file, source, i, shards, policy) for i, file in enumerate(files)]
      results[split] = [job.result() for job in jobs]
      if not any(documents for documents, _, _ in results[split]):
        raise LmxError(f"Split {split!r}: {source.name} has no documents.")
  return results


def _write_metadata(folder: Path, results: _Results, name: str, version: str, description: str) -> None:
  """Writes dataset_info.json and features.json, from which TFDS reads the shards."""
  import tensorflow_datasets as tfds

  template = tfds.core.ShardedFileTemplate(dataset_name=name, data_dir=folder, filetype_suffix=_FORMAT)
  infos = [
    tfds.core.SplitInfo(
      name=split,
      shard_lengths=[documents for documents, _, _ in shards],
      num_bytes=sum(size for _, size, _ in shards),
      filename_template=template.replace(split=split),
    )
    for split, shards in results.items()
  ]
  tfds.folder_dataset.write_metadata(
    data_dir=folder,
    features=_features(),
    version=version,
    filename_template=template,
    split_infos=infos,
    description=description,
    check_data=False,
  )
