# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Records from Parquet and Arrow files, Feather and those of Hugging Face's `datasets` included.

`datasets` stores its features in a file's schema (https://huggingface.co/docs/datasets/about_dataset_features). A label
of a ClassLabel is read as its name. The files are read by pyarrow and not by `datasets`, which would be another
dependency and would copy the data into a cache of its own.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from lmx.data.document import BadDocuments, ReadOptions, Record, RequiredColumns, columns_hint
from lmx.data.sources.opening import BadFileError, is_compressed
from lmx.data.sources.values import BadValueError, class_name, find, plain, top_column
from lmx.errors import LmxError

_ROWS_AT_ONCE = 1024
_ARROW_FILE, _FEATHER_1 = b"ARROW1", b"FEA1"


def parquet_records(path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """The rows of a Parquet file; only the wanted columns are read from disk.

  Args:
    path: of the file.
    wanted: the columns to read.
    options: the columns' names in the file, and the size limit.
    bad: receives rows that can't be used.

  Raises:
    LmxError: a column doesn't exist.
    BadFileError: the file is compressed from outside, or damaged.
  """
  _check_plain(path)
  with pa.parquet.ParquetFile(path) as file:
    schema = file.schema_arrow
    columns = _columns(path, schema, wanted, options)
    tops = _tops(columns, schema)
    # Columns are selected by the paths of leaves: pyarrow would take a column with a dot in its name for a path.
    leaves = [file.schema.column(i).path for i in range(len(file.schema))]
    chosen = [leaf for leaf in leaves if any(leaf == top or leaf.startswith(f"{top}.") for top in tops)]
    batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=chosen)
    yield from _records(path, batches, columns, schema, options, bad)


def arrow_records(path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """The rows of an Arrow file: IPC file format (Feather 2), IPC stream format (`datasets`), or Feather 1.

  Args:
    path, wanted, options, bad: as in `parquet_records`.

  Raises:
    LmxError: a column doesn't exist.
    BadFileError: the file is compressed from outside, or damaged.
  """
  _check_plain(path)
  with path.open("rb") as head:
    magic = head.read(len(_ARROW_FILE))
  with pa.memory_map(str(path)) as memory:
    if magic.startswith(_FEATHER_1):
      table = pa.feather.read_table(memory)
      schema, batches = table.schema, iter(table.to_batches(max_chunksize=_ROWS_AT_ONCE))
    elif magic == _ARROW_FILE:
      file = pa.ipc.open_file(memory)
      schema, batches = file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
    else:
      stream = pa.ipc.open_stream(memory)
      schema, batches = stream.schema, iter(stream)
    columns = _columns(path, schema, wanted, options)
    tops = _tops(columns, schema)
    yield from _records(path, (batch.select(tops) for batch in batches), columns, schema, options, bad)


def _check_plain(path: Path) -> None:
  """Refuses compressed files, since these formats need random access and compress their contents themselves."""
  if is_compressed(path):
    raise BadFileError("compressed outside", f"unpack it: {path.suffix} around Parquet or Arrow saves nothing")
  if not path.stat().st_size:
    raise BadFileError("broken file", "the file is empty")


def _columns(path: Path, schema: pa.Schema, wanted: RequiredColumns, options: ReadOptions) -> dict[str, str]:
  """lmx's name -> the file's name, of the wanted columns that the file has."""
  columns, present = options.resolve(wanted), _names(schema)
  chosen = {**columns.optional, **columns.required}
  for ours, name in chosen.items():
    if name not in present and columns.must_exist(ours):
      raise LmxError(f"{path}: no column {name!r} ({columns_hint(ours, name, present, columns)})")
  found = {ours: name for ours, name in chosen.items() if name in present}
  if not found:
    ours = next(iter(chosen))
    raise LmxError(
      f"{path}: none of the columns {', '.join(chosen.values())} ({columns_hint(ours, ours, present, columns)})"
    )
  return found


def _tops(columns: dict[str, str], schema: pa.Schema) -> list[str]:
  return sorted({top for name in columns.values() if (top := top_column(name, schema.names))})


def _names(fields: Any, prefix: str = "") -> list[str]:
  """The columns of a schema, and with dots the columns of objects in them."""
  names: list[str] = []
  for field in fields:
    names.append(prefix + field.name)
    kind = field.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
      kind = kind.value_type
    if pa.types.is_struct(kind):
      names += _names([kind.field(i) for i in range(kind.num_fields)], f"{prefix}{field.name}.")
  return names


def _records(
  path: Path,
  batches: Iterator[pa.RecordBatch],
  columns: dict[str, str],
  schema: pa.Schema,
  options: ReadOptions,
  bad: BadDocuments,
) -> Iterator[Record]:
  features = _features(schema)
  first = 0
  for batch in batches:
    batch.validate(full=True)
    for index, row in enumerate(_rows(batch), first):
      where = f"{path}[{index}]"
      try:
        values = {name: _value(value, features.get(name), options.max_document_bytes) for name, value in row.items()}
      except BadValueError as error:
        bad.add(where, *error.args)
      else:
        yield Record({ours: find(values, name)[1] for ours, name in columns.items()}, where)
    first += batch.num_rows


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
  try:
    lists = [column.to_pylist(maps_as_pydicts="strict") for column in batch.columns]
  except (KeyError, ValueError, OverflowError) as error:  # A map with a duplicate key, a date out of Python's range.
    raise BadFileError("broken value", str(error)) from error
  return (dict(zip(batch.schema.names, values, strict=True)) for values in zip(*lists, strict=True))


def _features(schema: pa.Schema) -> dict[str, Any]:
  """The features that `datasets` wrote into a schema; {} if another program wrote the file."""
  try:
    kept = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
  except (KeyError, TypeError, ValueError):
    return {}
  return kept if isinstance(kept, dict) else {}


def _value(value: Any, feature: Any, limit: int) -> Any:
  """A value as JSON would hold it.

  Args:
    value: from pyarrow.
    feature: its feature, if `datasets` wrote one.
    limit: bytes that a text may have (config.data.max_document_bytes).

  Raises:
    BadValueError: text that isn't UTF-8 or is too long, a label without a name.
  """
  if value is None:
    return None
  if isinstance(feature, list) and len(feature) == 1:
    feature = {"feature": feature[0]}
  if not isinstance(feature, dict):
    return plain(value, limit)
  if feature.get("_type") == "ClassLabel" and feature.get("names"):
    return class_name(value, feature["names"])
  inner = feature.get("feature")
  if isinstance(value, list) and inner is not None:
    return [_value(part, inner, limit) for part in value]
  if isinstance(value, dict):  # `datasets` stores a sequence of objects as an object of sequences.
    each = (
      (lambda name: {"feature": inner.get(name)}) if isinstance(inner, dict) and "_type" not in inner else feature.get
    )
    return {name: _value(part, each(name), limit) for name, part in value.items()}
  return plain(value, limit)
