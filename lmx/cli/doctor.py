# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Diagnose the installation: versions, devices, kernels, caches, and a config, if one is given.

Exit code 0 when nothing stands in the way of training, 1 otherwise. Nothing is changed, but for a file that is written
and removed where lmx keeps its caches. With --verify every file in config.data.cache_dir is also read and compared with
its digest, which takes about half a second for each GB.
"""

import argparse
import dataclasses
import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmx
from lmx.cli.arguments import add_config
from lmx.cli.given_config import config_and_problems
from lmx.config.loading import ConfigDict
from lmx.data.digests import DIGESTS, DamageError, check_folder
from lmx.errors import LmxError
from lmx.units import human, human_bytes
from lmx.versions import FIX, LOWER_BOUNDS, installed, libtpu_warning, version_problems

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"
_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Finding:
  """One line of the report: ok, note (works, but know it) or PROBLEM (training would fail)."""

  level: str
  subject: str
  text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_config(parser)
  parser.add_argument("--verify", action="store_true", help="read every file of the data cache and check its digest")


def run(args: argparse.Namespace) -> int:
  config, problems = config_and_problems(args)
  findings = [Finding(PROBLEM, "config", text) for text in problems]
  for check in (*CHECKS, _caches) if args.verify else CHECKS:
    try:
      findings += check(config)
    except Exception as error:  # The doctor reports what breaks instead of breaking.
      findings.append(Finding(PROBLEM, check.__name__.strip("_"), f"{type(error).__name__}: {error}"))
  for finding in findings:
    print(f"{finding.level:8} {finding.subject:12} {finding.text}")
  bad = sum(finding.level == PROBLEM for finding in findings)
  print(f"\n{bad} problems" if bad else "\nready: lmx train")
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
    "huggingface_hub": "models by their name on the hub",
    "qwix": "config.compute.quantization",
    "tensorboard": "TensorBoard files",
    "wandb": "Weights & Biases",
  }
  missing = [f"{name} ({use})" for name, use in optional.items() if installed(name) is None]
  if missing:
    yield Finding(NOTE, "optional", f"not installed: {', '.join(missing)}")


def _devices(config: ConfigDict) -> Iterator[Finding]:
  jax = importlib.import_module("jax")
  devices = jax.devices()
  kind, count = devices[0].device_kind, len(devices)
  yield Finding(OK, "devices", f"{count} x {kind} ({devices[0].platform}), {jax.process_count()} processes")
  chip = importlib.import_module("lmx.units").chip_of(kind)
  if chip:
    yield Finding(OK, "peak", f"{human(chip.bf16_flops, 'FLOP/s')} dense bfloat16 each ({chip.source})")
  else:
    yield Finding(NOTE, "peak", f"no published peak is known for {kind!r}, so MFU is not reported")
  if devices[0].platform == "cpu":
    if config.compute.dtype == "bfloat16":
      yield Finding(NOTE, "precision", "bfloat16 is slow on a CPU: --config.compute.dtype=float32")
    if shutil.which("nvidia-smi"):
      yield Finding(NOTE, "gpu", "there seems to be an NVIDIA GPU that jax does not see: pip install 'lmx[gpu]'")
  try:
    mesh = importlib.import_module("lmx.parallel.mesh").make_mesh(dict(config.mesh))
    yield Finding(OK, "mesh", ", ".join(f"{name} {size}" for name, size in mesh.shape.items()))
  except LmxError as error:
    yield Finding(PROBLEM, "mesh", str(error))


def _memory(config: ConfigDict) -> Iterator[Finding]:
  total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  yield Finding(OK, "host", f"{cores} CPU cores, {total / _GIB:.1f} GiB of memory")


def _folders(config: ConfigDict) -> Iterator[Finding]:
  named = {"cache": config.compute.compilation_cache, "data cache": config.data.cache_dir, "runs": "runs"}
  for subject, name in named.items():
    if not name:
      yield Finding(NOTE, subject, "off: every start compiles again")
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
  shows = "a terminal" if sys.stdout.isatty() else "no terminal: plain lines instead of a progress bar"
  yield Finding(OK, "output", f"{encoding}, {shows}")
  if encoding.replace("-", "") != "utf8":
    yield Finding(NOTE, "output", "characters that it can't show are printed as ?; export PYTHONUTF8=1 shows them")


def _attention(config: ConfigDict) -> Iterator[Finding]:
  """Every attention kernel, compared with the reference on the config's head width and precision."""
  kernels, check = (
    importlib.import_module("lmx.nn.attention.kernels"),
    importlib.import_module("lmx.nn.attention.kernel_check"),
  )
  backend = importlib.import_module("jax").default_backend()
  model, dtype = config.model, config.compute.dtype
  shape = {"heads": model.heads, "kv_heads": model.kv_heads or model.heads}
  width = model.head_width or model.width // model.heads
  extras = kernels.Extras(softcap=model.attention_softcap, dropout=model.dropout)
  for name, kernel in kernels.KERNELS.items():
    obstacle = kernel.obstacle(backend, dtype, width, extras)
    if obstacle:
      yield Finding(OK, "attention", f"{name}: not used here: {obstacle}")
      continue
    try:
      error = check.check_kernel(name, **shape, head_width=width, dtype=dtype, window=model.window, extras=extras)
      yield Finding(OK, "attention", f"{name}: equals the reference, largest relative error {error:.0e}")
    except LmxError as failure:
      yield Finding(PROBLEM, "attention", str(failure))


def _caches(config: ConfigDict) -> Iterator[Finding]:
  """Every cache of tokens, examples, rows and trained tokenizers, read whole."""
  folder = Path(config.data.cache_dir).expanduser()
  sealed = sorted(file.parent for file in folder.rglob(DIGESTS))
  total, start = 0, time.perf_counter()
  for cache in sealed:
    try:
      total += check_folder(cache, full=True, with_sources=False)
    except DamageError as error:
      yield Finding(PROBLEM, "data cache", f"{error}. Fix: rm -r {cache}; it will be made again")
  seconds = time.perf_counter() - start
  yield Finding(OK, "data cache", f"{folder}: {len(sealed)} caches, {human_bytes(total)} read in {seconds:.1f} s")
  older = [path for path in folder.iterdir() if path.is_dir() and path not in sealed] if folder.is_dir() else []
  if older:
    yield Finding(NOTE, "data cache", f"{len(older)} folders have no digests and are not read by this version of lmx")


def _experiment(config: ConfigDict) -> Iterator[Finding]:
  for text in importlib.import_module("lmx.experiment.build").check(config):
    yield Finding(PROBLEM, "config", text)


CHECKS: tuple[Callable[[ConfigDict], Iterator[Finding]], ...] = (
  _versions,
  _memory,
  _folders,
  _terminal,
  _devices,
  _attention,
  _experiment,
)
