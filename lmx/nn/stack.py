# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""N layers of one kind: made as one module with stacked parameters, run as a scan or unrolled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.errors import choose
from lmx.trees import is_variable

UNROLL_LIMIT = 12  # Under "auto", more layers than this are scanned: compile time grows with every unrolled layer.
LAYER_LOOPS = ("auto", "scanned", "unrolled")
# What the matmuls of a block give, by the names that `checkpoint_name` gave them: all else is cheap to compute again.
NAMED = ("queries", "keys", "values", "mixed", "up", "gate", "branch")
# Kernels that are one operation, cuDNN's attention and Pallas's: what they give, and what they keep for their gradient.
KERNELS = ("dot_product_attention_fwd_wrapper", "pallas_call")
_POLICIES = jax.checkpoint_policies


def _kernel_results(primitive: Any, *_: Any, **__: Any) -> bool:
  return primitive.name in KERNELS


# What the backward pass finds of a layer next to its input, and computes the rest of again. None: nothing.
REMATS: dict[str, Callable[..., Any] | None] = {
  "none": None,  # All of it: nothing is computed again.
  "full": None,
  "dots": _POLICIES.save_from_both_policies(_POLICIES.save_only_these_names(*NAMED), _kernel_results),
  "offload": _POLICIES.save_and_offload_only_these_names(
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=list(NAMED),
    offload_src="device",
    offload_dst="pinned_host",
  ),
}
_ATTENTION = (
  "attention"  # For people, what `checkpoint_name` calls "mixed": the result of the kernel or of plain products.
)
KEEPS = tuple(_ATTENTION if name == "mixed" else name for name in NAMED)  # What full rematerialization may keep.


@dataclasses.dataclass(frozen=True)
class Remat:
  """What of a layer is kept for the backward pass.

  Attributes:
    name: a row of `REMATS`: "none" keeps all; "full" the layer's input only, and computes the layer again; "dots" also
      keeps the outputs of matmuls and of attention; "offload" keeps the outputs of matmuls in the host's memory.
    keep: of `KEEPS`, with "full" alone.
  """

  name: str = "none"
  keep: tuple[str, ...] = ()

  def checkpointed(self, step: Callable[..., Any], *, prevent_cse: bool) -> Callable[..., Any]:
    """`step`, of which the backward pass computes again what is not kept.

    Args:
      step: a layer, or several.
      prevent_cse: False inside a scan, which keeps the two passes apart.
    """
    if self.name == "none":
      return step
    policy = REMATS[self.name]
    if self.keep:
      names = _POLICIES.save_only_these_names(*("mixed" if name == _ATTENTION else name for name in self.keep))
      policy = _POLICIES.save_from_both_policies(names, _kernel_results) if _ATTENTION in self.keep else names
    return jax.checkpoint(step, prevent_cse=prevent_cse, policy=policy)


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
  layer_step: Callable[..., Any],
  module: Any,
  carry: Any,
  *,
  layers: int,
  loop: str,
  remat: Remat,
  period: int = 1,
  keep: Callable[[Any], jax.Array] | None = None,
) -> tuple[Any, jax.Array | None]:
  """Carries `carry` through the layers in order.

  Args:
    layer_step: (carry, one layer's module, its number, place=its place in the period) -> carry.
    module: the stacked module.
    carry: a pytree; its structure and shapes stay the same.
    layers: N.
    loop: a name of `LAYER_LOOPS`. The result is the same.
    remat: what the backward pass computes again.
    period: every so many layers the kinds of layers repeat; a scan goes over whole periods, what is left is unrolled.
    keep: (carry) -> an array to return for each layer.

  Returns:
    The last carry, and the kept arrays after each layer, (N, ...), or None.
  """
  unrolled = is_unrolled(loop, layers)

  def step(carry, layer, number, place):
    run = remat.checkpointed(functools.partial(layer_step, place=place), prevent_cse=unrolled)
    carry = run(carry, layer, number)
    return carry, None if keep is None else keep(carry)

  def unroll(carry, layers, first):
    kept = []
    for place, layer in enumerate(layers):
      carry, one = step(carry, layer, first + place, place % period)
      kept.append(one)
    return carry, None if keep is None else jnp.stack(kept)

  if unrolled or layers < period:
    return unroll(carry, unstack(module, layers), 0)
  whole = layers // period
  numbers = period * jnp.arange(whole, dtype=jnp.int32)
  if period == 1:
    return jax.lax.scan(lambda c, x: step(c, *x, 0), carry, (module, numbers))
  rounds, rest = _split_periods(module, layers, period)
  carry, kept = jax.lax.scan(lambda c, x: unroll(c, unstack(x[0], period), x[1]), carry, (rounds, numbers))
  carry, last = unroll(carry, unstack(rest, layers % period), whole * period) if layers % period else (carry, None)
  if kept is None:
    return carry, None
  kept = kept.reshape(whole * period, *kept.shape[2:])
  return carry, kept if last is None else jnp.concatenate([kept, last])


def _split_periods(module: Any, layers: int, period: int) -> tuple[Any, Any]:
  """A stacked module as (N // P, P, ...) whole periods, and the layers left over, (N % P, ...)."""
  rest = layers % period
  parts = [jax.lax.split(leaf, (layers - rest, rest), axis=0) for leaf in jax.tree.leaves(module)]
  structure = jax.tree.structure(module)
  rounds = [first.reshape(layers // period, period, *first.shape[1:]) for first, _ in parts]
  return jax.tree.unflatten(structure, rounds), jax.tree.unflatten(structure, [last for _, last in parts])
