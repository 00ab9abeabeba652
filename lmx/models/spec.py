# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Model specs: one frozen record of sizes and choices per family, checked before anything is allocated.

Fields are the keys of `config.model` that the family reads (their meaning is in configs/base.py), then those that
`StackSpec` lists.
"""

import dataclasses
from typing import Any, ClassVar

from lmx.config.table import default
from lmx.errors import Problems
from lmx.models import counts
from lmx.models.spec_check import check_combinations, check_remat, check_values
from lmx.nn.attention.kernel_check import check_experts
from lmx.nn.attention.kernels import Extras
from lmx.nn.layers.activations import ACTIVATIONS
from lmx.nn.mixer import MixerSpec
from lmx.nn.mixers import MIXERS
from lmx.nn.stack import Remat
from lmx.units import StepFlops, counted

_DERIVED: Any = None  # A size left out is derived from the others.
_MUP_HEAD_WIDTH = 64  # Where muP's scale of scores, 8 / K, meets the usual 1 / sqrt(K).


@dataclasses.dataclass(frozen=True)
class StackSpec:
  """The record that all Transformers share. Fields are keys of `config.model`, then:

  Attributes:
    vocab_size: the tokenizer's; tables are padded up to a multiple of vocab_multiple, and padding has no probability.
    dtype: compute dtype; parameters, softmax, norms and loss are float32.
    quantization: a key of `QUANTIZATIONS`: the format of operands in the products of attention's projections and MLPs.
    attention: a row of `KERNELS`, or auto.
    layer_loop: auto | scanned | unrolled.
    remat, remat_keep: see `lmx.nn.stack.Remat`.
    stage_rounds: runs of layers that each stage of a pipeline has: see lmx/nn/pipeline.py.
    stage_micro_batches: parts of a batch in a pipeline; None: one per stage.
    loss_chunks: parts that the loss over the vocabulary is computed in: see `lmx.nn.losses.Head`.
    head: a row of `HEADS`.
    outputs: scores of a row or token (labels), for heads that have them.

  Raises:
    LmxError: names every value, or combination of values, that is impossible.
  """

  name: ClassVar[str] = "Transformer"
  causal: ClassVar[bool] = True
  usual_pooling: ClassVar[str] = "last"  # Where config.model.pooling says nothing.

  vocab_size: int
  layers: int
  width: int
  heads: int
  context: int
  kv_heads: int = _DERIVED
  head_width: int = _DERIVED
  mlp_width: int = _DERIVED  # 0: blocks without an MLP.
  vocab_multiple: int = default("model.vocab_multiple")
  position: str = default("model.position")
  rope_theta: float = default("model.rope_theta")
  rope_scaling: str = default("model.rope_scaling")
  rope_factor: float = default("model.rope_factor")
  rope_original_context: int | None = default("model.rope_original_context")
  rope_local_theta: float | None = default("model.rope_local_theta")
  relative_buckets: int = default("model.relative_buckets")
  relative_distance: int = default("model.relative_distance")
  norm: str = default("model.norm")
  norm_position: str = default("model.norm_position")
  first_attention_norm: bool = default("model.first_attention_norm")
  norm_eps: float = default("model.norm_eps")
  norm_bias: bool = default("model.norm_bias")
  activation: str = default("model.activation")
  attention_bias: bool = default("model.attention_bias")
  attention_out_bias: bool = _DERIVED
  mlp_bias: bool = default("model.mlp_bias")
  qk_norm: str = default("model.qk_norm")
  attention_scale: float | None = default("model.attention_scale")
  window: int | None = default("model.window")
  global_every: int | None = default("model.global_every")
  global_first: bool = default("model.global_first")
  attention_softcap: float | None = default("model.attention_softcap")
  logits_softcap: float | None = default("model.logits_softcap")
  tied: bool = default("model.tied")
  embedding_scale: float = default("model.embedding_scale")
  embedding_norm: bool = default("model.embedding_norm")
  logits_scale: float = default("model.logits_scale")
  dropout: float = default("model.dropout")
  init: str = default("model.init")
  init_std: float = default("model.init_std")
  mup_base_width: int | None = default("model.mup_base_width")
  pooling: str = _DERIVED
  pooler: bool = _DERIVED
  head_bias: bool = _DERIVED
  head_transform: bool = default("model.head_transform")
  transform_bias: bool = default("model.transform_bias")
  output_bias: bool = default("model.output_bias")
  experts: int | None = default("model.experts")
  experts_per_token: int = default("model.experts_per_token")
  expert_width: int = _DERIVED
  shared_expert_width: int | None = default("model.shared_expert_width")
  normalize_experts: bool = default("model.normalize_experts")
  load_balance: float = default("model.load_balance")
  router_z: float = default("model.router_z")
  dtype: str = default("compute.dtype")
  quantization: str = default("compute.quantization")
  attention: str = default("compute.attention")
  layer_loop: str = default("compute.layers")
  remat: str = default("compute.remat")
  remat_keep: tuple[str, ...] = default("compute.remat_keep")
  stage_rounds: int = default("compute.stage_rounds")
  stage_micro_batches: int | None = default("compute.stage_micro_batches")
  loss_chunks: int = default("compute.loss_chunks")
  head: str = "language"
  outputs: int = 1

  def __post_init__(self) -> None:
    problems = Problems()
    self._check_values(problems)
    problems.raise_if_any()
    self._derive()
    check_combinations(self, problems)
    problems.raise_if_any()

  def _check_values(self, problems: Problems) -> None:
    check_values(self, problems)
    check_remat(self, problems)

  def _derive(self) -> None:
    """Fills in the sizes that were left out; a gated MLP gets 8/3 of the width, so that its size stays comparable."""
    gated = ACTIVATIONS[self.activation].gated
    mlp_width = -(-8 * self.width // (3 * 128)) * 128 if gated else 4 * self.width
    derived: dict[str, Any] = {
      "kv_heads": self.heads,
      "head_width": self.width // self.heads if self.width % self.heads == 0 else None,
      "mlp_width": mlp_width,
      "attention_out_bias": self.attention_bias,
      "pooling": self.usual_pooling,
      "pooler": not self.causal and not self.head_transform,
      "head_bias": not self.causal,
      "expert_width": (mlp_width if self.mlp_width is None else self.mlp_width) if self.experts else None,
    }
    for key, value in derived.items():
      if getattr(self, key) is None:
        object.__setattr__(self, key, value)

  # ------------------------------------------------------------------------------------------------ derived values

  @property
  def vocab_rows(self) -> int:
    """Rows of the embedding table: the vocabulary, up to a multiple of vocab_multiple."""
    return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

  @property
  def width_ratio(self) -> float:
    """Width over muP's base width; 1 where muP is off."""
    return 1.0 if self.mup_base_width is None else self.width / self.mup_base_width

  @property
  def output_scale(self) -> float:
    """What the logits are multiplied by; muP's table 8 divides them by the ratio of widths."""
    return self.logits_scale / self.width_ratio

  @property
  def extras(self) -> Extras:
    """The options of self-attention that its kernel must have.

    Under muP scores are scaled by 8 / K: in proportion to 1 / K (https://arxiv.org/abs/2203.03466, definition 4.1), and
    as usual for heads of width 64 (https://github.com/microsoft/mup).
    """
    scale = self.attention_scale
    if scale is None and self.mup_base_width is not None:
      scale = _MUP_HEAD_WIDTH**0.5 / self.head_width
    return Extras(self.attention_softcap, self.dropout, scale, bias=self.position == "relative")

  @property
  def mixing(self) -> MixerSpec:
    """The row of the sequence mixer."""
    return MIXERS["attention"]

  @property
  def unlimited(self) -> bool:
    """Whether a row may be longer than the context, because nothing in the model is as long as it."""
    return self.mixing.unlimited and self.position != "learned"

  @property
  def layer_period(self) -> int:
    """The number of layers after which their kinds repeat: those with a window, and those without."""
    return self.global_every or 1

  @property
  def local_layers(self) -> int:
    """Layers that have the window."""
    if self.window is None:
      return 0
    if self.global_every is None:
      return self.layers
    begun = self.global_every - 1 if self.global_first else 0  # A period that is cut short has its first layer.
    return self.layers - (self.layers + begun) // self.global_every

  # ------------------------------------------------------------------------------------------------------- kernels

  def kernel(self, platform: str) -> str:
    """The kernel of the mixer that training runs on a backend ("cpu", "gpu", "tpu").

    Raises:
      LmxError: the kernel named by `attention` can't run there.
    """
    return self.mixing.kernel(self, platform)

  def check_attention(self, platform: str) -> str:
    """Compares the mixer's kernel with its reference on this machine; a sentence with its name and the error found.

    Raises:
      LmxError: the kernel can't run here, or its values or gradients differ from the reference's.
    """
    return self.mixing.check_kernel(self, platform)

  def check_kernels(self, platform: str) -> dict[str, str]:
    """Compares kernels with their references: part -> a sentence for the run's introduction.

    Raises:
      LmxError: one can't run here, or differs.
    """
    checks = {"attention": self.check_attention(platform)}
    if self.experts:
      activation = ACTIVATIONS[self.activation]
      checks["experts"] = check_experts(activation.function, activation.gated, experts=self.experts,
                                      experts_per_token=self.experts_per_token, dtype=self.dtype)  # fmt: skip
    return checks

  @property
  def attention_ways(self) -> tuple[bool, ...]:
    """Whether its attention is causal; both, where it has both."""
    return (self.causal,)

  # ---------------------------------------------------------------------------------------------------------- sizes

  def describe(self) -> str:
    """One line for people: shape and parts."""
    mixing = self.mixing
    parts = f"{self.position} positions, {self.norm_position}-{self.norm}, {self.activation}"
    mlp = f"{self.experts} experts of {self.expert_width}" if self.experts else f"MLP {self.mlp_width}"
    name = mixing.model_name or self.name
    return f"{name}, {counted(self.layers, 'layer')}, width {self.width}, {mixing.describe(self)}, {mlp}; {parts}"

  def matmul_parameters(self) -> int:
    """Weights that a token is multiplied with: projections and the output table (tied or not), not lookups."""
    return self.layers * counts.block_matrices(self) + counts.output_matrices(self)

  def quantized_parameters(self) -> int:
    """Those of `matmul_parameters` whose products are quantized: all but the output table's."""
    return 0 if self.quantization == "none" else self.matmul_parameters() - counts.output_matrices(self)

  @property
  def rematerialization(self) -> Remat:
    """Rematerialization of the layers."""
    return Remat(self.remat, self.remat_keep)

  def flops_per_token(self, length: int, encoder_length: int) -> StepFlops:
    """As `lmx.models.contract.ModelSpec.flops_per_token`."""
    return counts.flops(self, self.matmul_parameters(), self.layers, length, causal=self.causal)


