# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 12: every attention kernel equals the reference, and a broken one is found before a run starts."""

import dataclasses

import jax
import numpy as np
import pytest
from laws import assert_law_catches

from lmx.errors import LmxError
from lmx.nn.attention import kernels
from lmx.nn.attention.kernel_check import check_kernel, kernel_errors
from lmx.nn.attention.kernels import KERNELS, Extras
from lmx.nn.attention.masks import Mask

HERE = [name for name, kernel in KERNELS.items() if name != "reference" and kernel.platforms in ((), ("cpu",))]
SHAPE = {"heads": 4, "kv_heads": 2, "head_width": 8, "dtype": "float32", "window": None, "extras": Extras()}
CASES = {
  "grouped": {},
  "windowed": {"window": 5},
  "multi_query": {"kv_heads": 1},
  "bfloat16": {"dtype": "bfloat16", "kv_heads": 4},
  "soft_capped": {"extras": Extras(softcap=1.0)},
  "both_ways": {"causal": False},
  "both_ways_windowed": {"causal": False, "window": 5, "extras": Extras(scale=0.7)},
  "biased": {"causal": False, "extras": Extras(scale=1.0, bias=True)},
}


def check_equal(name: str, case: str) -> None:
  shape = SHAPE | CASES[case]
  tolerance = 2e-5 if shape["dtype"] == "float32" else 3e-2
  errors = kernel_errors(name, **shape, packed=True, length=16)
  assert max(errors.values()) <= tolerance, errors


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", HERE)
def test_a_fast_kernel_equals_the_reference_in_values_and_gradients(name, case):
  extras = (SHAPE | CASES[case])["extras"]
  if KERNELS[name].obstacle("cpu", "float32", 8, extras):
    with pytest.raises(LmxError, match="no soft-cap" if extras.softcap else "no bias"):
      kernels.resolve_kernel(name, platform="cpu", dtype="float32", head_width=8, extras=extras)
    return
  check_equal(name, case)


def without_segments(q, k, v, mask, extras, key, bias=None):
  return KERNELS["einsum"].attend(q, k, v, Mask(causal=mask.causal, window=mask.window), extras, key, bias)


def without_gradient_of_keys(q, k, v, mask, extras, key, bias=None):
  return KERNELS["einsum"].attend(q, jax.lax.stop_gradient(k), v, mask, extras, key, bias)


def without_bias(q, k, v, mask, extras, key, bias=None):
  return KERNELS["einsum"].attend(q, k, v, mask, extras, key)


def with_the_usual_scale(q, k, v, mask, extras, key, bias=None):
  return KERNELS["einsum"].attend(q, k, v, mask, dataclasses.replace(extras, scale=None), key, bias)


def always_causal(q, k, v, mask, extras, key, bias=None):
  return KERNELS["einsum"].attend(q, k, v, dataclasses.replace(mask, causal=True), extras, key, bias)


@pytest.mark.parametrize("broken", [without_segments, without_gradient_of_keys])
def test_a_wrong_kernel_is_found_by_the_law_and_by_the_check_at_start(broken, monkeypatch):
  monkeypatch.setitem(KERNELS, "broken", dataclasses.replace(KERNELS["einsum"], attend=broken))
  assert_law_catches(check_equal, "broken", "grouped")
  with pytest.raises(LmxError, match="'broken' differs from the reference"):
    check_kernel("broken", **SHAPE)


@pytest.mark.parametrize(
  ("broken", "case"),
  [(without_bias, "biased"), (with_the_usual_scale, "both_ways_windowed"), (always_causal, "both_ways")],
)
def test_the_law_notices_a_forgotten_bias_scale_or_direction(broken, case, monkeypatch):
  monkeypatch.setitem(KERNELS, "broken", dataclasses.replace(KERNELS["einsum"], attend=broken))
  assert_law_catches(check_equal, "broken", case)


@pytest.mark.parametrize("name", HERE)
def test_a_kernel_attends_to_keys_of_another_length(name):
  draw = lambda seed, *shape: np.random.default_rng(seed).standard_normal(shape, np.float32)  # noqa: E731
  q, k, v = draw(0, 2, 5, 4, 8), draw(1, 2, 7, 2, 8), draw(2, 2, 7, 2, 8)
  mask = Mask(np.array([[1, 1, 2, 2, 2]] * 2), np.array([[1, 1, 1, 2, 2, 2, 0]] * 2), causal=False)
  got, expected = (KERNELS[kernel].attend(q, k, v, mask, Extras(), None) for kernel in (name, "reference"))
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_check_at_start_passes_what_auto_chooses():
  assert (
    check_kernel(
      kernels.resolve_kernel("auto", platform="cpu", dtype="float32", head_width=8, extras=Extras()), **SHAPE
    )
    < 1e-5
  )


def test_auto_takes_cudnn_on_a_gpu_also_where_tokamax_is_installed(monkeypatch):
  monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: object())
  chosen = kernels.resolve_kernel("auto", platform="cuda", dtype="bfloat16", head_width=64, extras=Extras())
  assert chosen == "cudnn"


def test_a_kernel_that_does_not_run_here_reports_it_at_the_check():
  with pytest.raises(LmxError, match="doesn't run on this machine"):
    check_kernel("cudnn", **(SHAPE | {"dtype": "bfloat16"}))
