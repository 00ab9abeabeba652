# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The device mesh: construction, shardings of a batch, and the rows of a batch that each process loads."""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from lmx.errors import LmxError, message
from lmx.shapes import AXES, BATCH_AXES, RowShare


def axis_sizes(sizes: dict[str, int], devices: int) -> dict[str, int]:
  """The size of every mesh axis: missing ones are 1, and one of -1 becomes what the number of devices leaves.

  Args:
    sizes: devices along each axis.
    devices: number of devices.

  Raises:
    LmxError: an unknown axis, two -1, or sizes whose product is not `devices`.
  """
  for name, size in sizes.items():
    if name not in AXES:
      raise LmxError(message("config.mesh", got=name, allowed=AXES))
    if size != -1 and size < 1:
      raise LmxError(message(f"config.mesh.{name}", got=size, allowed="a positive number, or -1 for the devices left"))
  full = {name: sizes.get(name, 1) for name in AXES}
  free = [name for name, size in full.items() if size == -1]
  if len(free) > 1:
    raise LmxError(message("config.mesh", got=full, allowed="one axis of -1", fix=f"--config.mesh.{free[1]}=1"))
  fixed = math.prod(size for size in full.values() if size != -1)
  if free:
    full[free[0]] = max(1, devices // fixed)
  if math.prod(full.values()) != devices:
    raise LmxError(
      message(
        "config.mesh",
        got=full,
        allowed=f"sizes whose product is the {devices} devices here",
        fix="--config.mesh.data=-1 takes the devices that the other axes leave",
      )
    )
  return full


def check_slices(size: int, slices: int) -> None:
  """Checks the size of the axis `slice` against the number of TPU slices.

  Raises:
    LmxError: there are several slices, and the axis has another size.
  """
  if slices not in (1, size):
    raise LmxError(
      f"The devices are {slices} TPU slices, which only data parallelism can span. "
      + message("config.mesh.slice", got=size, allowed=f"{slices}", fix=f"--config.mesh.slice={slices}")
    )


def make_mesh(sizes: dict[str, int] | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh with all of `AXES`, in that order, in the compiler-partitioned (Auto) mode.

  The devices of a TPU slice are ordered so that an axis covers full dimensions of the torus where possible, and so that
  the two devices of one chip (TPU7x) are neighbors on the axis that communicates most.

  Args:
    sizes: devices along each axis; missing axes are 1, and one may be -1. None: all on `data`.
    devices: the devices to use; None: all devices of all processes.

  Raises:
    LmxError: the sizes don't fit the devices.
  """
  devices = list(jax.devices()) if devices is None else list(devices)
  full = axis_sizes({"data": -1} if sizes is None else sizes, len(devices))
  types = (AxisType.Auto,) * len(full)  # The default of axis_types differs between jax releases.
  if any(device.platform != "tpu" for device in devices):
    return jax.make_mesh(tuple(full.values()), tuple(full), axis_types=types, devices=devices)
  slices = collections.defaultdict(list)
  for device in devices:
    slices[getattr(device, "slice_index", 0) or 0].append(device)
  check_slices(full["slice"], len(slices))
  each = {**full, "slice": full["slice"] // len(slices)}
  grids = [_torus_grid(each, slices[index]) for index in sorted(slices)]
  return Mesh(np.concatenate(grids, axis=AXES.index("slice")), tuple(full), axis_types=types)


@dataclasses.dataclass(frozen=True)
class _TorusChip:
  """A chip with the attributes of a device that `mesh_utils` reads to order devices.

  Chips with two devices pose as v5p chips, whose 3-D torus has the same shape: for small slices of TPU7x, `mesh_utils`
  has its own order, which expects both devices of each chip.
  """

  coords: tuple[int, ...]
  device_kind: str
  process_index: int
  platform: str = "tpu"
  core_on_chip: int = 0


def _torus_grid(sizes: Mapping[str, int], devices: Sequence[jax.Device]) -> np.ndarray:
  """The devices of one slice as an array with one dimension per axis.

  `jax.make_mesh` refuses axes that share a dimension of the torus (8 by 2 on 4 by 4), and for some shapes puts the two
  devices of a TPU7x chip far apart.
  """
  chips: dict[tuple[int, ...], list[Any]] = collections.defaultdict(list)
  for device in sorted(devices, key=lambda device: (device.coords[::-1], device.core_on_chip)):
    chips[tuple(device.coords)].append(device)
  pair = len(devices) // len(chips)
  # A chip's devices are neighbors on the axis that communicates most, of those with room for them.
  near = next((axis for axis in reversed(AXES[1:]) if sizes[axis] % pair == 0), None) if pair > 1 else None
  if any(len(chip) != pair for chip in chips.values()) or (pair > 1 and near is None):
    return np.asarray(devices, dtype=object).reshape(tuple(sizes.values()))  # A part of a slice, selected by the user.
  outer = {axis: size // pair if axis == near else size for axis, size in sizes.items()}
  nodes = [_TorusChip(coords, "TPU v5p" if pair > 1 else chip[0].device_kind, chip[0].process_index)
            for coords, chip in chips.items()]  # fmt: skip
  try:
    order = mesh_utils.create_device_mesh(tuple(outer.values()), nodes, allow_split_physical_axes=True)
  except (AssertionError, ValueError, IndexError):  # The chips are not a complete box of the torus.
    order = np.fromiter(nodes, dtype=object).reshape(tuple(outer.values()))
  grid = np.empty((*order.shape, pair), dtype=object)
  for index, node in np.ndenumerate(order):
    grid[index] = chips[node.coords]
  if near is not None:  # The pair is innermost within that axis.
    grid = np.moveaxis(grid, -1, list(sizes).index(near) + 1)
  return grid.reshape(tuple(sizes.values()))


def abstract_mesh(sizes: dict[str, int], devices: int) -> Mesh:
  """The mesh that `make_mesh` would make of `devices` devices, which need not exist: for plans, not for computing."""
  full = axis_sizes(sizes, devices)
  mesh = AbstractMesh(tuple(full.values()), tuple(full), axis_types=(AxisType.Auto,) * len(full))
  return cast(Mesh, mesh)  # It has everything but the devices.


def platform_of(mesh: Mesh) -> str:
  """The backend of a mesh's devices; for an abstract mesh, JAX's default."""
  return jax.default_backend() if isinstance(mesh, AbstractMesh) else mesh.devices.flat[0].platform


def device_kind_of(mesh: Mesh) -> str:
  """JAX's name of a mesh's devices; "" for an abstract mesh."""
  return "" if isinstance(mesh, AbstractMesh) else mesh.devices.flat[0].device_kind


def batch_parts(mesh: Mesh) -> int:
  """Number of parts that a batch's rows are split into."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """The sharding of a (B, ...) batch: rows over `BATCH_AXES`, replicated over the other axes."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def process_rows(mesh: Mesh, process: int | None = None) -> RowShare:
  """The rows of a batch that a process loads: those on its devices.

  Processes with the same rows (a tensor axis across hosts) get the same share. On a torus, a host's devices need not
  have consecutive rows. All processes use the same parts, the largest that fit every process.

  Args:
    mesh: of all processes' devices.
    process: which; None: this one.
  """
  parts = batch_parts(mesh)
  held: dict[int, set[int]] = collections.defaultdict(set)
  indices: Mapping[Any, Any] = batch_sharding(mesh).devices_indices_map((parts,))
  for device, (rows,) in indices.items():
    held[device.process_index].add(rows.indices(parts)[0])
  size = len(min(held.values(), key=len))
  if any(sorted(own) != list(range(min(own), min(own) + size)) or min(own) % size for own in held.values()):
    size = 1
  mine = held[jax.process_index() if process is None else process]
  return RowShare(parts // size, tuple(sorted({row // size for row in mine})))


def global_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """The global (B, ...) arrays of a batch, of which this process has the rows of its `process_rows`, ascending."""
  sharding = batch_sharding(mesh)
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)  # All at once, in half the time.
  return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def padded_batch_size(rows: int, mesh: Mesh) -> int:
  """The number of rows, rounded up to a multiple of the mesh's batch parts: for evaluation, which pads batches."""
  shards = batch_parts(mesh)
  return -(-rows // shards) * shards
