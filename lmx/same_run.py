# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What the processes of a run must have alike once data and tokenizer are there: compared before the first step."""

import hashlib

import numpy as np

from lmx.agreement import check_same
from lmx.build import Experiment
from lmx.data.store import ExampleStore, Store
from lmx.run_folder import CHECKPOINT_DIR
from lmx.training.checkpoint import whole_steps

SAMPLES = 256  # Documents or examples of a source that are compared between processes.


def check_same_run(x: Experiment) -> None:
  """Compares tokenizer, labels, data and the checkpoints to resume from with those of the other processes.

  Raises:
    DifferentProcessesError: something differs.
  """
  check_same("tokenizer, data or checkpoints", run_facts(x))


def run_facts(x: Experiment) -> dict[str, str]:
  """What a process has read and found. Whatever else must be alike belongs here."""
  parts = {"training data": x.corpus.train, "held-out data": x.corpus.heldout}
  facts = {
    f"{what}, source {number}": describe_store(store)
    for what, stores in parts.items()
    for number, store in enumerate(stores)
  }
  return facts | {
    "tokenizer": x.tokenizer.fingerprint,
    "labels": ", ".join(x.labels),
    "whole checkpoints of the run": ", ".join(map(str, whole_steps(x.run_dir / CHECKPOINT_DIR))) or "none",
  }


def describe_store(store: Store) -> str:
  """The size of a store, and a digest of some of its content, spread evenly."""
  unit = "examples" if isinstance(store, ExampleStore) else "documents"
  return f"{store.documents:,} {unit}, {store.tokens:,} tokens, {store.text_bytes:,} bytes, digest {_digest(store)}"


def _digest(store: Store) -> str:
  digest = hashlib.sha256()
  lengths = store.lengths()
  for index in np.unique(np.linspace(0, store.documents - 1, SAMPLES).astype(np.int64)) if store.documents else ():
    if isinstance(store, ExampleStore):
      for name, values in sorted(store[int(index)].items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    else:
      digest.update(store.extended(int(index), 0, min(int(lengths[index]) + 2, 1024)).tobytes())
  return digest.hexdigest()[:16]
