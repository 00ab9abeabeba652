# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Building a frozen experiment from a config.

`check` finds what is wrong with a config on these devices without data and without compiling; `build` makes everything
that the loop needs. Both call the same `parts` below, so what passes one passes the other.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections.config_dict import ConfigDict
from rich.console import Console

from lmx.config.loading import flatten, to_json
from lmx.config.run_config import CONFIG_FILE, IMPORTED_DIR, TOKENIZER_DIR, read_labels, read_run_config
from lmx.console import console
from lmx.data.cache.encoding import DataRequirements
from lmx.data.corpus import (
  Corpus,
  DataSpec,
  EpochStats,
  check_same_tokenizer,
  column_values,
  epoch_stats,
  make_tokenizer,
  prepare_corpus,
)
from lmx.data.tokenizers.tokenizer import ByteTokenizer, Tokenizer, TokenizerSpec, load_tokenizer
from lmx.errors import ConfigError, LmxError, Problems, message
from lmx.experiment.experiment import Experiment, Intervals, Policy, RowShape, Samples, Saving
from lmx.experiment.train_setup import (
  TrainSetup,
  check_optimizer,
  check_start,
  make_layout,
  make_objective,
  make_train_setup,
  model_spec,
  objective_spec,
)
from lmx.hf.carried import carried_family
from lmx.hf.exporting import export_note
from lmx.objectives.base import LossFunction, Objective
from lmx.objectives.chat_template import find_template
from lmx.parallel.agreement import check_same, code_values, config_values
from lmx.parallel.mesh import abstract_mesh, make_mesh, padded_batch_size
from lmx.parallel.processes import first_process_first, is_first_process
from lmx.parallel.sharding import Layout
from lmx.paths import absolute, any_path, local_copy
from lmx.training.run_directory import has_tokenizer
from lmx.training.state import AbstractModel
from lmx.units import StepSizes, duration_steps, human_bytes

# ---------------------------------------------------------------- parts


def make_intervals(config: ConfigDict, pace: StepSizes) -> Intervals:
  """Every duration of the config in steps; `pace` has the total."""
  total = pace.total_steps or 0

  def steps(key: str) -> int:
    return max(1, duration_steps(config[key], pace, f"config.{key}"))

  keep = None if config.checkpoint.keep_every is None else steps("checkpoint.keep_every")
  return Intervals(total, steps("log.every"), steps("evaluation.every"), steps("checkpoint.every"), keep)


def make_step_sizes(config: ConfigDict, rows_per_epoch: int | None) -> StepSizes:
  """What durations are converted by, the length of the run included."""
  rows = config.train.batch_size
  epoch = None if rows_per_epoch is None else rows_per_epoch / rows
  pace = StepSizes(examples_per_step=rows, tokens_per_step=rows * config.data.length, steps_per_epoch=epoch)
  return dataclasses.replace(pace, total_steps=duration_steps(config.train.duration, pace, "config.train.duration"))


def data_needs(objective: Objective) -> DataRequirements:
  """An objective's requirements on the data."""
  return DataRequirements(
    prepare=objective.prepare,
    lookahead=objective.lookahead,
    window_length=objective.window_length,
    encoder=objective.encoder,
    per_row=objective.per_row,
  )


def tokenizer_spec(config: ConfigDict) -> TokenizerSpec:
  return TokenizerSpec(**{key: value for key, value in config.tokenizer.items() if key != "framing"})


def data_spec(config: ConfigDict) -> DataSpec:
  """config.data as a frozen record."""
  return DataSpec(**{**config.data, "columns": dict(config.data.columns)})


def make_rows(config: ConfigDict, layout: Layout, epoch: EpochStats) -> RowShape:
  """Batch shapes. A batch for evaluation is rounded up to what the mesh divides: its last rows may be padding."""
  return RowShape(
    length=config.data.length,
    encoder_length=config.data.encoder_length or config.data.length,
    batch_size=config.train.batch_size,
    eval_batch_size=padded_batch_size(config.evaluation.batch_size or config.train.batch_size, layout.mesh),
    eval_rows=config.evaluation.max_rows,
    epoch=epoch,
  )


def make_policy(config: ConfigDict, accept_other_data: bool) -> Policy:
  """The handling of bad steps and changed data, and the writers of metrics."""
  return Policy(
    nonfinite=config.train.nonfinite,
    max_skipped=config.train.max_skipped,
    tensorboard=config.log.tensorboard,
    wandb_project=config.log.wandb_project,
    accept_other_data=accept_other_data,
  )


# ---------------------------------------------------------------- the two ways in


