# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The one table from logical axis to mesh axis, once for storage and once for compute.

A parameter is an `nnx.Param` with `axes` metadata, one logical name (or None) per dimension. Its storage sharding,
the optimizer's, the checkpoint's and the plan's are all derived from that. Activations are constrained by the same
names, through `constrain`, under the layout that `use_layout` makes active while a step is traced.
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
from lmx.shapes import AXES, BATCH_AXES, in_use
from lmx.trees import map_variables

GPU = ("gpu", "cuda", "rocm")  # The names that jax has for the platform.
MeshAxes = str | tuple[str, ...] | None
Axes = Sequence[str | None]

# Where parameters live between uses. FSDP splits the width of every matrix, also over the devices that share out the
# experts; tensor splits heads, MLP and vocabulary; each stage has its own layers.
STORAGE: Mapping[str, MeshAxes] = {
  "embed": ("fsdp", "expert"),
  "expert_embed": "fsdp",  # The width of a matrix of which each expert has its own.
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
# Where activations, and weights in use, live while they are computed with. The width of an activation is whole: FSDP
# gathers the weights.
COMPUTE: Mapping[str, MeshAxes] = {
  **STORAGE,
  "batch": BATCH_AXES,
  "length": "sequence",
  "tokens": (*BATCH_AXES, "sequence"),  # Batch and length as one dimension.
  "stages": "stage",  # Inside a pipeline: what each stage has of its own, and the rows that all stages see.
  "stage_rows": tuple(axis for axis in BATCH_AXES if axis != "stage"),
  "mixed_heads": ("tensor", "sequence"),  # Heads while the tokens of a row are mixed: the length is whole then.
  "mixed_kv_heads": ("tensor", "sequence"),
  "embed": None,
  "expert_embed": None,
  "layers": None,
}


def names_of(part: MeshAxes) -> tuple[str, ...]:
  """The mesh axes of one dimension."""
  return (part,) if isinstance(part, str) else part or ()


def partition_spec(axes: Axes, table: Mapping[str, MeshAxes], subject: str) -> PartitionSpec:
  """Logical axes as a PartitionSpec.

  Raises:
    LmxError: a logical axis that the table lacks, or two of them on one mesh axis.
  """
  parts: list[MeshAxes] = []
  owner: dict[str, str] = {}
  for logical in axes:
    part = None if logical is None else choose(f"logical axis of {subject}", logical, dict(table))
    for mesh_axis in names_of(part):
      if mesh_axis in owner:
        raise LmxError(
          f"{subject}: the logical axes {owner[mesh_axis]!r} and {logical!r} both land on the mesh axis "
          f"{mesh_axis!r}. Fix: give one of them another mesh axis, or None, in lmx/parallel/sharding.py."
        )
      owner[mesh_axis] = str(logical)
    parts.append(part)
  return PartitionSpec(*parts)


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh and the two tables that say how arrays lie on it.

  Attributes:
    mesh: the devices.
    zero1: the optimizer's state, and the gradients, are split over `data`, too (ZeRO-1).
    offload_optimizer: the optimizer's moments are in the host's memory between their uses.
    storage, compute: logical axis -> mesh axes, of what is stored and of what is computed.
  """

  mesh: Mesh
  zero1: bool = False
  storage: Mapping[str, MeshAxes] = dataclasses.field(default_factory=lambda: STORAGE, hash=False)
  compute: Mapping[str, MeshAxes] = dataclasses.field(default_factory=lambda: COMPUTE, hash=False)
  offload_optimizer: bool = False

  def parts(self, part: MeshAxes) -> int:
    """Devices that a dimension is split over which lies on these mesh axes."""
    return math.prod(self.mesh.shape[axis] for axis in names_of(part))

  def fitting(self, axes: Axes, shape: Sequence[int]) -> list[str | None]:
    """The logical axes of an activation, None for a dimension that its devices don't divide: it is whole on each."""
    return [
      None if name is None or size % self.parts(self.compute.get(name)) else name
      for name, size in zip(axes, shape, strict=True)
    ]

  def of_one_stage(self) -> "Layout":
    """The layout inside a pipeline, where each stage has rows and layers of its own."""
    no_stage = lambda part: tuple(a for a in names_of(part) if a != "stage") or None  # noqa: E731
    return dataclasses.replace(self, compute={name: no_stage(part) for name, part in self.compute.items()})

  def param_sharding(self, name: str, shape: Sequence[int], axes: Axes | None) -> NamedSharding:
    """The sharding of one parameter (or of an optimizer array that has its axes); no axes: a copy everywhere."""
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

    That of the parameter, unless the layout is ZeRO-1 (https://arxiv.org/abs/1910.02054): then the first dimension that
    the copies of the model divide is split over them, so that each updates its part of the parameters.
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


def storage_shardings(tree: Any, layout: Layout) -> Any:
  """The tree with each leaf's NamedSharding; `tree` holds arrays or ShapeDtypeStructs inside nnx variables."""
  return map_variables(lambda name, leaf, axes: layout.param_sharding(name, leaf.shape, axes), tree)


_active: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def use_layout(layout: Layout | None) -> Iterator[None]:
  """Makes `layout` the one that `constrain` refers to while a function is traced."""
  token = _active.set(layout)
  try:
    yield
  finally:
    _active.reset(token)


@contextlib.contextmanager
def in_one_stage() -> Iterator[None]:
  """Makes the layout that of one stage of a pipeline, whose rows and layers are its own."""
  layout = _active.get()
  with use_layout(None if layout is None else layout.of_one_stage()):
    yield


def platform() -> str:
  """The backend that a program traced now is for: that of the active layout's devices, else JAX's default.

  A plan lowers for a machine that isn't there, so the default backend alone would pick the wrong kernels.
  """
  layout = _active.get()
  return jax.default_backend() if layout is None else platform_of(layout.mesh)


def shard_as(x: jax.Array, table: str, axes: Axes) -> jax.Array:
  """Says how an array lies on the mesh, by the layout's "storage" or "compute" table."""
  layout = _active.get()
  if layout is None or layout.mesh.size == 1:
    return x
  fitting = layout.fitting(axes, x.shape) if table == "compute" else axes
  spec = partition_spec(fitting, getattr(layout, table), "array")
  return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, spec))


