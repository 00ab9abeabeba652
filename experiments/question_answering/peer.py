# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Extractive question answering with Hugging Face `Trainer` on torch: the other side of this study.

It trains on the same windows as lmx (of each context the one that has the answer farthest from its borders), answers
the questions of the test files from all windows, as `answer.py` does, and writes the answers for `score.py`. It needs
torch, transformers and accelerate, and nothing of lmx.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, Trainer, TrainingArguments

OVERLAP = 128


def read_rows(path: Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def windows(rows: list[dict], tokenizer, length: int) -> list[dict]:
  """All windows of all rows: what the model reads, the row's number, and the characters of the context's tokens."""
  encoded = tokenizer(
    [row["question"] for row in rows], [row["context"] for row in rows], truncation="only_second", max_length=length,
    stride=OVERLAP, return_overflowing_tokens=True, return_offsets_mapping=True,
  )  # fmt: skip
  found = []
  for index, row in enumerate(encoded["overflow_to_sample_mapping"]):
    of_context = [place == 1 for place in encoded.sequence_ids(index)]
    fields = {name: encoded[name][index] for name in tokenizer.model_input_names}
    offsets = np.where(np.array(of_context)[:, None], encoded["offset_mapping"][index], -1)
    found.append({"fields": fields, "row": row, "offsets": offsets, "first": of_context.index(True)})
  return found


def training_window(row: dict, of_row: list[dict]) -> dict | None:
  """The window that has the answer farthest from its borders, with its places; the first one where there is none."""
  if not row["answer"].strip():
    return of_row[0]["fields"] | {"start_positions": 0, "end_positions": 0}
  start = row["answer_start"] + len(row["answer"]) - len(row["answer"].lstrip())
  end = start + len(row["answer"].strip())
  best = None
  for window in of_row:
    inside = np.flatnonzero(
      (window["offsets"][:, 1] > start) & (window["offsets"][:, 0] < end) & (window["offsets"][:, 0] >= 0)
    )
    if len(inside) and window["offsets"][inside[0], 0] <= start and window["offsets"][inside[-1], 1] >= end:
      last = int(np.flatnonzero(window["offsets"][:, 0] >= 0)[-1])
      margin = min(int(inside[0]) - window["first"], last - int(inside[-1]))
      if best is None or margin > best[0]:
        places = {"start_positions": int(inside[0]), "end_positions": int(inside[-1])}
        best = (margin, window["fields"] | places)
  return best[1] if best else None


def best_answer(start: np.ndarray, end: np.ndarray, window: dict, context: str) -> tuple[float, str]:
  """How much better than no answer the best span of a window is, and its text."""
  offsets = window["offsets"]
  size = len(offsets)
  hidden = offsets[:, 0] < 0
  begins, ends = np.where(hidden, -1e30, start[:size]), np.where(hidden, -1e30, end[:size])
  sums = np.maximum.accumulate(begins) + ends
  last = int(np.argmax(sums))
  first = int(np.argmax(begins[: last + 1]))
  return float(sums[last] - start[0] - end[0]), context[offsets[first, 0] : offsets[last, 1]]


def answers(trainer: Trainer, rows: list[dict], tokenizer, length: int) -> dict[str, str]:
  """Question's id -> the best answer among the windows of its context, "" where none beats no answer."""
  rows = list({row["id"]: row for row in rows}.values())
  found = windows(rows, tokenizer, length)
  start, end = trainer.predict([window["fields"] for window in found]).predictions
  best: dict[str, tuple[float, str]] = {}
  for index, window in enumerate(found):
    row = rows[window["row"]]
    given = best_answer(start[index], end[index], window, row["context"])
    best[row["id"]] = max(best.get(row["id"], (0.0, "")), given, key=lambda one: one[0])
  return {name: text for name, (_, text) in best.items()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--model", required=True, help="folder with config.json, model.safetensors, tokenizer.json")
  parser.add_argument("--train", type=Path, required=True, help="JSONL of to_jsonl.py")
  parser.add_argument("--tests", type=Path, nargs="+", required=True)
  parser.add_argument("--out", type=Path, required=True, help="folder for the answers")
  parser.add_argument("--epochs", type=float, default=2)
  parser.add_argument("--warmup", type=float, default=0.1, help="share of the steps")
  parser.add_argument("--rate", type=float, default=5e-5)
  parser.add_argument("--batch-size", type=int, default=16)
  parser.add_argument("--length", type=int, default=384, help="tokens")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--threads", type=int, default=2)
  args = parser.parse_args()
  torch.set_num_threads(args.threads)
  transformers.set_seed(args.seed)
  tokenizer = AutoTokenizer.from_pretrained(args.model)
  rows = read_rows(args.train)
  of_rows: list[list[dict]] = [[] for _ in rows]
  for window in windows(rows, tokenizer, args.length):
    of_rows[window["row"]].append(window)
  data = [one for row, found in zip(rows, of_rows, strict=True) if (one := training_window(row, found)) is not None]
  model = AutoModelForQuestionAnswering.from_pretrained(args.model)
  options = TrainingArguments(
    str(args.out / "trainer"), num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size,
    per_device_eval_batch_size=args.batch_size, warmup_steps=args.warmup, weight_decay=0.01, learning_rate=args.rate,
    seed=args.seed, use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=50,
  )  # fmt: skip
  trainer = Trainer(model, options, train_dataset=data, processing_class=tokenizer)
  started = time.perf_counter()
  steps = trainer.train().global_step
  seconds = time.perf_counter() - started
  args.out.mkdir(parents=True, exist_ok=True)
  for test in args.tests:
    given = answers(trainer, read_rows(test), tokenizer, args.length)
    (args.out / f"{test.stem}.json").write_text(json.dumps(given, ensure_ascii=False), encoding="utf-8")
  print(json.dumps({"side": "Trainer", "seed": args.seed, "rows": len(data), "steps": steps, "train_seconds": seconds}))


if __name__ == "__main__":
  main()
