# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The compiler options that matter, in one place: per backend, each with its reason."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
  """A value of one of XLA's options, and why it isn't left at its default."""

  value: Any
  why: str


_OVERLAP = Option(
  True,
  "gathers and reductions run along with products: without these options a program for TPU v5p or v6e waits for each, "
  "and one for v5e for each reduction (read from programs compiled ahead of time; no more cycles, no more memory)",
)
OPTIONS: Mapping[str, Mapping[str, Option]] = {
  "tpu": {
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": Option(
      1_000_000,
      "products over gathered weights as one gather and one product: in rings of small products, the default for large "
      "weights, a 1.3B decoder's step takes 3 times the cycles (measured ahead of time for 16 TPU v5e)",
    ),
    "xla_tpu_enable_async_collective_fusion": _OVERLAP,
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": _OVERLAP,
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": _OVERLAP,
    "xla_tpu_enable_async_collective_fusion_multiple_steps": _OVERLAP,
    "xla_tpu_overlap_compute_collective_tc": _OVERLAP,
    "xla_enable_async_all_gather": _OVERLAP,
    "xla_enable_async_all_reduce": _OVERLAP,
  },
  "gpu": {},
  "cpu": {},
}


def compiler_options(platform: str, scoped_vmem: int | None = None) -> dict[str, Any]:
  """Option -> value for programs on that backend, as `jax.jit` takes them.

  Args:
    platform: JAX's name.
    scoped_vmem: MiB of a TPU's vector memory that one operation may use; None: libtpu's own. With 32 a 1.3B decoder's
      matmuls take 11 % fewer cycles on v5e, and with 64 one more (compiled ahead of time, see tools/bench).
  """
  chosen = {name: one.value for name, one in OPTIONS.get("gpu" if platform == "cuda" else platform, {}).items()}
  if platform == "tpu" and scoped_vmem is not None:
    chosen["xla_tpu_scoped_vmem_limit_kib"] = 1024 * scoped_vmem
  return chosen
