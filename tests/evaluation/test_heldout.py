# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Evaluation is exact: whatever the batch, the padding and the devices; and bits per byte by hand."""

import lzma
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches

from lmx.errors import LmxError
from lmx.evaluation.baseline import xz_baseline, xz_bits_per_byte
from lmx.evaluation.heldout import HeldOut, bits_per_byte, evaluate
from lmx.parallel.mesh import make_mesh

ROWS, LENGTH = 13, 5


def rows() -> dict[str, np.ndarray]:
  """Rows of very unequal weight, so that a mean of means is far from the mean."""
  random = np.random.default_rng(0)
  weights = random.integers(0, 2, (ROWS, LENGTH)) * (np.arange(ROWS)[:, None] < 9)
  return {"values": random.random((ROWS, LENGTH)).astype(np.float32), "loss_weights": weights.astype(np.float32)}


def batches(size: int) -> list[dict[str, np.ndarray]]:
  """The rows in batches; the last is filled up with rows of no weight and absurd values."""
  all_rows = rows()
  missing = -ROWS % size
  padded = {
    "values": np.pad(all_rows["values"], ((0, missing), (0, 0)), constant_values=1e6),
    "loss_weights": np.pad(all_rows["loss_weights"], ((0, missing), (0, 0))),
  }
  return [{k: v[i : i + size] for k, v in padded.items()} for i in range(0, ROWS + missing, size)]


@jax.jit
def sums(scale, reference, batch):
  del reference
  weights = batch["loss_weights"]
  found = {"loss": (scale * jnp.sum(batch["values"] * weights), jnp.sum(weights)),
           "ones": (jnp.sum(weights), jnp.sum(weights))}  # fmt: skip
  return found, {"largest": jnp.max(batch["values"], axis=1), "weights": jnp.sum(weights, axis=1)}, None


def measure(size: int, devices: int) -> HeldOut:
  mesh = make_mesh({}, jax.devices()[:devices]) if devices == 1 else make_mesh({"data": -1}, jax.devices()[:devices])
  return evaluate(sums, np.float32(2.0), None, batches(size), bytes_per_target=3.0, score=median, mesh=mesh)


def median(predictions: dict[str, np.ndarray]) -> dict[str, float]:
  """Not a mean: it needs every row at once, and none of the padding."""
  return {"median": float(np.median(predictions["largest"])), "rows": float(len(predictions["weights"]))}


def mean_of_means(size: int, devices: int) -> HeldOut:
  """The broken twin: each batch counts the same."""
  del devices
  parts = [sums(np.float32(2.0), None, batch)[0]["loss"] for batch in batches(size)]
  loss = float(np.mean([total / max(weight, 1) for total, weight in parts]))
  return HeldOut(loss, bits_per_byte(loss, 3.0), 0.0, {})


def check_exact(measure) -> None:
  all_rows = rows()
  weights = all_rows["loss_weights"].astype(np.float64)
  expected = 2 * float(np.sum(all_rows["values"] * weights) / np.sum(weights))
  for size, devices in ((1, 1), (4, 1), (13, 1), (16, 1), (8, 8), (4, 2), (16, 4)):
    assert measure(size, devices).loss == pytest.approx(expected, rel=1e-6), (size, devices)


def test_the_loss_does_not_depend_on_batch_padding_or_devices():
  check_exact(measure)
  assert_law_catches(check_exact, mean_of_means)


def test_counts_and_other_metrics_are_exact_too():
  result = measure(4, 2)
  assert result.targets == rows()["loss_weights"].sum()
  assert result.metrics["ones"] == 1.0


def check_predictions_are_the_split(measure) -> None:
  all_rows = rows()
  real = all_rows["loss_weights"].sum(axis=1) > 0
  expected = float(np.median(all_rows["values"].max(axis=1)[real]))
  for size, devices in ((1, 1), (4, 1), (16, 1), (8, 8)):
    assert measure(size, devices).metrics["median"] == pytest.approx(expected), (size, devices)


