# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tiny models of every family with the outputs of `transformers`, written by tools/make_golden.py."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

GOLDEN = Path(__file__).parent / "hf" / "golden"
NAMES = sorted(folder.name for folder in GOLDEN.iterdir())


def batch_and_outputs(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """A golden batch, and the outputs that belong to it."""
  arrays = load_file(GOLDEN / name / "expected.safetensors")
  parts = ("batch.", "output.")
  return tuple({k.removeprefix(p): v for k, v in arrays.items() if k.startswith(p)} for p in parts)  # type: ignore
