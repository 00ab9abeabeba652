# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 20 for sequence mixers: a class and a row of `MIXERS` train, generate with a cache, and can be planned."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import BASE, build, quick_jit
from toy_mixer import Forgetful, row_of

from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup
from lmx.inference.generate import generate
from lmx.models import MODELS
from lmx.nn.mixers import MIXERS
from lmx.plan.compile_step import abstract_objective, batch_shapes
from lmx.plan.gpu import make_gpu_plan
from lmx.training.state import init_state
from lmx.training.step import make_train_step

PROMPTS = [np.array([3, 1, 4, 1, 5]), np.array([9])]
TINY = ("model.layers=1", "model.width=16", "model.heads=2", "model.context=16", "data.length=16", "mesh.data=1",
        "train.batch_size=2", "train.duration=20 steps", "optimizer.warmup=0 steps", "optimizer.peak_lr=0.01",
        "model.mixer=toy", "model.mamba_conv=3", "tokenizer.vocab_size=300")  # fmt: skip


@pytest.fixture(autouse=True)
def toy(monkeypatch):
  monkeypatch.setitem(MIXERS, "toy", row_of())


def spec():
  return dataclasses.replace(BASE, mixer="toy", mamba_conv=3)


def test_without_its_row_a_mixer_is_refused_and_with_it_described():
  assert spec().describe().startswith("Transformer, 2 layers, width 16, 4 heads")
  assert (spec().kernel("tpu"), spec().check_kernels("cpu")["attention"]) == ("none", "none: the mixer is plain JAX")
  with pytest.raises(LmxError, match=r"config.model.mixer: got 'toys'.*Did you mean 'toy'"):
    dataclasses.replace(BASE, mixer="toys")


def test_it_trains_from_a_config():
  config = configs.load("configs/cpu.py", TINY)
  network, _ = abstract_setup(config, jax.devices()[:1], abstract_objective(config).loss)
  assert "layers.attention.out.kernel" in network.plan.shapes
  state = init_state(network.make, jax.random.key(0), network.plan, network.optimizer, network.abstract)
  step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
  shapes = batch_shapes(config, network)
  ids = np.tile(np.arange(shapes["tokens"].shape[1] + 1, dtype=np.int32) % 7, (shapes["tokens"].shape[0], 1))
  batch = {name: np.ones(x.shape, x.dtype) for name, x in shapes.items() if name != "positions"}
  batch |= {"tokens": ids[:, :-1], "targets": ids[:, 1:]}
  losses = []
  for _ in range(10):
    state, metrics = step(state, batch)
    losses.append(float(metrics["loss"]))
  assert losses[-1] < 0.8 * losses[0]


def check_generation(model) -> None:
  """Greedy continuations by the cache are the argmax of full forward passes."""
  forward = quick_jit(lambda model, tokens: model(tokens).logits())
  for prompt, (continuation,) in zip(
    PROMPTS, generate(model, PROMPTS, key=jax.random.key(0), max_new_tokens=6, temperature=0), strict=True
  ):
    row = np.zeros((1, BASE.context), np.int32)
    row[0, : len(prompt)] = prompt
    for end in range(len(prompt), len(prompt) + 6):
      row[0, end] = np.argmax(forward(model, row)[0, end - 1])
    assert continuation.tokens.tolist() == row[0, len(prompt) : len(prompt) + 6].tolist()


def test_it_generates_with_its_cache(monkeypatch):
  check_generation(quick_jit(lambda: build(spec(), nnx.Rngs(0)))())
  monkeypatch.setitem(MIXERS, "toy", row_of(kind=Forgetful))
  assert_law_catches(check_generation, quick_jit(lambda: build(spec(), nnx.Rngs(0)))())


def test_it_is_planned_with_its_flops():
  plan = make_gpu_plan(configs.load("configs/cpu.py", TINY), "h200", 1)
  others = [text for text in TINY if not text.startswith(("model.mixer", "model.mamba"))]
  attention = make_gpu_plan(configs.load("configs/cpu.py", others), "h200", 1)
  assert 0 < plan.flops.full < attention.flops.full
  assert plan.memory.parameters < attention.memory.parameters


def test_a_key_of_its_own_reaches_it_without_a_field_in_the_spec(monkeypatch):
  monkeypatch.setitem(MIXERS, "toy", row_of("toy_horizon", horizon=lambda spec: spec.option("toy_horizon")))
  given = {field.name: getattr(BASE, field.name) for field in dataclasses.fields(BASE)}
  made = MODELS["transformer"].make_spec({**given, "mixer": "toy", "toy_horizon": 4})
  assert made.mixer_options == (("toy_horizon", 4),)
  assert jax.eval_shape(lambda: build(made, nnx.Rngs(0))).layers.attention.decay == 0.75
  assert MODELS["transformer"].make_spec({**given, "toy_horizon": 4}).mixer_options == ()