def on_gpu() -> bool:
  """Whether a program traced now is for a GPU."""
  return platform() in GPU


def split_over(logical: str) -> int:
  """Parts that an activation's dimension is split into under the active layout."""
  layout = _active.get()
  return 1 if layout is None else layout.parts(layout.compute[logical])


Note = Callable[[tuple[str | None, ...], jax.Array, Layout | None], None]
_notes: contextvars.ContextVar[Note | None] = contextvars.ContextVar("notes", default=None)


@contextlib.contextmanager
def noting_activations(note: Note) -> Iterator[None]:
  """Calls note(logical axes, array, layout) for each activation that `constrain` is told of, and leaves it as it is."""
  token = _notes.set(note)
  try:
    yield
  finally:
    _notes.reset(token)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """Says how an activation lies on the mesh; without an active layout, or on one device, `x` as it is."""
  note = _notes.get()
  if note is not None:
    note(axes, x, _active.get())
    return x
  return shard_as(x, "compute", axes)


def on_each_device(
  function: Callable[..., jax.Array], inputs: Sequence[tuple[jax.Array, Axes]], out: Axes, *, add: bool = False
) -> jax.Array:
  """function(*arrays), run by each device on its own parts, for work that the compiler can't or shouldn't split itself.

  A dimension that its devices don't divide, a batch of one row say, is whole on each of them.

  Args:
    function: gives an array; what it computes must not need other devices' parts.
    inputs: arrays, with the logical axes of their dimensions.
    out: those of the result.
    add: the result is summed over the devices whose inputs differ where `out` is not split.
  """
  layout, arrays = _active.get(), [array for array, _ in inputs]
  if layout is None or layout.mesh.size == 1:
    return function(*arrays)
  whole = {name for x, axes in inputs
           for name, fits in zip(axes, layout.fitting(axes, x.shape), strict=True) if fits is None}  # fmt: skip

  def spec(axes: Axes) -> PartitionSpec:
    return partition_spec([None if name in whole else name for name in axes], layout.compute, "activation")

  specs, result = tuple(spec(axes) for _, axes in inputs), spec(out)
  split = tuple({axis for one in specs for axis in _mesh_axes(one)} - set(_mesh_axes(result))) if add else ()

  def local(*arrays: jax.Array) -> Any:
    y = function(*arrays)
    return jax.lax.psum(y, split) if split else y

  return jax.shard_map(local, mesh=layout.mesh, in_specs=specs, out_specs=result, check_vma=False)(*arrays)


def summed_over_rows(
  function: Callable[..., jax.Array], inputs: Sequence[tuple[jax.Array, Axes]], out: Axes
) -> jax.Array:
  """The sum over all devices of function(their rows), such as a weight's gradient, left where the weight is stored.

  Each device adds up its own rows before anything travels, and the sum is scattered as it is reduced (which libtpu's
  compiler still turns into an all-reduce and a slice, see tools/bench).

  Args:
    function: of arrays like `inputs`, to an array with the logical axes `out`; a sum over all dimensions of the inputs
      that the result has not.
    inputs: arrays with the logical axes of their dimensions.
    out: those of the result.
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


def unknown_axes(table: Mapping[str, MeshAxes]) -> list[str]:
  """Mesh axes that a table names and the mesh lacks (for the architecture test)."""
  named = [a for part in table.values() for a in names_of(part)]
  return [a for a in named if a not in AXES]
