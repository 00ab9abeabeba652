# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""muP: how learning rates change with the width, so that the best one stays the best.

Source: https://arxiv.org/abs/2203.03466, table 8 (the form with multipliers), for Adam and its relatives. The model
does the rest where its spec has mup_base_width: initial values of matrices, the scale of attention scores, and the
multiplier of the output logits. Embeddings, biases and norms keep their learning rate; a matrix whose inputs grow with
the width learns at 1 / width.
"""

from collections.abc import Mapping, Sequence

GROWING = ("embed", "expert_embed", "heads", "kv_heads", "mlp")  # Logical axes whose size grows with the width.


def mup_rates(axes: Mapping[str, Sequence[str | None] | None], ratio: float) -> dict[str, float]:
  """Each parameter's multiplier of the learning rate.

  Args:
    axes: logical axes of each parameter by its dotted name.
    ratio: base width over width.
  """
  return {name: ratio if is_matrix(name, parameter_axes) else 1.0 for name, parameter_axes in axes.items()}


def is_matrix(name: str, axes: Sequence[str | None] | None) -> bool:
  """Whether a parameter is a matrix whose inputs grow with the width: a kernel, but not a table over the vocabulary.

  The unembedding is a table too: its logits are multiplied by base width / width instead.
  """
  sides = [axis for axis in axes or () if axis not in ("layers", "expert")]
  return name.endswith((".kernel", ".lora_a")) and "vocab" not in sides and len(sides) > 1 and sides[0] in GROWING
