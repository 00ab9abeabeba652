# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Building the model, mesh, optimizer and step options of an experiment from its config: all but data and weights."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh
from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import read_run_config, read_vocab_size
from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.errors import LmxError, Problems, choose, message, near_multiples
from lmx.experiment.readers import spec_fields, unread_keys
from lmx.models import MODELS
from lmx.nn.layers.lora import NAMES as LORA_NAMES
from lmx.nn.layers.lora import LoraSpec, add_lora
from lmx.nn.layers.quantized import check_quantization
from lmx.nn.pipeline import check_stages
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import Objective, ObjectiveContext, ObjectiveSpec
from lmx.optim.mup import mup_rates
from lmx.optim.optimizers import OPTIMIZERS, Optimizer, make_optimizer
from lmx.optim.rules import rate_multipliers
from lmx.optim.schedules import make_schedule
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.paths import any_path
from lmx.training.checkpoint_reading import restore_model
from lmx.training.initialize import MakeReference, copy_of_start
from lmx.training.run_directory import CHECKPOINT_DIR
from lmx.training.state import AbstractModel, Parts, TrainState, abstract_model, abstract_state
from lmx.training.step import ModelLoss, StepOptions, check_options
from lmx.units import StepSizes, duration_steps

# Keys of config.model that aren't fields of a family's spec: which family, and what the vocabulary is.
_NOT_IN_SPECS = ("family", "vocab_size")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainSetup:
  """A model on a mesh with its loss, optimizer and step options.

  Attributes:
    spec: its sizes and choices.
    make: key -> the module.
    plan: names, shapes and axes of its parameters.
    task: the loss of the model on the mesh.
    optimizer, options: of the step.
    abstract: the training state's template.
    reference: makes the parameters of the frozen second model, or None.
    plateau_factor: of the learning rate after an evaluation without progress; None: the schedule is another.
  """

  spec: Any
  make: Callable[[jax.Array], Any]
  plan: AbstractModel
  task: ModelLoss
  optimizer: Optimizer
  options: StepOptions
  abstract: TrainState
  reference: MakeReference | None
  plateau_factor: float | None

  @property
  def layout(self) -> Layout:
    return self.task.layout


# ---------------------------------------------------------------- objective


def objective_spec(config: ConfigDict) -> ObjectiveSpec:
  """The chosen objective's row, once it fits the model's family and the packing.

  Raises:
    LmxError: it doesn't, or the config sets an option that the objective doesn't read.
  """
  name, family, packing = config.objective.name, config.model.family, config.data.packing
  row = choose("config.objective.name", name, OBJECTIVES)
  problems = Problems()
  if family not in row.families:
    fits = [other for other, one in OBJECTIVES.items() if family in one.families]
    problems.add("config.objective.name", got=name, allowed=f"{', '.join(fits)} with config.model.family={family}",
                 fix=f"--config.model.family={row.families[0]}")  # fmt: skip
  if packing not in row.packings:
    fix = f"--config.data.packing={row.packings[0]}"
    problems.add("config.data.packing", got=packing, allowed=row.packings, fix=fix)
  if config.train.micro_batches > 1 and not row.splits:
    problems.add("config.train.micro_batches", got=config.train.micro_batches, allowed=f"1 with {name}: every row of a "
                 "batch is compared with all others")  # fmt: skip
  problems.messages += unread_keys(config, "objective.name")
  problems.raise_if_any()
  return row


def make_objective(config: ConfigDict, tokenizer: Tokenizer, labels: tuple[str, ...] = ()) -> Objective:
  """The config's objective."""
  return objective_spec(config).build(make_context(config, tokenizer, labels), config.objective)


def make_context(config: ConfigDict, tokenizer: Tokenizer, labels: tuple[str, ...] = ()) -> ObjectiveContext:
  """The context of the config's objective, which inference uses as well."""
  documents = choose("config.objective.name", config.objective.name, OBJECTIVES).reads_documents
  return ObjectiveContext(
    tokenizer=tokenizer,
    length=config.data.length,
    encoder_length=config.data.encoder_length or config.data.length,
    architecture=config.model.family,
    labels=labels,
    token_types=config.model.token_types,
    framing=("document" if documents else "own") if config.tokenizer.framing == "auto" else config.tokenizer.framing,
  )


