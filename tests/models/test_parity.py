# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The Transformer against the same model written by hand, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from laws import assert_law_catches
from specimens import SPECIMENS, model_of, quick_jit

from lmx.nn.losses import cross_entropy
from lmx.trees import named_leaves


def layer_norm(x, scale, bias):
  mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / jnp.sqrt(variance + 1e-5) * scale[None, None] + bias[None, None]


def gpt2_by_hand(p: dict, tokens, targets, layers: int, vocab_size: int):
  """GPT-2's mean loss over all tokens, from parameters by name, as a textbook writes it."""
  length = tokens.shape[1]
  x = p["token_embedding.embedding"][tokens] + p["position_embedding.embedding"][None, :length]
  hidden = jnp.triu(jnp.ones((length, length), bool), 1)[None, None]
  for n in range(layers):
    w = {name.removeprefix("layers."): leaf[n] for name, leaf in p.items() if name.startswith("layers.")}
    h = layer_norm(x, w["attention_norm.scale"], w["attention_norm.bias"])
    q, k, v = (
      jnp.einsum("bld,dhk->bhlk", h, w[f"attention.{name}.kernel"]) + w[f"attention.{name}.bias"][None, :, None]
      for name in ("query", "key", "value")
    )
    scores = jnp.where(hidden, -jnp.inf, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
    mixed = jax.nn.softmax(scores) @ v
    x = x + jnp.einsum("bhlk,hkd->bld", mixed, w["attention.out.kernel"]) + w["attention.out.bias"][None, None]
    h = layer_norm(x, w["mlp_norm.scale"], w["mlp_norm.bias"])
    h = jax.nn.gelu(h @ w["mlp.up.kernel"] + w["mlp.up.bias"][None, None], approximate=True)
    x = x + h @ w["mlp.down.kernel"] + w["mlp.down.bias"][None, None]
  x = layer_norm(x, p["final_norm.scale"], p["final_norm.bias"])
  logits = (x @ p["token_embedding.embedding"].T)[..., :vocab_size]
  return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1))


def check_parity(change) -> None:
  spec = SPECIMENS["gpt2"]
  leaves, structure = jax.tree.flatten(model_of("gpt2"))
  generator = np.random.default_rng(1)
  noise = [0.2 * generator.standard_normal(x.shape, np.float32) for x in leaves]  # So that biases count.
  model = jax.tree.unflatten(structure, [x + n for x, n in zip(leaves, noise, strict=True)])
  window = np.random.default_rng(0).integers(0, spec.vocab_size, (3, 17)).astype(np.int32)
  tokens, targets = window[:, :-1], window[:, 1:]

  def ours(model):
    outputs = model(tokens)
    sums = cross_entropy(outputs.hidden, outputs.unembedding, targets, jnp.ones((3, 16)), outputs.head)
    return sums.total / sums.weight

  value, gradient = quick_jit(jax.value_and_grad(ours))(model)
  by_hand = quick_jit(jax.value_and_grad(lambda p: gpt2_by_hand(p, tokens, targets, spec.layers, spec.vocab_size)))
  expected_value, expected = by_hand(change(named_leaves(model)))
  np.testing.assert_allclose(value, expected_value, rtol=1e-5)
  for name, leaf in named_leaves(gradient).items():
    np.testing.assert_allclose(leaf, expected[name], rtol=1e-3, atol=1e-6, err_msg=name)


def test_a_gpt2_specimen_equals_gpt2_written_by_hand():
  check_parity(lambda parameters: parameters)


def test_the_parity_check_notices_another_parameter():
  assert_law_catches(check_parity, lambda p: p | {"layers.mlp.up.bias": p["layers.mlp.up.bias"] + 1e-2})
