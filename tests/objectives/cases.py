# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table that the laws of objectives run over: each objective with options, rows of data, and a model to score."""

import dataclasses
import functools
from typing import Any

import numpy as np
from objectives.making import make_objective
from objectives.tiny_models import TableModel, table_model

from lmx.data.batches.assemble import Assemble
from lmx.data.batches.rows import Segment
from lmx.data.cache.encoding import DataRequirements
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import Objective, ObjectiveContext

TOKENIZER = ByteTokenizer().extended(32)
LENGTH, ENCODER_LENGTH = 48, 56
ROWS = 6
TEXTS = ("the cat sat", "on a mat, it did", "and it purred so loudly", "no", "what a day!", "rain at noon")
WINDOWS = [
  [TOKENIZER.encode(text + " again")] if row % 2 else [TOKENIZER.encode(text), TOKENIZER.encode("dogs bark")]
  for row, text in enumerate(TEXTS)
]
WINDOWS[0] = [TOKENIZER.encode("a document that fills nearly all of its row.")]  # Long enough to be rearranged.
SHORT_CHATS = '{% for m in messages %}{{ m.role[0] + ":" + m.content + eos_token }}{% endfor %}'


@dataclasses.dataclass(frozen=True)
class Case:
  """One objective in the table.

  Attributes:
    options: of config.objective.
    rows: of columns, for example objectives; () for windows of text.
    family: of the model.
    labels: of the setting.
  """

  options: dict[str, Any]
  rows: tuple[dict[str, Any], ...] = ()
  family: str = "transformer"
  labels: tuple[str, ...] = ()


def _rows(make) -> tuple[dict[str, Any], ...]:
  return tuple(make(number, text) for number, text in enumerate(TEXTS))


_ANSWERS = _rows(lambda i, t: {"question": "who?", "context": t + " ok", "answer": ("", t[:2])[i % 2]})
CASES: dict[str, Case] = {
  "causal": Case({"z_loss": 0.01}),
  "masked": Case({"z_loss": 0.0, "mask_rate": 0.3, "whole_words": True}, family="encoder"),
  "span_corruption": Case({"z_loss": 0.0, "corrupted": 0.3, "span_length": 2.0}, family="encoder_decoder"),
  "denoising": Case({"z_loss": 0.0, "denoisers": ((1.0, 0.2, 3.0), (1.0, 0.3, 0.0))}, family="encoder_decoder"),
  "prefix": Case({"z_loss": 0.0}),
  "fill_in_middle": Case({"z_loss": 0.0, "fim_rate": 1.0, "fim_spm": 0.5}),
  "seq2seq": Case({"z_loss": 0.0, "label_smoothing": 0.1}, _rows(lambda i, t: {"source": t, "target": t[::-1]})),
  "classification": Case(
    {"multi_label": False}, _rows(lambda i, t: {"text": t, "label": "xyz"[i % 3]}), "encoder", ("x", "y", "z")
  ),
  "regression": Case({}, _rows(lambda i, t: {"text": t, "text_b": "b", "label": i / 3}), "encoder"),
  "span": Case({}, _ANSWERS, "encoder"),
  "tagging": Case(
    {},
    _rows(lambda i, t: {"tokens": t, "tags": ["B-a", "I-a", "O", "O", "O"][: len(t.split())]}),
    "encoder",
    ("O", "B-a", "I-a"),
  ),
  "chat": Case({"z_loss": 0.0}, _rows(lambda i, t: {"prompt": t[:9], "completion": t[::-1]})),
  "dpo": Case({"dpo_beta": 0.5}, _rows(lambda i, t: {"prompt": "p?", "chosen": t, "rejected": t[::-1] + "."})),
  "contrastive": Case({"temperature": 0.5}, _rows(lambda i, t: {"text": t, "text_b": t[::-1]}), "encoder"),
  "distillation": Case({"teacher_temperature": 2.0, "distilled": 0.4}),
}


@functools.cache
def objective_of(name: str, template: str | None = None) -> Objective:
  """The objective of a case. Chats need a template file, of short turns."""
  case = CASES[name]
  setting = ObjectiveContext(TOKENIZER, LENGTH, ENCODER_LENGTH, case.family, case.labels, token_types=2)
  options = dict(case.options)
  if "chat_template" in OBJECTIVES[name].options:
    options["chat_template"] = template
  return make_objective(name, setting, **options)


def segments_of(name: str, objective: Objective) -> list[list[Segment]]:
  """The contents of each row of the case's batch."""
  if objective.encoder is not None:
    return [[Segment(objective.encoder(row).fields)] for row in CASES[name].rows]
  around = [np.array([token], np.int32) for token in (TOKENIZER.bos_id, TOKENIZER.eos_id)]
  return [[Segment(np.concatenate([around[0], text, around[1]])) for text in row] for row in WINDOWS]


def batch_of(name: str, objective: Objective, seed: int = 0) -> dict[str, np.ndarray]:
  """The case's batch, put together as the data room does it."""
  needs = DataRequirements(
    prepare=objective.prepare,
    lookahead=objective.lookahead,
    window_length=objective.window_length,
    encoder=objective.encoder,
    per_row=objective.per_row,
  )
  assemble = Assemble(needs, {"": LENGTH, "encoder_": ENCODER_LENGTH}, TOKENIZER.pad_id)
  rng = np.random.default_rng(seed)
  rows = [assemble(segments, rng) for segments in segments_of(name, objective)]
  return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def model_of(name: str, seed: int = 0) -> TableModel:
  """A stand-in with the head that the objective needs."""
  return table_model(OBJECTIVES[name].head, TOKENIZER.vocab_size, seed)