# ---------------------------------------------------------------- model


def model_spec(config: ConfigDict, vocab_size: int, labels: int = 2) -> Any:
  """The frozen record of the model's sizes and choices.

  Args:
    config: the experiment's.
    vocab_size: the tokenizer's.
    labels: number of scores of a head for labels.

  Raises:
    LmxError: sizes that don't fit each other, or keys that the family doesn't read.
  """
  family = choose("config.model.family", config.model.family, MODELS)
  row = choose("config.objective.name", config.objective.name, OBJECTIVES)
  fields = spec_fields(family.spec)
  problems = Problems()
  problems.messages += unread_keys(config, "model.family", "model.mixer")
  if "quantization" not in fields and config.compute.quantization != "none":
    problems.add("config.compute.quantization", got=config.compute.quantization, allowed="none with "
                 f"config.model.family={config.model.family}", fix="--config.compute.quantization=none")  # fmt: skip
  problems.raise_if_any()
  if config.model.vocab_size is not None and config.model.vocab_size < vocab_size:
    fix = "a tokenizer with fewer ids, or --config.model.vocab_size=none"
    raise LmxError(message("config.model.vocab_size", got=config.model.vocab_size,
                           allowed=f"at least the {vocab_size} ids of the tokenizer", fix=fix))  # fmt: skip
  given = {key: value for key, value in config.model.items() if key not in _NOT_IN_SPECS}
  given |= {
    "vocab_size": config.model.vocab_size or vocab_size,
    "dtype": config.compute.dtype,
    "quantization": config.compute.quantization,
    "attention": config.compute.attention,
    "layer_loop": config.compute.layers,
    "remat": config.compute.remat,
    "remat_keep": tuple(config.compute.remat_keep),
    "stage_rounds": config.compute.stage_rounds,
    "stage_micro_batches": config.compute.stage_micro_batches,
    "loss_chunks": config.compute.loss_chunks,
    "head": row.head,
    "outputs": max(labels, 1) if row.labelled else 1,
  }
  return family.make_spec(given)


def lora_spec(config: ConfigDict) -> LoraSpec | None:
  lora = config.lora
  return LoraSpec(lora.rank, lora.alpha, lora.targets) if lora.rank else None


def model_maker(config: ConfigDict, spec: Any) -> Callable[[jax.Array], Any]:
  """key -> the module that `spec` describes, with the config's adapters."""
  build_model = choose("config.model.family", config.model.family, MODELS).build
  lora = lora_spec(config)

  def make(key: jax.Array) -> Any:
    model = build_model(spec, rngs=nnx.Rngs(key))
    return model if lora is None else add_lora(model, lora, jax.random.fold_in(key, 1))

  return make


def check_start(config: ConfigDict) -> None:
  """Checks that the run which this one starts from has a model of the same family.

  Raises:
    LmxError: it has another; or it is no run.
  """
  run = config.checkpoint.start_from
  if run is None or not any_path(run, "config.checkpoint.start_from").exists():
    return  # A resumed run no longer needs its origin; for a new one lmx/config reports what is missing.
  family = read_run_config(run).model.family
  if family != config.model.family:
    raise LmxError(message("config.checkpoint.start_from", got=f"{run}, whose model is of the family {family}",
                           allowed=f"a run with config.model.family={config.model.family}",
                           fix=f"--config=configs/classify.py:{run}, or another config that takes a run and its model "
                           "with it"))  # fmt: skip


# ---------------------------------------------------------------- optimizer


def make_rates(config: ConfigDict, plan: AbstractModel) -> dict[str, float]:
  """Each parameter's multiplier of the learning rate: the config's rules, muP's, and what adapters leave frozen."""
  rates = rate_multipliers(config.optimizer.lr_rules, plan.axes)
  if config.model.mup_base_width is not None:
    scales = mup_rates(plan.axes, config.model.mup_base_width / config.model.width)
    rates = {name: rate * scales[name] for name, rate in rates.items()}
  if config.lora.rank:
    also = re.compile(config.lora.train_also)
    trains = [name for name in rates if LORA_NAMES.fullmatch(name) or also.fullmatch(name)]
    rates = {name: rate if name in trains else 0.0 for name, rate in rates.items()}
  return rates


