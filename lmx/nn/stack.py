# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Stacked layers: N modules of one kind as one, how a scan or a loop runs them, and rematerialization."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from lmx.errors import choose
from lmx.trees import is_variable

UNROLL_LIMIT = 12  # Under "auto", more layers than this are scanned: compile time grows with every unrolled layer.
LAYER_LOOPS = ("auto", "scanned", "unrolled")
# The matmul outputs of a block, by their `checkpoint_name`: everything else is cheap to recompute. With full
# rematerialization a config may keep some of them.
KEEPS = ("queries", "keys", "values", "attention", "up", "gate", "branch")
# Kernels that are one operation to JAX, cuDNN's attention and Pallas's: their outputs, and what their gradients need.
KERNELS = ("dot_product_attention_fwd_wrapper", "pallas_call")
_POLICIES = jax.checkpoint_policies


def _kernel_results(primitive: Any, *_: Any, **__: Any) -> bool:
  return primitive.name in KERNELS


# What is saved of a layer, next to its input, for the backward pass, which recomputes the rest. None: nothing.
REMATS: dict[str, Callable[..., Any] | None] = {
  "none": None,  # Everything is saved (see `checkpointed`).
  "full": None,
  "dots": _POLICIES.save_from_both_policies(_POLICIES.save_only_these_names(*KEEPS), _kernel_results),
  "offload": _POLICIES.save_and_offload_only_these_names(
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=list(KEEPS),
    offload_src="device",
    offload_dst="pinned_host",
  ),
}


@dataclasses.dataclass(frozen=True)
class Remat:
  """What of a layer is saved for the backward pass; the rest is recomputed.

  Attributes:
    name: a row of `REMATS`: "none" saves everything; "full" the layer's input only; "dots" also the outputs of matmuls
      and of attention; "offload" saves the outputs of matmuls in the host's memory.
    keep: names of `KEEPS` that "full" saves as well.
  """

  name: str = "none"
  keep: tuple[str, ...] = ()

  def checkpointed(self, function: Callable[..., Any], *, prevent_cse: bool) -> Callable[..., Any]:
    """`function` with rematerialization.

    Args:
      function: one layer, or several.
      prevent_cse: False inside a scan, whose loop already keeps the compiler from merging the two passes.
    """
    if self.name == "none":
      return function
    policy = REMATS[self.name]
    if self.keep:
      names = _POLICIES.save_only_these_names(*self.keep)
      policy = _POLICIES.save_from_both_policies(names, _kernel_results) if "attention" in self.keep else names
    return jax.checkpoint(function, prevent_cse=prevent_cse, policy=policy)


def stacked(make: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> Any:
  """One module with the parameters of `layers` modules, stacked along a new first dimension.

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
  """Whether `loop`, a name of `LAYER_LOOPS`, means a Python loop for this number of layers."""
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


def split_layers(module: Any, layers: int, *, loop: str, period: int = 1) -> tuple[Any | None, list[Any]]:
  """A stacked module as a scan and a Python loop run it.

  Args:
    module: the stacked module, (N, ...).
    layers: N.
    loop: a name of `LAYER_LOOPS`. The result of running the layers is the same.
    period: P, the number of layers after which their kinds repeat; a scan runs P of them at a time.

  Returns:
    The rounds to scan over, or None, and the layers to run after them; `layers_of` takes either.
  """
  if is_unrolled(loop, layers) or layers < period:
    return None, unstack(module, layers)
  if period == 1:
    return module, []
  leaves, structure = jax.tree.flatten(module)
  rest = layers % period
  parts = [jax.lax.split(leaf, (layers - rest, rest), axis=0) for leaf in leaves]
  rounds = [first.reshape(layers // period, period, *first.shape[1:]) for first, _ in parts]
  last = jax.tree.unflatten(structure, [last for _, last in parts])
  return jax.tree.unflatten(structure, rounds), unstack(last, rest) if rest else []


def layers_of(part: Any, period: int) -> list[Any]:
  """The layers of one round of `split_layers`, or of those after the rounds, which are a list already."""
  if isinstance(part, list):
    return part
  return [part] if period == 1 else unstack(part, period)
