# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The spec of a Transformer: its checks, and its counts without allocation."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import BASE, ENCODER, ENCODER_DECODER, SPECIMENS, build, quick_jit

from lmx.errors import LmxError
from lmx.models import MODELS
from lmx.models.spec import EncoderSpec, TransformerSpec
from lmx.models.transformer import Transformer
from lmx.nn.attention.kernels import Extras
from lmx.nn.heads import HEADS
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.training.state import abstract_model_of
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
  "qk_norm": ({"qk_norm": "heads"}, "config.model.qk_norm.*Did you mean 'head'"),
  "norm place": ({"norm_position": "sandwhich"}, "config.model.norm_position.*'sandwich'"),
  "head": ({"head": "classify"}, "head.*classification"),
  "pooling": ({"pooling": "max"}, "config.model.pooling"),
  "global layers without local ones": ({"global_every": 2}, "config.model.global_every.*without a window"),
  "local base without windows": ({"position": "rotary", "rope_local_theta": 1e4}, "config.model.rope_local_theta"),
  "a global first layer without any": ({"window": 3, "global_first": True}, "config.model.global_first.*global_every"),
  "no first norm where none is": (
    {"norm_position": "post", "first_attention_norm": False},
    "config.model.first_attention_norm.*norm_position=post",
  ),
  "two layers before the scores": (
    {"head": "classification", "pooler": True, "head_transform": True},
    "config.model.pooler.*head_transform",
  ),
  "few buckets": ({"position": "relative", "relative_buckets": 6}, "config.model.relative_buckets.*multiple of 4"),
  "near limit": ({"position": "relative", "relative_distance": 16}, "config.model.relative_distance.*more than"),
  "odd sinusoids": ({"position": "sinusoidal", "width": 15, "head_width": 4}, "config.model.width.*even"),
  "scale": ({"attention_scale": 0.0}, "config.model.attention_scale"),
  "no experts": ({"experts": 0}, "config.model.experts"),
  "too many experts per token": ({"experts": 2, "experts_per_token": 3}, "config.model.experts_per_token.*experts = 2"),
  "mixer": ({"mixer": "mamba"}, "config.model.mixer.*'mamba2'"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_spec_is_refused_by_the_key_to_change(case):
  changes, pattern = IMPOSSIBLE[case]
  with pytest.raises(LmxError, match=pattern):
    dataclasses.replace(BASE, **changes)


def test_everything_that_is_wrong_is_reported_at_once():
  with pytest.raises(LmxError, match=r"(?s)2 problems.*layers.*position"):
    dataclasses.replace(BASE, position="x", layers=0)


def test_a_kernel_that_cannot_run_there_is_refused_and_auto_finds_one():
  with pytest.raises(LmxError, match=r"cudnn.*runs on gpu"):
    dataclasses.replace(BASE, attention="cudnn").kernel("cpu")
  with pytest.raises(LmxError, match="no dropout"):
    dataclasses.replace(BASE, attention="xla", dropout=0.1).kernel("cpu")
  assert BASE.kernel("cpu") == "cpu"
  assert BASE.kernel("tpu") == "xla"
  assert dataclasses.replace(BASE, dtype="bfloat16", head_width=8).kernel("gpu") == "cudnn"
  assert dataclasses.replace(BASE, attention_softcap=5.0).kernel("gpu") == "einsum"
  assert dataclasses.replace(BASE, position="relative").kernel("gpu") == "xla"
  assert ENCODER.kernel("cpu") == ENCODER_DECODER.kernel("cpu") == "cpu"


@functools.cache
def abstract(name):
  """A specimen's shapes."""
  return jax.eval_shape(lambda: build(SPECIMENS[name], nnx.Rngs(0)))


def matrices_of(spec) -> float:
  """Weights that a token is multiplied with, by the abstract model: kernels, and of experts the share that it uses."""
  plan = abstract_model_of(jax.eval_shape(lambda: build(spec, nnx.Rngs(0))))
  kernels = [name for name in plan.shapes if name.endswith(".kernel") and not name.startswith("head.")]
  kernels = [name for name in kernels if None not in plan.axes[name]]  # Not those of convolutions.
  share = spec.experts_per_token / spec.experts if spec.experts else 1
  total = sum(plan.shapes[name].size * (share if "expert" in plan.axes[name] else 1) for name in kernels)
  return total + (spec.vocab_rows * spec.width if HEADS[spec.head].vocabulary and spec.tied else 0)


@pytest.mark.parametrize("name", SPECIMENS)
def test_the_weights_that_flops_are_counted_from_are_those_of_the_abstract_model(name):
  def same(spec) -> None:
    assert spec.matmul_parameters() == matrices_of(SPECIMENS[name])

  same(SPECIMENS[name])
  assert_law_catches(same, dataclasses.replace(SPECIMENS[name], layers=SPECIMENS[name].layers + 1))


def parameters_of(spec) -> int:
  return count(jax.eval_shape(lambda: build(spec, nnx.Rngs(0))))


@pytest.mark.parametrize("name", SPECIMENS)
def test_every_parameter_is_float32_and_has_a_logical_axis_for_each_dimension(name):
  def visit(path, leaf, axes):
    assert leaf.dtype == "float32", path
    assert axes is not None, path
    assert len(axes) == leaf.ndim, path

  map_variables(visit, abstract(name))


def test_gpt2_small_has_the_published_size_and_flops():
  spec = TransformerSpec(vocab_size=50257, vocab_multiple=1, layers=12, width=768, heads=12, context=1024)
  assert parameters_of(spec) == 124_439_808  # Hugging Face's gpt2.
  matmul = 12 * 12 * 768**2 + 50257 * 768
  flops = spec.flops_per_token(1024, 1024)
  assert flops.full == 6 * matmul + 12 * 12 * 768 * 1024
  assert flops.full - flops.causal == 6 * 12 * 768 * 1024
  assert dataclasses.replace(spec, window=256).flops_per_token(1024, 1024).full == 6 * matmul + 12 * 12 * 768 * 256


def test_a_gated_mlp_left_to_itself_is_eight_thirds_of_the_width():
  spec = TransformerSpec(vocab_size=10, layers=1, width=4096, heads=32, context=8, activation="swiglu")
  assert spec.mlp_width == 11008  # Llama 2 7B.


def test_parameter_names_are_those_that_rules_and_checkpoints_use():
  assert MODELS["transformer"].build is Transformer
  assert names_of("qwen3") == {
    "token_embedding.embedding",
    "unembedding.kernel",
    "final_norm.scale",
    *(f"layers.attention.{part}.kernel" for part in ("query", "key", "value", "out")),
    *(f"layers.attention.{part}_norm.scale" for part in ("query", "key")),
    *(f"layers.{part}_norm.scale" for part in ("attention", "mlp")),
    *(f"layers.mlp.{part}.kernel" for part in ("up", "gate", "down")),
  }


def names_of(name):
  return set(named_leaves(abstract(name)))


def test_a_head_starts_with_head_and_the_backbone_keeps_its_names():
  backbone = {n for n in names_of("bert") if not n.startswith("head.")}
  assert names_of("bert") - backbone == {
    *(f"head.transform.{part}" for part in ("kernel", "bias")),
    *(f"head.norm.{part}" for part in ("scale", "bias")),
    "head.bias",
  }
  classifier = names_of("classifier")
  assert classifier - backbone == {f"head.{part}.{kind}" for part in ("pooler", "out") for kind in ("kernel", "bias")}
  assert backbone <= classifier
  assert {"token_type_embedding.embedding", "embedding_norm.scale", "embedding_norm.bias"} <= backbone


def test_the_stacks_of_an_encoder_decoder_have_names_of_their_own():
  names = names_of("t5")
  assert {"token_embedding.embedding", "decoder.layers.cross_attention.query.kernel"} <= names
  for stack in ("encoder", "decoder"):
    assert {f"{stack}.relative_embedding.embedding", f"{stack}.final_norm.scale"} <= names
  assert "decoder.layers.cross_attention_norm.scale" in names
  assert not any(name.startswith("encoder.layers.cross") or name.endswith("bias") for name in names)


def test_norms_around_and_after_sub_layers_have_names_of_their_own():
  parts = {"attention", "mlp"}
  assert {f"layers.{part}{kind}_norm.scale" for part in parts for kind in ("", "_output")} <= names_of("gemma2")
  outputs_only = {name for name in names_of("olmo2") if name.startswith(("layers.attention_", "layers.mlp_"))}
  assert outputs_only == {f"layers.{part}_output_norm.scale" for part in parts}
  assert named_leaves(abstract("olmo2"))["layers.attention.key_norm.scale"].shape == (2, 2 * 4)


def test_published_encoders_and_encoder_decoders_have_their_published_sizes():
  bert = dataclasses.replace(
    ENCODER, vocab_size=30522, vocab_multiple=1, layers=12, width=768, heads=12, kv_heads=12, head_width=64,
    mlp_width=3072, context=512, norm_position="post", token_types=2, embedding_norm=True,
  )  # fmt: skip
  assert parameters_of(bert) == 109_514_298  # Hugging Face's BertForMaskedLM of bert-base-uncased.
  t5 = dataclasses.replace(
    ENCODER_DECODER, vocab_size=32128, vocab_multiple=1, layers=6, encoder_layers=6, width=512, heads=8, kv_heads=8,
    head_width=64, mlp_width=2048, position="relative", norm="rmsnorm", attention_bias=False, attention_out_bias=False,
    mlp_bias=False,
  )  # fmt: skip
  assert parameters_of(t5) == 60_506_624  # Hugging Face's t5-small.
  modern = EncoderSpec(
    vocab_size=50_368, vocab_multiple=64, layers=22, width=768, heads=12, context=8192, mlp_width=1152,
    position="rotary", activation="geglu_exact", attention_bias=False, mlp_bias=False, norm_bias=False,
    transform_bias=False, embedding_norm=True, first_attention_norm=False,
  )  # fmt: skip
  assert parameters_of(modern) == 149_655_232 + 768  # Hugging Face's ModernBERT-base, and a row that isn't used.


def test_flops_count_the_reach_of_each_layer_and_the_share_of_an_encoder():
  spec = dataclasses.replace(BASE, layers=4, window=4, global_every=2)
  matmul = 6 * spec.matmul_parameters()
  assert spec.flops_per_token(16, 16).full == matmul + 12 * 16 * (2 * 4 + 2 * 16)
  begun = dataclasses.replace(spec, global_every=3, global_first=True)  # Layers 0 and 3 see everything.
  assert begun.flops_per_token(16, 16).full == matmul + 12 * 16 * (2 * 4 + 2 * 16)
  both_ways = dataclasses.replace(ENCODER, window=4)
  assert both_ways.flops_per_token(16, 16).causal == 6 * both_ways.matmul_parameters() + 12 * 16 * 2 * 7
  pair, alone = ENCODER_DECODER, dataclasses.replace(BASE)
  block = 4 * 16 * 16 + 2 * 16 * 32
  cross = 4 * 16 * 16
  expected = alone.flops_per_token(16, 16).full + 2 * (6 * (block + cross) + 12 * 16 * (16 + 16))
  assert pair.flops_per_token(16, 16).full == expected
  # Half as many tokens in the encoder halve its share, its attention's reach, and the keys and values of the decoder's.
  halved = alone.flops_per_token(16, 16).full + 2 * (6 * (block / 2 + cross / 2 + cross / 4) + 12 * 16 * (8 / 2 + 8))
  flops = pair.flops_per_token(16, 8)
  assert flops.full == halved
  assert flops.matmuls == 6 * (alone.matmul_parameters() + 2 * (block / 2 + cross / 2 + cross / 4))


def test_mup_scales_scores_logits_and_first_values_with_the_width():
  spec = dataclasses.replace(BASE, width=64, head_width=16, mup_base_width=16, logits_scale=0.5)
  assert spec.extras == Extras(scale=8 / 16)
  assert spec.output_scale == 0.5 / 4
  assert dataclasses.replace(spec, mup_base_width=64).output_scale == 0.5
  assert BASE.extras == Extras()
  narrow, wide = (made(dataclasses.replace(BASE, init="normal", width=width, mup_base_width=16)) for width in (16, 64))
  assert np.std(wide["layers.mlp.up.kernel"]) == pytest.approx(np.std(narrow["layers.mlp.up.kernel"]) / 2, rel=0.1)
  tables = [np.std(parameters["token_embedding.embedding"]) for parameters in (narrow, wide)]
  assert tables[1] == pytest.approx(tables[0], rel=0.1)


def made(spec):
  return {name: np.asarray(x) for name, x in named_leaves(quick_jit(lambda: build(spec, nnx.Rngs(0)))()).items()}


def test_queries_start_smaller_by_a_scale_of_ones_own():
  usual, unscaled = (
    made(dataclasses.replace(BASE, attention_scale=scale))["layers.attention.query.kernel"] for scale in (None, 1.0)
  )
  np.testing.assert_allclose(unscaled * 2, usual, rtol=1e-6)


@pytest.mark.parametrize("name", SPECIMENS)
def test_every_parameter_has_a_sharding(name):
  layout = Layout(make_mesh({"data": -1, "fsdp": 2, "tensor": 1}))
  plan = abstract_model_of(abstract(name))
  split = [name for name, sharding in plan.shardings(layout).items() if "fsdp" in str(sharding.spec)]
  assert "token_embedding.embedding" in split
