# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Matrix products of 8-bit operands, forward and backward, by the package qwix (https://github.com/google/qwix).

Both operands of each of a layer's three products (y = x W, dx = dy W^T, dW = x^T dy) are rounded to 8 bits when they
are multiplied, to the nearest. Each row or column that is summed over has its own scale, its largest absolute
value. The weights themselves stay float32, and what the optimizer sees is a float gradient.
"""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp

from lmx.errors import LmxError, message
from lmx.units import CHIPS, chip_of

_PACKAGE = "qwix"
_KEY = "config.compute.quantization"


@dataclasses.dataclass(frozen=True)
class EightBits:
  """What operands are rounded to.

  Attributes:
    forward: dtype of activations and weights.
    backward: dtype of the gradients that come in.
    calibration: qwix's name for how the scales are found.
  """

  forward: str
  backward: str
  calibration: str


QUANTIZATIONS: dict[str, EightBits | None] = {
  "none": None,
  # The largest value becomes 127. By qwix's plain "absmax" it would be 127.5, which one program rounds up and another
  # down: a model would not be the same on another mesh.
  "int8": EightBits("int8", "int8", f"absmax,{127.5 / 127}"),
  # More range and less precision for gradients: https://arxiv.org/abs/2209.05433.
  "fp8": EightBits("float8_e4m3fn", "float8_e5m2", "absmax"),
  # TPUs before TPU7x multiply these at their 8-bit rate, and e4m3fn, or a mixture with e5m2, no faster than bf16.
  "fp8_b11": EightBits("float8_e4m3b11fnuz", "float8_e4m3b11fnuz", "absmax"),
}


def quantized_product(x: jax.Array, kernel: jax.Array, inputs: int, kind: EightBits) -> jax.Array:
  """x (..., *in) times kernel (*in, *out), their operands and those of their gradients in 8 bits: (..., *out).

  int8 products are summed in int32. Scales and the result have the dtype of x and kernel.

  Args:
    x, kernel: of one dtype.
    inputs: how many dimensions are summed over.
    kind: of 8 bits.
  """
  from qwix._src.core.dot_general_qt import DotGeneralQtConfig, dot_general_qt  # qwix's public names want its modules.

  forward, backward = jnp.dtype(kind.forward), jnp.dtype(kind.backward)
  config = DotGeneralQtConfig(
    lhs_qtype=forward,
    rhs_qtype=forward,
    dlhs_grad_qtype=backward,
    drhs_grad_qtype=backward,
    lhs_calibration_method=kind.calibration,
    rhs_calibration_method=kind.calibration,
    dlhs_grad_calibration_method=kind.calibration,
    drhs_grad_calibration_method=kind.calibration,
  )
  summed = (tuple(range(x.ndim - inputs, x.ndim)), tuple(range(inputs)))
  return dot_general_qt(x, kernel, (summed, ((), ())), config)


def check_quantization(name: str, device_kind: str) -> None:
  """Checks that products of that kind can be computed on a device.

  Args:
    name: a key of `QUANTIZATIONS`.
    device_kind: jax's name of it. CPUs, and devices that lmx has no figures of, are let through.

  Raises:
    LmxError: the package is missing, or the device multiplies such operands no faster than bf16: rounding them would
      only cost time there.
  """
  if name == "none":
    return
  if importlib.util.find_spec(_PACKAGE) is None:
    raise LmxError(message(_KEY, got=name, allowed=f"none without the package {_PACKAGE}",
                           fix="pip install 'lmx[quantized]'"))  # fmt: skip
  chip = chip_of(device_kind)
  if chip is not None and not chip.peak(name):
    able = dict.fromkeys(chip.name for chip in CHIPS.values() if chip.peak(name))
    others = [other for other in QUANTIZATIONS if chip.peak(other)]
    allowed = f"{' or '.join(['none', *others])} on a {chip.name}, which multiplies {name} no faster than bf16; "
    fix = f"--{_KEY}={(others or ['none'])[0]}"
    raise LmxError(message(_KEY, got=name, allowed=f"{allowed}{', '.join(able)} do", fix=fix))


def describe_quantization(name: str, device_kind: str) -> str:
  """The line of a run's start about its 8-bit products; "" if there are none."""
  if name == "none":
    return ""
  chip = chip_of(device_kind)
  where = f"{chip.peak(name) / chip.bf16_flops:.2g} times the bf16 peak" if chip else (
    "simulated on this CPU, not faster" if device_kind.lower() == "cpu" else "whether faster here is unknown"
  )  # fmt: skip
  return f"{name} products in linear layers ({where})"