def check_optimizer(config: ConfigDict) -> None:
  """Checks the optimizer's name, and that it reads what was changed.

  Raises:
    ConfigError: with every key that it doesn't read.
    LmxError: there is no such optimizer.
  """
  choose("config.optimizer.name", config.optimizer.name, OPTIMIZERS)
  problems = Problems()
  problems.messages += unread_keys(config, "optimizer.name")
  problems.raise_if_any()


def make_update(
  config: ConfigDict, plan: AbstractModel, pace: StepSizes, numbers: Mapping[str, Any] | None = None
) -> tuple[Optimizer, StepOptions]:
  """The optimizer with its schedule over the run and its rules for each parameter, and the options of the step.

  Args:
    config: the experiment's.
    plan: the model.
    pace: with the run's total steps.
    numbers: dotted key -> an array () in place of the config's number, in a program that is being traced; the seed's
      is a random key.
  """
  chosen, given = config.optimizer, numbers or {}
  steps = {key: duration_steps(chosen[key], pace, f"config.optimizer.{key}") for key in ("warmup", "decay")}
  schedule = make_schedule(
    chosen.schedule,
    peak_lr=given.get("optimizer.peak_lr", chosen.peak_lr),
    total_steps=pace.total_steps or 0,
    warmup_steps=steps["warmup"],
    decay_steps=steps["decay"],
    final_lr_ratio=given.get("optimizer.final_lr_ratio", chosen.final_lr_ratio),
  )
  row = choose("config.optimizer.name", chosen.name, OPTIMIZERS)
  optimizer = make_optimizer(
    chosen.name,
    schedule=schedule,
    hyperparameters={key: given.get(f"optimizer.{key}", chosen[key]) for key in row.hyperparameters},
    momentum_dtype=chosen.momentum_dtype,
    weight_decay=given.get("optimizer.weight_decay", chosen.weight_decay),
    decay_rules=chosen.decay_rules,
    axes=plan.axes,
    shapes=plan.dimensions,
    rates=make_rates(config, plan),
  )
  options = StepOptions(
    micro_batches=config.train.micro_batches,
    clip_norm=given.get("optimizer.clip_norm", chosen.clip_norm),
    spike_factor=given.get("train.spike_factor", config.train.spike_factor),
    ema=given.get("optimizer.ema", chosen.ema),
    seed=given.get("seed", config.seed),
    scoped_vmem=config.compute.scoped_vmem,
  )
  return optimizer, options


# ---------------------------------------------------------------- all of it


def make_layout(config: ConfigDict, mesh: Mesh | None = None) -> Layout:
  """The mesh, None for that over every device of every process, and the sharding of arrays over it."""
  mesh = make_mesh(dict(config.mesh)) if mesh is None else mesh
  return Layout(mesh, zero1=config.compute.zero1, offload_optimizer=config.compute.offload_optimizer)


def check_split(config: ConfigDict, spec: Any, layout: Layout) -> None:
  """Checks that the mesh divides what is no dimension of a parameter: layers over stages, rows, heads.

  Raises:
    LmxError: with the key to change and the nearest values that would do.
  """
  sizes, problems = layout.mesh.shape, Problems()
  split = {
    "data.length": (config.data.length, ("sequence",)),
    "data.encoder_length": (config.data.encoder_length, ("sequence",)),
    "model.heads": (getattr(spec, "heads", None), ("tensor", "sequence")),
  }
  for key, (size, axes) in split.items() if sizes["sequence"] > 1 else ():
    devices = math.prod(sizes[axis] for axis in axes)
    if size is not None and size % devices:
      names = " * ".join(f"config.mesh.{axis}" for axis in axes)
      fix = " or ".join(f"--config.{key}={near}" for near in near_multiples(size, devices))
      problems.add(f"config.{key}", got=size, allowed=f"a multiple of {names} = {devices}", fix=fix)
  if sizes["stage"] > 1 and not hasattr(spec, "stage_rounds"):
    problems.add("config.mesh.stage", got=sizes["stage"], allowed=f"1: the layers of {config.model.family} are few",
                 fix="--config.mesh.stage=1")  # fmt: skip
  elif sizes["stage"] > 1:
    for key in ("layers", "encoder_layers"):
      if (layers := getattr(spec, key, None)) is not None:
        with problems.collect():
          check_stages(sizes["stage"], spec.stage_rounds, layers, spec.layer_period, f"config.model.{key}")
  problems.raise_if_any()


