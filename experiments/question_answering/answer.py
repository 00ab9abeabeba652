# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Answers the questions of a JSONL file with a run of configs/span.py; score.py reads what it writes.

python experiments/question_answering/answer.py runs/span test.jsonl answers.json
"""

import argparse
import json
from pathlib import Path

import lmx


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("run", help="the run's folder")
  parser.add_argument("questions", type=Path, help="JSONL with id, question and context")
  parser.add_argument("out", type=Path, help="JSON: id -> answer")
  args = parser.parse_args()
  lines = map(json.loads, args.questions.read_text(encoding="utf-8").splitlines())
  rows = list({row["id"]: row for row in lines}.values())
  found = lmx.load(args.run).predict(rows)
  answers = {row["id"]: one["answer"] for row, one in zip(rows, found, strict=True)}
  args.out.write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
  print(f"{args.out}: {len(answers)} questions, {sum(map(bool, answers.values()))} answered")


if __name__ == "__main__":
  main()
