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
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lmx.errors import LmxError, choose, message
from lmx.mesh import AXES, BATCH_AXES
from lmx.trees import map_variables

MeshAxes = str | tuple[str, ...] | None
Axes = Sequence[str | None]

# Where parameters live between uses. FSDP splits the width of every matrix; tensor splits heads, MLP and vocabulary.
STORAGE: Mapping[str, MeshAxes] = {
  "embed": "fsdp",
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_width": None,
  "mlp": "tensor",
  "vocab": "tensor",
  "expert": None,
  "gates": None,
  "groups": None,
  "state": None,
  "position": None,
  "embed_out": None,
  "labels": None,
  "buckets": None,
  "layers": None,
}
# Where activations live while they are computed. The width of an activation is whole: FSDP gathers the weights.
COMPUTE: Mapping[str, MeshAxes] = {
  "batch": BATCH_AXES,
  "length": None,
  "embed": None,
  "heads": "tensor",
  "kv_heads": "tensor",
  "head_width": None,
  "mlp": "tensor",
  "vocab": "tensor",
  "expert": None,
  "gates": None,
  "groups": None,
  "state": None,
  "position": None,
  "embed_out": None,
  "labels": None,
  "buckets": None,
  "layers": None,
}


def partition_spec(axes: Axes, table: Mapping[str, MeshAxes], subject: str) -> PartitionSpec:
  """Logical axes as a PartitionSpec.

  Raises:
    LmxError: a logical axis that the table lacks, or two of them on one mesh axis.
  """
  parts: list[MeshAxes] = []
  owner: dict[str, str] = {}
  for logical in axes:
    part = None if logical is None else choose(f"logical axis of {subject}", logical, dict(table))
    for mesh_axis in (part,) if isinstance(part, str) else part or ():
      if mesh_axis in owner:
        raise LmxError(
          f"{subject}: the logical axes {owner[mesh_axis]!r} and {logical!r} both land on the mesh axis "
          f"{mesh_axis!r}. Fix: give one of them another mesh axis, or None, in lmx/sharding.py."
        )
      owner[mesh_axis] = str(logical)
    parts.append(part)
  return PartitionSpec(*parts)


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh and the two tables that say how arrays lie on it."""

  mesh: Mesh
  storage: Mapping[str, MeshAxes] = dataclasses.field(default_factory=lambda: STORAGE, hash=False)
  compute: Mapping[str, MeshAxes] = dataclasses.field(default_factory=lambda: COMPUTE, hash=False)

  def stored(self, name: str, shape: Sequence[int], axes: Axes | None) -> NamedSharding:
    """The sharding of one parameter (or of an optimizer array that has its axes); no axes: a copy everywhere."""
    if axes is None or len(axes) != len(shape):
      return NamedSharding(self.mesh, PartitionSpec())
    spec = partition_spec(axes, self.storage, name)
    for dimension, (size, part) in enumerate(zip(shape, spec, strict=True)):
      for mesh_axis in (part,) if isinstance(part, str) else part or ():
        devices = self.mesh.shape[mesh_axis]
        if size % devices:
          fewer = max(number for number in range(1, devices) if size % number == 0)
          raise LmxError(
            message(
              f"{name}, dimension {dimension} ({axes[dimension]})",
              got=size,
              allowed=f"a multiple of config.mesh.{mesh_axis} = {devices}",
              fix=f"--config.mesh.{mesh_axis}={fewer}, or a size of {-(-size // devices) * devices}",
            )
          )
    return NamedSharding(self.mesh, spec)


def storage_shardings(tree: Any, layout: Layout) -> Any:
  """The tree with each leaf's NamedSharding; `tree` holds arrays or ShapeDtypeStructs inside nnx variables."""
  return map_variables(lambda name, leaf, axes: layout.stored(name, leaf.shape, axes), tree)


_active: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def use_layout(layout: Layout | None) -> Iterator[None]:
  """Makes `layout` the one that `constrain` refers to while a function is traced."""
  token = _active.set(layout)
  try:
    yield
  finally:
    _active.reset(token)


def platform() -> str:
  """The backend that a program traced now is for: that of the active layout's devices, else JAX's default.

  A plan lowers for a machine that isn't there, so the default backend alone would pick the wrong kernels.
  """
  layout = _active.get()
  if layout is None or isinstance(layout.mesh, AbstractMesh):
    return jax.default_backend()
  return layout.mesh.devices.flat[0].platform


Note = Callable[[tuple[str | None, ...], jax.Array], None]
_notes: contextvars.ContextVar[Note | None] = contextvars.ContextVar("notes", default=None)


@contextlib.contextmanager
def noting_activations(note: Note) -> Iterator[None]:
  """Calls note(logical axes, array) for every activation that `constrain` is told of, and leaves it as it is."""
  token = _notes.set(note)
  try:
    yield
  finally:
    _notes.reset(token)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """Says how an activation lies on the mesh; without an active layout, or on one device, `x` as it is."""
  layout, note = _active.get(), _notes.get()
  if note is not None:
    note(axes, x)
    return x
  if layout is None or layout.mesh.size == 1:
    return x
  spec = partition_spec(axes, layout.compute, "activation")
  return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, spec))


def batch_shards() -> int:
  """Parts that the batch is split into under the active layout."""
  layout = _active.get()
  return 1 if layout is None else math.prod(layout.mesh.shape[axis] for axis in BATCH_AXES)


def over_batch_shards(
  function: Callable[..., jax.Array],
  rows: Sequence[jax.Array],
  weights: Mapping[str, jax.Array],
  axes: Mapping[str, Axes],
) -> jax.Array:
  """function(*rows, weights), run by each device on its own rows, so that rows never travel between devices.

  It is for work whose rows depend on no other rows but whose layout does (sorting tokens by expert), which the
  compiler could not keep apart by itself.

  Args:
    function: gives one row (T, ...) for each row; a sum over whatever the weights' axes split.
    rows: arrays (T, ...), T tokens of the batch.
    weights: name -> what every row needs.
    axes: name -> the logical axes of a weight.
  """
  layout = _active.get()
  batch = PartitionSpec(BATCH_AXES)
  if layout is None or layout.mesh.size == 1 or rows[0].shape[0] % batch_shards():
    return function(*rows, weights)
  specs = {name: partition_spec(axes[name], layout.compute, name) for name in weights}
  split = tuple({axis for spec in specs.values() for axis in spec if axis is not None})

  def local(weights, *rows):
    y = function(*rows, weights)
    return jax.lax.psum(y, split) if split else y

  return jax.shard_map(local, mesh=layout.mesh, in_specs=(specs, *[batch] * len(rows)), out_specs=batch)(weights, *rows)


def unknown_axes(table: Mapping[str, MeshAxes]) -> list[str]:
  """Mesh axes that a table names and the mesh lacks (for the architecture test)."""
  named = [a for part in table.values() for a in ((part,) if isinstance(part, str) else part or ())]
  return [a for a in named if a not in AXES]
