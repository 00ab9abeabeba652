# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Validation loss of several runs on the answers of chats, and their answers to questions.

python experiments/chat/score.py OUT/test.jsonl runs/pretrained runs/full runs/lora --ask "Name three colors."

A run that was not trained on chats gets them in the format of configs/sft.py.
"""

import argparse
import dataclasses
import json
import re
from pathlib import Path

import lmx
from lmx.api.loaded_run import LoadedRun
from lmx.training.state import blueprint_of


def as_chat(run: LoadedRun, length: int) -> LoadedRun:
  """The run with the config of one that was trained on chats."""
  if run.config.objective.name == "chat":
    return run
  config = run.config.copy_and_resolve_references()
  config.objective.name, config.data.length, config.data.packing = "chat", length, "packed"
  config.data.bad_documents = "skip"  # Chats without an answer within a row, as in the training of the other runs.
  return dataclasses.replace(run, config=config)


def trained_parameters(run: LoadedRun) -> int:
  """The number of all parameters, or of the adapters' if there are adapters."""
  sizes = {name: array.size for name, array in blueprint_of(run.model).split(run.model).items()}
  adapters = {name: size for name, size in sizes.items() if re.search(r"\.lora_[ab]$", name)}
  return sum((adapters or sizes).values())


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("chats", type=Path, help="JSONL with messages")
  parser.add_argument("runs", nargs="+")
  parser.add_argument("--length", type=int, default=512, help="tokens of a chat, at most")
  parser.add_argument("--ask", nargs="*", default=[])
  args = parser.parse_args()
  for folder in args.runs:
    run = as_chat(lmx.load(folder), args.length)
    found = run.evaluate(sources=[str(args.chats)])
    result = {"run": Path(folder).name, "step": run.step, "trained_parameters": trained_parameters(run)}
    result |= {"nats_per_token": round(found.metrics["nll"], 4), "perplexity": round(found.perplexity, 2)}
    print(json.dumps(result | {"accuracy": round(found.metrics["accuracy"], 4), "tokens": int(found.targets)}))
    for question in args.ask:
      print(f"  > {question}\n  {run.chat(question, max_new_tokens=60, temperature=0.0)}")


if __name__ == "__main__":
  main()