@dataclasses.dataclass(frozen=True)
class TransformerSpec(StackSpec):
  """A decoder-only Transformer; fields as in `StackSpec`, then:

  Attributes:
    mixer: a row of `lmx.nn.mixers.MIXERS`.
    mixer_options: (key, value) of those keys of the mixer's row that are no fields here; see `option`.
  """

  mixer: str = default("model.mixer")
  mamba_state: int = default("model.mamba_state")
  mamba_head_width: int = default("model.mamba_head_width")
  mamba_expand: int = default("model.mamba_expand")
  mamba_groups: int = default("model.mamba_groups")
  mamba_conv: int = default("model.mamba_conv")
  mamba_chunk: int = default("model.mamba_chunk")
  mixer_options: tuple[tuple[str, Any], ...] = ()

  def option(self, key: str) -> Any:
    """The value of a key that only the mixer reads."""
    return dict(self.mixer_options)[key]

  @property
  def mixing(self) -> MixerSpec:
    """As `StackSpec.mixing`."""
    return MIXERS[self.mixer]

  def _check_values(self, problems: Problems) -> None:
    super()._check_values(problems)
    if self.mixer not in MIXERS:
      problems.add("config.model.mixer", got=self.mixer, allowed=MIXERS)
    else:
      self.mixing.check(self, problems)


