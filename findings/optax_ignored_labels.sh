#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# optax 0.2.8: a label of -100 is not ignored, and not an error: it is the token with the id of vocabulary size - 100.
#
# -100 is the label of padding and prompts in the batches that transformers' data collators make, and PyTorch's cross
# entropy ignores it. optax.softmax_cross_entropy_with_integer_labels indexes the logits with it as NumPy does, from the
# end: the loss is finite and plausible, and training teaches that token after every prompt. With fewer than 100 classes
# it is NaN. A mask must be applied by hand: jnp.where(labels >= 0, loss, 0).
#
# Output seen (optax 0.2.8, jax 0.10.2, Python 3.11):
#   128 classes: loss of -100: 5.5750, loss of class 28: 5.5750
#   64 classes: loss of -100: nan
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q optax==0.2.8 jax==0.10.2
JAX_PLATFORMS=cpu "$folder/env/bin/python" <<'PYTHON'
import math
import sys

import jax.numpy as jnp
import numpy as np
import optax


def loss(classes: int, label: int) -> float:
  logits = jnp.asarray(np.linspace(-1.0, 1.0, classes)[None], jnp.float32)
  return float(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.array([label]))[0])


ignored, last, few = loss(128, -100), loss(128, 28), loss(64, -100)
print(f"128 classes: loss of -100: {ignored:.4f}, loss of class 28: {last:.4f}")
print(f"64 classes: loss of -100: {few}")
sys.exit(0 if ignored == last and math.isfinite(last) and math.isnan(few) else 1)
PYTHON
