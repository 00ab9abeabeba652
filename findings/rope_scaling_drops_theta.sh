#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# transformers 5.23.0: a config.json with both rope_parameters and rope_scaling loses the rope_theta of the first.
#
# rope_parameters is the key that transformers 5 writes, rope_scaling the one that transformers 4 wrote. Where a file has
# both, rope_scaling replaces rope_parameters as a whole, and if it has no rope_theta of its own, the base of the
# rotary positions is the family's default: 500000 becomes 10000, without a message.
#
# Output seen (transformers 5.23.0, Python 3.11):
#   rope_parameters alone: 500000.0
#   with rope_scaling: 10000.0
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q transformers==5.23.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder" <<'PYTHON'
import json
import pathlib
import sys

from transformers import AutoConfig


def theta(**extra):
  values = {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}, **extra}
  (pathlib.Path(sys.argv[1]) / "config.json").write_text(json.dumps(values))
  return AutoConfig.from_pretrained(sys.argv[1]).rope_parameters["rope_theta"]


alone = theta()
both = theta(rope_scaling={"rope_type": "linear", "factor": 2.0})
print("rope_parameters alone:", alone)
print("with rope_scaling:", both)
sys.exit(0 if (alone, both) == (500000.0, 10000.0) else 1)
PYTHON