def check(config: ConfigDict) -> list[str]:
  """What is wrong with a config on the devices here: model, mesh, shardings, rules. Reads no data, compiles nothing."""
  return _checked(config, assumed_sizes(config))[0]


def _checked(
  config: ConfigDict, sizes: tuple[int, int], layout: Layout | None = None
) -> tuple[list[str], TrainSetup | None]:
  """`check` with a vocabulary and a number of labels, and what was made for it where nothing is wrong."""
  problems, made = Problems(), None
  vocab_size, labels = sizes
  with problems.collect():
    objective_spec(config)
  with problems.collect():
    check_start(config)
  with problems.collect():
    spec = model_spec(config, vocab_size, labels)
    spec.kernel(jax.default_backend())
    if not problems.messages:
      made = make_train_setup(config, spec, _no_loss, make_step_sizes(config, rows_per_epoch=1_000_000), layout=layout)
  with problems.collect():
    check_optimizer(config)
  if made is None:
    with problems.collect():
      make_layout(config)
  return list(dict.fromkeys(problems.messages)), made


def export_as(config: ConfigDict, spec: Any | None = None) -> str:
  """The format in which `lmx export` will write the config's model, or why it can't, and what to change.

  Args:
    config: checked.
    spec: of the model; None: with the sizes that are assumed before data is read.
  """
  spec = model_spec(config, *assumed_sizes(config)) if spec is None else spec
  start = config.checkpoint.start_from
  origin = None if start is None else carried_family(local_copy(any_path(start) / IMPORTED_DIR))
  return export_note(dict(config.model), spec, origin)


def assumed_sizes(config: ConfigDict) -> tuple[int, int]:
  """(ids, labels) of a model whose data has not been read.

  A tokenizer from a file may have another size, and the data other labels; what depends on them is checked later.
  """
  return config.model.vocab_size or config.tokenizer.vocab_size, max(2, len(config.objective.labels))


def _known_sizes(config: ConfigDict) -> tuple[int, int]:
  """`assumed_sizes`, but for bytes, whose tokenizer is known before any data is read."""
  vocab_size, labels = assumed_sizes(config)
  if config.tokenizer.kind == "bytes" and config.model.vocab_size is None and config.tokenizer.extra_ids >= 0:
    vocab_size = ByteTokenizer().extended(config.tokenizer.extra_ids).vocab_size
  return vocab_size, labels


def _no_loss(*arguments: Any) -> Any:
  raise AssertionError("a config is checked without running anything")


def abstract_setup(
  config: ConfigDict,
  devices: int | Sequence[Any] | None,
  loss: LossFunction = _no_loss,
  plan: AbstractModel | None = None,
) -> tuple[TrainSetup, dict[str, int]]:
  """The train setup of a config without data, and the shapes of a micro-batch: {"rows", "length", "encoder_length"}.

  Args:
    config: checked.
    devices: a number of devices that need not exist, or devices to compile for; None: those here.
    loss: of the objective, for those who run the step.
    plan: the abstract model, where it is known already.

  Raises:
    LmxError: what does not fit.
  """
  objective_spec(config)
  spec = model_spec(config, *assumed_sizes(config))
  sizes = dict(config.mesh)
  if devices is None:
    layout = make_layout(config)
  else:
    mesh = abstract_mesh(sizes, devices) if isinstance(devices, int) else make_mesh(sizes, devices)
    layout = make_layout(config, mesh)
  network = make_train_setup(
    config, spec, loss, make_step_sizes(config, rows_per_epoch=1_000_000), layout=layout, plan=plan
  )
  rows, length = config.train.batch_size // config.train.micro_batches, config.data.length
  return network, {"rows": rows, "length": length, "encoder_length": config.data.encoder_length or length}


def run_labels(config: ConfigDict, run_dir: Path, out: Console) -> tuple[str, ...]:
  """The labels of the scores: the run's own, the config's, or those found in the training data."""
  row = objective_spec(config)
  if not row.labelled:
    return ()
  known = read_labels(run_dir) or config.objective.labels
  if known:
    return tuple(known)
  column = "tags" if row.head == "tagging" else "label"
  found = tuple(column_values(data_spec(config), column, multi_label=config.objective.multi_label))
  out.print(f"labels: {', '.join(found[:20])}{' ...' if len(found) > 20 else ''}", markup=False)
  return found


