# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Dispatch of tokens to their experts and back, on one device and between devices; no token is dropped."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lmx.nn.layers.activations import Elementwise
from lmx.nn.moe.grouped import grouped_product
from lmx.parallel.sharding import platform

BLOCK = 64  # Rows that a CPU multiplies with one expert's weights at once, at most.
_TILE = 128  # On a GPU the rows of a block are a multiple of it,
_PARTS = 4  # and an expert with an even share of the rows has this number of blocks.
AXIS = "expert"  # The mesh axis that experts are shared out over.


@dataclasses.dataclass(frozen=True)
class Dispatch:
  """Where tokens go: rows in the order of their experts.

  Attributes:
    source: (R,) int32, the token in each row; past the last token in a row of padding.
    row: (T, k) int32, the row of each token's choice; past the last row for a choice of no expert here.
    multiply: (rows (R, I), kernels (E, I, O)) -> (R, O): each row by its own expert's kernel.
  """

  source: jax.Array
  row: jax.Array
  multiply: Callable[[jax.Array, jax.Array], jax.Array]


def _by_expert(chosen: jax.Array, experts: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Choices (C,) in the order of their experts, int32: their numbers, each one's place, and how many each expert has.

  A choice of `experts`, one past the last, comes at the end and counts for none.
  """
  # place is the inverse permutation of order: order[place[c]] == c.
  order = jnp.argsort(chosen, stable=True).astype(jnp.int32)
  place = jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
  return order, place, jnp.zeros((experts,), jnp.int32).at[chosen].add(1, mode="drop")


def ragged_dispatch(chosen_Tk: jax.Array, experts: int) -> Dispatch:
  """Rows without padding, for the kernels of a TPU.

  A choice of `experts`, one past the last, is of none of them.
  """
  chosen = chosen_Tk.reshape(-1)
  order, place, sizes = _by_expert(chosen, experts)
  row = jnp.where(chosen < experts, place, order.size)
  multiply = lambda rows, kernels: grouped_product(rows, kernels, sizes)  # noqa: E731
  return Dispatch(order // chosen_Tk.shape[1], row.reshape(chosen_Tk.shape), multiply)


def block_rows(rows: int, experts: int) -> int:
  """Rows of one block (B in the product of a block), for `rows` rows over `experts` experts.

  Padding and copies of an expert's weights both take time. On a CPU padding costs more; a GPU copies the weights of
  5 E experts at worst, and multiplies a quarter more rows than there are.
  """
  if platform() == "cpu":
    return min(BLOCK, max(1, rows // experts))
  return _TILE * max(1, round(rows / (_PARTS * experts * _TILE)))


def blocked_dispatch(chosen_Tk: jax.Array, experts: int) -> Dispatch:
  """Each expert's rows padded to full blocks, and one product per block.

  `jax.lax.ragged_dot` multiplies every row by every expert on CPUs and GPUs; this multiplies T * k rows, and at most
  one block of padding per expert. A choice of `experts`, one past the last, is of none of them.
  """
  tokens, k = chosen_Tk.shape
  block = block_rows(tokens * k, experts)
  chosen = chosen_Tk.reshape(-1)
  order, place, sizes = _by_expert(chosen, experts)
  # An expert with n rows gets ceil(n / block) blocks of the padded array; `ends` are the ends of their stretches there,
  # `first` the starts of the experts' stretches in the order without padding.
  padded = -(-sizes // block) * block
  ends, first = jnp.cumsum(padded), jnp.cumsum(sizes) - sizes
  ordered = chosen[order]
  blocks = -(-order.size // block) + min(experts, order.size)  # Enough, however tokens fall.
  row = (ends - padded)[ordered] + jnp.arange(order.size, dtype=jnp.int32) - first[ordered]
  row = jnp.where(ordered < experts, row, blocks * block)
  source = jnp.full((blocks * block,), tokens, jnp.int32).at[row].set(order // k, mode="drop")
  # Every block has one expert: the one whose stretch it is in; blocks past the last stretch hold padding only.
  starts = jnp.arange(blocks, dtype=jnp.int32) * block
  expert = jnp.minimum(jnp.searchsorted(ends, starts, side="right"), experts - 1)

  def multiply(rows: jax.Array, kernels: jax.Array) -> jax.Array:
    # Gradients are added up over blocks in float32, as rows: XLA's GPU compiler fails on some scatters of matrices.
    copied = kernels.astype(jnp.float32).reshape(experts, -1)[expert].astype(kernels.dtype)
    copied = copied.reshape(blocks, *kernels.shape[1:])
    return jnp.einsum("nbi,nio->nbo", rows.reshape(blocks, block, -1), copied).reshape(blocks * block, -1)

  return Dispatch(source, row[place].reshape(tokens, k), multiply)


DISPATCHES: dict[str, Callable[[jax.Array, int], Dispatch]] = {
  "ragged_dot": ragged_dispatch,
  "blocks": blocked_dispatch,
}


def dispatch_of(platform: str) -> str:
  """The row of `DISPATCHES` for a backend."""
  return "ragged_dot" if platform == "tpu" else "blocks"


def run_experts(
  function: Elementwise, x_TD: jax.Array, weights_Tk: jax.Array, chosen_Tk: jax.Array, kernels: dict[str, jax.Array]
) -> jax.Array:
  """Each token through its experts, all of which are here: the weighted sum, (T, D) in x's dtype.

  Args:
    function: the nonlinearity.
    x_TD: tokens.
    weights_Tk: float32 weight of each choice.
    chosen_Tk: int32 number of each chosen expert; one past the last for none.
    kernels: up and down, and gate where the MLP is gated: (E, D, F), (E, F, D) and (E, D, F), in x's dtype.
  """
  return weighted_sum(_through(function, x_TD, chosen_Tk, kernels), weights_Tk)


def run_own_experts(
  function: Elementwise, x_TD: jax.Array, weights_Tk: jax.Array, chosen_Tk: jax.Array, kernels: dict[str, jax.Array]
) -> jax.Array:
  """The sum over this device's experts only, for tokens that all devices of the mesh axis have.

  Arguments as of `run_experts`, with kernels of the experts here; chosen are numbers of all experts.
  """
  experts = kernels["up"].shape[0]
  own_Tk = chosen_Tk - jax.lax.axis_index(AXIS) * experts
  own_Tk = jnp.where((own_Tk >= 0) & (own_Tk < experts), own_Tk, experts)
  return run_experts(function, x_TD, weights_Tk, own_Tk, kernels)


def run_shared_out(
  function: Elementwise, x_TD: jax.Array, weights_Tk: jax.Array, chosen_Tk: jax.Array, kernels: dict[str, jax.Array]
) -> jax.Array:
  """`run_experts` where each device of the mesh axis has other tokens and other experts.

  Tokens travel to their experts and back, each choice once, by a ragged all-to-all. No token is dropped: a device has
  room for all choices that could fall on it, P * T * min(k, E / P) rows for P devices.

  Args:
    function, x_TD, weights_Tk: as of `run_experts`; the tokens of this device.
    chosen_Tk: numbers of all experts.
    kernels: of the E / P experts here, the p-th device has the p-th of them in a row.
  """
  own, devices = kernels["up"].shape[0], jax.lax.axis_size(AXIS)
  tokens, k = chosen_Tk.shape
  order, place, counts_E = _by_expert(chosen_Tk.reshape(-1), own * devices)
  counts_PPE = jax.lax.all_gather(counts_E, AXIS).reshape(devices, devices, own)  # Sender, receiver, its expert.
  sizes_PP, room = jnp.sum(counts_PPE, axis=-1), devices * tokens * min(k, own)
  # There: a copy of a token for each of its choices, ordered by expert, and so by the device that has the expert.
  rows = ragged_all_to_all(x_TD[order // k], sizes_PP, room)
  arrived_PE = jax.lax.dynamic_index_in_dim(counts_PPE, jax.lax.axis_index(AXIS), axis=1, keepdims=False)
  ends = jnp.cumsum(arrived_PE.reshape(-1))
  run = jnp.searchsorted(ends, jnp.arange(room, dtype=jnp.int32), side="right")  # By sender, then by expert.
  expert = jnp.where(run < ends.size, run % own, own)
  # Back, with the sizes transposed; `place` restores the order of the choices.
  done = ragged_all_to_all(_through(function, rows, expert[:, None], kernels)[:, 0], sizes_PP.T, tokens * k)
  return weighted_sum(done[place].reshape(tokens, k, -1), weights_Tk)


def _through(function: Elementwise, x_TD: jax.Array, chosen_Tk: jax.Array, kernels: dict[str, jax.Array]) -> jax.Array:
  """The output of each choice's expert, (T, k, D) in x's dtype; zeros for a choice of none."""
  plan = DISPATCHES[dispatch_of(platform())](chosen_Tk, kernels["up"].shape[0])
  take = lambda rows, index: jnp.take(rows, index, axis=0, mode="fill", fill_value=0)  # noqa: E731
  rows = take(x_TD, plan.source)
  inner = plan.multiply(rows, kernels["up"])
  inner = function(plan.multiply(rows, kernels["gate"])) * inner if "gate" in kernels else function(inner)
  return take(plan.multiply(inner, kernels["down"]), plan.row)


def weighted_sum(outer_TkD: jax.Array, weights_Tk: jax.Array) -> jax.Array:
  """The weighted sum of the outputs of a token's experts, (T, D)."""
  dtype = outer_TkD.dtype
  return jnp.einsum("tkd,tk->td", outer_TkD, weights_Tk.astype(dtype), preferred_element_type=dtype)


def ragged_all_to_all(rows: jax.Array, sizes_PP: jax.Array, room: int) -> jax.Array:
  """Rows to the devices of the mesh axis that they are for: (room, D), the senders' one after the other, then zeros.

  Args:
    rows: (R, D), those for the first device first.
    sizes_PP: int32, the number of rows from each device (first dimension) to each, the same on all of them.
    room: rows of the result.
  """
  here = jax.lax.axis_index(AXIS)
  starts = jnp.cumsum(sizes_PP, axis=1) - sizes_PP  # Of what each device sends, in its rows.
  places = jnp.cumsum(sizes_PP, axis=0) - sizes_PP  # Of what each device receives, in the result.
  if platform() != "cpu":
    empty = jnp.zeros((room, rows.shape[1]), rows.dtype)
    return jax.lax.ragged_all_to_all(
      rows, empty, starts[here], sizes_PP[here], places[here], sizes_PP[:, here], axis_name=AXIS
    )
  # XLA has none for CPUs: all rows are gathered, and each device picks its own.
  all_PRD, own_P = jax.lax.all_gather(rows, AXIS), sizes_PP[:, here]
  ends, index = jnp.cumsum(own_P), jnp.arange(room, dtype=jnp.int32)
  sender = jnp.minimum(jnp.searchsorted(ends, index, side="right"), own_P.size - 1)
  source = starts[sender, here] + index - places[sender, here]
  picked = all_PRD[sender, jnp.clip(source, 0, rows.shape[0] - 1)]
  return jnp.where((index < ends[-1])[:, None], picked, 0)
