# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Values that must be the same in all processes of a run, compared once data and tokenizer are loaded."""

from collections.abc import Mapping
from typing import Any

from lmx.data.identity import data_record
from lmx.experiment.build import Experiment
from lmx.parallel.agreement import check_same
from lmx.training.checkpoint_choice import committed_steps
from lmx.training.run_directory import CHECKPOINT_DIR


def check_same_run(x: Experiment) -> None:
  """Compares tokenizer, labels, data and the checkpoints to resume from with those of the other processes.

  Raises:
    DifferentProcessesError: something differs.
  """
  check_same("tokenizer, data or checkpoints", run_values(x))


def run_values(x: Experiment) -> dict[str, str]:
  """The values of this process that the others must share, by name."""
  record = data_record(x.corpus, x.needs, batch_size=x.rows.batch_size, seed=x.seed)
  sources = {f"{one['role']} source {number}": describe_source(one) for number, one in enumerate(record["sources"])}
  return sources | {
    "tokenizer": x.tokenizer.fingerprint,
    "labels": ", ".join(x.labels),
    "checkpoints of the run": ", ".join(map(str, committed_steps(x.run_dir / CHECKPOINT_DIR))) or "none",
    "data": record["digest"],
  }


def describe_source(source: Mapping[str, Any]) -> str:
  """The size and digest of a source; its name may differ, as paths do between hosts."""
  sizes = f"{source['documents']:,} documents, {source['tokens']:,} tokens, {source['bytes']:,} bytes"
  return f"{sizes}, digest {source['digest']}"
