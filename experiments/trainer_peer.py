# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Hugging Face `Trainer` on torch, for comparison in the fine-tuning studies: the same weights and the same files.

It prints one line of JSON with the scores on the test file and the times. `Trainer`'s own defaults are kept: AdamW with
betas of 0.9 and 0.999, linear decay of the learning rate, clipping at 1, no decay of biases and norms, padding to the
longest text of a batch. It needs torch, transformers, accelerate and scipy, and nothing from lmx.
"""

import argparse
import csv
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from scipy import stats
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

SKIPPED = 5  # The first steps are slower and don't count.


class StepTimes(TrainerCallback):
  """Seconds of each optimizer step, from the start of one to the start of the next, loading of data included."""

  def __init__(self):
    self.starts: list[float] = []

  def on_step_begin(self, args, state, control, **kwargs):
    self.starts.append(time.perf_counter())

  @property
  def median(self) -> float:
    return statistics.median(np.diff(self.starts)[SKIPPED:])


def read_rows(path: Path, columns: dict[str, int]) -> list[dict[str, str]]:
  """Rows of a tab-separated table without quoting and header; columns count from 1."""
  with path.open(newline="", encoding="utf-8") as file:
    rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    return [{name: row[number - 1] for name, number in columns.items()} for row in rows]


def encode(rows: list[dict[str, str]], tokenizer, labels: list[str] | None, length: int) -> list[dict]:
  """Encoded examples. Labels are indices into `labels`, or numbers where there are none."""
  texts = [[row[name] for name in ("text", "text_b") if name in row] for row in rows]
  encoded = tokenizer(*map(list, zip(*texts, strict=True)), truncation=True, max_length=length)
  targets = [labels.index(row["label"]) if labels else float(row["label"]) for row in rows]
  return [{**{name: encoded[name][i] for name in encoded}, "labels": targets[i]} for i in range(len(rows))]


def scores(predictions: np.ndarray, labels: np.ndarray, classes: bool) -> dict[str, float]:
  """Accuracy of classes; Pearson's and Spearman's correlation of numbers."""
  if classes:
    return {"accuracy": float(np.mean(np.argmax(predictions, axis=1) == labels))}
  guesses = predictions.reshape(-1)
  return {"pearson": float(stats.pearsonr(guesses, labels)[0]), "spearman": float(stats.spearmanr(guesses, labels)[0])}


def parse_arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("task", choices=("classification", "regression"))
  parser.add_argument("--model", required=True, help="folder with config.json, model.safetensors, tokenizer.json")
  parser.add_argument("--train", type=Path, required=True)
  parser.add_argument("--test", type=Path, required=True)
  parser.add_argument("--columns", nargs="+", required=True, metavar="NAME=NUMBER", help="text=1 text_b=2 label=3")
  parser.add_argument("--epochs", type=float, default=3)
  parser.add_argument("--max-steps", type=int, default=-1, help="stop there and score nothing: to time the steps")
  parser.add_argument("--warmup", type=int, default=500, help="steps")
  parser.add_argument("--batch-size", type=int, default=16)
  parser.add_argument("--length", type=int, default=128, help="tokens")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--scratch", default="runs/trainer_peer", help="Trainer's output folder")
  args = parser.parse_args()
  args.columns = {name: int(number) for name, _, number in (column.partition("=") for column in args.columns)}
  return args


def main() -> None:
  args = parse_arguments()
  torch.set_num_threads(args.threads)
  transformers.set_seed(args.seed)  # Initializes the new head.
  rows = {name: read_rows(path, args.columns) for name, path in (("train", args.train), ("test", args.test))}
  classes = args.task == "classification"
  labels = sorted({row["label"] for row in rows["train"]}) if classes else None
  tokenizer = AutoTokenizer.from_pretrained(args.model)
  data = {name: encode(rows[name], tokenizer, labels, args.length) for name in rows}
  model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=len(labels) if labels else 1)
  options = TrainingArguments(
    args.scratch, num_train_epochs=args.epochs, max_steps=args.max_steps, per_device_train_batch_size=args.batch_size,
    per_device_eval_batch_size=args.batch_size, warmup_steps=args.warmup, weight_decay=0.01, learning_rate=5e-5,
    seed=args.seed, use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=100,
  )  # fmt: skip
  times = StepTimes()
  trainer = Trainer(model, options, train_dataset=data["train"], processing_class=tokenizer, callbacks=[times])
  started = time.perf_counter()
  steps = trainer.train().global_step
  result = {"side": "Trainer", "task": args.task, "seed": args.seed, "steps": steps, "step_seconds": times.median}
  result["train_seconds"] = time.perf_counter() - started
  if args.max_steps < 0:
    found = trainer.predict(data["test"])
    result |= scores(found.predictions, found.label_ids, classes) | {"rows": len(data["test"])}
  versions = {"torch": torch.__version__, "transformers": transformers.__version__}
  print(json.dumps(result | {"versions": versions}))


if __name__ == "__main__":
  main()
