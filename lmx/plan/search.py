# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Search for the fastest way to run a config on a machine that you don't have.

Candidates combine meshes, micro-batches, pipeline schedules, rematerialization, the loss in parts, ZeRO-1 and optimizer
state in host memory. Those that can't fit are excluded by a count of bytes, the rest is ranked by a count of FLOPs and
of communicated bytes, and the most promising are compiled (TPUs), which corrects both counts. Results are cached, so a
search that was stopped resumes.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections.config_dict import ConfigDict

import lmx
from lmx.config.loading import flatten
from lmx.errors import LmxError, message
from lmx.experiment.build import abstract_setup
from lmx.experiment.train_setup import TrainSetup
from lmx.nn.layers.quantized import check_quantization
from lmx.parallel.mesh import BATCH_AXES
from lmx.plan.compile_step import Plan, abstract_objective
from lmx.plan.count import count
from lmx.plan.step_time import Range
from lmx.units import Chip, human_bytes
from lmx.versions import installed, source_digest

CACHE = "~/.cache/lmx/plans"
_REMATS = ("none", "dots", "full")
_CHUNKS = 8
# Only compiling shows the gain of these, so they are tried on the fastest candidate: compute.scoped_vmem in MiB, and
# compute.remat_keep.
_VMEM = 64
_KEEPS = (("attention",), ("queries", "keys", "values"))
REFINEMENTS = 1 + len(_KEEPS)  # At most.
# Mesh axis -> the most devices along it; data takes the remaining devices, and slice is the machine's.
_AXES = {"fsdp": math.inf, "tensor": 8, "sequence": 8, "expert": math.inf, "stage": 8}
_MODEL_AXES = 2  # At most this many axes other than data and fsdp are tried together.
_ROUNDS = (1, 2)  # compute.stage_rounds
_WAVES = (1, 2, 4)  # compute.stage_micro_batches, over the number of stages.
_ALWAYS = ("mesh.data", "mesh.fsdp", "train.micro_batches", "compute.remat", "compute.loss_chunks")  # Always shown.
_SELDOM = (
  *(f"mesh.{axis}" for axis in _AXES if axis != "fsdp"),
  *(f"compute.{key}" for key in ("stage_rounds", "stage_micro_batches", "zero1", "offload_optimizer")),
)
_ROOM = 1.0  # Share of the memory that a candidate may need by the count, which was 3 to 16 % too low for TPU v5e.


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Overrides of a config, with the memory and time of a step.

  Attributes:
    overrides: (key, value) pairs.
    bytes: of one device.
    step: seconds of a step.
    compiled: whether both are from a compiled program; False: counted.
    problem: why it can't be run, or "".
  """

  overrides: tuple[tuple[str, Any], ...]
  bytes: float
  step: Range
  compiled: bool = False
  problem: str = ""

  def apply(self, config: ConfigDict) -> ConfigDict:
    """A copy of the config with the overrides."""
    changed = config.copy_and_resolve_references()
    for key, value in self.overrides:
      section, _, name = key.partition(".")
      changed[section][name] = value
    return changed

  def describe(self) -> str:
    """The overrides as text, without their sections."""
    return ", ".join(f"{key.partition('.')[2]}={value}" for key, value in self.overrides)


def meshes(devices: int, experts: int | None) -> Iterator[dict[str, int]]:
  """Every mesh over data and the searched axes; the axis expert has a divisor of the number of experts."""
  most = {**_AXES, "expert": min(_AXES["expert"], experts or 1)}
  divisors = [n for n in range(1, devices + 1) if devices % n == 0]
  fits = lambda n, axis: n <= most[axis] and (axis != "expert" or (experts or 1) % n == 0)  # noqa: E731
  for sizes in itertools.product(*([n for n in divisors if fits(n, axis)] for axis in reversed(_AXES))):
    found = dict(zip(_AXES, reversed(sizes), strict=True))
    if devices % math.prod(sizes) == 0 and sum(n > 1 for axis, n in found.items() if axis != "fsdp") <= _MODEL_AXES:
      yield {"data": devices // math.prod(sizes), **found}


def layouts(config: ConfigDict, devices: int) -> list[ConfigDict]:
  """The config with each way of sharding the model: mesh, rounds of a pipeline, ZeRO-1.

  Raises:
    LmxError: the slices don't divide the devices.
  """
  slices = config.mesh.slice
  if slices < 1 or devices % slices:
    raise LmxError(message("config.mesh.slice", got=slices, allowed=f"a divisor of the {devices} devices"))
  found = []
  for mesh, zero1 in itertools.product(meshes(devices // slices, config.model.experts), (False, True)):
    if zero1 and mesh["data"] == 1:
      continue
    for rounds in _ROUNDS if mesh["stage"] > 1 else (config.compute.stage_rounds,):
      chosen = config.copy_and_resolve_references()
      chosen.mesh.update(mesh)
      chosen.compute.zero1, chosen.compute.stage_rounds = zero1, rounds
      found.append(chosen)
  return found


Track = Callable[[Sequence[ConfigDict]], Iterable[ConfigDict]]


def candidates(config: ConfigDict, devices: int, chip: Chip, track: Track = iter) -> list[Candidate]:
  """All combinations that fit by a count of their bytes, the fastest by a count of their time first.

  Args:
    config: that they change.
    devices: how many.
    chip: their kind.
    track: iterates over the layouts, and may show progress.

  Raises:
    LmxError: the slices don't divide the devices, or the chip can't quantize as the config says.
  """
  check_quantization(config.compute.quantization, chip.name)
  found: list[Candidate] = []
  loss, plan = abstract_objective(config).loss, None  # The model is the same on all meshes.
  for chosen in track(layouts(config, devices)):
    chosen.train.micro_batches, chosen.compute.offload_optimizer = 1, False
    try:
      network, _ = abstract_setup(chosen, devices, loss, plan)
    except LmxError:
      continue  # The model's sizes don't divide over this mesh.
    plan = network.plan
    found += _on_mesh(config, chosen, network, chip)
  return sorted(found, key=lambda one: (one.step.likely, one.bytes))


def _on_mesh(config: ConfigDict, chosen: ConfigDict, network: TrainSetup, chip: Chip) -> Iterator[Candidate]:
  """The combinations on one mesh that fit."""
  shards = math.prod(network.layout.mesh.shape[axis] for axis in BATCH_AXES)
  stages, rows = network.layout.mesh.shape["stage"], config.train.batch_size
  if stages == 1:
    parts = [(n, config.compute.stage_micro_batches) for n in (1, 2, 4, 8) if rows % (n * shards) == 0]
  else:
    parts = [(1, n * stages) for n in _WAVES if rows % (n * shards) == 0]
  for (micro, in_turn), remat, chunks, offload in itertools.product(parts, _REMATS, (1, _CHUNKS), (False, True)):
    chosen.train.micro_batches, chosen.compute.offload_optimizer = micro, offload
    chosen.compute.remat, chosen.compute.loss_chunks = remat, chunks
    chosen.compute.stage_micro_batches = in_turn
    bytes_, seconds = count(network, chosen, chip)
    if bytes_ <= _ROOM * chip.hbm_bytes:
      yield Candidate(_changes(config, chosen), bytes_, Range(seconds, seconds, seconds))


def refined(config: ConfigDict, one: Candidate) -> list[Candidate]:
  """Further candidates from a compiled one: changes whose gain only compiling shows, where the config sets none."""
  if one.problem:
    return []
  changes: list[tuple[str, Any]] = [("compute.scoped_vmem", _VMEM)] if config.compute.scoped_vmem is None else []
  chosen = one.apply(config).compute
  if chosen.remat == "full" and not chosen.remat_keep:
    changes += [("compute.remat_keep", names) for names in _KEEPS]
  return [dataclasses.replace(one, overrides=(*one.overrides, change), compiled=False) for change in changes]


def _changes(config: ConfigDict, chosen: ConfigDict) -> tuple[tuple[str, Any], ...]:
  """A candidate's overrides: the keys that are always shown, and the others where they differ from the config."""
  keys = (*_ALWAYS, *(key for key in _SELDOM if config[key] != chosen[key]))
  return tuple((key, chosen[key]) for key in keys)


