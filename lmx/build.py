# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""From a config to a frozen experiment: the only place, with lmx/config.py, that reads an experiment config.

`check` finds what is wrong with a config on these devices without data and without compiling; `build` makes everything
that the loop needs. Both call the same `parts` below, so what passes one passes the other.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from ml_collections.config_dict import ConfigDict
from rich.console import Console

from lmx.backend import first_process_first, is_first_process
from lmx.config import flatten, to_json
from lmx.console import console
from lmx.data.corpus import Corpus, DataSpec, EpochFacts, epoch_facts, make_tokenizer, prepare_corpus
from lmx.data.tokenizer import Tokenizer, TokenizerSpec, load_tokenizer
from lmx.errors import ConfigError, LmxError, Problems, choose, message
from lmx.mesh import make_mesh, whole_batch
from lmx.models import MODELS
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import Loss, Objective
from lmx.optim.optimizers import Optimizer, make_optimizer
from lmx.optim.schedules import make_schedule
from lmx.run_folder import TOKENIZER_DIR
from lmx.sharding import Layout
from lmx.training.state import Blueprint, TrainState, abstract_state, blueprint
from lmx.training.step import StepOptions, check_options
from lmx.units import Pace, duration_steps, human


@dataclasses.dataclass(frozen=True)
class Cadence:
  """In steps: how long the run is, and how often it logs, evaluates and saves. `keep` is None where nothing is kept."""

  total: int
  log: int
  evaluate: int
  save: int
  keep: int | None


@dataclasses.dataclass(frozen=True)
class Rows:
  """How text becomes batches.

  Attributes:
    length: L, tokens of a row.
    batch_size: rows in a step, over all devices.
    eval_batch_size: rows at once in an evaluation.
    eval_rows: held-out rows to evaluate; None: all.
    epoch: of the training text.
  """

  length: int
  batch_size: int
  eval_batch_size: int
  eval_rows: int | None
  epoch: EpochFacts


@dataclasses.dataclass(frozen=True)
class Samples:
  """What to write at the end for a person to read."""

  prompts: tuple[str, ...]
  tokens: int
  temperature: float


@dataclasses.dataclass(frozen=True)
class Saving:
  """Which checkpoints to keep beside the last ones, and a run to start from."""

  keep_last: int
  keep_best: bool
  start_from: str | None


@dataclasses.dataclass(frozen=True)
class Policy:
  """What to do about losses that are not finite or data that changed, and where metrics go beside metrics.jsonl."""

  nonfinite: str
  max_skipped: int
  accept_other_data: bool
  tensorboard: bool
  wandb_project: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
  """A model on a mesh, and how it is trained.

  Attributes:
    spec: its sizes and choices.
    make: key -> the module.
    loss: (model, batch, dropout key) -> Loss.
    plan: names, shapes and axes of its parameters.
    optimizer, layout, options: of the step.
    abstract: the training state's template.
  """

  spec: Any
  make: Callable[[jax.Array], Any]
  loss: Callable[[Any, Any, Any], Loss]
  plan: Blueprint
  optimizer: Optimizer
  layout: Layout
  options: StepOptions
  abstract: TrainState


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """All that the loop needs; nothing below it reads a config.

  Attributes:
    command: how the run was started, without its folder; it is repeated in hints.
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
  network: Network
  rows: Rows
  cadence: Cadence
  samples: Samples
  saving: Saving
  policy: Policy


# ---------------------------------------------------------------- parts


def model_spec(config: ConfigDict, vocab_size: int) -> Any:
  """The frozen record of the model's sizes and choices."""
  family = choose("config.model.family", config.model.family, MODELS)
  keys = {key: value for key, value in config.model.items() if key != "family"}
  return family.spec(
    vocab_size=vocab_size,
    dtype=config.compute.dtype,
    attention=config.compute.attention,
    layer_loop=config.compute.layers,
    remat=config.compute.remat,
    **keys,
  )


def model_maker(family: str, spec: Any) -> Callable[[jax.Array], Any]:
  """key -> the module that `spec` describes."""
  build_model = choose("config.model.family", family, MODELS).build
  return lambda key: build_model(spec, rngs=nnx.Rngs(key))


