# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 5 of the design: scanned equals unrolled, rematerialized equals saved; and what is saved for each layer."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches, slow_but
from specimens import SPECIMENS, model_of, quick_jit, with_spec
from tiny_rows import assert_close, loss_of, packed_and_apart, without_prefix

from lmx.objectives.base import run_model
from lmx.trees import named_leaves

loss_and_gradient = quick_jit(jax.value_and_grad(loss_of))


def check_loops(change, name: str) -> None:
  model, batch = model_of(name), without_prefix(packed_and_apart(SPECIMENS[name])[0])
  key = jax.random.key(3) if SPECIMENS[name].dropout else None
  value, gradient = loss_and_gradient(change(model), batch, key)
  expected_value, expected = loss_and_gradient(model, batch, key)
  assert_close(value, expected_value, "loss")
  for path, leaf in named_leaves(gradient).items():
    if not path.endswith("key.bias"):
      assert_close(leaf, named_leaves(expected)[path], path)


# A loop doesn't look inside a block: these have what a loop carries (a norm of either place, keys, gated weights,
# dropout keys), layers that alternate with and without a remainder, and two stacks.
UNROLLED = ("gpt2", "llama", "gemma2", "gemma3", "post_norm", "modern_encoder", "bart")
LOOP_CASES = [
  *((name, "unrolled", "none") for name in UNROLLED),
  *((name, loop, "full") for name in ("gemma3", "post_norm") for loop in ("scanned", "unrolled")),
  ("gemma3", "scanned", "dots"),
  ("post_norm", "unrolled", "dots"),
]
BY_DEFAULT = [
  *((name, "unrolled", "none") for name in ("gpt2", "gemma3", "bart")),
  ("post_norm", "scanned", "full"),
  ("gemma3", "scanned", "dots"),
]


@pytest.mark.parametrize(("name", "loop", "remat"), slow_but(BY_DEFAULT, LOOP_CASES))
def test_unrolled_layers_equal_scanned_ones_and_rematerialised_equal_kept(name, loop, remat):
  check_loops(functools.partial(with_spec, layer_loop=loop, remat=remat), name)


def test_what_is_kept_of_a_layer_is_not_computed_again():
  model, batch = model_of("llama"), without_prefix(packed_and_apart(SPECIMENS["llama"])[0])

  def products(remat: str) -> int:
    traced = loss_and_gradient.trace(with_spec(model, remat=remat), batch, None)
    return str(traced.jaxpr).count("dot_general")

  def products_that_keep(*names: str) -> int:
    traced = loss_and_gradient.trace(with_spec(model, remat="full", remat_keep=names), batch, None)
    return str(traced.jaxpr).count("dot_general")

  none, dots, full = (products(remat) for remat in ("none", "dots", "full"))
  assert none < dots < full
  assert dots - none == 1  # The scores within the attention kernel, which keeps its own.
  assert products("offload") == dots
  assert products_that_keep("queries") == full - 1
  assert products_that_keep("keys", "values") == full - 2
  assert products_that_keep("attention") < full
  offloaded = str(loss_and_gradient.trace(with_spec(model, remat="offload"), batch, None).jaxpr)
  assert "MemorySpace.Host" in offloaded
  assert "MemorySpace.Device" in offloaded


def reversed_layers(model):
  changed = with_spec(model, layer_loop="unrolled")
  changed.layers = jax.tree.map(lambda x: x[::-1], changed.layers)
  return changed


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_the_loop_law_notices_layers_in_another_order(name):
  assert_law_catches(check_loops, reversed_layers, name)


@functools.partial(quick_jit, static_argnames="loop")
def kept_layers(model, batch, loop):
  outputs = run_model(with_spec(model, layer_loop=loop), batch, None)
  more = {name: batch[name] for name in model.inputs if name in batch and name != "tokens"}
  return outputs.hidden, with_spec(model, layer_loop=loop)(batch["tokens"], **more, keep_layers=True)


@pytest.mark.parametrize("name", ["gemma3", "t5"])
def test_the_layers_that_are_kept_are_those_of_either_loop_and_end_in_the_final_norm(name):
  model, batch = model_of(name), without_prefix(packed_and_apart(SPECIMENS[name])[0])
  (hidden, scanned), (_, unrolled) = (kept_layers(model, batch, loop) for loop in ("scanned", "unrolled"))
  assert scanned.layers.shape == (model.spec.layers + 1, *hidden.shape)
  assert_close(unrolled.layers, scanned.layers, "layers")
  stack = model.decoder if name == "t5" else model
  assert_close(nnx.clone(stack.final_norm)(scanned.layers[-1]), hidden, "last layer")
  if name == "t5":
    assert scanned.encoder_layers.shape[0] == model.spec.encoder_layers + 1
    embedded = np.asarray(model.token_embedding.embedding[...])[batch["encoder_tokens"]]
    assert_close(scanned.encoder_layers[0], embedded, "what enters the encoder")