@functools.cache
def revision() -> str:
  """A digest of lmx's own sources: right for a checkout with changes and for an installed package alike."""
  return source_digest(Path(lmx.__file__).parent)


def cached(folder: Path, config: ConfigDict, topology: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
  """The result of `compute` for a config and a topology, cached in a folder for this lmx and these compilers.

  Args:
    folder: of the cache.
    config: part of the key.
    topology: part of the key.
    compute: makes the result, JSON values, where the cache has none.
  """
  versions = [installed(package) for package in ("jax", "jaxlib", "libtpu")]
  key = json.dumps([flatten(config), topology, versions, revision()], sort_keys=True, default=str)
  file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
  if file.exists():
    return json.loads(file.read_text(encoding="utf-8"))
  result = compute()
  folder.mkdir(parents=True, exist_ok=True)
  partial = file.with_suffix(".partial")
  partial.write_text(json.dumps(result), encoding="utf-8")
  partial.replace(file)
  return result


def search(
  config: ConfigDict,
  topology: str,
  chosen: Sequence[Candidate],
  make: Callable[[ConfigDict], Plan],
  tell: Callable[[Candidate], None],
  folder: str = CACHE,
) -> list[Candidate]:
  """Compiles candidates one after another and ranks them: those that run, the fastest first.

  Args:
    config: that the candidates change.
    topology: part of the cache's key.
    chosen: those to compile.
    make: makes the plan of a config.
    tell: is called with each compiled candidate.
    folder: of the cache.
  """
  compiled = []
  for one in chosen:

    def compute(one: Candidate = one) -> dict[str, Any]:
      try:
        plan = make(one.apply(config))
      except LmxError as error:
        return {"problem": str(error)}
      memory = plan.memory
      if memory.limit is not None and memory.total > memory.limit:
        return {"problem": f"needs {human_bytes(memory.total)} of a device's {human_bytes(memory.limit)}"}
      return {"bytes": plan.memory.total, "step": dataclasses.astuple(plan.step)}

    result = cached(Path(folder).expanduser(), one.apply(config), topology, compute)
    if "problem" in result:
      new = dataclasses.replace(one, compiled=True, problem=result["problem"])
    else:
      new = dataclasses.replace(one, bytes=result["bytes"], step=Range(*result["step"]), compiled=True)
    tell(new)
    compiled.append(new)
  return ranked(compiled)


def ranked(compiled: Sequence[Candidate]) -> list[Candidate]:
  """Those that run before those that don't, the fastest first."""
  return sorted(compiled, key=lambda one: (bool(one.problem), one.step.likely))


def config_file(base: str, one: Candidate, topology: str, name: str) -> str:
  """The text of a config file: `base` with a candidate's overrides.

  Args:
    base: a config, as --config has it.
    one: the candidate.
    topology: that it was planned for.
    name: of the new config.
  """
  low, likely, high = (f"{1000 * x:.0f}" for x in (one.step.low, one.step.likely, one.step.high))
  literals = {key: json.dumps(value) if isinstance(value, str) else repr(value) for key, value in one.overrides}
  changes = "\n".join(f"  config.{key} = {literal}" for key, literal in literals.items())
  return f'''"""{base} with the fastest settings of `lmx plan --search --topology={topology}`.

Expected by the plan, not measured: {likely} ms a step ({low} to {high}), {one.bytes / 2**30:.1f} GiB a device.
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load


def get_config() -> ConfigDict:
  config = load({json.dumps(base)})
  config.name = {json.dumps(name)}
{changes}
  return config
'''
