# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Machines that need not be here: the devices of TPU slices, for programs that are compiled ahead of time."""

import dataclasses
import math
import os
import re
from typing import Any

from jax.experimental import topologies

from lmx.errors import LmxError, message

# Name -> what libtpu calls a slice of it. Any of their sizes will do: the topology's own replaces it.
TPUS = {"v4": "v4-8", "v5e": "v5litepod-4", "v5p": "v5p-8", "v6e": "v6e-4"}
GPUS = ("a100", "h100", "h200", "b200")
_TPU = re.compile(rf"(?:([1-9]\d*)x)?({'|'.join(TPUS)}):(\d+x\d+(?:x\d+)?)")
_GPU = re.compile(rf"({'|'.join(GPUS)}):([1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Topology:
  """A machine: TPU slices of a shape ("4x4"), or so many GPUs ("8").

  Attributes:
    kind: of `TPUS` or `GPUS`.
    shape: of a slice, or how many GPUs.
    slices: joined by the data-centre network.
  """

  kind: str
  shape: str
  slices: int = 1

  @property
  def calculated(self) -> bool:
    """No compiler for it is here."""
    return self.kind in GPUS

  @property
  def size(self) -> int:
    """How many devices it has."""
    return self.slices * math.prod(int(size) for size in self.shape.split("x"))


def parse_topology(text: str) -> Topology:
  """Reads "v5e:4x4", "2xv5e:4x4" (two slices) or "h200:8".

  Raises:
    LmxError: it is neither.
  """
  if found := _TPU.fullmatch(text):
    return Topology(found[2], found[3], int(found[1] or 1))
  if found := _GPU.fullmatch(text):
    return Topology(found[1], found[2])
  known = [*(f"{name}:4x4" if name in ("v5e", "v6e") else f"{name}:2x2x2" for name in TPUS), *(f"{g}:8" for g in GPUS)]
  fix = "--topology=v5e:4x4, --topology=2xv5e:4x4 (two slices), or --topology=h200:8"
  raise LmxError(message("--topology", got=text, allowed=known, fix=fix))


def tpu_devices(topology: Topology) -> list[Any]:
  """The devices of TPU slices, through libtpu, which compiles for them although they are not here.

  Raises:
    LmxError: libtpu is not installed, is busy in another process, or knows no such slice.
  """
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", TPUS[topology.kind])
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  name = f"{topology.kind}:{topology.shape}"
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name, num_slices=topology.slices)
  except Exception as error:
    text = str(error)
    if "lockfile" in text:
      raise LmxError("libtpu is in use by another process, and serves one at a time. Fix: try again when that has "
                     "ended, or remove /tmp/libtpu_lockfile if none runs.") from error  # fmt: skip
    if "libtpu" in text or "TPU support not installed" in text:  # As jax has said it since 0.12.
      raise LmxError("A plan for TPUs needs their compiler, the package libtpu. Fix: pip install 'lmx[tpu]'") from error
    raise LmxError(f"--topology: libtpu knows no slice {name} ({text[:200]})") from error
  return list(found.devices)