def make_objective(config: ConfigDict) -> Objective:
  family = choose("config.model.family", config.model.family, MODELS)
  name = config.objective.name
  objective = choose("config.objective.name", name, OBJECTIVES)(z_loss=config.objective.z_loss)
  if name not in family.objectives:
    raise LmxError(message("config.objective.name", got=name, allowed=family.objectives))
  return objective


def run_model(objective: Objective, model: Any, batch: Any, dropout_key: jax.Array | None) -> Loss:
  """The model on a batch, scored by the objective."""
  outputs = model(
    batch["tokens"], segment_ids=batch["segment_ids"], positions=batch["positions"], dropout_key=dropout_key
  )
  return objective.loss(outputs, batch)


def make_layout(config: ConfigDict) -> Layout:
  """The mesh over every device of every process, and the sharding tables."""
  return Layout(make_mesh(dict(config.mesh)))


def make_cadence(config: ConfigDict, pace: Pace) -> Cadence:
  """Every duration of the config in steps."""
  total = duration_steps(config.train.duration, pace, "config.train.duration")
  pace = dataclasses.replace(pace, total_steps=total)

  def steps(key: str) -> int:
    return max(1, duration_steps(config[key], pace, f"config.{key}"))

  keep = None if config.checkpoint.keep_every is None else steps("checkpoint.keep_every")
  return Cadence(total, steps("log.every"), steps("evaluation.every"), steps("checkpoint.every"), keep)


def make_pace(config: ConfigDict, rows_per_epoch: int | None) -> Pace:
  rows = config.train.batch_size
  epoch = None if rows_per_epoch is None else rows_per_epoch / rows
  return Pace(examples_per_step=rows, tokens_per_step=rows * config.data.length, steps_per_epoch=epoch)


def make_network(config: ConfigDict, spec: Any, objective: Objective, pace: Pace) -> Network:
  """The model's blueprint on the mesh with its optimizer: everything but the numbers."""
  layout = make_layout(config)
  make = model_maker(config.model.family, spec)
  plan = blueprint(make)
  chosen = config.optimizer
  total = make_cadence(config, pace).total
  pace = dataclasses.replace(pace, total_steps=total)
  steps = {key: duration_steps(chosen[key], pace, f"config.optimizer.{key}") for key in ("warmup", "decay")}
  schedule = make_schedule(
    chosen.schedule,
    peak_lr=chosen.peak_lr,
    total_steps=total,
    warmup_steps=steps["warmup"],
    decay_steps=steps["decay"],
    final_lr_ratio=chosen.final_lr_ratio,
  )
  optimizer = make_optimizer(
    chosen.name,
    schedule=schedule,
    b1=chosen.b1,
    b2=chosen.b2,
    eps=chosen.eps,
    weight_decay=chosen.weight_decay,
    decay_rules=chosen.decay_rules,
    axes=plan.axes,
    shapes={name: leaf.shape for name, leaf in plan.shapes.items()},
  )
  options = StepOptions(
    micro_batches=config.train.micro_batches,
    clip_norm=chosen.clip_norm,
    spike_factor=config.train.spike_factor,
    ema=chosen.ema,
    seed=config.seed,
  )
  check_options(options, optimizer, config.train.batch_size, layout)
  abstract = abstract_state(plan, optimizer, layout, ema=chosen.ema is not None)
  loss = functools.partial(run_model, objective)
  return Network(spec, make, loss, plan, optimizer, layout, options, abstract)


def tokenizer_spec(config: ConfigDict) -> TokenizerSpec:
  return TokenizerSpec(**config.tokenizer)


def data_spec(config: ConfigDict) -> DataSpec:
  """config.data as a frozen record."""
  return DataSpec(**{**config.data, "columns": dict(config.data.columns)})


def make_rows(config: ConfigDict, layout: Layout, epoch: EpochFacts) -> Rows:
  """Batch shapes. A batch for evaluation is rounded up to what the mesh divides: its last rows may be padding."""
  return Rows(
    length=config.data.length,
    batch_size=config.train.batch_size,
    eval_batch_size=whole_batch(config.evaluation.batch_size or config.train.batch_size, layout.mesh),
    eval_rows=config.evaluation.max_rows,
    epoch=epoch,
  )


