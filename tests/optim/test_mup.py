# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""muP's coordinate check: what a few updates change in a model doesn't grow with the width."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from laws import assert_law_catches

from lmx.models.spec import TransformerSpec
from lmx.models.transformer import Transformer
from lmx.nn.losses import cross_entropy
from lmx.optim.mup import is_matrix, mup_rates
from lmx.optim.optimizers import make_optimizer
from lmx.optim.schedules import make_schedule
from lmx.training.state import abstract_model

BASE, WIDE, STEPS = 32, 512, 4


def spec(width: int, mup: bool) -> TransformerSpec:
  return TransformerSpec(
    vocab_size=31, layers=1, width=width, heads=width // 32, head_width=64, context=16, init="normal",
    init_std=0.05, dtype="float32", tied=False, mup_base_width=BASE if mup else None,
  )  # fmt: skip


@functools.cache
def changes(width: int, mup: bool) -> dict[str, float]:
  """How far a few updates of Adam move logits and hidden states on average, by name."""
  chosen = spec(width, mup)
  make = lambda key: Transformer(chosen, rngs=nnx.Rngs(key))  # noqa: E731
  plan = abstract_model(make)
  optimizer = make_optimizer(
    "adam", schedule=make_schedule("constant", peak_lr=5e-3, total_steps=STEPS),
    hyperparameters={"b1": 0.9, "b2": 0.99, "eps": 1e-12},
    weight_decay=0.0, decay_rules=((".*", 0.0),), axes=plan.axes, shapes=plan.dimensions,
    rates=mup_rates(plan.axes, BASE / width) if mup else None,
  )  # fmt: skip
  tokens = jax.random.randint(jax.random.key(1), (4, 17), 0, 31)

  def loss(params):
    out = plan.join(params)(tokens[:, :-1])
    return cross_entropy(out.hidden, out.unembedding, tokens[:, 1:], jnp.ones((4, 16)), out.head).total / 64

  def train(key):
    params = plan.split(make(key))
    before = plan.join(params)(tokens[:, :-1])

    def update(carry, _):
      params, state = carry
      updates, state = optimizer.update(jax.grad(loss)(params), state, params, jnp.float32(5e-3), np.array(True))
      return ({name: value + updates[name] for name, value in params.items()}, state), None

    (params, _), _ = jax.lax.scan(update, (params, optimizer.init(params)), length=STEPS)
    after = plan.join(params)(tokens[:, :-1])
    return {"logits": jnp.mean(jnp.abs(after.logits() - before.logits())),
            "hidden": jnp.mean(jnp.abs(after.hidden - before.hidden))}  # fmt: skip

  step = jax.jit(train, compiler_options={"xla_backend_optimization_level": 0})
  return {name: float(value) for name, value in step(jax.random.key(0)).items()}


def check_coordinates(mup: bool) -> None:
  """A model 16 times as wide moves about as far."""
  narrow, wide = changes(BASE, mup), changes(WIDE, mup)
  for name in narrow:
    assert 1 / 3 < wide[name] / narrow[name] < 3, (name, narrow[name], wide[name])


def test_updates_move_a_wide_model_as_far_as_a_narrow_one():
  check_coordinates(True)
  assert_law_catches(check_coordinates, False)


def test_at_the_base_width_nothing_changes():
  assert changes(BASE, True) == changes(BASE, False)


def test_matrices_in_blocks_learn_more_slowly_and_nothing_else_does():
  plan = abstract_model(lambda key: Transformer(spec(64, True), rngs=nnx.Rngs(key)))
  rates = mup_rates(plan.axes, 0.5)
  slow = {name for name, rate in rates.items() if rate == 0.5}
  assert slow == {name for name in rates if name.startswith("layers.") and name.endswith(".kernel")}
  assert not is_matrix("unembedding.kernel", ("vocab", "embed"))
  assert is_matrix("head.out.kernel", ("embed", "labels"))
