# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Shardings: the tables from logical axis to mesh axis, one for storage and one for compute, and their use.

A parameter is an `nnx.Param` with `axes` metadata, one logical name (or None) per dimension, from which its sharding is
derived, and those of the optimizer, the checkpoint and the plan. Activations are constrained by the same names, through
`constrain`, under the layout that `use_layout` makes active while a step is traced.
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lmx.errors import LmxError, choose, message, near_multiples
from lmx.parallel.mesh import platform_of
from lmx.shapes import BATCH_AXES, in_use

GPU = ("gpu", "cuda", "rocm")  # JAX's names of the platform.
MeshAxes = str | tuple[str, ...] | None
Axes = Sequence[str | None]

# Shardings of stored parameters. FSDP splits the width of every matrix, also over the devices of the experts' axis;
# tensor splits heads, MLP and vocabulary; each stage has its own layers.
STORAGE: Mapping[str, MeshAxes] = {
  "embed": ("fsdp", "expert"),
  "expert_embed": "fsdp",  # The width of a matrix with an expert dimension.
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_width": None,
  "mlp": "tensor",
  "vocab": "tensor",
  "expert": "expert",
  "layers": "stage",
  "router": None,
  "gates": None,
  "groups": None,
  "state": None,
  "position": None,
  "embed_out": None,
  "labels": None,
  "buckets": None,
}
# Shardings of activations, and of weights in use. The width of an activation is not split: FSDP gathers the weights.
COMPUTE: Mapping[str, MeshAxes] = {
  **STORAGE,
  "batch": BATCH_AXES,
  "length": "sequence",
  "tokens": (*BATCH_AXES, "sequence"),  # Batch and length as one dimension.
  "stages": "stage",  # Inside a pipeline: the dimension of the stages, and rows that all stages process.
  "stage_rows": tuple(axis for axis in BATCH_AXES if axis != "stage"),
  "mixed_heads": (
    "tensor",
    "sequence",
  ),  # Inside attention the length is not split: sequence to heads.
  "mixed_kv_heads": ("tensor", "sequence"),
  "embed": None,
  "expert_embed": None,
  "layers": None,
}


def names_of(part: MeshAxes) -> tuple[str, ...]:
  """A dimension's mesh axes as a tuple."""
  return (part,) if isinstance(part, str) else part or ()


