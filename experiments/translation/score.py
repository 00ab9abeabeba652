# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""BLEU and chrF of a translation run by sacrebleu (pip install sacrebleu), with their signatures.

python experiments/translation/score.py runs/translation_small OUT/test_2016_flickr.tsv --beams 1 4
"""

import argparse
import json
import time
from pathlib import Path

import sacrebleu

import lmx


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("run", help="the run's folder")
  parser.add_argument("table", type=Path, help="TSV with a header: source, target")
  parser.add_argument("--beams", type=int, nargs="+", default=[1, 4], help="1 is greedy")
  parser.add_argument("--length-penalty", type=float, default=0.6)
  parser.add_argument("--max-new-tokens", type=int, default=100)
  parser.add_argument("--rows", type=int, help="only the first N rows")
  parser.add_argument("--out", type=Path, help="write the translations there, one a line; {beams} is replaced")
  args = parser.parse_args()
  pairs = [line.split("\t") for line in args.table.read_text(encoding="utf-8").split("\n")[1:] if line][: args.rows]
  sources, targets = zip(*pairs, strict=True)
  run = lmx.load(args.run)
  for beams in args.beams:
    started = time.perf_counter()
    found = run.translate(sources, beams=beams, length_penalty=args.length_penalty, max_new_tokens=args.max_new_tokens)
    seconds = time.perf_counter() - started
    if args.out:
      text = "".join(" ".join(one.split()) + "\n" for one in found)
      Path(str(args.out).replace("{beams}", str(beams))).write_text(text, encoding="utf-8")
    result = {"run": Path(args.run).name, "step": run.step, "beams": beams, "seconds": round(seconds, 1)}
    for name, metric in (("BLEU", sacrebleu.BLEU()), ("chrF", sacrebleu.CHRF())):
      result[name] = round(metric.corpus_score(found, [targets]).score, 2)
      result[f"{name} signature"] = str(metric.get_signature())
    print(json.dumps(result))


if __name__ == "__main__":
  main()
