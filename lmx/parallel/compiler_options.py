# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""XLA's compiler options, per backend and chip, each with its reason.

libtpu refuses some options on some chips, and which ones depends on its version; tests/plan/test_tpu.py compiles a
step for every chip kind with the options below. `XLA_FLAGS` and `LIBTPU_INIT_ARGS` still add others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
  """A value of one of XLA's options, and the reason for it."""

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
  "xla_jf_crs_combiner_threshold_in_bytes": Option(
    4 * 2**20,
    "gradients of different matrices are not combined into one all-reduce, which libtpu 0.0.50 can't fuse into a "
    "matmul and waits for (0.0.42 can)",
  ),
}
_LARGE_SLICES = Option(
  True,
  "all-gathers over several dimensions of the torus stay all-gathers; without it, on slices of 4x4x4 and more, they "
  "become all-reduces of zeros with each device's part written into them, which send twice as much",
)
_GATHERED_IN_2D = {"xla_tpu_enable_sparse_core_collective_offload_2d_all_gather": _LARGE_SLICES}
# Without it, programs for v5p wait for all-gathers over all three dimensions.
_GATHERED_IN_3D = {**_GATHERED_IN_2D, "xla_tpu_enable_sparse_core_collective_offload_3d_all_gather": _LARGE_SLICES}
_OFFLOADED_COLLECTIVES = {
  f"xla_tpu_enable_sparse_core_collective_offload_{kind}": _SPARSE_CORES
  for kind in ("all_gather", "all_reduce", "reduce_scatter")
}
VMEM = "xla_tpu_scoped_vmem_limit_kib"


def _vmem(mib: int) -> dict[str, Option]:
  why = (
    "vector memory that one operation may use: larger tiles in matmuls, and fewer matmuls bound by operations fused "
    "into them (cycles: tools/bench/results/tpu.md; compiling takes up to twice as long)"
  )
  return {VMEM: Option(1024 * mib, why)}


# jax's `device_kind` -> options; TPUs that are not listed get those of every TPU.
TPU_OPTIONS: Mapping[str, Mapping[str, Option]] = {
  "TPU v4": _TPU,
  "TPU v5 lite": {**_TPU, **_FUSED_COLLECTIVES, **_vmem(32)},
  "TPU v5": {**_TPU, **_OFFLOADED_COLLECTIVES, **_GATHERED_IN_3D, **_vmem(48)},
  "TPU v6 lite": {**_TPU, **_OFFLOADED_COLLECTIVES, **_GATHERED_IN_2D, **_vmem(96)},
  "TPU7x": {**_TPU, **_GATHERED_IN_2D, **_vmem(60)},
}


def compiler_options(platform: str, device_kind: str = "", scoped_vmem: int | None = None) -> dict[str, Any]:
  """{option: value} for programs of a backend, for `jax.jit`.

  Args:
    platform: JAX's name of the backend.
    device_kind: JAX's name of the chip.
    scoped_vmem: MiB of a TPU's vector memory that one operation may use; None: the chip's value in the table above.
  """
  if platform != "tpu":
    return {}
  chosen = {name: one.value for name, one in TPU_OPTIONS.get(device_kind, _TPU).items()}
  if scoped_vmem is not None:
    chosen[VMEM] = 1024 * scoped_vmem
  return chosen