def partition_spec(axes: Axes, table: Mapping[str, MeshAxes], subject: str) -> PartitionSpec:
  """Logical axes as a PartitionSpec.

  Args:
    axes: one per dimension.
    table: logical axis -> mesh axes.
    subject: the array, for messages.

  Raises:
    LmxError: the table lacks a logical axis, or has two of them on one mesh axis.
  """
  parts: list[MeshAxes] = []
  owner: dict[str, str] = {}
  for logical in axes:
    part = None if logical is None else choose(f"logical axis of {subject}", logical, dict(table))
    for mesh_axis in names_of(part):
      if mesh_axis in owner:
        raise LmxError(
          f"{subject}: the logical axes {owner[mesh_axis]!r} and {logical!r} are both on the mesh axis "
          f"{mesh_axis!r}. Fix: give one of them another mesh axis, or None, in lmx/parallel/sharding.py."
        )
      owner[mesh_axis] = str(logical)
    parts.append(part)
  return PartitionSpec(*parts)


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh and the two tables of axes.

  Attributes:
    mesh: the devices.
    zero1: the optimizer's state and the gradients are split over `data`, too (ZeRO-1).
    storage: logical axis -> mesh axes of parameters between uses.
    compute: logical axis -> mesh axes of activations, and of weights in use.
    offload_optimizer: the optimizer's moments are in the host's memory between uses.
  """

  mesh: Mesh
  zero1: bool = False
  storage: Mapping[str, MeshAxes] = dataclasses.field(default_factory=lambda: STORAGE, hash=False)
  compute: Mapping[str, MeshAxes] = dataclasses.field(default_factory=lambda: COMPUTE, hash=False)
  offload_optimizer: bool = False

  def parts(self, part: MeshAxes) -> int:
    """Number of parts that these mesh axes split a dimension into."""
    return math.prod(self.mesh.shape[axis] for axis in names_of(part))

  def fitting(self, axes: Axes, shape: Sequence[int]) -> list[str | None]:
    """An activation's logical axes, None (not split) for a dimension that its mesh axes don't divide."""
    return [
      None if name is None or size % self.parts(self.compute.get(name)) else name
      for name, size in zip(axes, shape, strict=True)
    ]

  def of_one_stage(self) -> "Layout":
    """The layout inside a pipeline, where each stage has its own rows and layers."""
    no_stage = lambda part: tuple(a for a in names_of(part) if a != "stage") or None  # noqa: E731
    return dataclasses.replace(self, compute={name: no_stage(part) for name, part in self.compute.items()})

  def param_sharding(self, name: str, shape: Sequence[int], axes: Axes | None) -> NamedSharding:
    """The sharding of a parameter, or of an optimizer's array with its axes.

    Args:
      name: of the parameter, for messages.
      shape: its dimensions.
      axes: its logical axes; None, or another number of them: replicated.

    Raises:
      LmxError: the mesh doesn't divide a dimension.
    """
    if axes is None or len(axes) != len(shape):
      return NamedSharding(self.mesh, PartitionSpec())
    spec = partition_spec(axes, self.storage, name)
    for dimension, (size, part) in enumerate(zip(shape, spec, strict=True)):
      devices = self.parts(part)
      if size % devices:
        split = in_use(self.mesh.shape, names_of(part))
        most = max(number for number in range(1, devices) if size % number == 0)
        raise LmxError(
          message(
            f"{name}, dimension {dimension} ({axes[dimension]})",
            got=size,
            allowed=f"a multiple of {' * '.join(f'config.mesh.{mesh_axis}' for mesh_axis in split)} = {devices}",
            fix=f"--config.mesh.{split[0]}={most if len(split) == 1 else 1}, "
            f"or a size of {' or '.join(map(str, near_multiples(size, devices)))}",
          )
        )
    return NamedSharding(self.mesh, spec)

  def grad_sharding(self, name: str, shape: Sequence[int], axes: Axes | None) -> NamedSharding:
    """The sharding of a parameter's gradient and of the optimizer's arrays for it.

    It is the parameter's, except in ZeRO-1 (https://arxiv.org/abs/1910.02054), where the first dimension that the
    replicas of the model divide is split over them, so that each updates its part of the parameters.

    Args:
      name, shape, axes: as in `param_sharding`.
    """
    stored, copies = self.param_sharding(name, shape, axes), self.mesh.shape["data"]
    if not self.zero1 or copies == 1:
      return stored
    parts = [*stored.spec, *[None] * (len(shape) - len(stored.spec))]
    for dimension, part in enumerate(parts):
      if shape[dimension] % (copies * self.parts(part)) == 0:
        parts[dimension] = (*names_of(part), "data")
        return NamedSharding(self.mesh, PartitionSpec(*parts))
    return stored


_active: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def use_layout(layout: Layout | None) -> Iterator[None]:
  """Makes `layout` the active one, which `constrain` uses while a function is traced."""
  token = _active.set(layout)
  try:
    yield
  finally:
    _active.reset(token)


@contextlib.contextmanager
def in_one_stage() -> Iterator[None]:
  """Makes the layout of one pipeline stage, which has its own rows and layers, the active one."""
  layout = _active.get()
  with use_layout(None if layout is None else layout.of_one_stage()):
    yield


def platform() -> str:
  """The backend of the program being traced: that of the active layout's devices, else JAX's default.

  The default backend is the wrong one in a plan, which lowers for devices that aren't here.
  """
  layout = _active.get()
  return jax.default_backend() if layout is None else platform_of(layout.mesh)


def shard_as(x: jax.Array, table: str, axes: Axes) -> jax.Array:
  """The array constrained to a sharding of the active layout; unchanged without a layout, or on one device.

  Args:
    x: any shape.
    table: "storage" or "compute".
    axes: logical axes, one per dimension.
  """
  layout = _active.get()
  if layout is None or layout.mesh.size == 1:
    return x
  fitting = layout.fitting(axes, x.shape) if table == "compute" else axes
  spec = partition_spec(fitting, getattr(layout, table), "array")
  return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, spec))


def on_gpu() -> bool:
  """Whether the program being traced is for a GPU."""
  return platform() in GPU


def split_over(logical: str) -> int:
  """Parts that an activation's dimension is split into under the active layout."""
  layout = _active.get()
  return 1 if layout is None else layout.parts(layout.compute[logical])


