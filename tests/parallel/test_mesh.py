# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Meshes of TPU slices: every shape can be made, chips keep together, processes load the rows of their devices."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.parallel.mesh import batch_parts, make_mesh, process_rows
from lmx.shapes import AXES, BATCH_AXES, RowShare


@dataclasses.dataclass(frozen=True)
class FakeTpu:
  """The attributes of a TPU device of JAX."""

  id: int
  coords: tuple[int, int, int]
  core_on_chip: int
  process_index: int
  device_kind: str
  slice_index: int = 0
  platform: str = "tpu"

  def __lt__(self, other: "FakeTpu") -> bool:
    return self.id < other.id


def slice_of(kind: str, shape: tuple[int, ...], cores: int = 1, *, slice_index: int = 0) -> list[FakeTpu]:
  """A slice, numbered as libtpu does: x fastest, hosts of 2 x 2 chips."""
  x, y, z = (*shape, 1)[:3]
  devices = []
  for number, (k, j, i, core) in enumerate(itertools.product(range(z), range(y), range(x), range(cores))):
    host = i // 2 + max(1, x // 2) * (j // 2 + max(1, y // 2) * k)
    devices.append(FakeTpu(number + 10_000 * slice_index, (i, j, k), core, host, kind, slice_index))
  return devices


SLICES = {
  "v5e:4x4": slice_of("TPU v5 lite", (4, 4)),
  "v6e:4x4": slice_of("TPU v6 lite", (4, 4)),
  "v5p:2x2x2": slice_of("TPU v5", (2, 2, 2)),
  "tpu7x:2x2x1": slice_of("TPU7x", (2, 2, 1), 2),
  "tpu7x:2x2x2": slice_of("TPU7x", (2, 2, 2), 2),
  "tpu7x:4x4x4": slice_of("TPU7x", (4, 4, 4), 2),
}
MESHES = [{"fsdp": -1}, {"data": 2, "fsdp": -1}, {"fsdp": -1, "tensor": 4}, {"stage": 2, "fsdp": -1, "sequence": 2},
          {"data": -1}, {"fsdp": 2, "expert": -1}]  # fmt: skip


@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("name", SLICES)
def test_every_mesh_of_a_slice_has_each_device_once(name, sizes):
  mesh = make_mesh(sizes, SLICES[name])
  assert sorted(mesh.devices.flat) == sorted(SLICES[name])
  assert tuple(mesh.shape) == AXES


def along(mesh, axis: str) -> np.ndarray:
  """The devices with the given axis last: one row a group that communicates along it."""
  return np.moveaxis(mesh.devices, AXES.index(axis), -1).reshape(-1, mesh.shape[axis])


@pytest.mark.parametrize(("sizes", "axis"), [
  ({"fsdp": -1}, "fsdp"), ({"fsdp": 32, "tensor": 4}, "tensor"), ({"fsdp": 16, "tensor": 8}, "tensor"),
  ({"data": 4, "fsdp": 32}, "fsdp"), ({"fsdp": 64, "sequence": 2}, "sequence"), ({"data": 64, "stage": 2}, "data"),
])  # fmt: skip
def test_the_two_devices_of_a_chip_are_neighbors_on_the_axis_that_communicates_most(sizes, axis):
  groups = along(make_mesh(sizes, SLICES["tpu7x:4x4x4"]), axis)
  pairs = groups.reshape(-1, 2)
  assert all(a.coords == b.coords and a.core_on_chip != b.core_on_chip for a, b in pairs)


def test_an_axis_of_a_whole_dimension_runs_along_the_torus():
  groups = along(make_mesh({"fsdp": 32, "tensor": 4}, SLICES["tpu7x:4x4x4"]), "tensor")
  for group in groups:  # Two chips, next to each other.
    first, second = sorted({device.coords for device in group})
    assert sum(abs(a - b) in (1, 3) for a, b in zip(first, second, strict=True)) == 1


def check_rows(share_of, mesh) -> None:
  """Every process loads the rows of its own devices, and all of them count in the same parts."""
  held = collections.defaultdict(set)
  shape = tuple(mesh.shape[axis] for axis in BATCH_AXES)
  for index, device in np.ndenumerate(mesh.devices):
    held[device.process_index].add(int(np.ravel_multi_index(index[: len(BATCH_AXES)], shape)))
  shares = {process: share_of(mesh, process) for process in held}
  assert len({share.parts for share in shares.values()}) == 1
  for process, share in shares.items():
    size = batch_parts(mesh) // share.parts
    assert {row for part in share.held for row in range(part * size, (part + 1) * size)} == held[process]


@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("name", SLICES)
def test_every_process_loads_the_rows_that_its_devices_hold(name, sizes):
  check_rows(process_rows, make_mesh(sizes, SLICES[name]))


def test_the_law_of_rows_catches_consecutive_rows():
  """The broken twin: as a loader would that numbers hosts."""
  consecutive = lambda mesh, process: RowShare(4, (process,))  # noqa: E731
  assert_law_catches(check_rows, consecutive, make_mesh({"fsdp": -1}, SLICES["v5e:4x4"]))


def test_rows_in_the_order_of_hosts_are_counted_in_large_parts():
  share = process_rows(make_mesh({"data": 2, "fsdp": 8}, SLICES["v5e:4x4"]), 1)
  assert (share.parts, share.held) == (4, (1,))


def test_slices_have_their_own_mesh_axis():
  two = [device for index in range(2) for device in slice_of("TPU v5 lite", (4, 4), slice_index=index)]
  mesh = make_mesh({"slice": 2, "fsdp": -1}, two[::-1])
  assert [{device.slice_index for device in part.flat} for part in mesh.devices] == [{0}, {1}]


def test_devices_that_are_no_box_of_the_torus_keep_their_order():
  some = SLICES["v5e:4x4"][:2] + SLICES["v5e:4x4"][9:11]
  assert list(make_mesh({"data": -1}, some).devices.flat) == some
