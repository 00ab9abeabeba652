# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Machines by the names that lmx has for them ("v5e:4x4"), in the words of the engines that rent them out."""

import dataclasses
import math
from collections.abc import Mapping

from lmx.errors import LmxError, message
from lmx.plan.topology import TPUS, Topology, parse_topology


@dataclasses.dataclass(frozen=True)
class Rented:
  """Google's words for a kind of TPU (https://docs.cloud.google.com/tpu/docs, the page of each kind).

  Attributes:
    accelerator: of an accelerator type, "v5litepod" of "v5litepod-16".
    per_chip: what the number in an accelerator type counts: TensorCores (2 for each chip of v4 and v5p) or chips.
    host_chips: chips of one machine of a slice of several.
    runtime: of the machines, as `--runtime-version` has it; "": queued resources don't rent it out.
  """

  accelerator: str
  per_chip: int
  host_chips: int
  runtime: str


RENTED: Mapping[str, Rented] = {
  "v4": Rented("v4", 2, 4, "tpu-ubuntu2204-base"),
  "v5e": Rented("v5litepod", 1, 4, "v2-alpha-tpuv5-lite"),
  "v5p": Rented("v5p", 2, 4, "v2-alpha-tpuv5"),
  "v6e": Rented("v6e", 1, 4, "v2-alpha-tpuv6e"),
  "tpu7x": Rented("tpu7x", 2, 4, ""),
}
_ONE_HOST = 8  # Chips up to which a slice of v5e and v6e is one machine.


def read_topology(text: str, on: str, *, gpus: bool = False) -> Topology:
  """The machine of a job.

  Raises:
    LmxError: it isn't one, or this engine doesn't rent it out.
  """
  topology = parse_topology(text)
  if topology.kind not in TPUS and not gpus:
    raise LmxError(message("--topology", got=text, allowed=f"a TPU slice, for --on={on}", fix="--topology=v5e:4x4"))
  if on == "tpu" and not RENTED[topology.kind].runtime:
    raise LmxError(message("--topology", got=text, allowed="v4, v5e, v5p and v6e; TPU7x is rented out through GKE only",
                           fix="--on=gke"))  # fmt: skip
  return topology


def chips(topology: Topology) -> int:
  """Chips of one slice."""
  return math.prod(int(size) for size in topology.shape.split("x"))


def accelerator_type(topology: Topology) -> str:
  """Such as "v5litepod-16", "v5p-32"."""
  rented = RENTED[topology.kind]
  return f"{rented.accelerator}-{chips(topology) * rented.per_chip}"


def shape_flags(topology: Topology) -> list[str]:
  """gcloud's flags for a slice: kinds with a 3-D torus have several shapes of one size."""
  if topology.kind in ("v4", "v5p"):
    return [f"--type={RENTED[topology.kind].accelerator}", f"--topology={topology.shape}"]
  return [f"--accelerator-type={accelerator_type(topology)}"]


def workers(topology: Topology) -> int:
  """Machines of one slice."""
  count = chips(topology)
  if topology.kind in ("v5e", "v6e") and count <= _ONE_HOST:
    return 1
  return max(1, count // RENTED[topology.kind].host_chips)
