# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes the pairs of Multi30k as tables with the columns source and target: train.tsv, val.tsv, test_2016_flickr.tsv.

  python experiments/translation/pairs_tsv.py DATA OUT --source=de --target=en

DATA is the folder data/task1/raw of https://github.com/multi30k/dataset: train.de.gz, train.en.gz, and so on.
"""

import argparse
import gzip
from pathlib import Path

SPLITS = ("train", "val", "test_2016_flickr")


def lines(path: Path) -> list[str]:
  """The lines of a gzipped file, or of the file without .gz; only a line feed ends one."""
  data = gzip.decompress(path.read_bytes()) if path.is_file() else path.with_suffix("").read_bytes()
  return data.decode("utf-8").removesuffix("\n").split("\n")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("data", type=Path)
  parser.add_argument("out", type=Path)
  parser.add_argument("--source", default="de")
  parser.add_argument("--target", default="en")
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  for split in SPLITS:
    sides = [lines(args.data / f"{split}.{language}.gz") for language in (args.source, args.target)]
    pairs = [[" ".join(side.split("\t")).strip() for side in pair] for pair in zip(*sides, strict=True)]
    rows = ["source\ttarget", *("\t".join(pair) for pair in pairs)]
    (args.out / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")
    print(f"{args.out / split}.tsv: {len(pairs)} pairs")


if __name__ == "__main__":
  main()
