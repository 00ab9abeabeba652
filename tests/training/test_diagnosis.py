# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The report of a run that diverged."""

import numpy as np

from lmx.training.diagnosis import sentence

FINE = {"embedding": np.float32(1), "layers.mlp": np.array([1.0, 2.0, 3.0], np.float32), "head": np.float32(4)}
NAN = np.float32(np.nan)


def test_parameters_that_are_not_finite_come_first():
  broken = FINE | {"layers.mlp": np.array([1.0, NAN, np.inf], np.float32)}
  assert sentence(broken, {name: norm * NAN for name, norm in FINE.items()}) == (
    "Not finite: 2 of the 5 parameters, first layers.mlp of layer 1."
  )


def test_gradients_are_read_from_the_output_back():
  broken = FINE | {"layers.mlp": np.array([NAN, NAN, 1.0], np.float32), "embedding": NAN}
  expected = "Not finite: 3 of the 5 gradients; from the output back, first layers.mlp of layer 1."
  assert sentence(FINE, broken) == expected


def test_the_largest_is_named_where_all_or_none_are_finite():
  broken = {name: norm * NAN for name, norm in FINE.items()}
  assert sentence(FINE, broken) == (
    "No gradient is finite, all parameters are; the largest parameter is head (norm 4)."
  )
  exploding = FINE | {"layers.mlp": np.array([1.0, 1e9, 3.0], np.float32)}
  assert sentence(FINE, exploding) == "The largest gradient is that of layers.mlp of layer 1 (norm 1e+09)."