def make_train_setup(
  config: ConfigDict,
  spec: Any,
  loss: Callable[..., Any],
  pace: StepSizes,
  tokenizer: Tokenizer | None = None,
  layout: Layout | None = None,
  plan: AbstractModel | None = None,
) -> TrainSetup:
  """The abstract model on the mesh with its optimizer: everything but the weights.

  Args:
    config: the experiment's.
    spec: of the model.
    loss: the objective's.
    pace: with the run's total steps.
    tokenizer: a teacher must have the same; None: not checked.
    layout: None: the config's mesh over the devices here.
    plan: the abstract model, where it is known already.
  """
  layout, make = layout or make_layout(config), model_maker(config, spec)
  check_split(config, spec, layout)
  if isinstance(layout.mesh, jax.sharding.Mesh):  # For abstract devices the caller checks it.
    check_quantization(config.compute.quantization, layout.mesh.devices.flat[0].device_kind)
  plan = plan or abstract_model(make)
  optimizer, options = make_update(config, plan, pace)
  check_options(options, optimizer, config.train.batch_size, layout)
  other, make_reference = _reference(config, plan, tokenizer)
  carry = spec.carry_shapes(config.train.batch_size) if config.model.carry_state else None
  falls = config.optimizer.schedule == "plateau"
  parts = Parts(ema=config.optimizer.ema is not None, plateau=falls, reference=other, carry=carry)
  return TrainSetup(
    spec=spec,
    make=make,
    plan=plan,
    task=ModelLoss(loss, plan, layout, other),
    optimizer=optimizer,
    options=options,
    abstract=abstract_state(plan, optimizer, layout, parts),
    reference=make_reference,
    plateau_factor=config.optimizer.plateau_factor if falls else None,
  )


def _reference(
  config: ConfigDict, plan: AbstractModel, tokenizer: Tokenizer | None
) -> tuple[AbstractModel | None, MakeReference | None]:
  """The objective's second model as an `AbstractModel`, and the function that makes its parameters."""
  kind = objective_spec(config).reference
  if not kind:
    return None, None
  if kind == "start":
    return plan, copy_of_start
  if config.objective.teacher is None:
    raise LmxError(message("config.objective.teacher", got=None, allowed="the folder of a run whose logits are matched",
                           fix="--config.objective.teacher=runs/teacher"))  # fmt: skip
  run = any_path(config.objective.teacher, "config.objective.teacher")
  teacher, vocab_size = read_run_config(run), read_vocab_size(run)
  if tokenizer is not None and vocab_size != tokenizer.vocab_size:
    raise LmxError(message("config.objective.teacher", got=f"{run} with {vocab_size} ids",
                           allowed=f"a run with this run's tokenizer of {tokenizer.vocab_size} ids",
                           fix=f"--config.tokenizer.path={run}/tokenizer"))  # fmt: skip
  teacher.compute.attention, teacher.compute.quantization = "auto", "none"
  taught = abstract_model(model_maker(teacher, model_spec(teacher, vocab_size)))

  def restore(template: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    del params
    return restore_model(run / CHECKPOINT_DIR, dict(template))

  return taught, restore


def load_reference(
  config: ConfigDict, plan: AbstractModel, layout: Layout, run_dir: Path | None, step: int
) -> tuple[AbstractModel | None, dict[str, Any] | None]:
  """The second model of a run, as its checkpoint has it: (abstract model, parameters), or (None, None)."""
  other, _ = _reference(config, plan, None)
  if other is None or run_dir is None:
    return None, None
  return other, restore_model(run_dir / CHECKPOINT_DIR, other.template(layout), step, part="reference")
