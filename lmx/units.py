# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Durations, floating-point operations, and what published hardware can do."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

from lmx.errors import LmxError, message

_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_UNITS = {
  "step": "steps",
  "steps": "steps",
  "token": "tokens",
  "tokens": "tokens",
  "example": "examples",
  "examples": "examples",
  "epoch": "epochs",
  "epochs": "epochs",
  "percent": "percent",
  "%": "percent",
}
_DURATION = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\s*([kMBT]?)\s*([a-z%]+)\s*")


@dataclasses.dataclass(frozen=True)
class StepSizes:
  """Sizes with which a duration becomes steps: rows and targets per step, steps per epoch and in the run."""

  examples_per_step: int
  tokens_per_step: int
  steps_per_epoch: float | None = None
  total_steps: int | None = None


def parse_duration(text: str, subject: str) -> tuple[float, str]:
  """Splits "300M tokens" into (3e8, "tokens").

  Units: steps, tokens, examples, epochs, percent (of the run); k, M, B, T scale the number.

  Args:
    text: the duration.
    subject: its config key, for the message.

  Raises:
    LmxError: another form or unit.
  """
  match = _DURATION.fullmatch(text) if isinstance(text, str) else None
  if not match or match[3] not in _UNITS:
    raise LmxError(
      message(
        subject,
        got=text,
        allowed="a number and one of steps, tokens, examples, epochs, percent",
        fix=f'--{subject}="1000 steps" (or "300M tokens", "2 epochs", "5%")',
      )
    )
  return float(match[1].replace("_", "")) * _SCALES[match[2]], _UNITS[match[3]]


def duration_steps(text: str, sizes: StepSizes, subject: str) -> int:
  """A duration in optimizer steps, rounded up.

  Args:
    text: such as "300M tokens".
    sizes: of a step, an epoch and the run.
    subject: its config key, for the message.

  Raises:
    LmxError: another form, or a unit that has no meaning here.
  """
  number, unit = parse_duration(text, subject)
  if unit == "percent":
    if sizes.total_steps is None:
      raise LmxError(message(subject, got=text, allowed="steps, tokens, examples or epochs: this is the whole run"))
    return math.ceil(number / 100 * sizes.total_steps)
  if unit == "epochs":
    if sizes.steps_per_epoch is None:
      raise LmxError(message(subject, got=text, allowed="steps, tokens or examples: this data has no known length"))
    return math.ceil(number * sizes.steps_per_epoch)
  per_step = {"steps": 1, "examples": sizes.examples_per_step, "tokens": sizes.tokens_per_step}[unit]
  return math.ceil(number / per_step)


@dataclasses.dataclass(frozen=True)
class Chip:
  """Published figures of one JAX device, dense, without structured sparsity. A TPU7x chip is two devices.

  Attributes:
    name: to print.
    bf16_flops: peak, FLOP/s.
    hbm_bytes, hbm_bandwidth: memory, and bytes/s. For TPUs, the memory that libtpu lets a program use, which is less
      than in the data sheet (read from its out-of-memory errors; the same for libtpu 0.0.42 and 0.0.50).
    source: of the above.
    clock: cycles/s, for TPUs; inferred from the peak and the number of multipliers.
    link_bandwidth: bytes/s one way over one link between neighboring chips
      (https://jax-ml.github.io/scaling-book/tpus, table of section 2; TPU7x: as v5p, whose links Google gives the same
      figure, https://docs.cloud.google.com/tpu/docs/tpu7x).
    chip_devices: JAX devices on a chip, which share its links.
    chip_bandwidth: bytes/s one way between the two devices of a chip (TPU7x: six links' worth, same page).
    switch_bandwidth: bytes/s one way between GPUs that NVLink joins: half of NVIDIA's figure for both ways together.
    wraps: a torus dimension of a multiple of this number of chips is a ring; a shorter one is a line.
    host_bandwidth: bytes/s each way between a chip and its host's memory, over PCIe. TPUs: 32 GB/s for v6e, 16 for
      those before (same source); GPUs: half of NVIDIA's figure for both ways together, 64 GB/s for PCIe 4.0 (A100)
      and 128 for 5.0 (H100, H200; assumed for B200).
    slice_bandwidth: bytes/s one way between a chip and other slices or hosts, over the data-centre network (TPUs: same
      source, 12.5 GB/s for v6e, 3.125 for v5e, 6.25 for others; GPUs: one port of 400 Gb/s each, 200 for A100, as in
      NVIDIA's DGX).
    eight_bits: kind of 8-bit operands (a name of `compute.quantization`) -> peak FLOP/s of their products. TPUs: the
      published peak, only for kinds that the compiler multiplies faster than bf16 (tools/bench/products.py).
    matmul_efficiency: share of the peak that the compiler reaches for a large product (16,384 cubed in bf16, by its
      `estimated_cycles`; tools/bench/products.py prints it).
  """

  name: str
  bf16_flops: float
  hbm_bytes: float
  hbm_bandwidth: float
  source: str
  clock: float = 0.0
  link_bandwidth: float = 0.0
  chip_devices: int = 1
  chip_bandwidth: float = 0.0
  switch_bandwidth: float = 0.0
  wraps: int = 0
  host_bandwidth: float = 0.0
  slice_bandwidth: float = 0.0
  eight_bits: Mapping[str, float] = dataclasses.field(default_factory=dict)
  matmul_efficiency: float = 0.0

  def peak(self, operands: str) -> float:
    """FLOP/s of products of "none" (bf16) or of a kind of 8-bit operands; 0: they are no faster than bf16."""
    return self.bf16_flops if operands == "none" else self.eight_bits.get(operands, 0.0)