def run_tokenizer(config: ConfigDict, run_dir: Path, out: Console) -> Tokenizer:
  """The run's own tokenizer where it has one, since a resumed run must tokenize as before; else the config's.

  Raises:
    LmxError: the config asks for another one than the run has.
  """
  if has_tokenizer(run_dir):
    own = load_tokenizer(run_dir / TOKENIZER_DIR)
    if (run_dir / CONFIG_FILE).is_file():
      saved = tokenizer_spec(read_run_config(run_dir))
      check_same_tokenizer(own, saved, tokenizer_spec(config), data_spec(config), str(run_dir))
    return own
  if tokenizer_spec(config).needs_training:
    out.print(f"tokenizer: training {config.tokenizer.vocab_size:,} tokens, unless it is in {config.data.cache_dir}")
  tokenizer = make_tokenizer(tokenizer_spec(config), data_spec(config), objective_spec(config).texts)
  if "chat_template" in objective_spec(config).options:  # Kept with the tokenizer, whatever it was taken from.
    tokenizer.chat_template = find_template(tokenizer, config.objective.chat_template).source
  return tokenizer


def read_data(config: ConfigDict, tokenizer: Tokenizer, needs: DataRequirements, out: Console) -> Corpus:
  """The tokenized text or examples, from the cache or tokenized now, with a progress line every few megabytes."""

  def progress(name: str, done: int, total: int | None) -> None:
    # Rows of a table are counted with the names of their columns, so they may come to more than the file.
    of = f" of {human_bytes(total)}" if total and done <= total else ""
    out.print(f"tokenizing {name}: {human_bytes(done)}{of}", markup=False)

  return prepare_corpus(data_spec(config), tokenizer, progress, encoder=needs.encoder)


def check_prompts(prompts: tuple[str, ...], tokenizer: Tokenizer, context: int) -> None:
  """Checks before the training that every prompt leaves room for an answer.

  Raises:
    LmxError: a prompt doesn't.
  """
  for prompt in prompts:
    length = 1 + len(tokenizer.encode(prompt))
    if length >= context:
      allowed = f"prompts of at most {context - 2} tokens: config.model.context is {context}"
      raise LmxError(
        message("config.evaluation.prompts", got=f"{prompt[:40]}... ({length - 1} tokens)", allowed=allowed)
      )


def build(
  config: ConfigDict, run_dir: Path, *, accept_other_data: bool = False, command: str = "lmx train",
  layout: Layout | None = None,
) -> Experiment:  # fmt: skip
  """Everything the loop needs, from a config that passes `lmx.config.loading.check`.

  Reads and tokenizes the text on the first call (later ones find it in the cache), and may train the tokenizer.

  Args:
    config: checked.
    run_dir: the run directory; it need not exist.
    accept_other_data: a resumed run may continue with other batches than it would have drawn (its data config changed).
    command: how the run was started, for hints.
    layout: None: the config's mesh over all devices.

  Raises:
    LmxError: what is wrong, before any data is read where that can be known.
    DifferentProcessesError: other processes of the run have another config, folder or code.
  """
  flags = {"--workdir": str(absolute(run_dir)), "--accept-changes": str(accept_other_data)}
  check_same("config and code", config_values(flatten(config)) | flags | code_values())
  problems, checked = _checked(config, _known_sizes(config), layout)
  if problems or checked is None:
    raise ConfigError(problems)
  out = console(quiet=not is_first_process())
  tokenizer = first_process_first(lambda: run_tokenizer(config, run_dir, out))
  labels = run_labels(config, run_dir, out)
  objective = make_objective(config, tokenizer, labels)
  if objective.reports_bits_per_byte:
    check_prompts(config.evaluation.prompts, tokenizer, config.model.context)
  spec, needs = model_spec(config, tokenizer.vocab_size, len(labels)), data_needs(objective)
  corpus = first_process_first(lambda: read_data(config, tokenizer, needs, out))
  epoch = epoch_stats(corpus, needs, batch_size=config.train.batch_size)
  pace = make_step_sizes(config, epoch.rows)
  same = checked.plan if checked.spec == spec else None  # Else the tokenizer or the data has other sizes than assumed.
  network = make_train_setup(config, spec, objective.loss, pace, tokenizer, layout=checked.layout, plan=same)
  evaluation, saving = config.evaluation, config.checkpoint
  return Experiment(
    name=config.name,
    command=command,
    seed=config.seed,
    run_dir=run_dir,
    config_json=to_json(config),
    flat_config=flatten(config),
    compilation_cache=config.compute.compilation_cache,
    tokenizer=tokenizer,
    corpus=corpus,
    objective=objective,
    labels=labels,
    needs=needs,
    export=export_as(config, spec),
    network=network,
    rows=make_rows(config, network.layout, epoch),
    cadence=make_intervals(config, pace),
    samples=Samples(evaluation.prompts, evaluation.sample_tokens, evaluation.temperature),
    saving=Saving(saving.keep_last, saving.keep_best, saving.start_from),
    policy=make_policy(config, accept_other_data),
  )
