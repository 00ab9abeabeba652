# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Paths of runs and their files: on a disk, or in a bucket of Google Cloud Storage (gs://bucket/folder).

Paths in buckets are etils' `epath.Path`, as in Orbax: the methods of pathlib over gcsfs, which the extra `lmx[gcs]`
installs. What they lack or do otherwise on an object store is here: absolute paths, moving and copying of folders, and
writes that succeed only if nobody else has written meanwhile. Imports no jax.
"""

import atexit
import contextlib
import functools
import importlib.util
import json
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any, cast

from lmx.errors import LmxError, StorageError, message

BUCKET = "gs://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LOCAL = "a path on this machine"
_BUCKET_LIBRARIES = {"gcsfs", "aiohttp", "google", "requests"}
_SECONDS_TO_ANSWER = 30.0  # For the first request to a bucket.
_BOUNDARY = b"--lmx-part--"
_reachable: set[str] = set()  # Buckets that have answered this process.


def any_path(text: str | os.PathLike[str], subject: str = "path") -> Path:
  """The path of a file or folder that may be in a bucket, whose bucket has answered.

  Args:
    text: as the user wrote it.
    subject: the flag or config key that it came from.

  Returns:
    A `pathlib.Path`, with `~` expanded, or an `epath.Path` with the same methods.

  Raises:
    LmxError: another scheme than gs://, a missing package, no such bucket, no permission or no credentials.
    StorageError: the bucket doesn't answer.
  """
  name = os.fspath(text)
  scheme = scheme_of(name)
  if not scheme:
    return Path(name).expanduser()
  if scheme != "gs" or not re.match(r"gs://[^/]", name):
    allowed = f"{_LOCAL}, or gs://BUCKET/FOLDER in Google Cloud Storage, the only object store that lmx supports"
    raise LmxError(message(subject, got=name, allowed=allowed, fix=_fix_of(name)))
  if importlib.util.find_spec("gcsfs") is None:
    raise LmxError(f"{subject}: got {name!r}, which needs the package gcsfs. Fix: pip install 'lmx[gcs]'")
  bucket = split(name)[0]
  if bucket not in _reachable:
    _check_bucket(bucket, subject, name)
    _reachable.add(bucket)
  return as_bucket_path(name)


def local_path(text: str | os.PathLike[str], subject: str, why: str = "") -> Path:
  """The path of what must be on this machine's disk.

  Raises:
    LmxError: it has a scheme, such as gs://; `why` says what can't be done there.
  """
  name = os.fspath(text)
  if scheme_of(name):
    raise LmxError(message(subject, got=name, allowed=_LOCAL + (f": {why}" if why else "")))
  return Path(name).expanduser()


def scheme_of(name: str) -> str:
  """The scheme of a URL, such as "gs"; "" for a path. One slash too few counts, since no local folder is meant."""
  found = _SCHEME.match(name)
  return found.group(1).lower() if found else "gs" if name.startswith("gs:/") else ""


def in_bucket(path: str | os.PathLike[str]) -> bool:
  """Whether a path is in a bucket."""
  return os.fspath(path).startswith(BUCKET)


def split(path: str | os.PathLike[str]) -> tuple[str, str]:
  """(bucket, name of the object) of a path in a bucket."""
  bucket, _, name = os.fspath(path).removeprefix(BUCKET).partition("/")
  return bucket, name.rstrip("/")


def absolute(path: str | os.PathLike[str]) -> Path:
  """The absolute path; one in a bucket is absolute already (epath 1.15 would put the working directory before it)."""
  return as_bucket_path(path) if in_bucket(path) else Path(path).absolute()


def as_bucket_path(path: str | os.PathLike[str]) -> Path:
  """A path in a bucket that is known to answer, as an `epath.Path`."""
  file_system()
  from etils import epath

  return cast(Path, epath.Path(os.fspath(path)))


@functools.cache
def file_system() -> Any:
  """gcsfs's file system, which epath uses too: it remembers no listings, since other processes write to the bucket."""
  os.environ.setdefault("EPATH_USE_TF", "false")  # Else epath uses TensorFlow's file system where that is installed.
  logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # It logs every failed request with a traceback.
  logging.getLogger("google.auth").setLevel(logging.ERROR)  # It warns that this is no machine of Google's.
  import fsspec

  fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
  return fsspec.filesystem("gcs", finalize_on_close=True)