@dataclasses.dataclass(frozen=True)
class EncoderSpec(StackSpec):
  """An encoder, whose tokens see both sides; fields as in `StackSpec`."""

  name: ClassVar[str] = "Encoder"
  causal: ClassVar[bool] = False
  usual_pooling: ClassVar[str] = "cls"

  head: str = "masked"
  token_types: int = default("model.token_types")


@dataclasses.dataclass(frozen=True)
class EncoderDecoderSpec(StackSpec):
  """An encoder, and a decoder that attends to its output; fields as in `StackSpec`. `layers` are the decoder's."""

  name: ClassVar[str] = "Encoder-decoder"
  usual_pooling: ClassVar[str] = "mean"

  encoder_layers: int = _DERIVED

  def _derive(self) -> None:
    super()._derive()
    if self.encoder_layers is None:
      object.__setattr__(self, "encoder_layers", self.layers)

  @property
  def attention_ways(self) -> tuple[bool, ...]:
    """As `StackSpec.attention_ways`."""
    return (True, False)

  def describe(self) -> str:
    """As `StackSpec.describe`."""
    return (
      super()
      .describe()
      .replace(counted(self.layers, "layer"), f"{self.encoder_layers} + {counted(self.layers, 'layer')}", 1)
    )

  def matmul_parameters(self) -> int:
    """As `StackSpec.matmul_parameters`: what a token of the decoder and one of the encoder go through."""
    both = self.layers + self.encoder_layers
    cross = self.layers * self.mixing.matmul_parameters(self)
    return both * counts.block_matrices(self) + cross + counts.output_matrices(self)

  def flops_per_token(self, length: int, encoder_length: int) -> StepFlops:
    """FLOPs of one training token of the decoder, with its share of the encoder's."""
    return counts.encoder_decoder_flops(self, length, encoder_length)
