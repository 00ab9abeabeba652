# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Machines that you don't have: TPU slices, whose devices programs are compiled for ahead of time, and GPUs."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from typing import Any

from lmx.errors import LmxError, message
from lmx.units import chip_of

_V5E_SIZES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")


@dataclasses.dataclass(frozen=True)
class TpuKind:
  """A generation of TPU.

  Attributes:
    accelerator: one of libtpu's accelerator types of it, of any size: the topology's size replaces it.
    sizes: the slices that are sold, where they are a list; (): boxes of a 3-D torus within `pod`.
    pod: chips along each dimension of the largest slice, ascending.
    devices: JAX devices on one chip.
    options: of libtpu's topology, for a slice as its users get it.
    source: of the sizes.
  """

  accelerator: str
  sizes: tuple[str, ...] = ()
  pod: tuple[int, ...] = ()
  devices: int = 1
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)
  source: str = ""

  def offers(self, shape: str) -> bool:
    """Whether such a slice is sold: one of the small boxes, or any that is made of cubes of 4 x 4 x 4."""
    if self.sizes:
      return shape in self.sizes
    sizes = [int(size) for size in shape.split("x")]
    if len(sizes) != 3 or any(size > most for size, most in zip(sorted(sizes), self.pod, strict=True)):
      return False
    return shape in _SMALL_BOXES or all(size % 4 == 0 for size in sizes)

  @property
  def examples(self) -> list[str]:
    """Slices to suggest: all that are listed, or small boxes and a few larger ones."""
    return list(self.sizes or (*_SMALL_BOXES, "4x4x4", "4x4x8", "4x8x8", "8x8x8"))


_SMALL_BOXES = ("1x1x1", "2x2x1", "2x2x2", "2x2x4", "2x4x4")
_DOCS = "https://docs.cloud.google.com/tpu/docs/"
TPUS = {
  # Without megacore, libtpu describes the two halves of each chip as two devices.
  "v4": TpuKind("v4-8", pod=(12, 16, 16), options={"chip_config_name": "megacore"}, source=_DOCS + "v4"),
  "v5e": TpuKind("v5litepod-4", _V5E_SIZES, source=_DOCS + "v5e"),
  "v5p": TpuKind("v5p-8", pod=(16, 20, 28), source=_DOCS + "v5p"),
  "v6e": TpuKind("v6e-4", _V5E_SIZES, source=_DOCS + "v6e"),
  "tpu7x": TpuKind("tpu7x-8", pod=(16, 24, 36), devices=2, source=_DOCS + "tpu7x"),
}
GPUS = ("a100", "h100", "h200", "b200")
_TPU = re.compile(rf"(?:([1-9]\d*)x)?({'|'.join(TPUS)}):(\d+x\d+(?:x\d+)?)")
_GPU = re.compile(rf"({'|'.join(GPUS)}):([1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Topology:
  """A machine: TPU slices of a shape ("4x4", in chips), or a number of GPUs ("8").

  Attributes:
    kind: of `TPUS` or `GPUS`.
    shape: of a slice, or the number of GPUs.
    slices: connected by the data-center network.
  """

  kind: str
  shape: str
  slices: int = 1

  @property
  def calculated(self) -> bool:
    """Whether its plans are counted, because lmx compiles nothing for it."""
    return self.kind in GPUS

  @property
  def size(self) -> int:
    """Number of devices."""
    each = TPUS[self.kind].devices if self.kind in TPUS else 1
    return self.slices * each * math.prod(int(size) for size in self.shape.split("x"))


def parse_topology(text: str) -> Topology:
  """Reads "v5e:4x4", "2xv5e:4x4" (two slices) or "h200:8".

  Raises:
    LmxError: it is neither, or no such slice is sold.
  """
  if found := _TPU.fullmatch(text):
    kind, shape = TPUS[found[2]], found[3]
    if not kind.offers(shape):
      nearest = min(kind.examples, key=lambda one: _distance(one, shape))
      sold = ", ".join(kind.examples) + ("" if kind.sizes else ", ... (multiples of 4, at most "
                                         + "x".join(map(str, kind.pod)) + ")")  # fmt: skip
      raise LmxError(message("--topology", got=text, allowed=f"{found[2]}: {sold} ({kind.source})",
                             fix=f"--topology={text.removesuffix(shape)}{nearest}"))  # fmt: skip
    return Topology(found[2], shape, int(found[1] or 1))
  if found := _GPU.fullmatch(text):
    return Topology(found[1], found[2])
  known = [*(f"{name}:{'4x4' if kind.sizes else '2x2x2'}" for name, kind in TPUS.items()), *(f"{g}:8" for g in GPUS)]
  fix = "--topology=v5e:4x4, --topology=2xv5e:4x4 (two slices), or --topology=h200:8"
  raise LmxError(message("--topology", got=text, allowed=known, fix=fix))


def _distance(one: str, other: str) -> tuple[int, float]:
  """How far apart two slices are: in the number of dimensions, then in the number of chips."""
  sizes = [[int(size) for size in shape.split("x")] for shape in (one, other)]
  return abs(len(sizes[0]) - len(sizes[1])), abs(math.log(math.prod(sizes[0]) / math.prod(sizes[1])))


def tpu_devices(topology: Topology) -> list[Any]:
  """The devices of TPU slices that you don't have, from libtpu; programs can be compiled for them.

  Raises:
    LmxError: libtpu is not installed, or has no such slice.
  """
  from jax.experimental import topologies  # Whoever only reads a topology needs no jax.

  kind = TPUS[topology.kind]
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", kind.accelerator)
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # Compiling needs no chip, so several plans may run at once.
  name, chip = f"{topology.kind}:{topology.shape}", chip_of(f"tpu {topology.kind}")
  options: dict[str, Any] = dict(kind.options)
  sizes = [int(size) for size in topology.shape.split("x")]
  if chip is not None:  # By default libtpu treats every dimension as a line.
    options["wrap"] = tuple(size % chip.wraps == 0 for size in [*sizes, 1][:3])
  if math.prod(sizes) == 1:  # By default libtpu's hosts have 2 x 2 chips.
    options["chips_per_host_bounds"] = (1, 1, 1)
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name, num_slices=topology.slices, **options)
  except Exception as error:
    text = str(error)
    if "lockfile" in text:
      raise LmxError("libtpu is in use by another process, which holds its lock. Fix: try again when that has ended, "
                     "or remove /tmp/libtpu_lockfile if no such process runs.") from error  # fmt: skip
    if "libtpu" in text or "TPU support not installed" in text:  # jax's message since 0.12.
      raise LmxError("A plan for TPUs needs their compiler, the package libtpu. Fix: pip install 'lmx[tpu]'") from error
    raise LmxError(f"--topology: libtpu has no slice {name} ({text[:200]})") from error
  return list(found.devices)
