# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Loss and metrics of a complete validation split, independent of batch size, padding and number of devices."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lmx.errors import LmxError
from lmx.parallel.mesh import batch_sharding, global_batch

Sums = Mapping[str, tuple[jax.Array, jax.Array]]
Score = Callable[[dict[str, np.ndarray]], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """The result of an evaluation: means over a validation split.

  Attributes:
    loss: nats per target; for language models, per token of the text or end of a document.
    bits_per_byte: bits per UTF-8 byte of the text, which does not depend on the tokenizer; None if the loss is not the
      code length of the complete text.
    targets: number of targets.
    metrics: the objective's other metrics, by name.
  """

  loss: float
  bits_per_byte: float | None
  targets: float
  metrics: dict[str, float]

  @property
  def perplexity(self) -> float:
    """exp of the nats per target, without regularization terms of the loss; infinite if the exponential overflows."""
    nll = self.metrics.get("nll", self.loss)
    return math.exp(nll) if nll < 700 else math.inf


def bits_per_byte(nats_per_target: float, bytes_per_target: float) -> float:
  """Converts a loss: nats per target / ln 2 / UTF-8 bytes per target."""
  return nats_per_target / math.log(2) / bytes_per_target


def evaluate(
  eval_step: Callable[[Any, Any, Mapping[str, Any]], tuple[Sums, Mapping[str, jax.Array], Any]],
  model: Any,
  reference: Any,
  batches: Iterable[Mapping[str, np.ndarray]],
  *,
  bytes_per_target: float | None,
  score: Score | None,
  mesh: Mesh,
  carry: Mapping[str, jax.ShapeDtypeStruct] | None = None,
) -> HeldOut:
  """Evaluates a model: runs `eval_step` over every batch and divides sums by weights once, at the end.

  Args:
    eval_step: (model, reference, batch) -> ({name: (sum, weight)}, {name: (B, ...) predictions}, carry) on the device;
      the sums are float32 scalars and have "loss".
    model: the parameters, on the mesh.
    reference: the parameters of the frozen reference model or teacher, or None.
    batches: this process's rows of each batch; padding rows carry zero `loss_weights`.
    bytes_per_target: UTF-8 bytes of the split per target; None if bits per byte are not defined.
    score: computes metrics from all predictions together; None: there are only means.
    mesh: the mesh that batches are sharded over.
    carry: {name: shape and dtype, (B, ...)} of the state that a recurrent model passes from batch to batch, as in
      training; it starts at zero. The result then depends slightly on the batch size, the number of such starts.

  Returns:
    The means over the split.

  Numerics: sums within a batch are float32; sums over batches are exact.

  Raises:
    LmxError: the split is empty.
  """
  # A few float32 scalars a batch stay on the device until the end, so no batch waits for the previous one; they are
  # added exactly on the host, so the number of batches doesn't limit the precision.
  parts = []
  state = (
    None if carry is None else {k: jnp.zeros(x.shape, x.dtype, device=batch_sharding(mesh)) for k, x in carry.items()}
  )
  for batch in batches:
    arrays: dict[str, Any] = global_batch(dict(batch), mesh)
    *found, state = eval_step(model, reference, arrays if state is None else {**arrays, "carry": state})
    parts.append(found)
  if not parts:
    raise LmxError("The validation split has no rows. Fix: raise --config.data.heldout_fraction, or set "
                   "--config.data.heldout_sources.")  # fmt: skip
  host = jax.device_get(parts)
  sums = {
    name: (math.fsum(float(part[name][0]) for part, _ in host), math.fsum(float(part[name][1]) for part, _ in host))
    for name in host[0][0]
  }
  means = {name: total / weight if weight else math.nan for name, (total, weight) in sums.items()}
  if score is not None:
    means |= score(gathered([predictions for _, predictions in host]))
  loss = means.pop("loss")
  bits = None if bytes_per_target is None else bits_per_byte(means.get("nll", loss), bytes_per_target)
  return HeldOut(loss, bits, sums["loss"][1], means)


def gathered(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """The predictions of all batches concatenated, without padding rows (those of zero weight)."""
  joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
  real = joined["weights"] > 0
  return {name: values[real] for name, values in joined.items()}
