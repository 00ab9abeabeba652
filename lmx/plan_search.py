# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Looks for the fastest way to run a config on a machine that isn't here.

Meshes, micro-batches, rematerialisation, the loss in parts, ZeRO-1 and moments in the host's memory are combined. What
cannot fit is left out by a count of bytes, what is left is put in order by a count of FLOPs and of bytes that travel,
and the most promising are compiled (TPUs), which corrects both counts. Results are kept, so that a search that was
stopped goes on where it was.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections.config_dict import ConfigDict

from lmx.build import imagine
from lmx.config import flatten
from lmx.errors import LmxError
from lmx.mesh import BATCH_AXES
from lmx.models.counts import block_matrices
from lmx.network import Network
from lmx.nn.quantized import check_quantization
from lmx.plan import Plan, Range, imagined_objective, peak_seconds, stored_bytes
from lmx.training.state import local_bytes
from lmx.units import Chip, human_bytes
from lmx.versions import installed

CACHE = "~/.cache/lmx/plans"
_REMATS = ("none", "dots", "full")
_RECOMPUTED = {"none": 0.0, "dots": 0.03, "full": 1 / 3, "offload": 0.03}  # Of the forward and backward pass together.
_CHUNKS = 8
_VMEM = 32  # compute.scoped_vmem, in MiB. Only the compiler knows what it saves, so it is tried on the fastest.
# Mesh axis -> the most devices along it; data takes those that the others leave. One more axis is one more line.
_AXES = {"fsdp": math.inf, "tensor": 8}
_EFFICIENCY = 0.75  # Of the peak, that matmuls reach; candidates are only compared with each other.
_PER_MICRO_BATCH = 0.01  # What one more micro-batch costs in time: gradients are added up, products are smaller.
_ROOM = 1.1  # The count of bytes may be wrong by so much before a candidate is left out.


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Overrides of a config, and what they would cost.

  Attributes:
    overrides: (key, value).
    bytes: of one device.
    step: seconds of a step.
    compiled: whether both are read from a compiled program, not counted.
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
    """Its overrides, for people."""
    return ", ".join(f"{key.partition('.')[2]}={value}" for key, value in self.overrides)


