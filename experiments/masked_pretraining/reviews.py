# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes reviews of IMDb as unlabelled text in the form of SST-2: lower case, spaces around punctuation, one per line.

  python experiments/masked_pretraining/reviews.py DATA/aclImdb OUT/reviews.jsonl

It reads the training split of the folder of https://ai.stanford.edu/~amaas/data/sentiment/
(train/pos/0_9.txt, ..., and train/unsup if it exists), or a train.jsonl.gz with one text per line. Labels are dropped.
"""

import argparse
import gzip
import json
import re
from pathlib import Path


def reviews(folder: Path) -> list[str]:
  packed = folder / "train.jsonl.gz"
  if packed.is_file():
    with gzip.open(packed, "rt", encoding="utf-8") as lines:
      return [json.loads(line)["text"] for line in lines]
  return [file.read_text(encoding="utf-8") for file in sorted((folder / "train").glob("*/*.txt"))]


def as_sst2(text: str) -> str:
  """The form of SST-2: lower case, no hyphens or HTML, punctuation and the ends of contractions as separate words."""
  text = re.sub(r"<br\s*/?>|[^\w\s'.,!?]", " ", text.lower())
  text = re.sub(r"(n't|'(?:s|re|ve|ll|d|m))\b", r" \1", text)
  return " ".join(re.sub(r"([^\w\s'])", r" \1 ", text).split())


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("folder", type=Path)
  parser.add_argument("out", type=Path)
  args = parser.parse_args()
  texts = [as_sst2(text) for text in reviews(args.folder)]
  if not texts:
    raise SystemExit(f"{args.folder} has neither train.jsonl.gz nor train/pos/*.txt")
  args.out.parent.mkdir(parents=True, exist_ok=True)
  with args.out.open("w", encoding="utf-8", newline="\n") as file:
    file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
  print(f"{args.out}: {len(texts)} reviews, {sum(map(len, texts)):,} characters")


if __name__ == "__main__":
  main()
