# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Time of a compiled program on a TPU: from the compiler's cycles where it has them, else from bytes and FLOPs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lmx.experiment.train_setup import TrainSetup
from lmx.parallel.sharding import Layout
from lmx.plan.hlo import Collective, LinkEvent, Program
from lmx.units import Chip, StepFlops


@dataclasses.dataclass(frozen=True)
class Range:
  """An estimate in seconds, with its lower and upper bound."""

  low: float
  likely: float
  high: float

  def __add__(self, other: "Range") -> "Range":
    return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)


Part = tuple[str, str, Range]  # What takes time, the source of the figure, and the seconds.

# Factors on the compiler's cycles (low, likely, high): those of matmul fusions are 3 to 15 % above the roofline, those
# of operations bound by memory are 1.7 to 6 times too many, as comparing them with rooflines shows.
_MATMULS = (1.0, 1.05, 1.15)
_MEMORY = (1 / 6, 1 / 3, 1 / 1.7)
_KERNEL_EFFICIENCY = (0.65, 0.5, 0.3)  # Of the bf16 peak, for FLOPs of flash attention and of experts. Assumed.
LINK_EFFICIENCY = (1.0, 0.85, 0.7)  # Of the links' one-way bandwidth, for large arrays. Assumed.
HOST_LINK = "waiting for the host's memory"
_SLICE_LINK = "waiting for other slices"


def total(parts: Sequence[Part]) -> Range:
  return sum((one for _, _, one in parts[1:]), start=parts[0][2])


def program_parts(program: Program, chip: Chip, network: TrainSetup, tokens: float, flops: StepFlops) -> list[Part]:
  """The parts of a step's time.

  Args:
    program: the compiled step.
    chip: a device's kind.
    network: on the devices.
    tokens: a device's share of a batch.
    flops: of one token.
  """
  matmuls = program.matmul_cycles / chip.clock
  others = program.other_cycles / chip.clock
  compute = [
    ("matmuls", "the compiler's cycles", Range(*(matmuls * factor for factor in _MATMULS))),
    ("bound by memory", "the compiler's cycles, 1.7 to 6 times too many", Range(*(others * x for x in _MEMORY))),
  ]
  if program.grouped_flops:
    seconds = program.grouped_flops / _room(network) / chip.bf16_flops
    compute.append(("kernels of experts", "FLOPs at 30 to 65 % of the peak, assumed",
                    Range(*(seconds / share for share in _KERNEL_EFFICIENCY))))  # fmt: skip
  if program.kernels:
    seconds = attention_flops(program, network.spec.layers, flops) * tokens / chip.bf16_flops
    compute.append(("attention kernels", "FLOPs at 30 to 65 % of the peak, assumed",
                    Range(*(seconds / share for share in _KERNEL_EFFICIENCY))))  # fmt: skip
  busy = total(compute)
  devices = list(network.layout.mesh.devices.flat)
  hidden, shown = (
    sum(collective_seconds(one, chip, network.layout, devices) for one in program.collectives if one.overlapped == flag)
    for flag in (True, False)
  )
  low, likely, high = ((hidden / e, shown / e) for e in LINK_EFFICIENCY)
  exposed = Range(
    max(0.0, low[0] + low[1] - busy.low),  # All communication overlaps.
    likely[1] + max(0.0, likely[0] - busy.likely),
    high[1] + max(0.5 * high[0], high[0] - busy.likely),  # Half of the communication that could overlap does not.
  )
  parts = [*compute, ("communication that is not hidden", "bytes over the links' bandwidth", exposed)]
  slices = network.layout.mesh.shape["slice"]
  waited = [link_seconds(program.links, chip, share, slices) for share in LINK_EFFICIENCY]
  for what, over, names in (
    (HOST_LINK, "host's link", ("to host", "from host")),
    (_SLICE_LINK, "network", ("slices",)),
  ):
    if any(one.link in names for one in program.links):
      waits = Range(*[sum(one[name] for name in names) for one in waited])
      parts.append((what, f"bytes over the {over}, in the compiler's order", waits))
  return parts