def meshes(devices: int) -> Iterator[dict[str, int]]:
  """Every mesh of so many devices over data and the axes that are searched."""
  divisors = [n for n in range(1, devices + 1) if devices % n == 0]
  for sizes in itertools.product(*([n for n in divisors if n <= most] for most in reversed(_AXES.values()))):
    if devices % math.prod(sizes) == 0:
      yield {"data": devices // math.prod(sizes), **dict(zip(_AXES, reversed(sizes), strict=True))}


def candidates(config: ConfigDict, devices: int, chip: Chip) -> list[Candidate]:
  """All combinations that fit by a count of their bytes, the fastest by the count of their time first."""
  check_quantization(config.compute.quantization, chip.name)
  found = []
  for mesh, zero1 in itertools.product(meshes(devices), (False, True)):
    if zero1 and mesh["data"] == 1:
      continue
    chosen = config.copy_and_resolve_references()
    chosen.mesh.update({axis: mesh.get(axis, 1) for axis in chosen.mesh})
    chosen.train.micro_batches, chosen.compute.zero1, chosen.compute.offload_optimizer = 1, zero1, False
    try:
      network, _ = imagine(chosen, devices, imagined_objective(chosen).loss)
    except LmxError:
      continue  # Sizes that this mesh doesn't divide.
    shards = math.prod(network.layout.mesh.shape[axis] for axis in BATCH_AXES)
    micro = [n for n in (1, 2, 4, 8) if config.train.batch_size % (n * shards) == 0]
    for parts, remat, chunks, offload in itertools.product(micro, _REMATS, (1, _CHUNKS), (False, True)):
      chosen.train.micro_batches, chosen.compute.offload_optimizer = parts, offload
      chosen.compute.remat, chosen.compute.loss_chunks = remat, chunks
      bytes_, seconds = count(network, chosen, chip)
      if bytes_ <= _ROOM * chip.hbm_bytes:
        found.append(Candidate(_changes(config, chosen, mesh), bytes_, Range(seconds, seconds, seconds)))
  return sorted(found, key=lambda one: (one.step.likely, one.bytes))


def refined(config: ConfigDict, one: Candidate) -> list[Candidate]:
  """What only the compiler can judge, as changes of a compiled candidate, where the config leaves it open."""
  if config.compute.scoped_vmem is not None or one.problem:
    return []
  return [dataclasses.replace(one, overrides=(*one.overrides, ("compute.scoped_vmem", _VMEM)), compiled=False)]


def _changes(config: ConfigDict, chosen: ConfigDict, mesh: Mapping[str, int]) -> tuple[tuple[str, Any], ...]:
  """What a candidate sets: what is always searched, and what is seldom chosen where it is not what the config has."""
  always = ("train.micro_batches", "compute.remat", "compute.loss_chunks")
  seldom = ("compute.zero1", "compute.offload_optimizer")
  keys = (*(f"mesh.{axis}" for axis in mesh), *always, *(key for key in seldom if config[key] != chosen[key]))
  return tuple((key, chosen[key]) for key in keys)


def count(network: Network, config: ConfigDict, chip: Chip) -> tuple[float, float]:
  """Bytes of a device and seconds of a step, from sizes alone: good to put candidates in order, not to believe.

  Args:
    network: on the config's mesh, with the optimizer on the devices; the rest is read from the config.
    config: of a candidate.
    chip: the devices.
  """
  spec, micro, remat, mesh = network.spec, config.train.micro_batches, config.compute.remat, network.layout.mesh.shape
  copies, fsdp, tensor = mesh["data"], mesh["fsdp"], mesh["tensor"]
  tokens, shards = config.train.batch_size * config.data.length, math.prod(mesh[axis] for axis in BATCH_AXES)
  own = tokens / (shards * micro)  # Of a micro-batch, on a device.
  width, wide = spec.width, block_matrices(spec, active=True) / spec.width
  kept = {"full": width, "dots": 2 * width + wide / tensor, "none": 4 * width + 2 * wide / tensor}[remat]
  parameters, others, batch, _ = stored_bytes(network, config)
  host = local_bytes(network.abstract.opt_state) if config.compute.offload_optimizer else 0
  split = copies if config.compute.zero1 else 1
  gradients = parameters * (1 + (1 / split if micro > 1 else 0))
  logits = 6 * own * spec.vocab_rows / tensor / config.compute.loss_chunks
  layer = 2 * own * (4 * width + 2 * wide / tensor)
  bytes_ = parameters + others - host + batch + gradients + 2 * own * kept * spec.layers + logits + layer
  peak = peak_seconds(network, config, chip, tokens / network.layout.mesh.size)
  seconds = peak * (1 + _RECOMPUTED[remat]) / _EFFICIENCY * (1 + _PER_MICRO_BATCH * (micro - 1))
  if chip.link_bandwidth:
    whole = parameters / 4 * fsdp  # Parameters of a tensor part.
    gathered = 2 * whole * (3 if remat != "none" else 2) * micro if fsdp > 1 else 0.0
    reduced = 2 * 2 * whole if copies * fsdp > 1 else 0.0
    summed = 8 * spec.layers * 2 * own * width * micro if tensor > 1 else 0.0
    given = parameters if split > 1 else 0.0  # Each copy's part of the new parameters, to all copies.
    links = 2 * chip.link_bandwidth
    seconds += max(0.0, gathered / links - seconds) + (reduced + summed + given) / links
  updated = 2 * (parameters + others) / split  # Read and written.
  return bytes_, seconds + updated / chip.hbm_bandwidth + 2 * host / chip.host_bandwidth


@functools.cache
def revision() -> str:
  """A hash of lmx's own sources, which is right for a checkout with changes and for an installed package alike."""
  root, digest = Path(__file__).parent, hashlib.sha256()
  for file in sorted(root.rglob("*.py")):
    digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
  return digest.hexdigest()


def cached(folder: Path, config: ConfigDict, topology: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
  """What `compute` gives for a config on a topology with this lmx and these compilers: kept, and read the next time."""
  versions = [installed(package) for package in ("jax", "jaxlib", "libtpu")]
  facts = json.dumps([flatten(config), topology, versions, revision()], sort_keys=True, default=str)
  file = folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.json"
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
  """Compiles candidates, one after the other, and puts them in order: those that run, the fastest first.

  Args:
    config: what the candidates change.
    topology: for the cache.
    chosen: those to compile.
    make: the plan of a config.
    tell: is told of each as it is known.
    folder: where results are kept.
  """
  known = []
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
    known.append(new)
  return ranked(known)


def ranked(known: Sequence[Candidate]) -> list[Candidate]:
  """Those that run first, the fastest of them first."""
  return sorted(known, key=lambda one: (bool(one.problem), one.step.likely))


def config_file(base: str, one: Candidate, topology: str, name: str) -> str:
  """The text of a config file that is `base` with a candidate's overrides."""
  low, likely, high = (f"{1000 * x:.0f}" for x in (one.step.low, one.step.likely, one.step.high))
  literals = {key: json.dumps(value) if isinstance(value, str) else repr(value) for key, value in one.overrides}
  changes = "\n".join(f"  config.{key} = {literal}" for key, literal in literals.items())
  return f'''"""{base} as `lmx plan --search --topology={topology}` found it to be fastest.

Expected by the plan, not measured: {likely} ms a step ({low} to {high}), {one.bytes / 2**30:.1f} GiB a device.
"""

from ml_collections.config_dict import ConfigDict

from lmx.config import load


def get_config() -> ConfigDict:
  config = load({json.dumps(base)})
  config.name = {json.dumps(name)}
{changes}
  return config
'''
