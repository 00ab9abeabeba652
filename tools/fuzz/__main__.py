# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Changes inputs at random and checks that lmx reads them or names in one message what is wrong.

python -m tools.fuzz                                    (10,000 changed inputs, 2,000 of each kind)
python -m tools.fuzz config tokenizer --count=500 --seed=3

An input fails if it ends in an exception that is no LmxError, in a message that doesn't name its file, or takes longer
than --seconds. Prints each failure and a table; exit status 1 if there was one.
"""

import argparse
import sys

from tools.fuzz import files, models, rows
from tools.fuzz.loop import Kind, failed, fuzz, table

KINDS = {
  kind.name: kind
  for kind in (
    Kind("config", models.config),
    Kind("small", models.small),
    Kind("tokenizer", models.tokenizer),
    Kind("rows", rows.row),
    Kind("files", files.file),
  )
}


def main(arguments: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
    prog="python -m tools.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
  parser.add_argument("--count", type=int, default=10_000, help="changed inputs in all (default: 10,000)")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--seconds", type=float, default=10.0, help="that reading one may take (default: 10)")
  args = parser.parse_args(arguments)
  unknown = [name for name in args.kinds if name not in KINDS]
  if unknown:
    parser.error(f"no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
  found = fuzz([KINDS[name] for name in args.kinds or KINDS], args.count, args.seed, args.seconds, print)
  print("\n".join(table(found)))
  return 1 if failed(found) else 0


if __name__ == "__main__":
  sys.exit(main())
