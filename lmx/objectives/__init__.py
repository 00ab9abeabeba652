# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of objectives."""

from lmx.objectives import (
  causal,
  chat,
  classification,
  contrastive,
  denoising,
  distillation,
  dpo,
  fill_in_middle,
  masked,
  prefix,
  regression,
  seq2seq,
  span,
  tagging,
)
from lmx.objectives.base import ObjectiveSpec

OBJECTIVES: dict[str, ObjectiveSpec] = {
  "causal": causal.ROW,
  "masked": masked.ROW,
  "span_corruption": denoising.SPAN_CORRUPTION,
  "denoising": denoising.DENOISING,
  "prefix": prefix.ROW,
  "fill_in_middle": fill_in_middle.ROW,
  "seq2seq": seq2seq.ROW,
  "classification": classification.ROW,
  "regression": regression.ROW,
  "span": span.ROW,
  "tagging": tagging.ROW,
  "chat": chat.ROW,
  "dpo": dpo.ROW,
  "contrastive": contrastive.ROW,
  "distillation": distillation.ROW,
}
