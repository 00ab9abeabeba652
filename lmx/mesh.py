# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The device mesh: its axes, how it is built, and which rows of a batch each process loads."""

import math
from collections.abc import Sequence
from typing import cast

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from lmx.errors import LmxError, message
from lmx.shapes import AXES, BATCH_AXES


def axis_sizes(sizes: dict[str, int], devices: int) -> dict[str, int]:
  """Fills in the one axis that is -1 so that the product is the number of devices.

  Raises:
    LmxError: an unknown axis, two -1, or sizes whose product is not `devices`.
  """
  for name, size in sizes.items():
    if name not in AXES:
      raise LmxError(message("config.mesh", got=name, allowed=AXES))
    if size != -1 and size < 1:
      raise LmxError(message(f"config.mesh.{name}", got=size, allowed="a positive number, or -1 for what is left"))
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
  """Checks that the mesh's slices are those of the machine.

  Raises:
    LmxError: several are there, and the axis has another size.
  """
  if slices not in (1, size):
    raise LmxError(
      f"The devices are {slices} TPU slices, between which only copies of the model work. "
      + message("config.mesh.slice", got=size, allowed=f"{slices}", fix=f"--config.mesh.slice={slices}")
    )


def make_mesh(sizes: dict[str, int] | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh with all of `AXES`, in that order, in the compiler-partitioned (Auto) mode.

  Args:
    sizes: devices along each axis; missing axes are 1, and one may be -1. None: all on `data`.
    devices: the devices to use; None: every device of every process.
  """
  devices = list(jax.devices()) if devices is None else list(devices)
  full = axis_sizes({"data": -1} if sizes is None else sizes, len(devices))
  types = (AxisType.Auto,) * len(full)  # Explicit, because the default of axis_types differs between jax releases.
  slices = len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"})
  if slices <= 1:
    return jax.make_mesh(tuple(full.values()), tuple(full), axis_types=types, devices=devices)
  check_slices(full["slice"], slices)
  within, between = {**full, "slice": 1}, {**dict.fromkeys(full, 1), "slice": slices}
  grid = mesh_utils.create_hybrid_device_mesh(tuple(within.values()), tuple(between.values()), devices)
  return Mesh(grid, tuple(full), axis_types=types)


def imagined_mesh(sizes: dict[str, int], devices: int) -> Mesh:
  """The mesh that `make_mesh` would make of so many devices, which need not exist: to plan with, not to compute on."""
  full = axis_sizes(sizes, devices)
  mesh = AbstractMesh(tuple(full.values()), tuple(full), axis_types=(AxisType.Auto,) * len(full))
  return cast(Mesh, mesh)  # It has all of one but the devices.


def platform_of(mesh: Mesh) -> str:
  """The backend of a mesh's devices; for an imagined mesh, JAX's default."""
  return jax.default_backend() if isinstance(mesh, AbstractMesh) else mesh.devices.flat[0].platform


def batch_parts(mesh: Mesh) -> int:
  """Parts that a batch's rows are split into."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """How a (B, ...) batch lies on the mesh: rows over `BATCH_AXES`, copied over the other axes."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def process_rows(mesh: Mesh) -> tuple[int, int]:
  """(index, count): this process loads the index-th of `count` equal, consecutive parts of each batch.

  Processes that share rows (a tensor axis across hosts) get the same index.

  Raises:
    LmxError: the rows of this process are not one consecutive part, which a mesh in device order never gives.
  """
  shards = batch_parts(mesh)
  held = batch_sharding(mesh).addressable_devices_indices_map((shards,))
  rows = sorted({index[0].indices(shards)[0] for index in held.values() if index is not None})
  if rows != list(range(rows[0], rows[0] + len(rows))) or shards % len(rows) or rows[0] % len(rows):
    raise LmxError(message("mesh", got=f"rows {rows} of {shards} on one process", allowed="a mesh in device order"))
  return rows[0] // len(rows), shards // len(rows)


def global_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Puts this process's rows (B / count, ...) on its devices as part of the global (B, ...) arrays."""
  sharding = batch_sharding(mesh)
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)  # All at once, in half the time.
  return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def whole_batch(rows: int, mesh: Mesh) -> int:
  """The number of rows, rounded up to what the mesh divides: for evaluation, where rows too many are padding."""
  shards = batch_parts(mesh)
  return -(-rows // shards) * shards
