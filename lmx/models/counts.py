# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""FLOPs of a training token, and the weights that it is multiplied with, from the sizes in a spec.

All parameters are counted in one place, from the abstract model (`lmx.training.state.AbstractModel.parameters`); a test
compares what is counted here with the abstract model's matrices.
"""

from typing import Any

from lmx.nn.heads import HEADS
from lmx.nn.layers.activations import ACTIVATIONS
from lmx.units import StepFlops


def mlp_matrices(spec: Any) -> int:
  """Weights of an MLP; with experts, of those that one token goes through, and of the router."""
  per_width = spec.width * (3 if ACTIVATIONS[spec.activation].gated else 2)
  if not spec.experts:
    return per_width * spec.mlp_width
  shared = spec.shared_expert_width or 0
  gate = spec.width if spec.shared_expert_width else 0
  return per_width * (spec.experts_per_token * spec.expert_width + shared) + spec.width * spec.experts + gate


def block_matrices(spec: Any) -> int:
  """Weights of a block's matrices that one token is multiplied with, cross-attention left out."""
  return spec.mixing.matmul_parameters(spec) + mlp_matrices(spec)


def output_matrices(spec: Any) -> int:
  """Weights of the output table; heads without a vocabulary are too small to count."""
  return spec.vocab_rows * spec.width if HEADS[spec.head].vocabulary else 0


def flops(spec: Any, matmul_parameters: int, layers: int, length: int, *, causal: bool) -> StepFlops:
  """FLOPs of one training token: 6 per matmul parameter, and those of the mixers (`MixerSpec.flops`).

  Args:
    spec: the model's.
    matmul_parameters: weights that the token is multiplied with.
    layers: N.
    length: L, tokens in a row.
    causal: whether a token attends to those before it only.
  """
  matmuls, mixing = 6.0 * matmul_parameters, spec.mixing.flops(spec, layers, length, causal=causal)
  return StepFlops(causal=matmuls + mixing.causal, full=matmuls + mixing.full, matmuls=matmuls)


def encoder_decoder_flops(spec: Any, length: int, memory: int) -> StepFlops:
  """FLOPs of one token of the decoder, with M / L tokens of the encoder, which cross-attention projects once more.

  Args:
    spec: the model's.
    length: L, tokens in a row of the decoder.
    memory: M, tokens in a row of the encoder.
  """
  share = memory / length
  keys_and_values = 2 * spec.width * spec.head_width * spec.kv_heads
  queries = spec.mixing.matmul_parameters(spec) - keys_and_values
  block = block_matrices(spec)
  own = spec.layers * (block + queries) + output_matrices(spec)
  encoder = flops(spec, spec.encoder_layers * block, spec.encoder_layers, memory, causal=False)
  decoder = flops(spec, own, spec.layers, length, causal=True)
  projections = spec.layers * 6.0 * share * keys_and_values
  cross = projections + spec.layers * 12.0 * spec.heads * spec.head_width * memory
  return StepFlops(
    causal=decoder.causal + share * encoder.full + cross,
    full=decoder.full + share * encoder.full + cross,
    matmuls=decoder.matmuls + share * encoder.matmuls + projections,
  )