def _room(network: TrainSetup) -> float:
  """Rows in the buffers of a device's experts, over the rows that arrive if all experts get the same number."""
  devices, spec = network.layout.mesh.shape["expert"], network.spec
  own = min(spec.experts_per_token, spec.experts / devices)
  return devices * own / spec.experts_per_token if devices > 1 else 1.0


def link_seconds(events: Sequence[LinkEvent], chip: Chip, share: float, slices: int = 1) -> dict[str, float]:
  """Link -> seconds that a device waits for it, in the order that the compiler chose.

  Transfers use a link one after another, while the device computes the instructions between a transfer's start and the
  wait for its end. Kernels, which have no cycles in the text, hide nothing.

  Args:
    events: of a program.
    chip: a device's kind.
    share: of the links' published bandwidth that is reached.
    slices: number of TPU slices.
  """
  speeds = {"to host": chip.host_bandwidth, "from host": chip.host_bandwidth, "slices": chip.slice_bandwidth}
  passes = {"copy": 1.0, "all-reduce": 2 * (slices - 1) / slices}  # Other collectives send one part to each slice.
  now, waited, free = 0.0, dict.fromkeys(speeds, 0.0), dict.fromkeys(speeds, 0.0)
  ready = {}
  for one in events:
    now += (one.matmul_cycles * _MATMULS[1] + one.other_cycles * _MEMORY[1]) / chip.clock
    if one.begins:
      sent = passes.get(one.kind, (slices - 1) / slices) * one.bytes
      free[one.link] = max(now, free[one.link]) + sent / (share * speeds[one.link])
      ready[one.journey] = free[one.link]
    else:
      wait = max(0.0, ready.pop(one.journey) - now)
      now, waited[one.link] = now + wait, waited[one.link] + wait
  return waited


def attention_flops(program: Program, layers: int, flops: StepFlops) -> float:
  """FLOPs of attention in a step for one token, recomputation included."""
  forward = max((n for name, n in program.kernels.items() if "fwd" in name), default=layers)
  return (flops.causal - flops.matmuls) * (forward / layers + 2.5) / 3


def collective_seconds(one: Collective, chip: Chip, layout: Layout, devices: Sequence[Any]) -> float:
  """Seconds of a collective over rings, or lines, along the dimensions of the torus that its groups span.

  Where a chip has two devices, a group with both of them sends its data to each chip once, over the links between
  chips, and the two devices exchange it over their own link; a group with one of them shares the chip's links with
  another group.

  Args:
    one: the collective.
    chip: a device's kind.
    layout: with the mesh.
    devices: of the mesh, in its order.
  """
  axes = [axis for axis in one.axes if axis != "slice"]  # The network between slices is in `link_seconds`.
  members = int(np.prod([layout.mesh.shape[axis] for axis in axes]))
  if members == 1:
    return 0.0
  group = _group_of(axes, layout, devices)
  chips = len({tuple(device.coords) for device in group})
  together = members // chips
  passes = one.count * _PASSES.get(one.kind, 1) * one.bytes
  seconds = passes * (together - 1) / together / chip.chip_bandwidth if together > 1 else 0.0
  if chips > 1:
    spans = _torus_spans(group, devices)
    links = sum(2 if size % chip.wraps == 0 else 1 for size in spans) * together / chip.chip_devices
    seconds += passes * (chips - 1) / chips / (chip.link_bandwidth * links)
  return seconds


_PASSES = {"all-reduce": 2, "all-to-all": 0.5}  # How often the complete array passes a device; other kinds: once.


def _group_of(axes: Sequence[str], layout: Layout, devices: Sequence[Any]) -> list[Any]:
  """The first device, and those that differ from it only in the given mesh axes."""
  names = list(layout.mesh.shape)
  grid = np.asarray(devices, dtype=object).reshape(list(layout.mesh.shape.values()))
  return list(grid[tuple(slice(None) if name in axes else 0 for name in names)].reshape(-1))


def _torus_spans(group: Sequence[Any], devices: Sequence[Any]) -> list[int]:
  """Sizes of the torus's dimensions along which the devices of a group differ."""
  of_group = np.array([device.coords for device in group])
  of_all = np.array([device.coords for device in devices])
  return [int(np.ptp(of_all[:, i])) + 1 for i in range(of_group.shape[1]) if np.ptp(of_group[:, i]) > 0]
