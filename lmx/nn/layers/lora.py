# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Low-rank adapters on linear layers chosen by name, and merging them back into the kernels.

Source: https://arxiv.org/abs/2106.09685. An adapter adds alpha / r * A B to a kernel; B starts at zero, so the model
starts unchanged. A is drawn with a standard deviation of 1 / sqrt(inputs).
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.errors import LmxError, message
from lmx.nn.layers.linear import Linear

NAMES = re.compile(r".*\.lora_[ab]")


@dataclasses.dataclass(frozen=True)
class LoraSpec:
  """Which linear layers get adapters.

  Attributes:
    rank: r; 0: none do.
    alpha: adapters are multiplied by alpha / rank.
    targets: regular expression over the dotted names of linear layers.
  """

  rank: int
  alpha: float
  targets: str


def named_linears(module: Any) -> Iterator[tuple[str, Linear]]:
  """(dotted name, layer) of every linear layer in a module."""
  for path, node in nnx.iter_graph(module):
    if isinstance(node, Linear):
      yield ".".join(map(str, path)), node


def add_lora(module: Any, spec: LoraSpec, key: jax.Array) -> Any:
  """The module with adapters on the layers that `spec.targets` matches; changed in place and returned.

  Raises:
    LmxError: no linear layer has a name that the pattern matches.
  """
  layers = sorted(named_linears(module))
  chosen = [(name, layer) for name, layer in layers if re.fullmatch(spec.targets, name)]
  if not chosen:
    names = [name for name, _ in layers]
    raise LmxError(message("config.lora.targets", got=spec.targets, allowed=f"a regex over {', '.join(names)}"))
  for number, (_, layer) in enumerate(chosen):
    _attach(layer, spec, jax.random.fold_in(key, number))
  return module


def _attach(layer: Linear, spec: LoraSpec, key: jax.Array) -> None:
  """Gives one layer, stacked or not, its A and B."""
  shape, axes = layer.kernel.shape, tuple(layer.kernel.get_metadata("axes"))
  stack = axes.index("layers") + 1 if "layers" in axes else 0
  split = stack + layer.contracted
  a_shape, b_shape = (*shape[:split], spec.rank), (*shape[:stack], spec.rank, *shape[split:])
  std = 1 / math.sqrt(math.prod(shape[stack:split]))
  layer.lora_a = nnx.Param(std * jax.random.normal(key, a_shape, jnp.float32), axes=(*axes[:split], None))
  layer.lora_b = nnx.Param(jnp.zeros(b_shape, jnp.float32), axes=(*axes[:stack], None, *axes[split:]))
  layer.lora_scale = spec.alpha / spec.rank


def merge_lora(parameters: Mapping[str, jax.Array], spec: LoraSpec) -> dict[str, jax.Array]:
  """{dotted name: array} with every adapter added to its kernel and left out."""
  merged = {name: value for name, value in parameters.items() if not NAMES.fullmatch(name)}
  for name in [name for name in parameters if name.endswith(".lora_a")]:
    layer = name.removesuffix(".lora_a")
    a, b, kernel = parameters[name], parameters[f"{layer}.lora_b"], merged[f"{layer}.kernel"]
    stack = a.ndim + b.ndim - 2 - kernel.ndim
    product = jnp.tensordot(a, b, 1) if not stack else jax.vmap(lambda x, y: jnp.tensordot(x, y, 1))(a, b)
    merged[f"{layer}.kernel"] = kernel + spec.alpha / spec.rank * product
  return merged
