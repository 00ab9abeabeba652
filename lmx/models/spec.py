# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a Transformer is, in one frozen record that is checked before anything is allocated."""

import dataclasses
from typing import Any

from lmx.errors import Problems
from lmx.nn.activations import ACTIVATIONS
from lmx.nn.block import BLOCKS
from lmx.nn.initializers import INITS
from lmx.nn.kernel_check import check_kernel
from lmx.nn.kernels import KERNEL_CHOICES, Extras, resolve_kernel
from lmx.nn.norm import NORMS
from lmx.nn.positions import ROPE_SCALINGS
from lmx.nn.stack import LAYER_LOOPS, REMATS
from lmx.units import StepFlops, transformer_flops_per_token

POSITIONS = ("learned", "rotary", "none")
DTYPES = ("bfloat16", "float32")
_DERIVED: Any = None  # A size left out is derived from the others.


@dataclasses.dataclass(frozen=True)
class TransformerSpec:
  """A decoder-only Transformer. Fields are the keys of `config.model` (their meaning is in configs/base.py), then:

  Attributes:
    vocab_size: the tokenizer's; tables are padded up to a multiple of vocab_multiple, and padding has no probability.
    dtype: compute dtype; parameters, softmax, norms and loss are float32.
    attention: a row of `KERNELS`, or auto.
    layer_loop: auto | scanned | unrolled.
    remat: none | full.

  Raises:
    LmxError: names every value, or combination of values, that is impossible.
  """

  vocab_size: int
  layers: int
  width: int
  heads: int
  context: int
  kv_heads: int = _DERIVED
  head_width: int = _DERIVED
  mlp_width: int = _DERIVED
  vocab_multiple: int = 128
  position: str = "learned"
  rope_theta: float = 10_000.0
  rope_scaling: str = "none"
  rope_factor: float = 1.0
  rope_original_context: int | None = None
  norm: str = "layernorm"
  norm_position: str = "pre"
  norm_eps: float = 1e-5
  norm_bias: bool = True
  activation: str = "gelu_tanh"
  attention_bias: bool = True
  mlp_bias: bool = True
  qk_norm: bool = False
  window: int | None = None
  attention_softcap: float | None = None
  logits_softcap: float | None = None
  tied: bool = True
  dropout: float = 0.0
  init: str = "gpt2"
  init_std: float = 0.02
  dtype: str = "bfloat16"
  attention: str = "auto"
  layer_loop: str = "auto"
  remat: str = "none"

  def __post_init__(self):
    problems = Problems()
    self._check_choices(problems)
    self._check_sizes(problems)
    problems.raise_if_any()
    self._derive()
    self._check_combinations(problems)
    problems.raise_if_any()

  def _check_choices(self, problems: Problems) -> None:
    choices = {
      "model.position": (self.position, POSITIONS),
      "model.rope_scaling": (self.rope_scaling, ROPE_SCALINGS),
      "model.norm": (self.norm, NORMS),
      "model.norm_position": (self.norm_position, BLOCKS),
      "model.activation": (self.activation, ACTIVATIONS),
      "model.init": (self.init, INITS),
      "compute.dtype": (self.dtype, DTYPES),
      "compute.attention": (self.attention, KERNEL_CHOICES),
      "compute.layers": (self.layer_loop, LAYER_LOOPS),
      "compute.remat": (self.remat, REMATS),
    }
    for key, (got, allowed) in choices.items():
      if got not in allowed:
        problems.add(f"config.{key}", got=got, allowed=allowed)

  def _check_sizes(self, problems: Problems) -> None:
    for key in ("vocab_size", "layers", "width", "heads", "context", "vocab_multiple"):
      if getattr(self, key) < 1:
        problems.add(f"config.model.{key}", got=getattr(self, key), allowed="a positive whole number")
    for key in ("kv_heads", "head_width", "mlp_width", "window", "rope_original_context"):
      if getattr(self, key) is not None and getattr(self, key) < 1:
        problems.add(f"config.model.{key}", got=getattr(self, key), allowed="a positive whole number, or None")
    for key in ("attention_softcap", "logits_softcap"):
      if getattr(self, key) is not None and getattr(self, key) <= 0:
        problems.add(f"config.model.{key}", got=getattr(self, key), allowed="a positive number, or None")
    for key in ("rope_theta", "rope_factor", "norm_eps", "init_std"):
      if getattr(self, key) <= 0:
        problems.add(f"config.model.{key}", got=getattr(self, key), allowed="a positive number")
    if not 0 <= self.dropout < 1:
      problems.add("config.model.dropout", got=self.dropout, allowed="a number from 0 up to, but not including, 1")

  def _derive(self) -> None:
    """Fills in the sizes that were left out; a gated MLP gets 8/3 of the width, so that its size stays comparable."""
    gated = ACTIVATIONS[self.activation].gated
    derived = {
      "kv_heads": self.heads,
      "head_width": self.width // self.heads,
      "mlp_width": -(-8 * self.width // (3 * 128)) * 128 if gated else 4 * self.width,
    }
    for key, value in derived.items():
      if key == "head_width" and self.head_width is None and self.width % self.heads:
        continue  # Reported by _check_combinations.
      if getattr(self, key) is None:
        object.__setattr__(self, key, value)

  def _check_combinations(self, problems: Problems) -> None:
    if self.head_width is None:
      fix = "--config.model.head_width=64 sets the width of a head on its own"
      problems.add("config.model.heads", got=self.heads, allowed=f"a divisor of width = {self.width}", fix=fix)
    if self.heads % self.kv_heads:
      problems.add("config.model.kv_heads", got=self.kv_heads, allowed=f"a divisor of heads = {self.heads}")
    if self.position == "rotary" and self.head_width is not None and self.head_width % 2:
      problems.add("config.model.head_width", got=self.head_width, allowed="an even number with rotary positions")
    if self.rope_scaling != "none" and self.position != "rotary":
      problems.add("config.model.rope_scaling", got=self.rope_scaling, allowed="none unless position is rotary")
    if self.rope_scaling == "llama3" and self.rope_original_context is None:
      fix = "--config.model.rope_original_context=8192 (the context before it was stretched)"
      problems.add("config.model.rope_original_context", got=None, allowed="a number of tokens", fix=fix)

  @property
  def extras(self) -> Extras:
    """What this model asks of an attention kernel beyond the plain function."""
    return Extras(self.attention_softcap, self.dropout)

  def kernel(self, platform: str) -> str:
    """The attention kernel that training runs on a backend ("cpu", "gpu", "tpu").

    Raises:
      LmxError: the kernel named by `attention` can't run there.
    """
    return resolve_kernel(
      self.attention, platform=platform, dtype=self.dtype, head_width=self.head_width, extras=self.extras
    )

  def check_attention(self, platform: str) -> str:
    """Compares the attention kernel with the reference on this machine; a sentence with its name and the error found.

    Raises:
      LmxError: the kernel can't run here, or its values or gradients differ from the reference's.
    """
    name = self.kernel(platform)
    error = check_kernel(
      name,
      heads=self.heads,
      kv_heads=self.kv_heads,
      head_width=self.head_width,
      dtype=self.dtype,
      window=self.window,
      extras=self.extras,
    )
    return f"{name}, checked here against the reference: values and gradients within {error:.0e}"

  @property
  def vocab_rows(self) -> int:
    """Rows of the embedding table: the vocabulary, up to a multiple of vocab_multiple."""
    return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

  def describe(self) -> str:
    """One line for people: shape and parts."""
    heads = f"{self.heads} heads" + (f" ({self.kv_heads} key-value)" if self.kv_heads != self.heads else "")
    parts = f"{self.position} positions, {self.norm_position}-{self.norm}, {self.activation}"
    return f"Transformer, {self.layers} layers, width {self.width}, {heads}, MLP {self.mlp_width}; {parts}"

  def matmul_parameters(self) -> int:
    """Weights that a token is multiplied with: projections and the output table (tied or not), not lookups."""
    attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
    mlp = self.width * self.mlp_width * (3 if ACTIVATIONS[self.activation].gated else 2)
    return self.layers * (attention + mlp) + self.vocab_rows * self.width

  def parameters(self) -> int:
    """All parameters, padding rows of the vocabulary included, counted without allocating any."""
    norm_has_bias = self.norm == "layernorm" and self.norm_bias
    norm = self.width * (2 if norm_has_bias else 1)
    vectors = 2 * norm
    if self.qk_norm:
      vectors += 2 * self.head_width
    if self.attention_bias:
      vectors += self.head_width * (self.heads + 2 * self.kv_heads) + self.width
    if self.mlp_bias:
      vectors += self.mlp_width * (2 if ACTIVATIONS[self.activation].gated else 1) + self.width
    total = self.matmul_parameters() + self.layers * vectors
    total += 0 if self.tied else self.vocab_rows * self.width
    total += self.context * self.width if self.position == "learned" else 0
    return total + (norm if self.norm_position == "pre" else 0)

  def flops_per_token(self, length: int) -> StepFlops:
    """FLOPs of one training token in rows of `length` tokens; recomputation under remat is not counted."""
    return transformer_flops_per_token(
      matmul_parameters=self.matmul_parameters(),
      layers=self.layers,
      attention_width=self.heads * self.head_width,
      length=length if self.window is None else min(length, self.window),
    )
