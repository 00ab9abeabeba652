# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table that laws run over: small models that between them have every option of a Transformer."""

import dataclasses
import functools

import jax
from flax import nnx

from lmx.models.spec import TransformerSpec
from lmx.models.transformer import Transformer

# 19 ids in a table of 24 rows, so that padding rows exist and divide over the simulated devices.
BASE = TransformerSpec(
  vocab_size=19,
  vocab_multiple=8,
  layers=2,
  width=16,
  heads=4,
  context=16,
  mlp_width=32,
  init="xavier",
  init_std=0.5,
  dtype="float32",
  layer_loop="scanned",  # One layer to compile; that unrolled layers are the same is law 5.
)


def _spec(**changes) -> TransformerSpec:
  return dataclasses.replace(BASE, **changes)


_LLAMA = {
  "position": "rotary",
  "norm": "rmsnorm",
  "activation": "swiglu",
  "attention_bias": False,
  "mlp_bias": False,
  "tied": False,
}

SPECIMENS: dict[str, TransformerSpec] = {
  "gpt2": _spec(init="gpt2"),
  "llama": _spec(**_LLAMA, kv_heads=2),
  "llama3_scaled": _spec(
    **_LLAMA, kv_heads=2, rope_scaling="llama3", rope_factor=4.0, rope_original_context=8, rope_theta=100.0
  ),
  "qwen": _spec(**_LLAMA, kv_heads=2, qk_norm=True, head_width=8),
  "windowed": _spec(position="rotary", window=3, activation="geglu", norm="rmsnorm", mlp_bias=False),
  "soft_capped": _spec(attention_softcap=2.0, logits_softcap=3.0, kv_heads=1, position="rotary", rope_scaling="linear",
                       rope_factor=2.0),
  "post_norm": _spec(norm_position="post", activation="relu", init="normal"),
  "multi_query_without_positions": _spec(kv_heads=1, position="none", activation="gelu", norm_bias=False),
  "stretched": _spec(position="rotary", rope_scaling="ntk", rope_factor=4.0, init="lecun", qk_norm=True),
  "dropping": _spec(dropout=0.2),
  "one_layer": _spec(layers=1, layer_loop="auto", tied=False, attention_bias=False),
}  # fmt: skip


# Tiny programs spend their time in the compiler; machine code of the lowest optimisation is as correct.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def model_of(name: str) -> Transformer:
  """A specimen with its first parameters. Shared: don't change it (`nnx.clone` gives a copy)."""
  return quick_jit(lambda: Transformer(SPECIMENS[name], rngs=nnx.Rngs(0)))()
