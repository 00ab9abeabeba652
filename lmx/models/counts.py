# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Parameters and FLOPs of a spec, counted without allocating anything."""

from typing import Any

from lmx.nn.block import PLACEMENTS
from lmx.nn.heads import HEADS, ROW_HEADS
from lmx.nn.layers.activations import ACTIVATIONS
from lmx.units import StepFlops


def _matrices_of_mlp(spec: Any) -> int:
  return 3 if ACTIVATIONS[spec.activation].gated else 2


def attention_matrices(spec: Any) -> int:
  """Weights of the four projections."""
  return 2 * spec.width * spec.head_width * (spec.heads + spec.kv_heads)


def mixer_matrices(spec: Any) -> int:
  """Weights of the matrices of a layer's sequence mixer."""
  return attention_matrices(spec) if spec.mamba is None else spec.mamba.matmul_parameters()


def mlp_matrices(spec: Any, active: bool) -> int:
  """Weights of an MLP, or of a layer's experts with their router; `active`: of those that one token goes through."""
  per_width = spec.width * _matrices_of_mlp(spec)
  if not spec.experts:
    return per_width * spec.mlp_width
  experts = spec.experts_per_token if active else spec.experts
  shared = spec.shared_expert_width or 0
  gate = spec.width if spec.shared_expert_width else 0
  return per_width * (experts * spec.expert_width + shared) + spec.width * spec.experts + gate


def block_matrices(spec: Any, *, active: bool) -> int:
  """Weights of a block's matrices, cross-attention left out."""
  return mixer_matrices(spec) + mlp_matrices(spec, active)


def norm_size(spec: Any) -> int:
  """Parameters of a norm over the model's width."""
  return spec.width * (2 if spec.norm == "layernorm" and spec.norm_bias else 1)


def _mixer_vectors(spec: Any) -> int:
  if spec.mamba is not None:
    return spec.mamba.vector_parameters()
  vectors = 0
  if spec.qk_norm != "none":
    vectors += spec.head_width * (2 if spec.qk_norm == "head" else spec.heads + spec.kv_heads)
  if spec.attention_bias:
    vectors += spec.head_width * (spec.heads + 2 * spec.kv_heads)
  return vectors + (spec.width if spec.attention_out_bias else 0)


def _mlp_vectors(spec: Any) -> int:
  if spec.experts or not spec.mlp_bias or not spec.mlp_width:
    return 0
  return spec.mlp_width * (_matrices_of_mlp(spec) - 1) + spec.width


def stack_parameters(spec: Any, layers: int, *, cross: bool = False) -> int:
  """Blocks, and what stands around them: position tables and norms; not the token table."""
  place = PLACEMENTS[spec.norm_position]
  norms = (int(place.before or place.after) + int(place.output)) * norm_size(spec)
  attention = mixer_matrices(spec) + _mixer_vectors(spec) + norms
  block = attention * (2 if cross else 1)
  if spec.mlp_width or spec.experts:
    block += mlp_matrices(spec, active=False) + _mlp_vectors(spec) + norms
  tables = spec.context * spec.width if spec.position == "learned" else 0
  tables += spec.relative_buckets * spec.heads if spec.position == "relative" else 0
  around = (int(place.final) + int(spec.embedding_norm)) * norm_size(spec)
  return layers * block + tables + around


def table_parameters(spec: Any) -> int:
  """The token table, and the output table where it is another."""
  untied = HEADS[spec.head].vocabulary and not spec.tied
  return spec.vocab_rows * spec.width * (2 if untied else 1)


def output_matrices(spec: Any) -> int:
  """Weights of the output table; heads without a vocabulary are too small to count."""
  return spec.vocab_rows * spec.width if HEADS[spec.head].vocabulary else 0


def head_parameters(spec: Any) -> int:
  """What is under `head.`."""
  dense = spec.width * (spec.width + 1)
  transform = spec.width * (spec.width + int(spec.transform_bias)) + norm_size(spec)
  outputs = {"classification": spec.outputs, "regression": 1, "span": 2, "tagging": spec.outputs}
  if spec.head == "masked":
    return transform + spec.vocab_rows
  if spec.head not in outputs:
    return spec.vocab_rows if spec.head == "language" and spec.output_bias else 0
  pooler = dense if spec.pooler and spec.head in ("classification", "regression") else 0
  bias = 1 if spec.head_bias or spec.head not in ROW_HEADS else 0
  return pooler + (transform if spec.head_transform else 0) + (spec.width + bias) * outputs[spec.head]


def _seen(spec: Any, length: int) -> float:
  """Tokens within reach of a query, as a mean over layers; both sides of a window count where there are two."""
  if spec.window is None:
    return length
  local = min(length, spec.window if spec.causal else 2 * spec.window - 1)
  share = spec.local_layers / spec.layers
  return share * local + (1 - share) * length


def flops(spec: Any, matmul_parameters: int, layers: int, length: int, *, causal: bool) -> StepFlops:
  """FLOPs of one training token: 6 per matmul parameter, and 12 * H * K for each layer and token within reach.

  Source: PaLM (https://arxiv.org/abs/2204.02311, appendix B). `StepFlops.causal` counts half of what is within reach
  where attention is causal. Mamba-2's scan is counted in attention's place.
  """
  matmuls = 6.0 * matmul_parameters
  if spec.mamba is not None:
    scan = spec.mamba.flops_per_token(length)
    return StepFlops(causal=matmuls + layers * scan.causal, full=matmuls + layers * scan.full)
  attention = 12.0 * layers * spec.heads * spec.head_width * _seen(spec, length)
  return StepFlops(causal=matmuls + (attention / 2 if causal else attention), full=matmuls + attention)


def encoder_decoder_flops(spec: Any, length: int, memory: int) -> StepFlops:
  """FLOPs of one decoder token, with M / L tokens of the encoder, which cross-attention projects once more."""
  share = memory / length
  keys_and_values = 2 * spec.width * spec.head_width * spec.kv_heads
  queries = attention_matrices(spec) - keys_and_values
  block = block_matrices(spec, active=True)
  own = spec.layers * (block + queries) + output_matrices(spec)
  encoder = flops(spec, spec.encoder_layers * block, spec.encoder_layers, memory, causal=False)
  decoder = flops(spec, own, spec.layers, length, causal=True)
  cross = spec.layers * (6.0 * share * keys_and_values + 12.0 * spec.heads * spec.head_width * memory)
  return StepFlops(
    causal=decoder.causal + share * encoder.full + cross, full=decoder.full + share * encoder.full + cross
  )