Note = Callable[[tuple[str | None, ...], jax.Array, Layout | None], None]
_notes: contextvars.ContextVar[Note | None] = contextvars.ContextVar("notes", default=None)


@contextlib.contextmanager
def noting_activations(note: Note) -> Iterator[None]:
  """Makes `constrain` call note(logical axes, array, layout) instead of constraining the array."""
  token = _notes.set(note)
  try:
    yield
  finally:
    _notes.reset(token)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """The activation constrained to the sharding of its logical axes, one per dimension of `x`; see `shard_as`."""
  note = _notes.get()
  if note is not None:
    note(axes, x, _active.get())
    return x
  return shard_as(x, "compute", axes)


def on_each_device(
  function: Callable[..., jax.Array], inputs: Sequence[tuple[jax.Array, Axes]], out: Axes, *, add: bool = False
) -> jax.Array:
  """function(*arrays), run by each device on its own parts, for work that the compiler can't or shouldn't split.

  A dimension that its mesh axes don't divide, such as a batch of one row, is not split.

  Args:
    function: arrays -> array, without data from other devices.
    inputs: arrays, each with the logical axes of its dimensions.
    out: logical axes of the result.
    add: sum the result over the mesh axes that split an input and not `out`.
  """
  layout, arrays = _active.get(), [array for array, _ in inputs]
  if layout is None or layout.mesh.size == 1:
    return function(*arrays)
  unsplit = {name for x, axes in inputs
           for name, fits in zip(axes, layout.fitting(axes, x.shape), strict=True) if fits is None}  # fmt: skip

  def spec(axes: Axes) -> PartitionSpec:
    return partition_spec([None if name in unsplit else name for name in axes], layout.compute, "activation")

  specs, result = tuple(spec(axes) for _, axes in inputs), spec(out)
  split = tuple({axis for one in specs for axis in _mesh_axes(one)} - set(_mesh_axes(result))) if add else ()

  def local(*arrays: jax.Array) -> Any:
    y = function(*arrays)
    return jax.lax.psum(y, split) if split else y

  return jax.shard_map(local, mesh=layout.mesh, in_specs=specs, out_specs=result, check_vma=False)(*arrays)


def summed_over_rows(
  function: Callable[..., jax.Array], inputs: Sequence[tuple[jax.Array, Axes]], out: Axes
) -> jax.Array:
  """The sum over all devices of function(their rows), such as a weight's gradient, with the weight's storage sharding.

  Each device adds up its own rows before any communication, and the sum is reduce-scattered (libtpu's compiler makes
  an all-reduce and a slice of that, see tools/bench/results/tpu.md).

  Args:
    function: arrays like `inputs` -> array with the logical axes `out`, a sum over all other dimensions of the inputs.
    inputs: arrays, each with the logical axes of its dimensions.
    out: logical axes of the result.
  """
  layout, arrays = _active.get(), [array for array, _ in inputs]
  if layout is None or layout.mesh.size == 1 or any(layout.fitting(axes, x.shape) != [*axes] for x, axes in inputs):
    return shard_as(function(*arrays), "storage", out)
  specs = tuple(partition_spec(axes, layout.compute, "activation") for _, axes in inputs)
  stored, kept = partition_spec(out, layout.storage, "weight"), partition_spec(out, layout.compute, "weight")
  reduced = {axis for one in specs for axis in _mesh_axes(one)} - set(_mesh_axes(kept))

  def local(*arrays: jax.Array) -> Any:
    y, left = function(*arrays), set(reduced)
    for dimension, part in enumerate(stored):
      for axis in names_of(part):
        if axis in left:
          y = jax.lax.psum_scatter(y, axis, scatter_dimension=dimension, tiled=True)
          left.remove(axis)
    return jax.lax.psum(y, tuple(sorted(left))) if left else y

  return jax.shard_map(local, mesh=layout.mesh, in_specs=specs, out_specs=stored, check_vma=False)(*arrays)


def _mesh_axes(spec: PartitionSpec) -> list[str]:
  return [axis for part in spec for axis in names_of(part)]
