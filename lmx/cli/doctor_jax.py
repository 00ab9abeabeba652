# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The checks of `lmx doctor` that need jax: devices, attention kernels, and whether the config can be built."""

import shutil
from collections.abc import Iterator

import jax

from lmx.cli.findings import NOTE, OK, PROBLEM, Check, Finding
from lmx.config.loading import ConfigDict
from lmx.errors import LmxError
from lmx.experiment.build import check
from lmx.nn.attention.kernel_check import check_kernel
from lmx.nn.attention.kernels import KERNELS, Extras
from lmx.parallel.mesh import make_mesh
from lmx.units import chip_of, counted, human


def _devices(config: ConfigDict) -> Iterator[Finding]:
  devices = jax.devices()
  kind, count = devices[0].device_kind, len(devices)
  yield Finding(OK, "devices", f"{count} x {kind} ({devices[0].platform}), {counted(jax.process_count(), 'process')}")
  chip = chip_of(kind)
  if chip:
    yield Finding(OK, "peak", f"{human(chip.bf16_flops, 'FLOP/s')} dense bfloat16 each ({chip.source})")
  else:
    yield Finding(NOTE, "peak", f"no published peak FLOP/s for {kind!r}, so MFU is not reported")
  if devices[0].platform == "cpu":
    if config.compute.dtype == "bfloat16":
      yield Finding(NOTE, "precision", "bfloat16 is slow on a CPU: --config.compute.dtype=float32")
    if shutil.which("nvidia-smi"):
      yield Finding(NOTE, "gpu", "nvidia-smi is installed, but jax does not see a GPU. Fix: pip install 'lmx[gpu]'")
  try:
    mesh = make_mesh(dict(config.mesh))
    yield Finding(OK, "mesh", ", ".join(f"{name} {size}" for name, size in mesh.shape.items()))
  except LmxError as error:
    yield Finding(PROBLEM, "mesh", str(error))


def _attention(config: ConfigDict) -> Iterator[Finding]:
  """Compares every attention kernel with the reference, at the config's head width and dtype."""
  backend = jax.default_backend()
  model, dtype = config.model, config.compute.dtype
  shape = {"heads": model.heads, "kv_heads": model.kv_heads or model.heads}
  width = model.head_width or model.width // model.heads
  extras = Extras(softcap=model.attention_softcap, dropout=model.dropout)
  for name, kernel in KERNELS.items():
    obstacle = kernel.obstacle(backend, dtype, width, extras)
    if obstacle:
      yield Finding(OK, "attention", f"{name}: not used here: {obstacle}")
      continue
    try:
      error = check_kernel(name, **shape, head_width=width, dtype=dtype, window=model.window, extras=extras)
      yield Finding(OK, "attention", f"{name}: equals the reference, largest relative error {error:.0e}")
    except LmxError as failure:
      yield Finding(PROBLEM, "attention", str(failure))


def _experiment(config: ConfigDict) -> Iterator[Finding]:
  """Builds the config's model and data spec as a run would."""
  for text in check(config):
    yield Finding(PROBLEM, "config", text)


CHECKS: tuple[Check, ...] = (_devices, _attention, _experiment)
