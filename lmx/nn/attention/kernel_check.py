# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The check, before a run starts, that a kernel gives the reference's results on this machine."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.errors import LmxError
from lmx.nn.attention.kernels import KERNELS, Extras
from lmx.nn.attention.masks import Mask
from lmx.nn.layers.activations import Elementwise
from lmx.nn.moe.dispatch import dispatch_of, run_experts

# Largest difference over largest reference value. bfloat16 has 8 bits; accelerators multiply float32 with 10 or fewer.
_EXACT, _ROUNDED = 2e-5, 3e-2


def _tolerance(dtype: str) -> float:
  return _EXACT if dtype == "float32" and jax.default_backend() == "cpu" else _ROUNDED


def _relative(ours: jax.Array, theirs: jax.Array, where: np.ndarray | tuple[()] = ()) -> float:
  """Largest difference over the largest value of theirs; `where`: of which entries."""
  a, b = (np.asarray(x, np.float32)[where] for x in (ours, theirs))
  return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


def _too_large(errors: dict[str, float], tolerance: float) -> str:
  """Those that are, for people; "" where none is."""
  return ", ".join(f"{part} by {error:.1e}" for part, error in errors.items() if not error <= tolerance)


def packed_segments(batch: int, length: int) -> np.ndarray:
  """Segment ids of a packed batch, (B, L): documents of uneven lengths, and padding at the end of the last row."""
  index = np.arange(length)
  rows = [1 + (index >= length // 3 + row) + (index >= 2 * length // 3 - row) for row in range(batch)]
  segments = np.stack(rows).astype(np.int32)
  segments[-1, -length // 8 :] = 0
  return segments


def _value_and_gradients(
  name: str,
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  bias: jax.Array | None,
  weights: jax.Array,
  mask: Mask,
  extras: Extras,
) -> dict[str, jax.Array]:
  def weighted_sum(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None) -> tuple[Any, Any]:
    out = KERNELS[name].attend(q, k, v, mask, extras, None, bias)
    return jnp.sum(out.astype(jnp.float32) * weights), out

  gradients, out = jax.grad(weighted_sum, argnums=(0, 1, 2, 3), has_aux=True)(q, k, v, bias)
  names = ("query gradient", "key gradient", "value gradient", "bias gradient")
  return {"output": out} | {name: x for name, x in zip(names, gradients, strict=True) if x is not None}


def kernel_errors(
  name: str,
  *,
  heads: int,
  kv_heads: int,
  head_width: int,
  dtype: str,
  window: int | None,
  extras: Extras,
  packed: bool,
  causal: bool = True,
  batch: int = 2,
  length: int = 64,
) -> dict[str, float]:
  """Largest difference from the reference over its largest value, for the output and each gradient.

  Args:
    name: a row of `KERNELS`; dropout is left off.
    heads, kv_heads, head_width, dtype, window, extras: the model's.
    packed: rows of several segments, or of one.
    causal: whether tokens see only what is before them.
    batch, length: of the rows that are compared.
  """
  generator = np.random.default_rng(0)
  normal = lambda n: generator.standard_normal((batch, length, n, head_width), np.float32)  # noqa: E731
  q, k, v = (normal(n).astype(dtype) for n in (heads, kv_heads, kv_heads))
  segments = packed_segments(batch, length) if packed else None
  mask = Mask(segments, segments, causal=causal, window=window)
  bias = generator.standard_normal((1, heads, length, length), np.float32) if extras.bias else None

  def both(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, weights: jax.Array, mask: Mask
  ) -> list[dict[str, jax.Array]]:
    return [_value_and_gradients(kernel, q, k, v, bias, weights, mask, extras) for kernel in (name, "reference")]

  real = np.ones((batch, length), bool) if segments is None else segments > 0
  weights = normal(heads) * real[:, :, None, None]
  got, expected = jax.jit(both)(q, k, v, bias, weights, mask)
  errors = {}
  for part, reference in expected.items():
    everything = np.ones((), bool) if part == "bias gradient" else real
    errors[part] = _relative(got[part], reference, everything)
  return errors


def check_kernel(
  name: str,
  *,
  heads: int,
  kv_heads: int,
  head_width: int,
  dtype: str,
  window: int | None = None,
  extras: Extras = Extras(),  # noqa: B008 - frozen
  causal: bool = True,
) -> float:
  """Compares a kernel with the reference on small packed rows, values and gradients.

  A kernel that goes another way for rows of one segment is compared on those, too.

  Args:
    name: a row of `KERNELS`, from `resolve_kernel`.
    heads, kv_heads, head_width, dtype, window, extras, causal: the model's.

  Returns:
    The largest relative error found.

  Raises:
    LmxError: the kernel can't be compiled here, or its results differ from the reference's.
  """
  tolerance = _tolerance(dtype)
  worst = 0.0
  for packed in (True, False) if KERNELS[name].unpacked_way else (True,):
    try:
      errors = kernel_errors(
        name,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        dtype=dtype,
        window=window,
        extras=extras,
        packed=packed,
        causal=causal,
      )
    except (RuntimeError, NotImplementedError, ValueError) as error:
      raise LmxError(_failure(name, f"doesn't run on this machine: {error}")) from error
    if listed := _too_large(errors, tolerance):
      kind = "packed" if packed else "unpacked"
      raise LmxError(_failure(name, f"differs from the reference on {kind} rows (allowed {tolerance:.0e}): {listed}."))
    worst = max(worst, *errors.values())
  return worst


def _failure(name: str, what: str) -> str:
  return f"attention kernel {name!r} {what} Fix: --config.compute.attention=einsum, and please report it."


def expert_errors(
  function: Elementwise, gated: bool, *, experts: int, experts_per_token: int, dtype: str
) -> dict[str, float]:
  """Largest difference of a mixture from its definition over its largest value, for the output and each gradient.

  Args:
    function: the nonlinearity.
    gated: whether the MLP has a gate.
    experts, experts_per_token, dtype: the model's.
  """
  tokens, width, wide = 4 * experts, 64, 128
  generator = np.random.default_rng(0)
  normal = lambda *shape: generator.standard_normal(shape, np.float32)  # noqa: E731
  names = ("up", "gate", "down") if gated else ("up", "down")
  kernels = {n: normal(experts, *((wide, width) if n == "down" else (width, wide))) / 8 for n in names}
  # Each token's first choice is even over experts but for the last one, which has none of them.
  chosen = (np.arange(tokens)[:, None] + np.arange(experts_per_token)) % max(1, experts - 1)
  x, weights = normal(tokens, width), np.abs(normal(tokens, experts_per_token))
  arrays = jax.tree.map(lambda array: jnp.asarray(array, dtype), (x, kernels))

  def defined(x: jax.Array, kernels: Any, weights: jax.Array) -> jax.Array:
    inner = jnp.einsum("td,edf->tef", x, kernels["up"])
    inner = function(jnp.einsum("td,edf->tef", x, kernels["gate"])) * inner if gated else function(inner)
    outer = jnp.einsum("tef,efd->ted", inner, kernels["down"])
    return jnp.einsum("tkd,tk->td", jnp.take_along_axis(outer, chosen[..., None], axis=1), weights.astype(outer.dtype))

  def run(x: jax.Array, kernels: Any, weights: jax.Array) -> jax.Array:
    return run_experts(function, x, weights, jnp.asarray(chosen, jnp.int32), kernels)

  def of(mixture: Any, *arrays: Any) -> dict[str, jax.Array]:
    def weighted_sum(*arrays: Any) -> tuple[Any, Any]:
      y = mixture(*arrays)
      return jnp.sum(y.astype(jnp.float32) * jnp.sin(jnp.arange(y.size).reshape(y.shape))), y

    (dx, dkernels, dweights), y = jax.grad(weighted_sum, argnums=(0, 1, 2), has_aux=True)(*arrays)
    kernel_gradients = {f"{name} gradient": gradient for name, gradient in dkernels.items()}
    return {"output": y, "token gradient": dx, "weight gradient": dweights, **kernel_gradients}

  got, expected = jax.jit(lambda *arrays: (of(run, *arrays), of(defined, *arrays)))(*arrays, weights)
  return {part: _relative(got[part], reference) for part, reference in expected.items()}


def check_experts(function: Elementwise, gated: bool, *, experts: int, experts_per_token: int, dtype: str) -> str:
  """Compares the products of experts with their definition, values and gradients.

  Args:
    function, gated, experts, experts_per_token, dtype: as of `expert_errors`.

  Returns:
    How they are computed here and the largest relative error found, as a sentence.

  Raises:
    LmxError: they can't be compiled here, or differ.
  """
  name, tolerance = dispatch_of(jax.default_backend()), _tolerance(dtype)
  try:
    errors = expert_errors(function, gated, experts=experts, experts_per_token=experts_per_token, dtype=dtype)
  except (RuntimeError, NotImplementedError, ValueError) as error:
    raise LmxError(f"experts by {name!r} don't run on this machine: {error} Please report it.") from error
  if listed := _too_large(errors, tolerance):
    raise LmxError(f"experts by {name!r} differ from their definition (allowed {tolerance:.0e}): {listed}. "
                   "Please report it.")  # fmt: skip
  return f"{name}, checked here against the definition: values and gradients within {max(errors.values()):.0e}"
