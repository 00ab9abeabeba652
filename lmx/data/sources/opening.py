# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Opening files: detects formats and compressions by suffix and first bytes, and decompresses."""

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
  """A file that can't be read in its format; `args` are the reason and the detail of `BadDocuments.add`."""


def _open_gzip(path: Path) -> BinaryIO:
  return gzip.open(path, "rb")  # type: ignore[return-value]


def _open_bzip2(path: Path) -> BinaryIO:
  return bz2.open(path, "rb")  # type: ignore[return-value]


def _open_xz(path: Path) -> BinaryIO:
  return lzma.open(path, "rb")  # type: ignore[return-value]


def _open_zstd(path: Path) -> BinaryIO:
  # Reads all frames of a file; parallel compressors write several. (zlib, bz2 and lzma are Python's, zstd is
  # pyarrow's.)
  return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


# Suffix -> (name, first bytes, function that opens it).
COMPRESSIONS: dict[str, tuple[str, bytes, Callable[[Path], BinaryIO]]] = {
  ".gz": ("gzip", b"\x1f\x8b", _open_gzip),
  ".zst": ("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
  ".bz2": ("bzip2", b"BZh", _open_bzip2),
  ".xz": ("xz", b"\xfd7zXZ\x00", _open_xz),
}
_SKIPPABLE_ZSTD = (b"\x2a\x4d\x18", 1)  # (bytes, offset) of a frame that parallel zstd starts with.

# First bytes -> (kind of file, fix).
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
  """The suffix of a file's format in lower case, without that of a compression; "" if there is none."""
  suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSIONS]
  return suffixes[-1] if suffixes else ""


def is_compressed(path: Path) -> bool:
  return path.suffix.lower() in COMPRESSIONS


def open_binary(path: Path) -> BinaryIO:
  """Opens a file for reading bytes, decompressed if its name ends in .gz, .zst, .bz2 or .xz.

  Raises:
    BadFileError: the file has the suffix of a compression and is empty or not compressed that way.
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
  """As `open_binary`, for a file that must hold text.

  Raises:
    BadFileError: also if its first bytes are those of a binary format.
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
  """The row of `SIGNATURES` that matches a file's first bytes, unless they are text with the same first letters."""
  found = next((row for magic, row in SIGNATURES.items() if head.startswith(magic)), None)
  return found if found and not _reads_as_text(head) else None


def _reads_as_text(head: bytes) -> bool:
  text = decoded_head(head)
  return text is not None and not any(character < "\t" for character in text)


def decoded_head(head: bytes) -> str | None:
  """The first bytes of a file as text, without an incomplete last character; None if they aren't UTF-8."""
  try:
    return head.decode()
  except UnicodeDecodeError as error:
    return None if error.reason != "unexpected end of data" else head[: error.start].decode()


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
  """Turns the errors of decompressors and pyarrow for damaged files into a `BadFileError`."""
  name = COMPRESSIONS[path.suffix.lower()][0] if is_compressed(path) else "file"
  try:
    yield
  except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, pa.ArrowException, UnicodeDecodeError) as error:
    raise BadFileError(f"broken {name}", _one_line(error)) from error
  except OSError as error:
    if error.errno:
      raise  # An error of the disk, not of the contents.
    raise BadFileError(f"broken {name}", _one_line(error)) from error


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:200] or type(error).__name__
