# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Machines that need not be here: the devices of a TPU slice, for programs that are compiled ahead of time."""

import os
import re
from typing import Any

from jax.experimental import topologies

from lmx.errors import LmxError, message

# Name -> what libtpu calls a slice of it. Any of their sizes will do: the topology's own replaces it.
TPUS = {"v4": "v4-8", "v5e": "v5litepod-4", "v5p": "v5p-8", "v6e": "v6e-4"}
GPUS = ("a100", "h100", "h200", "b200")
_SHAPE = re.compile(r"\d+x\d+(x\d+)?")


def parse_topology(text: str) -> tuple[str, str]:
  """("v5e", "4x4") of "v5e:4x4"; ("h200", "8") of "h200:8".

  Raises:
    LmxError: it is neither.
  """
  kind, _, shape = text.partition(":")
  if (kind in TPUS and _SHAPE.fullmatch(shape)) or (kind in GPUS and shape.isdigit() and int(shape) > 0):
    return kind, shape
  known = [*(f"{name}:4x4" if name in ("v5e", "v6e") else f"{name}:2x2x2" for name in TPUS), *(f"{g}:8" for g in GPUS)]
  raise LmxError(message("--topology", got=text, allowed=known, fix="--topology=v5e:4x4, or --topology=h200:8"))


def tpu_devices(kind: str, shape: str) -> list[Any]:
  """The devices of a TPU slice, through libtpu, which compiles for them although they are not here.

  Raises:
    LmxError: libtpu is not installed, is busy in another process, or knows no such slice.
  """
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", TPUS[kind])
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  try:
    topology = topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:{shape}")
  except Exception as error:
    text = str(error)
    if "lockfile" in text:
      raise LmxError("libtpu is in use by another process, and serves one at a time. Fix: try again when that has "
                     "ended, or remove /tmp/libtpu_lockfile if none runs.") from error  # fmt: skip
    if "libtpu" in text:
      raise LmxError("A plan for TPUs needs their compiler, the package libtpu. Fix: pip install 'lmx[tpu]'") from error
    raise LmxError(f"--topology: libtpu knows no slice {kind}:{shape} ({text[:200]})") from error
  return list(topology.devices)
