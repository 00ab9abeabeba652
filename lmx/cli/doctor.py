# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx doctor`: diagnose the installation.

The checks that need jax are in `lmx.cli.doctor_jax`, which is imported inside a check: that jax can't be imported is a
finding.
"""

import argparse
import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lmx
from lmx.cli.findings import NOTE, OK, PROBLEM, Check, Finding, checked
from lmx.config.loading import ConfigDict
from lmx.data.digests import DIGESTS, DamageError, check_folder
from lmx.data.sources.bucket_files import FOLDER as SOURCE_COPIES
from lmx.errors import LmxError
from lmx.paths import any_path, scheme_of
from lmx.units import counted, human_bytes
from lmx.versions import FIX, LOWER_BOUNDS, installed, libtpu_warning, version_problems

_GIB = 2**30


def run(args: argparse.Namespace) -> int:
  """Prints the findings; returns 1 if one of them is a problem."""
  config = args.config_values
  findings = [Finding(PROBLEM, "config", text) for text in args.config_problems]
  for check in (*CHECKS, _caches) if args.verify else CHECKS:
    findings += checked(check, config)
  for finding in findings:
    print(f"{finding.level:8} {finding.subject:12} {finding.text}")
  bad = sum(finding.level == PROBLEM for finding in findings)
  print("\n" + counted(bad, "problem") if bad else "\nready: lmx train")
  return 1 if bad else 0


def _versions(config: ConfigDict) -> Iterator[Finding]:
  system = f"{platform.system()} {platform.machine()}"
  yield Finding(OK, "lmx", f"{lmx.__version__} on Python {platform.python_version()}, {system}")
  names = [*LOWER_BOUNDS, "jaxlib", "tensorflow-datasets", "sentencepiece", "tokenizers", "numpy", "ml-collections"]
  yield Finding(OK, "packages", ", ".join(f"{name} {installed(name) or 'MISSING'}" for name in names))
  for text in version_problems():
    yield Finding(PROBLEM, "versions", f"{text}. Fix: {FIX}")
  if warning := libtpu_warning():
    yield Finding(NOTE, "libtpu", warning)
  optional = {
    "huggingface_hub": "models from the hub by name",
    "qwix": "config.compute.quantization",
    "tensorboard": "TensorBoard files",
    "wandb": "Weights & Biases",
  }
  missing = [f"{name} ({use})" for name, use in optional.items() if installed(name) is None]
  if missing:
    yield Finding(NOTE, "optional", f"not installed: {', '.join(missing)}")


def _memory(config: ConfigDict) -> Iterator[Finding]:
  total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  yield Finding(OK, "host", f"{cores} CPU cores, {total / _GIB:.1f} GiB of memory")


def _folders(config: ConfigDict) -> Iterator[Finding]:
  named = {"cache": config.compute.compilation_cache, "data cache": config.data.cache_dir, "runs": "runs"}
  for subject, name in named.items():
    if not name:
      yield Finding(NOTE, subject, "off: every start compiles from scratch")
      continue
    if scheme_of(name):
      try:
        yield Finding(OK, subject, f"{any_path(name, subject)}: its bucket answers")
      except LmxError as error:
        yield Finding(PROBLEM, subject, str(error))
      continue
    folder = Path(name).expanduser()
    there = next(parent for parent in [folder, *folder.absolute().parents] if parent.exists())
    try:
      with tempfile.TemporaryFile(dir=there):
        pass
    except OSError as error:
      yield Finding(PROBLEM, subject, f"can't write to {there}: {error.strerror}")
      continue
    free = shutil.disk_usage(there).free
    level = OK if free > _GIB else PROBLEM
    yield Finding(level, subject, f"{folder}: writable, {free / _GIB:.1f} GiB free")


def _terminal(config: ConfigDict) -> Iterator[Finding]:
  encoding = (sys.stdout.encoding or "none").lower()
  shows = "a terminal" if sys.stdout.isatty() else "not a terminal: plain lines instead of a progress bar"
  yield Finding(OK, "output", f"{encoding}, {shows}")
  if encoding.replace("-", "") != "utf8":
    yield Finding(NOTE, "output", "characters that it can't encode are printed as ?. Fix: export PYTHONUTF8=1")


def _caches(config: ConfigDict) -> Iterator[Finding]:
  """Reads every cache of tokens, examples, rows and trained tokenizers."""
  folder = Path(config.data.cache_dir).expanduser()
  sealed = sorted(file.parent for file in folder.rglob(DIGESTS))
  total, start = 0, time.perf_counter()
  for cache in sealed:
    try:
      total += check_folder(cache, full=True, with_sources=False)
    except DamageError as error:
      yield Finding(PROBLEM, "data cache", f"{error}. Fix: rm -r {cache}; it will be rebuilt")
  seconds = time.perf_counter() - start
  yield Finding(OK, "data cache", f"{folder}: {len(sealed)} caches, {human_bytes(total)} read in {seconds:.1f} s")
  known = {*sealed, folder / SOURCE_COPIES}
  older = [path for path in folder.iterdir() if path.is_dir() and path not in known] if folder.is_dir() else []
  if older:
    yield Finding(NOTE, "data cache", f"{len(older)} folders have no digests and are not read by this version of lmx")


def _jax(config: ConfigDict) -> Iterator[Finding]:
  """The checks that need jax."""
  for check in importlib.import_module("lmx.cli.doctor_jax").CHECKS:
    yield from checked(check, config)


CHECKS: tuple[Check, ...] = (_versions, _memory, _folders, _terminal, _jax)