_TPU = "https://cloud.google.com/tpu/docs/"
_NV = "https://www.nvidia.com/en-us/data-center/"
_GIB = 2**30
# fmt: off
_V5E = Chip("TPU v5e", 197e12, 15.75 * _GIB, 819e9, _TPU + "v5e", clock=1.5e9, link_bandwidth=45e9, wraps=16,
             host_bandwidth=16e9, slice_bandwidth=3.125e9, eight_bits={"int8": 394e12, "fp8_b11": 394e12},
             matmul_efficiency=0.92)
_V5P = Chip("TPU v5p", 459e12, 95.73 * _GIB, 2765e9, _TPU + "v5p", clock=1.75e9, link_bandwidth=90e9, wraps=4,
             host_bandwidth=16e9, slice_bandwidth=6.25e9, eight_bits={"int8": 918e12, "fp8_b11": 918e12},
             matmul_efficiency=0.94)
_V6E = Chip("TPU v6e", 918e12, 31.24 * _GIB, 1640e9, _TPU + "v6e", clock=1.75e9, link_bandwidth=90e9, wraps=16,
             host_bandwidth=32e9, slice_bandwidth=12.5e9, eight_bits={"int8": 1836e12, "fp8_b11": 1836e12},
             matmul_efficiency=0.78)
_TPU7X = Chip("TPU7x", 2307e12 / 2, 94.74 * _GIB, 7380e9 / 2, "https://docs.cloud.google.com/tpu/docs/tpu7x",
              clock=2.2e9, link_bandwidth=90e9, chip_devices=2, chip_bandwidth=6 * 90e9, wraps=4, host_bandwidth=16e9,
              slice_bandwidth=6.25e9, eight_bits={"fp8": 4614e12 / 2}, matmul_efficiency=0.85)
_HOPPER = functools.partial(Chip, host_bandwidth=64e9, switch_bandwidth=450e9, slice_bandwidth=50e9,
                            eight_bits={"int8": 1979e12, "fp8": 1979e12})
# Keys are matched against jax's `device_kind`, lower case, longest first.
CHIPS = {
  "tpu v4": Chip("TPU v4", 275e12, 30.75 * _GIB, 1228e9, _TPU + "v4", clock=1.05e9, link_bandwidth=45e9, wraps=4,
                 host_bandwidth=16e9, slice_bandwidth=6.25e9, matmul_efficiency=0.94),
  "tpu v5 lite": _V5E,
  "tpu v5e": _V5E,
  "tpu v5": _V5P,
  "tpu v5p": _V5P,
  "tpu v6 lite": _V6E,
  "tpu v6e": _V6E,
  "tpu7x": _TPU7X,
  "a100": Chip("A100", 312e12, 80e9, 2039e9, _NV + "a100/", host_bandwidth=32e9, switch_bandwidth=300e9,
               slice_bandwidth=25e9, eight_bits={"int8": 624e12}),
  "h100": _HOPPER("H100 SXM", 989e12, 80e9, 3350e9, _NV + "h100/"),
  "h200": _HOPPER("H200 SXM", 989e12, 141e9, 4800e9, _NV + "h200/"),
  "b200": Chip("B200", 2250e12, 180e9, 7700e9, _NV + "dgx-b200/", host_bandwidth=64e9, switch_bandwidth=900e9,
               slice_bandwidth=50e9, eight_bits={"int8": 4500e12, "fp8": 4500e12}),
}
# fmt: on


def chip_of(device_kind: str) -> Chip | None:
  """The published figures of a device kind, or None where lmx has no sourced peak (such as for CPUs)."""
  kind = device_kind.lower()
  for key in sorted(CHIPS, key=len, reverse=True):
    if key in kind:
      return CHIPS[key]
  return None


@dataclasses.dataclass(frozen=True)
class StepFlops:
  """FLOPs of one training token (forward and backward), a multiply-add counted as two.

  `causal` counts the half of the attention square that a causal model needs; `full` counts all of it, which is
  what the PaLM paper (https://arxiv.org/abs/2204.02311, appendix B) and most published MFU figures do. Both include
  `matmuls`, those of the weights.
  """

  causal: float
  full: float
  matmuls: float = 0.0


def human(number: float, unit: str = "") -> str:
  """1234567 -> "1.23M"."""
  for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
    if abs(number) >= scale:
      return f"{number / scale:.3g}{letter}{unit}"
  return f"{number:.4g}{unit}"


def counted(number: int, noun: str) -> str:
  """1, "layer" -> "1 layer"; 2, "process" -> "2 processes"."""
  plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
  return f"{number:,} {noun if number == 1 else plural}"


def human_bytes(number: float) -> str:
  """1234567890 -> "1.23GB"."""
  return human(number, "B").replace("BB", "GB")


def human_time(seconds: float) -> str:
  """Seconds as 8s, 2m05s, 1h07m or 3d04h."""
  total = max(0, round(seconds))
  days, hours, minutes = total // 86400, total // 3600 % 24, total // 60 % 60
  if days:
    return f"{days}d{hours:02d}h"
  if hours:
    return f"{hours}h{minutes:02d}m"
  return f"{minutes}m{total % 60:02d}s" if minutes else f"{total}s"
