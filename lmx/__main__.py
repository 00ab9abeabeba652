# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`python -m lmx` is the command `lmx`."""

import sys

from lmx.cli.main import main

if __name__ == "__main__":
  sys.exit(main())
