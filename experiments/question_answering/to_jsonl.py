# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes questions as JSONL for configs/span.py: id, question, context, answer, answer_start, and all right answers.

  python experiments/question_answering/to_jsonl.py DATA/SubjQA/electronics/splits/train.csv train.jsonl
  python experiments/question_answering/to_jsonl.py DATA/xquad.en.json xquad.jsonl

It reads SubjQA's CSV (https://github.com/megagonlabs/SubjQA) and SQuAD's JSON (1.1 and 2.0). Rows whose answer isn't
at the stated position are skipped and counted. An empty answer means that the text has none.
"""

import argparse
import ast
import collections
import csv
import json
from collections.abc import Iterator
from pathlib import Path

# SubjQA writes this word at the end of every review, and as the answer where there is none.
NO_ANSWER = "ANSWERNOTFOUND"


def subjqa(path: Path) -> Iterator[dict]:
  """A question about a review may have several rows, one for each person who marked an answer."""
  with path.open(newline="", encoding="utf-8") as file:
    for row in csv.DictReader(file):
      start, end = ast.literal_eval(row["human_ans_indices"])
      answer, review = row["human_ans_spans"], row["review"]
      fits = review[start:end] == answer
      context = review.removesuffix(NO_ANSWER).rstrip()
      answer, start = ("", 0) if answer == NO_ANSWER else (answer, start)
      yield {
        "id": row["q_review_id"],
        "question": " ".join(row["question"].split()),
        "context": context,
        "answer": answer,
        "answer_start": start,
        "fits": fits and context[start : start + len(answer)] == answer,
      }


def squad(path: Path) -> Iterator[dict]:
  """One row a question: its first answer."""
  articles = json.loads(path.read_text(encoding="utf-8"))["data"]
  for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
    context = paragraph["context"]
    for one in paragraph["qas"]:
      first = one["answers"][0] if one["answers"] else {"text": "", "answer_start": 0}
      answer, start = first["text"], first["answer_start"]
      fits = context[start : start + len(answer)] == answer
      yield {
        "id": one["id"],
        "question": one["question"],
        "context": context,
        "answer": answer,
        "answer_start": start,
        "fits": fits,
        "answers": [other["text"] for other in one["answers"]],
      }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("source", type=Path, help="a .csv of SubjQA or a .json of SQuAD's form")
  parser.add_argument("out", type=Path)
  args = parser.parse_args()
  rows = list((squad if args.source.suffix == ".json" else subjqa)(args.source))
  kept = [row for row in rows if row.pop("fits")]
  answers = collections.defaultdict(list)
  for row in kept:
    answers[row["id"]] += row.pop("answers", [row["answer"]])
  with args.out.open("w", encoding="utf-8", newline="\n") as file:
    file.writelines(json.dumps(row | {"answers": answers[row["id"]]}, ensure_ascii=False) + "\n" for row in kept)
  without = sum(not row["answer"] for row in kept)
  print(f"{args.out}: {len(kept)} rows, {without} without an answer; {len(rows) - len(kept)} left out, whose answer "
        "does not stand where they say")  # fmt: skip


if __name__ == "__main__":
  main()
