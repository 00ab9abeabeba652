# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The compiler options that matter, in one place: per backend and chip, each with its reason.

libtpu refuses some options on some chips, and which ones depends on its version; tests/test_tpu.py compiles a step for
every chip kind with the options below. `XLA_FLAGS` and `LIBTPU_INIT_ARGS` still add others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
  """A value of one of XLA's options, and why it isn't left at its default."""

  value: Any
  why: str


_FUSED = Option(
  True,
  "all-gathers and all-reduces overlap with matmuls by running within their fusions; without these options a program "
  "waits for each reduction. For v5e only: on other chips libtpu 0.0.50 and later refuse them, since they may hang "
  "or give wrong results there (its own words)",
)
_SPARSE_CORES = Option(
  True,
  "all-gathers, all-reduces and reduce-scatters run on the SparseCores while the TensorCore computes; without these "
  "options a program for v5p or v6e waits for each of them. TPU7x does so by default",
)
_TPU: Mapping[str, Option] = {
  "xla_jf_spmd_threshold_for_windowed_einsum_mib": Option(
    1_000_000,
    "products over gathered weights as one gather and one product: in rings of small products, the default for large "
    "weights, a 1.3B decoder's step takes 3 times the cycles (measured ahead of time for 16 TPU v5e)",
  ),
}
_FUSED_COLLECTIVES = {
  "xla_tpu_enable_async_collective_fusion": _FUSED,
  "xla_tpu_enable_async_collective_fusion_fuse_all_gather": _FUSED,
  "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": _FUSED,
  "xla_tpu_enable_async_collective_fusion_multiple_steps": _FUSED,
  "xla_tpu_overlap_compute_collective_tc": _FUSED,
  "xla_enable_async_all_gather": _FUSED,
  "xla_enable_async_all_reduce": _FUSED,
}
_OFFLOADED_COLLECTIVES = {
  f"xla_tpu_enable_sparse_core_collective_offload_{kind}": _SPARSE_CORES
  for kind in ("all_gather", "all_reduce", "reduce_scatter")
}
# jax's `device_kind` -> options; TPUs that are not listed get those of every TPU.
TPU_OPTIONS: Mapping[str, Mapping[str, Option]] = {
  "TPU v4": _TPU,
  "TPU v5 lite": {**_TPU, **_FUSED_COLLECTIVES},
  "TPU v5": {**_TPU, **_OFFLOADED_COLLECTIVES},
  "TPU v6 lite": {**_TPU, **_OFFLOADED_COLLECTIVES},
  "TPU7x": _TPU,
}


def compiler_options(platform: str, device_kind: str = "", scoped_vmem: int | None = None) -> dict[str, Any]:
  """Option -> value for programs on that backend, as `jax.jit` takes them.

  Args:
    platform: JAX's name.
    device_kind: JAX's name of the chip.
    scoped_vmem: MiB of a TPU's vector memory that one operation may use; None: libtpu's own. With 32 a 1.3B decoder's
      matmuls take 11 % fewer cycles on v5e, and with 64 one more (compiled ahead of time, see tools/bench).
  """
  if platform != "tpu":
    return {}
  chosen = {name: one.value for name, one in TPU_OPTIONS.get(device_kind, _TPU).items()}
  if scoped_vmem is not None:
    chosen["xla_tpu_scoped_vmem_limit_kib"] = 1024 * scoped_vmem
  return chosen