def test_a_metric_that_is_no_mean_sees_every_row_once_and_no_padding():
  def with_padding(size: int, devices: int) -> HeldOut:
    values = np.concatenate([batch["values"].max(axis=1) for batch in batches(size)])
    return HeldOut(0.0, None, 0.0, {"median": float(np.median(values))})

  check_predictions_are_the_split(measure)
  assert_law_catches(check_predictions_are_the_split, with_padding)


def test_many_batches_lose_no_precision():
  """Sums in float32 would be off in the sixth digit."""
  small = {"values": np.full((1, 1), 0.1, np.float32), "loss_weights": np.ones((1, 1), np.float32)}

  def step(scale, reference, batch):
    return {"loss": (np.float32(0.1), np.float32(1.0))}, {}, None

  mesh = make_mesh({}, jax.devices()[:1])
  result = evaluate(step, None, None, [small] * 2_000, bytes_per_target=1.0, score=None, mesh=mesh)
  assert result.loss == pytest.approx(float(np.float32(0.1)), rel=1e-14)


def check_state_is_carried(carry) -> None:
  """A model that sums what it has read returns the same over four batches as over the concatenated rows."""
  values = np.random.default_rng(0).random((2, 20)).astype(np.float32)

  @jax.jit
  def step(model, reference, batch):
    del model, reference
    before = batch["carry"]["total"] if "carry" in batch else jnp.zeros(2)
    totals = before[:, None] + jnp.cumsum(batch["values"], axis=1)
    after = {"total": totals[:, -1]} if "carry" in batch else None
    return {"loss": (jnp.sum(totals), jnp.float32(totals.size))}, {}, after

  mesh, parts = make_mesh({"data": -1}, jax.devices()[:2]), np.split(values, 4, axis=1)
  found = evaluate(step, None, None, [{"values": part} for part in parts], bytes_per_target=None, score=None,
                   mesh=mesh, carry=carry)  # fmt: skip
  assert found.loss == pytest.approx(np.cumsum(values, axis=1).mean(), rel=1e-5)


def test_what_a_model_carries_goes_from_batch_to_batch():
  check_state_is_carried({"total": jax.ShapeDtypeStruct((2,), jnp.float32)})
  assert_law_catches(check_state_is_carried, None)


def test_bits_per_byte_by_hand():
  # A probability of 1/256 per byte is eight bits per byte; so is 1/65,536 per pair of bytes.
  assert bits_per_byte(math.log(256), 1.0) == pytest.approx(8.0)
  assert bits_per_byte(math.log(65536), 2.0) == pytest.approx(8.0)
  assert measure(4, 1).bits_per_byte == pytest.approx(measure(4, 1).loss / math.log(2) / 3.0)


def test_perplexity_is_the_exponential_and_never_overflows():
  assert HeldOut(math.log(7), 0.0, 1.0, {}).perplexity == pytest.approx(7.0)
  assert HeldOut(1e4, 0.0, 1.0, {}).perplexity == math.inf


def test_an_empty_split_is_one_clear_error():
  with pytest.raises(LmxError, match="The validation split has no rows"):
    evaluate(sums, None, None, [], bytes_per_target=1.0, score=None, mesh=make_mesh({}, jax.devices()[:1]))


def test_xz_is_measured_on_the_text_and_a_long_text_is_truncated_and_labeled_so():
  text = b"the same words again and again. " * 300
  assert xz_bits_per_byte(text) == 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)
  assert 0 < xz_bits_per_byte(text) < 0.2
  noise = np.random.default_rng(0).bytes(10_000)
  assert 8.0 < xz_bits_per_byte(noise) < 8.2
  with pytest.raises(ValueError, match="no text"):
    xz_bits_per_byte(b"")
  whole, cut = xz_baseline(text), xz_baseline(text, limit=2000)
  assert whole is not None
  assert cut is not None
  assert whole.label == "xz on the validation text"
  assert cut.label == "xz on the first 0.002 MB of the validation text"
  assert cut.bits_per_byte == xz_bits_per_byte(text[:2000])
  assert xz_baseline(b"") is None