def _fix_of(name: str) -> str:
  if name.lower().startswith("file://"):
    return name[len("file://") :]
  rest = re.sub(r"^[^:]*:/+", "", name)
  return f"{BUCKET}{rest or 'BUCKET/FOLDER'}, or a local folder"


def _check_bucket(bucket: str, subject: str, name: str) -> None:
  """Lists one object of a bucket, to have one clear error before anything else happens."""
  from fsspec.asyn import sync

  try:
    fs = file_system()
    sync(fs.loop, fs._call, "GET", "b/{}/o", bucket, maxResults=1, json_out=True, timeout=_SECONDS_TO_ANSWER)
  except FileNotFoundError as error:
    fix = f"gcloud storage buckets create {BUCKET}{bucket}, or correct the name"
    raise LmxError(message(subject, got=name, allowed=f"a bucket that exists; {bucket} doesn't", fix=fix)) from error
  except Exception as error:
    if getattr(error, "code", None) == 401 or type(error).__module__.startswith("google.auth"):
      fix = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=FILE.json"
      raise LmxError(f"{subject}: {name}: there are no valid credentials for {bucket} ({_reason(error)}). "
                     f"Fix: {fix}") from error  # fmt: skip
    if getattr(error, "code", None) == 403 or str(error).startswith("Forbidden"):
      fix = f"ask the bucket's owner for the role Storage Object User on {BUCKET}{bucket}, or use another account"
      raise LmxError(f"{subject}: {name}: no permission for {bucket} ({_reason(error)}). Fix: {fix}") from error
    raise StorageError(f"{subject}: {name}: the bucket doesn't answer ({_reason(error)}). "
                       "Fix: check the network; the same command then works.") from error  # fmt: skip


def is_bucket_error(error: BaseException) -> bool:
  """Whether an error comes from a bucket, whose libraries raise many kinds."""
  library = type(error).__module__.partition(".")[0]
  return library in _BUCKET_LIBRARIES or type(error).__name__ == "FSTimeoutError" or (
    isinstance(error, OSError) and error.errno is None and str(error).startswith("Forbidden")
  )  # fmt: skip


def is_storage_error(error: BaseException) -> bool:
  """Whether an error comes from a disk or a bucket."""
  return isinstance(error, OSError) or is_bucket_error(error)


def may_pass(error: BaseException) -> bool:
  """Whether a bucket may work again after an error: it was overloaded, or the network was down."""
  code = getattr(error, "code", None)
  if isinstance(error, FileNotFoundError | FileExistsError | PermissionError) or str(error).startswith("Forbidden"):
    return False
  refused = isinstance(code, int) and 400 <= code < 500 and code not in (408, 429)
  return is_bucket_error(error) and not refused


def _reason(error: BaseException) -> str:
  return (str(error).strip().replace("\n", " ") or type(error).__name__)[:300]


# ---------------------------------------------------------------- folders


def local_copy(path: Path) -> Path:
  """A file or folder itself where it is local, else a copy of it in a temporary folder of this process."""
  if not in_bucket(path):
    return path
  fs, prefix = file_system(), "/".join(split(path))
  target = Path(tempfile.mkdtemp(dir=_temporary_folder())) / path.name
  files = [name for name in fs.find(prefix) if not name.endswith("/")]
  places = [target / name[len(prefix) :].lstrip("/") if name != prefix else target for name in files]
  for place in places:
    place.parent.mkdir(parents=True, exist_ok=True)
  fs.get(files, [str(place) for place in places])
  return target


@functools.cache
def _temporary_folder() -> str:
  folder = tempfile.mkdtemp(prefix="lmx-")
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return folder


def temporary_folder() -> Path:
  """A new folder on the local disk that is deleted when this process ends."""
  return Path(tempfile.mkdtemp(dir=_temporary_folder()))


def upload_folder(source: Path, target: Path, *, last: str = "") -> None:
  """Copies a local folder into a bucket.

  Args:
    source: local.
    target: in a bucket; files of the same names are overwritten.
    last: the file that is written when all others are there, so that its presence means a complete folder.
  """
  files = [file for file in sorted(source.rglob("*")) if file.is_file()]
  for group in ([file for file in files if file.name != last], [file for file in files if file.name == last]):
    if group:
      names = ["/".join((*split(target), file.relative_to(source).as_posix())) for file in group]
      file_system().put([str(file) for file in group], names)


