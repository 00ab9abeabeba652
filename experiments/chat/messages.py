# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes instructions and answers as chats, train.jsonl and test.jsonl: {"messages": [user, assistant]} per line.

  python experiments/chat/messages.py OUT DATA/alpaca_en_demo.json DATA/instruction-data.json DATA/seed_tasks.jsonl

It reads two formats: Alpaca's (a JSON list of instruction, input, output) and the seed tasks of Self-Instruct (JSONL of
an instruction with instances of input and output, of which the first is used).
"""

import argparse
import json
import random
from pathlib import Path


def pairs(path: Path) -> list[tuple[str, str]]:
  """(what the user asks, the answer) of a file."""
  text = path.read_text(encoding="utf-8")
  if path.suffix == ".jsonl":
    tasks = [json.loads(line) for line in text.splitlines() if line]
    rows = [{"instruction": task["instruction"], **task["instances"][0]} for task in tasks]
  else:
    rows = json.loads(text)
  asked = [(f"{row['instruction']}\n\n{row['input']}".strip(), row["output"].strip()) for row in rows]
  return [(question, answer) for question, answer in asked if question and answer]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("out", type=Path)
  parser.add_argument("files", type=Path, nargs="+")
  parser.add_argument("--test", type=float, default=0.1, help="share of the chats for validation")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  found = sorted({pair for file in args.files for pair in pairs(file)})
  random.Random(args.seed).shuffle(found)
  split = round(len(found) * args.test)
  args.out.mkdir(parents=True, exist_ok=True)
  for name, part in (("test", found[:split]), ("train", found[split:])):
    chats = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in part]
    lines = [json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in chats]
    (args.out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{args.out / name}.jsonl: {len(part)} chats, {sum(len(b) for _, b in part):,} characters of answers")


if __name__ == "__main__":
  main()
