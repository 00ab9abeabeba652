# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The record of a Transformer: what it refuses, and what it counts without allocating."""

import dataclasses

import jax
import pytest
from flax import nnx
from specimens import BASE, SPECIMENS

from lmx.errors import LmxError
from lmx.models import MODELS
from lmx.models.spec import TransformerSpec
from lmx.models.transformer import Transformer
from lmx.trees import count, map_variables, named_leaves

IMPOSSIBLE = {
  "rotery": ({"position": "rotery"}, "config.model.position.*Did you mean 'rotary'"),
  "norm": ({"norm": "batchnorm"}, "config.model.norm"),
  "no layers": ({"layers": 0}, "config.model.layers"),
  "heads": ({"heads": 3, "kv_heads": None, "head_width": None}, "config.model.heads.*divisor of width = 16"),
  "groups": ({"kv_heads": 3}, "config.model.kv_heads.*divisor of heads = 4"),
  "odd heads": ({"position": "rotary", "head_width": 3}, "config.model.head_width.*even"),
  "scaling without rotary": ({"rope_scaling": "ntk"}, "config.model.rope_scaling"),
  "llama3 without a context": ({"position": "rotary", "rope_scaling": "llama3"}, "rope_original_context"),
  "window": ({"window": 0}, "config.model.window"),
  "soft-cap": ({"logits_softcap": -1.0}, "config.model.logits_softcap"),
  "dropout": ({"dropout": 1.0}, "config.model.dropout"),
  "dtype": ({"dtype": "float16"}, "config.compute.dtype"),
  "kernel": ({"attention": "flash"}, "config.compute.attention"),
  "loop": ({"layer_loop": "rolled"}, "config.compute.layers"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_spec_is_refused_by_the_key_to_change(case):
  changes, pattern = IMPOSSIBLE[case]
  with pytest.raises(LmxError, match=pattern):
    dataclasses.replace(BASE, **changes)


def test_everything_that_is_wrong_is_said_at_once():
  with pytest.raises(LmxError, match=r"(?s)2 problems.*position.*layers"):
    dataclasses.replace(BASE, position="x", layers=0)


def test_a_kernel_that_cannot_run_there_is_refused_and_auto_finds_one():
  with pytest.raises(LmxError, match=r"cudnn.*runs on gpu"):
    dataclasses.replace(BASE, attention="cudnn").kernel("cpu")
  with pytest.raises(LmxError, match="soft-cap"):
    dataclasses.replace(BASE, attention="xla", dropout=0.1).kernel("cpu")
  assert BASE.kernel("cpu") == "cpu"
  assert BASE.kernel("tpu") == "xla"
  assert dataclasses.replace(BASE, dtype="bfloat16", head_width=8).kernel("gpu") == "cudnn"
  assert dataclasses.replace(BASE, attention_softcap=5.0).kernel("gpu") == "einsum"


@pytest.mark.parametrize("name", SPECIMENS)
def test_parameters_are_counted_without_being_made(name):
  spec = SPECIMENS[name]
  abstract = jax.eval_shape(lambda: Transformer(spec, rngs=nnx.Rngs(0)))
  assert spec.parameters() == count(abstract)


@pytest.mark.parametrize("name", SPECIMENS)
def test_every_parameter_is_float32_and_has_a_logical_axis_for_each_dimension(name):
  abstract = jax.eval_shape(lambda: Transformer(SPECIMENS[name], rngs=nnx.Rngs(0)))

  def visit(path, leaf, axes):
    assert leaf.dtype == "float32", path
    assert axes is not None, path
    assert len(axes) == leaf.ndim, path

  map_variables(visit, abstract)


def test_gpt2_small_has_the_published_size_and_flops():
  spec = TransformerSpec(vocab_size=50257, vocab_multiple=1, layers=12, width=768, heads=12, context=1024)
  assert spec.parameters() == 124_439_808  # Hugging Face's gpt2.
  matmul = 12 * 12 * 768**2 + 50257 * 768
  flops = spec.flops_per_token(1024)
  assert flops.full == 6 * matmul + 12 * 12 * 768 * 1024
  assert flops.full - flops.causal == 6 * 12 * 768 * 1024
  assert dataclasses.replace(spec, window=256).flops_per_token(1024).full == 6 * matmul + 12 * 12 * 768 * 256


def test_a_gated_mlp_left_to_itself_is_eight_thirds_of_the_width():
  spec = TransformerSpec(vocab_size=10, layers=1, width=4096, heads=32, context=8, activation="swiglu")
  assert spec.mlp_width == 11008  # Llama 2 7B.


def test_parameter_names_are_those_that_rules_and_checkpoints_use():
  assert MODELS["transformer"].build is Transformer
  names = set(named_leaves(jax.eval_shape(lambda: Transformer(SPECIMENS["qwen"], rngs=nnx.Rngs(0)))))
  assert names == {
    "token_embedding.embedding",
    "unembedding.kernel",
    "final_norm.scale",
    *(f"layers.attention.{part}.kernel" for part in ("query", "key", "value", "out")),
    *(f"layers.attention.{part}_norm.scale" for part in ("query", "key")),
    *(f"layers.{part}_norm.scale" for part in ("attention", "mlp")),
    *(f"layers.mlp.{part}.kernel" for part in ("up", "gate", "down")),
  }
