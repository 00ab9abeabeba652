# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Work that each device does on its own parts adds up to the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches

from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import (
  COMPUTE,
  STORAGE,
  Layout,
  names_of,
  on_each_device,
  summed_over_rows,
  use_layout,
)
from lmx.shapes import AXES

MESHES = [{"data": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 8}, {"data": 8}]
X = np.arange(48, dtype=np.float32).reshape(8, 6)
Y = np.arange(128, dtype=np.float32).reshape(8, 16) / 7


def product(x, y):
  return jnp.dot(x.T, y)


def gradient_on(mesh: dict[str, int], function=product):
  with use_layout(layout := Layout(make_mesh(mesh))):
    rows = [(X, ("batch", "mlp")), (Y, ("batch", "embed"))]
    return layout, jax.jit(lambda: summed_over_rows(function, rows, ("mlp", "embed")))()


def check_gradient(mesh, function=product) -> None:
  layout, got = gradient_on(mesh, function)
  np.testing.assert_allclose(got, X.T @ Y, rtol=1e-5)
  assert got.sharding.is_equivalent_to(layout.param_sharding("w", (6, 16), ("mlp", "embed")), 2)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_a_sum_over_all_rows_is_left_where_the_weight_is_stored(mesh):
  check_gradient(mesh)
  assert_law_catches(check_gradient, mesh, lambda x, y: product(x, y) + 1)  # Once for every device that has rows.


def test_rows_that_the_devices_do_not_divide_are_summed_by_the_compiler():
  with use_layout(Layout(make_mesh({"data": 8}))):
    rows = [(X[:5], ("batch", "mlp")), (Y[:5], ("batch", "embed"))]
    got = jax.jit(lambda: summed_over_rows(product, rows, ("mlp", "embed")))()
  np.testing.assert_allclose(got, X[:5].T @ Y[:5], rtol=1e-5)


def test_what_each_device_adds_up_is_the_whole_sum():
  x, w = np.ones((4, 6), np.float32), np.arange(12, dtype=np.float32).reshape(6, 2)

  def on_devices(add: bool):
    with use_layout(Layout(make_mesh({"data": 4, "tensor": 2}))):
      inputs = [(x, ("batch", "mlp")), (w, ("mlp", None))]
      return jax.jit(lambda: on_each_device(jnp.dot, inputs, ("batch", None), add=add))()

  np.testing.assert_allclose(on_devices(add=True), x @ w)
  assert not np.allclose(on_devices(add=False), x @ w)


def test_the_tables_name_axes_of_the_mesh_only():
  named = {axis for table in (STORAGE, COMPUTE) for part in table.values() for axis in names_of(part)}
  assert named <= set(AXES)
