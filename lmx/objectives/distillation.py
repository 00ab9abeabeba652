# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Knowledge distillation from another run's model (https://arxiv.org/abs/1503.02531)."""

from typing import Any

import jax
import jax.numpy as jnp

from lmx.errors import LmxError, message
from lmx.nn.outputs import Outputs
from lmx.objectives.base import Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.causal import prepare
from lmx.objectives.parts import with_auxiliary


def divergence(student: Outputs, teacher: Outputs, batch: Batch, temperature: float) -> tuple[jax.Array, ...]:
  """Weighted sums over tokens, float32: KL(teacher, student) at the temperature, and nll and hits of the student.

  Both models' logits are computed again in the backward pass instead of being kept.
  """

  @jax.checkpoint
  def sums(student: Outputs, teacher: Outputs):
    student_BLV, teacher_BLV = student.logits(), teacher.logits()
    weights, targets = batch["loss_weights"], batch["targets"]
    wanted_BLV = jax.nn.log_softmax(teacher_BLV / temperature)
    given_BLV = jax.nn.log_softmax(student_BLV / temperature)
    kl_BL = jnp.sum(jnp.exp(wanted_BLV) * (wanted_BLV - given_BLV), axis=-1)
    target_BL = jnp.take_along_axis(student_BLV, targets[..., None], axis=-1)[..., 0]
    nll_BL = jax.nn.logsumexp(student_BLV, axis=-1) - target_BL
    hits_BL = target_BL >= jnp.max(student_BLV, axis=-1)
    return tuple(jnp.sum(values * weights) for values in (kl_BL, nll_BL, hits_BL))

  return sums(student, jax.lax.stop_gradient(teacher))


def distillation(context: ObjectiveContext, *, teacher_temperature: float, distilled: float) -> Objective:
  """distilled * teacher_temperature^2 * KL(teacher, student) + (1 - distilled) * nll of the text, per token in nats.

  The square keeps the gradient's size as the temperature grows (section 2 of the paper).

  Args:
    context: the run's.
    teacher_temperature: both models' logits are divided by it.
    distilled: share of the teacher's loss.

  Metrics: `nll` and `accuracy` on the text, `kl` at the temperature, without the square.

  Raises:
    LmxError: an option out of range; when the models meet, a teacher with another vocabulary.
  """
  del context

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    outputs, teacher = run_model(model, batch, dropout_key), run_model(reference, batch, None)
    sizes = outputs.head.vocab_size, teacher.head.vocab_size
    if sizes[0] != sizes[1]:
      allowed = f"a run with this run's tokenizer: it has {sizes[1]} ids, this run has {sizes[0]}"
      raise LmxError(message("config.objective.teacher", got="another vocabulary", allowed=allowed))
    kl, nll, hits = divergence(outputs, teacher, batch, teacher_temperature)
    weight = jnp.sum(batch["loss_weights"])
    metrics = {"nll": (nll, weight), "accuracy": (hits, weight), "kl": (kl, weight)}
    total = distilled * teacher_temperature**2 * kl + (1 - distilled) * nll
    return with_auxiliary(Loss(total, weight, metrics, carry=outputs.carry), outputs)

  return Objective("distillation", prepare=prepare, loss=loss, lookahead=1, reports_bits_per_byte=True)


ROW = ObjectiveSpec(
  distillation,
  head="language",
  families=("transformer", "lstm"),
  reference="teacher",
)
