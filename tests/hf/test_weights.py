# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Safetensors files: written one tensor at a time, read by slices, never pickled."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from lmx.errors import LmxError
from lmx.hf.weights import INDEX, SINGLE, Planned, WeightFiles, shards, write_weights

ARRAYS = {f"t{n}": np.arange(n * 6, dtype=np.float32).reshape(n, 6) for n in range(1, 6)}
PLANNED = [Planned(name, array.shape) for name, array in ARRAYS.items()]


@pytest.mark.parametrize(("most", "files"), [(10**6, 1), (150, 3), (1, 5)])
def test_files_written_tensor_by_tensor_are_read_by_the_library(tmp_path, most, files):
  groups = shards(PLANNED, "float32", most)
  written = write_weights(tmp_path, groups, iter(ARRAYS.items()), "float32")
  assert len(written) == files
  assert (tmp_path / INDEX).exists() == (files > 1)
  found = {}
  for file in written:
    with safe_open(file, framework="numpy") as handle:
      found |= {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
  assert found.keys() == ARRAYS.keys()
  with WeightFiles(tmp_path) as weights:
    for name, array in ARRAYS.items():
      np.testing.assert_array_equal(found[name], array)
      np.testing.assert_array_equal(weights.read(name, (slice(0, 1), slice(2, 4))), array[:1, 2:4])


def test_one_tensor_is_alive_at_a_time(tmp_path):
  alive, most = [0], [0]

  class Counted(np.ndarray):
    def __del__(self):
      alive[0] -= 1

  def arrays():
    for tensor in PLANNED:
      array = np.zeros(tensor.shape, np.float32).view(Counted)
      alive[0] += 1
      most[0] = max(most[0], alive[0])
      yield tensor.name, array
      del array

  write_weights(tmp_path, [PLANNED], arrays(), "float32")
  assert most[0] <= 2  # The one being written, and the next.


@pytest.mark.parametrize("order", [np.asfortranarray, lambda array: array.T.copy().T], ids=["Fortran", "transposed"])
def test_arrays_of_another_memory_order_are_written_with_their_numbers(tmp_path, order):
  write_weights(tmp_path, [PLANNED], ((name, order(array)) for name, array in ARRAYS.items()), "float32")
  with WeightFiles(tmp_path) as weights:
    for name, array in ARRAYS.items():
      np.testing.assert_array_equal(weights.read(name), array, err_msg=name)


def test_bfloat16_is_kept(tmp_path):
  write_weights(tmp_path, [PLANNED], iter(ARRAYS.items()), "bfloat16")
  with WeightFiles(tmp_path) as weights:
    assert weights.kinds == {"BF16"}
    np.testing.assert_array_equal(weights.read("t2"), ARRAYS["t2"].astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_with_the_reason(tmp_path, name):
  (tmp_path / name).write_bytes(b"\x80\x04")
  with pytest.raises(LmxError, match=rf"{name}.*can run any code.*safetensors"):
    WeightFiles(tmp_path)


def test_an_index_that_names_a_missing_file_is_an_error(tmp_path):
  (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
  with pytest.raises(LmxError, match="no model-00001-of-00002"):
    WeightFiles(tmp_path)
  (tmp_path / INDEX).write_text("{}")
  with pytest.raises(LmxError, match="not an index"):
    WeightFiles(tmp_path)


def test_a_truncated_file_is_an_error(tmp_path):
  save_file(ARRAYS, tmp_path / SINGLE)
  complete = (tmp_path / SINGLE).read_bytes()
  (tmp_path / SINGLE).write_bytes(complete[:-10])
  with pytest.raises(LmxError, match="not a complete safetensors file"):
    WeightFiles(tmp_path)


def test_quantized_tensors_are_refused_by_name(tmp_path):
  save_file({"layer.weight": np.zeros((2, 2), np.int8)}, tmp_path / SINGLE)
  with WeightFiles(tmp_path) as weights, pytest.raises(LmxError, match=r"layer\.weight.*'I8'.*F32"):
    weights.read("layer.weight")


def test_a_tensor_of_another_shape_than_planned_is_never_written(tmp_path):
  with pytest.raises(ValueError, match="planned"):
    write_weights(tmp_path, [PLANNED[:1]], iter([("t1", np.zeros((2, 2), np.float32))]), "float32")
