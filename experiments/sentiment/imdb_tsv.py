# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes reviews of IMDb as two tables, `train.tsv` and `test.tsv`: the label 0 or 1, a tab, the text. No header.

  python experiments/sentiment/imdb_tsv.py DATA/aclImdb OUT --rows 2000

It reads the folder of https://ai.stanford.edu/~amaas/data/sentiment/ (`train/pos/0_9.txt`, ...), or
`train.jsonl.gz` and `test.jsonl.gz` with a `label` and a `text` per line. HTML line breaks and tabs become spaces.
"""

import argparse
import gzip
import json
import random
import re
from pathlib import Path


def reviews(folder: Path, split: str) -> list[tuple[int, str]]:
  """Labels and texts of a split, in an order that doesn't depend on the file system."""
  packed = folder / f"{split}.jsonl.gz"
  if packed.is_file():
    with gzip.open(packed, "rt", encoding="utf-8") as lines:
      found = [(record["label"], record["text"]) for record in map(json.loads, lines)]
  else:
    names = ("neg", "pos")
    files = [(label, file) for label in (0, 1) for file in (folder / split / names[label]).glob("*.txt")]
    found = [(label, file.read_text(encoding="utf-8")) for label, file in files]
  if not found:
    raise SystemExit(f"{folder} has neither {packed.name} nor {split}/pos/*.txt")
  return sorted(found)


def one_line(text: str) -> str:
  return " ".join(re.sub(r"<br\s*/?>", " ", text).split())


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("folder", type=Path, help="aclImdb, or the folder of the two .jsonl.gz")
  parser.add_argument("out", type=Path)
  parser.add_argument("--rows", type=int, help="number per split, half of each label, sampled with --seed")
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  for split in ("train", "test"):
    found = reviews(args.folder, split)
    draw = random.Random(f"{args.seed} {split}")
    if args.rows is not None:
      found = [one for label in (0, 1) for one in draw.sample([r for r in found if r[0] == label], args.rows // 2)]
    draw.shuffle(found)
    with (args.out / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as file:
      file.writelines(f"{label}\t{one_line(text)}\n" for label, text in found)
    print(f"{args.out / split}.tsv: {len(found)} reviews")


if __name__ == "__main__":
  main()
