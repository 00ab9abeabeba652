# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Exact match and F1 of answers, as SQuAD defines them, on a JSONL file of to_jsonl.py.

  python experiments/question_answering/score.py test.jsonl answers.json

It also prints them for never answering, and for only the questions that have an answer.
"""

import argparse
import json
from pathlib import Path

from lmx.evaluation.squad import squad_scores


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("test", type=Path, help="JSONL with id and answers")
  parser.add_argument("given", type=Path, help="JSON: id -> answer")
  args = parser.parse_args()
  right = {row["id"]: row["answers"] for row in map(json.loads, args.test.read_text(encoding="utf-8").splitlines())}
  given = json.loads(args.given.read_text(encoding="utf-8"))
  answerable = {name: answers for name, answers in right.items() if any(answers)}
  result = {"questions": len(right), **squad_scores(given, right)}
  result |= {"answerable": {"questions": len(answerable), **squad_scores(given, answerable)}}
  result |= {"never_answering": squad_scores(dict.fromkeys(right, ""), right)}
  print(json.dumps(result))


if __name__ == "__main__":
  main()