def move_folder(source: Path, target: Path) -> None:
  """Moves a folder to a new name. In a bucket that is a copy and a deletion, and not atomic."""
  if not in_bucket(source):
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    return
  fs, prefix = file_system(), "/".join(split(source))
  files = fs.find(prefix)
  fs.copy(files, ["/".join(split(target)) + name[len(prefix) :] for name in files])
  fs.rm(prefix, recursive=True)


def remove_folder(path: Path) -> None:
  """Deletes a folder and all in it, if it is there; what can't be deleted stays."""
  if not in_bucket(path):
    shutil.rmtree(path, ignore_errors=True)
    return
  try:
    file_system().rm("/".join(split(path)), recursive=True)
  except Exception as error:
    if not is_storage_error(error):
      raise


def objects_of(pattern: str, subject: str = "config.data.sources") -> dict[str, Any]:
  """{name with its bucket: description} of the objects of a path, folder or glob; hidden ones are left out.

  Raises:
    LmxError: the bucket can't be used.
  """
  any_path(pattern, subject)
  fs, prefix = file_system(), "/".join(split(pattern))
  if any(c in pattern for c in "*?["):
    found = fs.glob(prefix, detail=True)
  else:
    found = fs.find(prefix, detail=True)
    found = {name: info for name, info in found.items() if name == prefix or name.startswith(f"{prefix}/")}
  bucket = len(prefix.partition("/")[0]) + 1
  return {
    name: info for name, info in sorted(found.items())
    if info.get("type") != "directory" and not any(p.startswith(".") for p in PurePosixPath(name[bucket:]).parts)
  }  # fmt: skip


def files_under(folder: Path) -> dict[str, tuple[int, ...]]:
  """{path relative to a folder: (size, values that change whenever the file is written)} of all files under it."""
  if in_bucket(folder):
    prefix = "/".join(split(folder))
    found = file_system().find(prefix, detail=True)
    return {name[len(prefix) + 1 :]: (int(info["size"]), int(info["generation"]))
            for name, info in found.items() if not name.endswith("/")}  # fmt: skip
  files: dict[str, tuple[int, ...]] = {}
  for path in folder.rglob("*"):
    with contextlib.suppress(FileNotFoundError):  # Deleted meanwhile.
      if not path.is_dir():
        stat = path.stat()
        files[path.relative_to(folder).as_posix()] = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
  return files


# ---------------------------------------------------------------- objects and their generations


def generation_of(path: Path) -> int:
  """The generation of an object, which changes with every write; 0: there is none."""
  return _described(path)[0]


def age_of(path: Path) -> tuple[int, str]:
  """(generation, time of the last write as RFC 3339) of an object; (0, ""): there is none."""
  return _described(path)


def _described(path: Path) -> tuple[int, str]:
  try:
    found = file_system().call("GET", "b/{}/o/{}", *split(path), json_out=True)
  except FileNotFoundError:
    return 0, ""
  return int(found["generation"]), str(found["updated"])


def write_if_unchanged(path: Path, text: str, generation: int) -> int:
  """Writes an object if it still has a generation, 0 for one that must not exist; returns the new generation.

  Raises:
    FileExistsError: somebody else has written it meanwhile.
  """
  fs, (bucket, name) = file_system(), split(path)
  parts = (b"Content-Type: application/json; charset=UTF-8\r\n\r\n" + json.dumps({"name": name}).encode(),
           b"Content-Type: application/json\r\n\r\n" + text.encode())  # fmt: skip
  body = b"".join(b"--" + _BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + _BOUNDARY + b"--"
  headers = {"Content-Type": f'multipart/related; boundary="{_BOUNDARY.decode()}"'}
  url = f"{fs._location}/upload/storage/v1/b/{bucket}/o"
  found = fs.call("POST", url, uploadType="multipart", headers=headers, data=body, json_out=True,
                  ifGenerationMatch=str(generation))  # fmt: skip
  return int(found["generation"])


def delete_if_unchanged(path: Path, generation: int) -> None:
  """Deletes an object if it still has this generation."""
  if generation_of(path) != generation:
    return
  try:
    file_system().call("DELETE", "b/{}/o/{}", *split(path), ifGenerationMatch=str(generation))
  except (FileNotFoundError, FileExistsError):
    return
