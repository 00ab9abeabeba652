# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A tiny config and a table of examples for every objective, so that the real loop can be run on each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tiny_runs import TINY

from lmx.cli.main import main

ENCODER = {"model.family": "encoder", "model.position": "rotary"}
PAIR = {"model.family": "encoder_decoder", "model.position": "relative"}
ROWS = {"data.packing": "padded", "data.heldout_split": "document", "data.heldout_fraction": 0.3}
# Objective -> what its config changes in tiny_runs.TINY. Those with examples have a writer in WRITERS.
TASKS: dict[str, dict[str, Any]] = {
  "causal": {},
  "masked": {**ENCODER, "tokenizer.extra_ids": 1},
  "span_corruption": {**PAIR, "tokenizer.extra_ids": 16, "data.encoder_length": 32},
  "denoising": {**PAIR, "tokenizer.extra_ids": 16, "data.encoder_length": 32},
  "prefix": {},
  "fill_in_middle": {"tokenizer.extra_ids": 3},
  "seq2seq": {**PAIR, **ROWS, "data.packing": "packed", "objective.label_smoothing": 0.1},
  "classification": {**ENCODER, **ROWS},
  "regression": {**ENCODER, **ROWS, "model.pooling": "mean"},
  "span": {**ENCODER, **ROWS},
  "tagging": {**ENCODER, **ROWS, "data.packing": "packed"},
  "chat": {**ROWS, "data.packing": "packed", "data.length": 64, "model.context": 64},
  "dpo": {**ROWS, "data.length": 64, "model.context": 64},
  "contrastive": {**ENCODER, **ROWS, "model.pooling": "mean"},
  "distillation": {},
}


def _examples(count: int = 40) -> list[dict[str, Any]]:
  """Rows that have the columns of every objective over examples."""
  random = np.random.default_rng(0)
  rows = []
  for number in range(count):
    word, other = ("good", "bad") if number % 2 else ("bad", "good")
    name = "".join(random.choice(list("abcdef"), 4))
    rows.append({
      "text": f"{name} is {word}", "text_b": f"{word} {name}", "label": word,
      "source": name, "target": name.upper(),
      "question": "who", "context": f"{name} is {word}", "answer": name, "answer_start": 0,
      "tokens": [name, "is", word], "tags": ["B-X", "O", "O"],
      "messages": [{"role": "user", "content": name}, {"role": "assistant", "content": word}],
      "prompt": name, "completion": word, "chosen": word, "rejected": other,
    })  # fmt: skip
  return rows


def write_examples(folder: Path) -> Path:
  """A JSONL file with every column, and one whose labels are numbers."""
  folder.mkdir(parents=True, exist_ok=True)
  rows = _examples()
  (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
  numbers = [row | {"label": float(row["label"] == "good")} for row in rows]
  (folder / "numbers.jsonl").write_text("\n".join(map(json.dumps, numbers)))
  return folder


def changes(name: str, text: Path, teacher: Path | None = None) -> dict[str, Any]:
  """The arguments of `tiny_runs.experiment` for an objective; `text` holds its documents and examples."""
  keys = {"objective.name": name, **TASKS[name]}
  if "data.heldout_fraction" in keys:
    keys["data.sources"] = str(text / ("numbers.jsonl" if name == "regression" else "rows.jsonl"))
  if teacher is not None:
    keys["objective.teacher"] = str(teacher)
  return {key.replace(".", "__"): value for key, value in keys.items()}


def fine_tuned(run: Path, folder: Path, config: str, *flags: str) -> Path:
  """A run of two steps that starts from another."""
  rows = write_examples(folder / "rows") / "rows.jsonl"
  keys = {name: TINY[name] for name in ("log.every", "compute.compilation_cache", "optimizer.peak_lr")}
  keys |= {"data.sources": str(rows), "data.cache_dir": str(folder / "cache"), "data.heldout_fraction": 0.3}
  keys |= {"train.duration": "2 steps", "train.batch_size": 8, "data.length": 16}
  given = [f"--config.{key}={value}" for key, value in keys.items()]
  assert main(["train", f"--config=configs/{config}:{run}", f"--workdir={folder / 'trained'}", *given, *flags]) == 0
  return folder / "trained"
