#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# safetensors 0.8.0: safetensors.numpy.save_file writes the wrong numbers for a transposed array, without an error.
#
# The function passes the array's address and size on, and never looks at its strides: for x.T, for Fortran order, or for
# every second column, the file has the right shape and the numbers in the order of the memory. safetensors 0.7.0 wrote
# them correctly, and safetensors.torch refuses such tensors. The docstring asks for "contiguous and dense" tensors.
# Weights are transposed all the time on their way from one framework to another: np.ascontiguousarray(x) before saving.
#
# Output seen (NumPy 2.4.6, Python 3.11):
#   safetensors 0.7.0: x.T [[0, 3], [1, 4], [2, 5]], in the file [[0, 3], [1, 4], [2, 5]]
#   safetensors 0.8.0: x.T [[0, 3], [1, 4], [2, 5]], in the file [[0, 1], [2, 3], [4, 5]]
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
changed=0
for version in 0.7.0 0.8.0; do
  "$folder/env/bin/pip" install -q "safetensors==$version" numpy==2.4.6
  "$folder/env/bin/python" - "$folder/x.safetensors" <<'PYTHON' || changed=1
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

x = np.arange(6, dtype=np.int64).reshape(2, 3)
save_file({"x": x.T}, sys.argv[1])
found = load_file(sys.argv[1])["x"]
print(f"safetensors {safetensors.__version__}: x.T {x.T.tolist()}, in the file {found.tolist()}")
sys.exit(0 if np.array_equal(found, x.T) == (safetensors.__version__ == "0.7.0") else 1)
PYTHON
done
exit "$changed"