# ---------------------------------------------------------------- the two ways in


def check(config: ConfigDict) -> list[str]:
  """What is wrong with a config on the devices here: model, mesh, shardings, rules. Reads no data, compiles nothing."""
  problems = Problems()
  vocab_size = config.tokenizer.vocab_size  # A tokenizer from a file may differ; its tables are padded all the same.
  with problems.collect():
    objective = make_objective(config)
    spec = model_spec(config, vocab_size)
    spec.kernel(jax.default_backend())
    make_network(config, spec, objective, make_pace(config, rows_per_epoch=1_000_000))
  with problems.collect():
    make_layout(config)
  return list(dict.fromkeys(problems.messages))


def run_tokenizer(config: ConfigDict, run_dir: Path, out: Console) -> Tokenizer:
  """The run's own tokenizer where it has one, since a resumed run must read as it did; else the config's."""
  if (run_dir / TOKENIZER_DIR).exists():
    return load_tokenizer(run_dir / TOKENIZER_DIR)
  if tokenizer_spec(config).needs_training:
    out.print(f"tokenizer: training {config.tokenizer.vocab_size:,} pieces, unless it is in {config.data.cache_dir}")
  return make_tokenizer(tokenizer_spec(config), data_spec(config))


def read_text(config: ConfigDict, tokenizer: Tokenizer, out: Console) -> Corpus:
  """The tokenized corpus, from the cache or made now with a line for each few megabytes."""

  def progress(name: str, done: int, total: int | None) -> None:
    out.print(f"tokenizing {name}: {human(done)}B" + (f" of {human(total)}B" if total else ""), markup=False)

  return prepare_corpus(data_spec(config), tokenizer, progress)


def check_prompts(prompts: tuple[str, ...], tokenizer: Tokenizer, context: int) -> None:
  """Says before the training, and not at its end, that a prompt leaves no room for an answer."""
  for prompt in prompts:
    length = 1 + len(tokenizer.encode(prompt))
    if length >= context:
      allowed = f"prompts of at most {context - 2} tokens: config.model.context is {context}"
      raise LmxError(
        message("config.evaluation.prompts", got=f"{prompt[:40]}... ({length - 1} tokens)", allowed=allowed)
      )


def build(
  config: ConfigDict, run_dir: Path, *, accept_other_data: bool = False, command: str = "lmx train"
) -> Experiment:
  """Everything the loop needs, from a config that `lmx.config.check` has nothing against.

  Reads and tokenizes the text on the first call (later ones find it in the cache), and may train the tokenizer.

  Args:
    config: checked.
    run_dir: the run directory; it need not exist.
    accept_other_data: a resumed run may go on with other batches than it would have drawn (its data config changed).
    command: how the run was started, for hints.

  Raises:
    LmxError: what is wrong, before any data is read where that can be known.
  """
  problems = check(config)
  if problems:
    raise ConfigError(problems)
  out = console(quiet=not is_first_process())
  tokenizer = first_process_first(lambda: run_tokenizer(config, run_dir, out))
  check_prompts(config.evaluation.prompts, tokenizer, config.model.context)
  corpus = first_process_first(lambda: read_text(config, tokenizer, out))
  objective = make_objective(config)
  epoch = epoch_facts(corpus, lookahead=objective.lookahead)
  pace = make_pace(config, epoch.rows)
  network = make_network(config, model_spec(config, tokenizer.vocab_size), objective, pace)
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
    network=network,
    rows=make_rows(config, network.layout, epoch),
    cadence=make_cadence(config, pace),
    samples=Samples(evaluation.prompts, evaluation.sample_tokens, evaluation.temperature),
    saving=Saving(saving.keep_last, saving.keep_best, saving.start_from),
    policy=Policy(
      nonfinite=config.train.nonfinite,
      max_skipped=config.train.max_skipped,
      tensorboard=config.log.tensorboard,
      wandb_project=config.log.wandb_project,
      accept_other_data=accept_other_data,
    ),
  )
