# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The frozen record of an experiment: what the training loop gets instead of a config."""

import dataclasses
from pathlib import Path
from typing import Any

from lmx.data.cache.encoding import DataRequirements
from lmx.data.corpus import Corpus, EpochStats
from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.experiment.train_setup import TrainSetup
from lmx.objectives.base import Objective


@dataclasses.dataclass(frozen=True)
class Intervals:
  """In steps: how long the run is, and how often it logs, evaluates and saves. `keep` is None where nothing is kept."""

  total: int
  log: int
  evaluate: int
  save: int
  keep: int | None


@dataclasses.dataclass(frozen=True)
class RowShape:
  """Sizes of rows and batches.

  Attributes:
    length: L, tokens of a row.
    encoder_length: M, tokens of a row of the encoder, in models that have one next to a decoder.
    batch_size: rows in a step, over all devices.
    eval_batch_size: rows at once in an evaluation.
    eval_rows: rows of the validation set to evaluate; None: all.
    epoch: of the training text.
  """

  length: int
  encoder_length: int
  batch_size: int
  eval_batch_size: int
  eval_rows: int | None
  epoch: EpochStats


@dataclasses.dataclass(frozen=True)
class Samples:
  """Samples that are generated at the end of a run."""

  prompts: tuple[str, ...]
  tokens: int
  temperature: float


@dataclasses.dataclass(frozen=True)
class Saving:
  """Which checkpoints to keep as well as the last ones, and a run to start from."""

  keep_last: int
  keep_best: bool
  start_from: str | None


@dataclasses.dataclass(frozen=True)
class Policy:
  """Handling of non-finite losses and changed data, and writers of metrics other than metrics.jsonl."""

  nonfinite: str
  max_skipped: int
  accept_other_data: bool
  tensorboard: bool
  wandb_project: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """Everything that the training loop needs; nothing below it reads a config.

  Attributes:
    command: how the run was started, without its folder; it is repeated in hints.
    labels: names of the scores of a head for labels, in order; () for other heads.
    needs: the objective's requirements on the data.
    export: the format that `lmx export` can write the model in.
  """

  name: str
  command: str
  seed: int
  run_dir: Path
  config_json: str
  flat_config: dict[str, Any]
  compilation_cache: str
  tokenizer: Tokenizer
  corpus: Corpus
  objective: Objective
  labels: tuple[str, ...]
  needs: DataRequirements
  export: str
  network: TrainSetup
  rows: RowShape
  cadence: Intervals
  samples: Samples
  saving: Saving
  policy: Policy
