# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""N layers of one kind: made as one module with stacked parameters, run as a scan or unrolled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.errors import choose
from lmx.trees import is_variable

UNROLL_LIMIT = 12  # Under "auto", more layers than this are scanned: compile time grows with every unrolled layer.
LAYER_LOOPS = ("auto", "scanned", "unrolled")
REMATS = ("none", "full")


def stacked(make: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> Any:
  """A module whose parameters are those of `layers` modules, stacked along a new first dimension.

  Args:
    make: builds one layer.
    layers: N.
    rngs: the `params` stream gives each layer its own key.
  """
  module = jax.vmap(lambda key: make(nnx.Rngs(key)))(jax.random.split(rngs.params(), layers))
  for variable in jax.tree.leaves(module, is_leaf=is_variable):
    variable.set_metadata(axes=("layers", *variable.get_metadata("axes")))
  return module


def is_unrolled(loop: str, layers: int) -> bool:
  """Whether `loop`, a name of `LAYER_LOOPS`, means a Python loop for so many layers."""
  unrolled = {"auto": layers <= UNROLL_LIMIT, "scanned": False, "unrolled": True}
  return choose("config.compute.layers", loop, unrolled)


def unstack(module: Any, layers: int) -> list[Any]:
  """The N modules of a stacked one.

  Split once, by an operation whose gradient is one concatenation: slicing in the loop would make the backward pass
  add N arrays of the full size, nearly all zeros.
  """
  leaves, structure = jax.tree.flatten(module)
  parts = [jax.lax.split(leaf, (1,) * layers, axis=0) for leaf in leaves]
  each = [
    [part[layer].reshape(leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)] for layer in range(layers)
  ]
  return [jax.tree.unflatten(structure, layer_leaves) for layer_leaves in each]


def run_layers(
  layer_step: Callable[[Any, Any, Any], Any], module: Any, carry: Any, *, layers: int, loop: str, remat: str
) -> Any:
  """Carries `carry` through the layers in order.

  Args:
    layer_step: (carry, one layer's module, its number) -> carry.
    module: the stacked module.
    carry: a pytree; its structure and shapes stay the same.
    layers: N.
    loop: a name of `LAYER_LOOPS`. The result is the same.
    remat: "full" keeps each layer's input only, and computes the layer again in the backward pass; "none" keeps all.
  """
  unrolled = is_unrolled(loop, layers)
  if remat == "full":
    layer_step = jax.checkpoint(layer_step, prevent_cse=unrolled)  # A scan already keeps the two passes apart.
  if unrolled:
    for number, layer in enumerate(unstack(module, layers)):
      carry = layer_step(carry, layer, number)
    return carry
  numbers = jnp.arange(layers, dtype=jnp.int32)
  return jax.lax.scan(lambda c, x: (layer_step(c, *x), None), carry, (module, numbers))[0]
