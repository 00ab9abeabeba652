# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table that laws run over: small models that between them have every option of every family."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx
from jax.extend.core import jaxprs_in_params

from lmx.models import MODELS
from lmx.models.spec import EncoderDecoderSpec, EncoderSpec, TransformerSpec

_SMALL = {
  "vocab_size": 35,  # In a table of 40 rows, so that padding rows exist and divide over the simulated devices.
  "vocab_multiple": 8,
  "layers": 2,
  "width": 16,
  "heads": 4,
  "context": 16,
  "mlp_width": 32,
  "init": "xavier",
  "init_std": 0.5,
  "dtype": "float32",
  "layer_loop": "scanned",  # One layer to compile; that unrolled layers are the same is law 5.
}
BASE = TransformerSpec(**_SMALL)
ENCODER = EncoderSpec(**_SMALL)
ENCODER_DECODER = EncoderDecoderSpec(**_SMALL)

_NO_BIASES = {"attention_bias": False, "attention_out_bias": False, "mlp_bias": False}
_LLAMA = {"position": "rotary", "norm": "rmsnorm", "activation": "swiglu", "tied": False} | _NO_BIASES
_GEMMA = _LLAMA | {
  "norm": "zero_centered_rmsnorm",
  "norm_position": "sandwich",
  "activation": "geglu",
  "tied": True,
  "embedding_scale": 4.0,
  "attention_scale": 0.4,
}
_T5 = _NO_BIASES | {"position": "relative", "relative_buckets": 8, "relative_distance": 12, "norm": "rmsnorm",
                    "attention_scale": 1.0}  # fmt: skip
_MODERN = _NO_BIASES | {"position": "rotary", "activation": "geglu_exact", "norm_bias": False, "embedding_norm": True,
                        "first_attention_norm": False, "head_transform": True, "transform_bias": False}  # fmt: skip
_BERT = {"norm_position": "post", "token_types": 2, "embedding_norm": True, "activation": "gelu"}


def _decoder(**changes: Any) -> TransformerSpec:
  return dataclasses.replace(BASE, **changes)


def _encoder(**changes: Any) -> EncoderSpec:
  return dataclasses.replace(ENCODER, **changes)


def _both(**changes: Any) -> EncoderDecoderSpec:
  return dataclasses.replace(ENCODER_DECODER, **changes)


DECODERS: dict[str, TransformerSpec] = {
  "gpt2": _decoder(init="gpt2"),
  "llama": _decoder(
    **_LLAMA, kv_heads=2, rope_scaling="llama3", rope_factor=4.0, rope_original_context=8, rope_theta=100.0
  ),
  "qwen2": _decoder(**(_LLAMA | {"attention_bias": True}), layers=1, layer_loop="auto", mup_base_width=8),
  "qwen3": _decoder(**_LLAMA, kv_heads=2, qk_norm="head", head_width=8, init="lecun", rope_scaling="ntk",
                    rope_factor=4.0),
  "gemma2": _decoder(**_GEMMA, layers=3, window=3, global_every=2, attention_softcap=2.0, logits_softcap=3.0,
                     kv_heads=1),
  "gemma3": _decoder(**_GEMMA, layers=5, window=2, global_every=3, rope_local_theta=100.0, qk_norm="head",
                     rope_scaling="linear", rope_factor=2.0),
  "olmo2": _decoder(**_LLAMA, norm_position="output", qk_norm="width", kv_heads=2),
  "windowed": _decoder(position="rotary", window=3, activation="geglu", norm="rmsnorm", mlp_bias=False),
  "post_norm": _decoder(norm_position="post", activation="relu", init="normal", dropout=0.2),
  "multi_query_without_positions": _decoder(kv_heads=1, position="none", activation="gelu", norm_bias=False),
  "relative": _decoder(**_T5, activation="silu", logits_scale=0.25),
  "mixtral": _decoder(**_LLAMA, kv_heads=2, experts=4, expert_width=16),
  "qwen_moe": _decoder(**_LLAMA, experts=4, expert_width=16, shared_expert_width=8, normalize_experts=False),
  "mamba2": _decoder(**(_LLAMA | {"position": "none"}), mlp_width=0, mixer="mamba2", mamba_head_width=8, mamba_state=6,
                     mamba_groups=2, mamba_chunk=4),
}  # fmt: skip
ENCODERS: dict[str, EncoderSpec] = {
  "bert": _encoder(**_BERT),
  "modern_encoder": _encoder(**_NO_BIASES, position="rotary", activation="geglu_exact", norm_bias=False, layers=3,
                             window=3, global_every=2, rope_local_theta=100.0, embedding_norm=True, tied=False),
  "modernbert": _encoder(**_MODERN, layers=4, window=3, global_every=3, global_first=True, rope_local_theta=100.0),
}  # fmt: skip
ENCODER_DECODERS: dict[str, EncoderDecoderSpec] = {
  "original": _both(norm_position="post", activation="relu", position="sinusoidal", embedding_scale=4.0),
  "t5": _both(**_T5, activation="relu", logits_scale=0.25, encoder_layers=1),
  "t5_v1_1": _both(**_T5, activation="geglu", tied=False, qk_norm="head"),
  "bart": _both(norm_position="post", embedding_norm=True, kv_heads=2, dropout=0.1),
}
# Heads other than a vocabulary; the backbones are above.
HEADED: dict[str, EncoderSpec | TransformerSpec] = {
  "classifier": _encoder(**_BERT, head="classification", outputs=3),
  "regressor": _encoder(head="regression", pooling="mean", pooler=False),
  "span_reader": _encoder(head="span"),
  "tagger": _encoder(position="rotary", head="tagging", outputs=3),
  "modern_classifier": _encoder(**_MODERN, head="classification", outputs=3, pooling="mean", pooler=False),
  "modern_tagger": _encoder(**_MODERN, head="tagging", outputs=3),
  "embedder": _encoder(head="embedding", pooling="mean"),
  "last_token_classifier": _decoder(**_LLAMA, head="classification", outputs=2, pooling="last", pooler=False),
}

SPECIMENS: dict[str, Any] = {**DECODERS, **ENCODERS, **ENCODER_DECODERS, **HEADED}


# Tiny programs spend their time in the compiler; machine code of the lowest optimisation is as correct.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def build(spec: Any, rngs: nnx.Rngs) -> Any:
  """The model that a spec describes, whatever its family."""
  row = next(row for row in MODELS.values() if row.spec is type(spec))
  return row.build(spec, rngs=rngs)


@functools.cache
def model_of(name: str) -> Any:
  """A specimen with its first parameters. Shared: don't change it (`nnx.clone` copies)."""
  return quick_jit(lambda: build(SPECIMENS[name], nnx.Rngs(0)))()


def with_spec(model: Any, **changes: Any) -> Any:
  """A copy of a model that runs by a changed spec."""
  changed = nnx.clone(model)
  changed.spec = dataclasses.replace(model.spec, **changes)
  for part in ("encoder", "decoder"):
    if hasattr(changed, part):
      getattr(changed, part).spec = changed.spec
  return changed


def equations(jaxpr: Any) -> Iterator[Any]:
  """Every equation of a traced program, those of inner programs included."""
  for one in jaxpr.eqns:
    yield one
    for inner in jaxprs_in_params(one.params):
      yield from equations(inner)
