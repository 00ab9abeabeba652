# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Loss over a whole held-out split, exact whatever the batch size, the padding and the number of devices."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lmx.errors import LmxError
from lmx.mesh import global_batch

Sums = Mapping[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """Means over a split.

  Attributes:
    loss: nats per target (a target is a text token, or the end of a document).
    bits_per_byte: bits over the UTF-8 bytes of the text; the unit that does not depend on the tokenizer.
    targets: how many targets were counted.
    metrics: the objective's other metrics.
  """

  loss: float
  bits_per_byte: float
  targets: float
  metrics: dict[str, float]

  @property
  def perplexity(self) -> float:
    """exp(loss), per target; infinite where the exponential overflows."""
    return math.exp(self.loss) if self.loss < 700 else math.inf


def bits_per_byte(nats_per_target: float, bytes_per_target: float) -> float:
  """nats / ln 2 / bytes: the length of the code in bits, over the length of the text in bytes."""
  return nats_per_target / math.log(2) / bytes_per_target


def evaluate(
  eval_step: Callable[[Any, Mapping[str, jax.Array]], Sums],
  model: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  *,
  bytes_per_target: float,
  mesh: Mesh,
) -> HeldOut:
  """Runs `eval_step` over every batch and divides once, at the end.

  Args:
    eval_step: (model, batch) -> {name: (sum, weight)}, float32 scalars on the device; has "loss".
    model: the parameters, on the mesh.
    batches: this process's rows of each batch; padding rows carry zero `loss_weights`.
    bytes_per_target: UTF-8 bytes of the split over its targets.
    mesh: the mesh that the batches are put on.

  Numerics: sums within a batch are float32, sums over batches exact.

  Raises:
    LmxError: the split is empty.
  """
  # A few float32 scalars a batch stay on the device until the end, so no batch waits for the one before it; they are
  # added exactly on the host, so the number of batches doesn't limit the precision.
  parts = [eval_step(model, global_batch(dict(batch), mesh)) for batch in batches]
  if not parts:
    raise LmxError("The held-out split has no rows. Fix: raise --config.data.heldout_fraction, or name "
                   "--config.data.heldout_sources.")  # fmt: skip
  host = jax.device_get(parts)
  sums = {
    name: (math.fsum(float(part[name][0]) for part in host), math.fsum(float(part[name][1]) for part in host))
    for name in host[0]
  }
  means = {name: total / weight if weight else math.nan for name, (total, weight) in sums.items()}
  loss = means.pop("loss")
  return HeldOut(loss, bits_per_byte(loss, bytes_per_target), sums["loss"][1], means)
