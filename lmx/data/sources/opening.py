# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Opening files: what their names and first bytes say they are, and their bytes without compression."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa


class BadFileError(Exception):
  """A file that cannot be read as it should; `args` are the reason and the detail of `BadDocuments.add`."""


def _open_gzip(path: Path) -> BinaryIO:
  return gzip.open(path, "rb")  # type: ignore[return-value]


def _open_bzip2(path: Path) -> BinaryIO:
  return bz2.open(path, "rb")  # type: ignore[return-value]


def _open_xz(path: Path) -> BinaryIO:
  return lzma.open(path, "rb")  # type: ignore[return-value]


def _open_zstd(path: Path) -> BinaryIO:
  # Frames one after another, as parallel compressors write them, are read to the end.
  return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


# Suffix -> (name, first bytes, what opens it).
COMPRESSIONS: dict[str, tuple[str, bytes, Callable[[Path], BinaryIO]]] = {
  ".gz": ("gzip", b"\x1f\x8b", _open_gzip),
  ".zst": ("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
  ".bz2": ("bzip2", b"BZh", _open_bzip2),
  ".xz": ("xz", b"\xfd7zXZ\x00", _open_xz),
}
_SKIPPABLE_ZSTD = (b"\x2a\x4d\x18", 1)  # A frame that parallel zstd compressors may begin with, after one byte.

# First bytes -> (what such a file is, what to do).
SIGNATURES: dict[bytes, tuple[str, str]] = {
  b"PAR1": ("a Parquet file", "name it .parquet, or parquet:PATH"),
  b"ARROW1": ("an Arrow file", "name it .arrow, or arrow:PATH"),
  b"FEA1": ("a Feather file", "name it .feather, or arrow:PATH"),
  b"\x93NUMPY": ("a NumPy array", "name it .npy, or tokens:PATH for token ids"),
  b"GGUF": ("a GGUF model", "leave it out of the sources"),
  b"PK\x03\x04": ("a zip archive", "unpack it"),
  b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
  b"Rar!": ("a RAR archive", "unpack it"),
  b"%PDF-": ("a PDF file", "extract its text first"),
  b"\x89PNG": ("an image", "leave it out of the sources"),
  b"\xff\xd8\xff": ("an image", "leave it out of the sources"),
  b"SQLite format 3": ("an SQLite database", "export its table as CSV or JSON lines"),
  b"\x89HDF": ("an HDF5 file", "export it as Parquet"),
  b"\xff\xfe": ("UTF-16 text", "iconv -f UTF-16 -t UTF-8 PATH > OTHER"),
  b"\xfe\xff": ("UTF-16 text", "iconv -f UTF-16 -t UTF-8 PATH > OTHER"),
  **{magic: (f"compressed by {name}", f"name it PATH{suffix}") for suffix, (name, magic, _) in COMPRESSIONS.items()},
}
_HEAD = 32


def bare_suffix(path: Path) -> str:
  """The suffix of a file's format, in lower case, without those of compressions; "" where it has none."""
  suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSIONS]
  return suffixes[-1] if suffixes else ""


def is_compressed(path: Path) -> bool:
  return path.suffix.lower() in COMPRESSIONS


def open_binary(path: Path) -> BinaryIO:
  """The file's bytes, unpacked if its name ends in .gz, .zst, .bz2 or .xz.

  Raises:
    BadFileError: the file is empty although it should be compressed, or is not compressed as its name says.
  """
  if not is_compressed(path):
    return path.open("rb")
  name, magic, opener = COMPRESSIONS[path.suffix.lower()]
  with path.open("rb") as file:
    head = file.read(_HEAD)
  if not head:
    raise BadFileError(f"broken {name}", "the file is empty")
  skippable, place = _SKIPPABLE_ZSTD
  found = _signature(head)
  if not head.startswith(magic) and not (name == "zstd" and head[place:].startswith(skippable)):
    raise BadFileError(f"broken {name}", f"the file is {found[0] if found else f'not compressed by {name}'}; rename it")
  return opener(path)


def open_text(path: Path) -> BinaryIO:
  """As `open_binary`, of a file that must hold text.

  Raises:
    BadFileError: its first bytes are those of something else.
  """
  file = open_binary(path)
  with read_errors(path):
    head = file.peek(_HEAD)[:_HEAD]  # type: ignore[attr-defined]
  found = _signature(head)
  if found:
    file.close()
    raise BadFileError("not text", f"it is {found[0]}: {found[1].replace('PATH', str(path))}")
  return file


def _signature(head: bytes) -> tuple[str, str] | None:
  """The row of `SIGNATURES` that a file begins with. Text may begin with the letters of one."""
  found = next((row for magic, row in SIGNATURES.items() if head.startswith(magic)), None)
  return found if found and not _reads_as_text(head) else None


def _reads_as_text(head: bytes) -> bool:
  text = decoded_head(head)
  return text is not None and not any(character < "\t" for character in text)


def decoded_head(head: bytes) -> str | None:
  """The first bytes of a file as text, without a last character that is cut; None if they aren't UTF-8."""
  try:
    return head.decode()
  except UnicodeDecodeError as error:
    return None if error.reason != "unexpected end of data" else head[: error.start].decode()


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
  """Makes what the compressions and pyarrow raise for damaged files a `BadFileError`."""
  name = COMPRESSIONS[path.suffix.lower()][0] if is_compressed(path) else "file"
  try:
    yield
  except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, pa.ArrowException, UnicodeDecodeError) as error:
    raise BadFileError(f"broken {name}", _one_line(error)) from error
  except OSError as error:
    if error.errno:
      raise  # The disk's.
    raise BadFileError(f"broken {name}", _one_line(error)) from error


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:200] or type(error).__name__
