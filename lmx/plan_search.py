# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Looks for the fastest way to run a config on a machine that isn't here.

Meshes, micro-batches, rematerialisation and the loss in parts are combined. What cannot fit is left out by a count of
bytes, what is left is put in order by a count of FLOPs and of bytes that travel, and the most promising are compiled
(TPUs), which corrects both counts. Results are kept, so that a search that was stopped goes on where it was.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections.config_dict import ConfigDict

from lmx.build import imagine
from lmx.config import flatten
from lmx.errors import LmxError
from lmx.models.counts import block_matrices
from lmx.nn.quantized import check_quantization
from lmx.plan import Plan, Range, imagined_objective, peak_seconds, stored_bytes
from lmx.units import Chip, human_bytes

CACHE = "~/.cache/lmx/plans"
_REMATS = ("none", "dots", "full")
_RECOMPUTED = {"none": 0.0, "dots": 0.03, "full": 1 / 3, "offload": 0.03}  # Of the forward and backward pass together.
_CHUNKS = 8
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
  """Every (data, fsdp, tensor) whose product is `devices`, with up to 8 devices along tensor."""
  for tensor in (1, 2, 4, 8):
    if devices % tensor == 0:
      for fsdp in (n for n in range(1, devices // tensor + 1) if devices // tensor % n == 0):
        yield {"data": devices // tensor // fsdp, "fsdp": fsdp, "tensor": tensor}


def candidates(config: ConfigDict, devices: int, chip: Chip) -> list[Candidate]:
  """All combinations that fit by a count of their bytes, the fastest by the count of their time first."""
  check_quantization(config.compute.quantization, chip.name)
  found = []
  for mesh in meshes(devices):
    chosen = config.copy_and_resolve_references()
    chosen.mesh.update(mesh)
    chosen.train.micro_batches = 1
    try:
      network, _ = imagine(chosen, devices, imagined_objective(chosen).loss)
    except LmxError:
      continue  # Sizes that this mesh doesn't divide.
    shards = mesh["data"] * mesh["fsdp"]
    micro = [n for n in (1, 2, 4, 8) if config.train.batch_size % (n * shards) == 0]
    for parts, remat, chunks in itertools.product(micro, _REMATS, (1, _CHUNKS)):
      chosen.train.micro_batches = parts
      bytes_, seconds = count(network, chosen, chip, mesh, remat, chunks)
      overrides = (*((f"mesh.{axis}", size) for axis, size in mesh.items()), ("train.micro_batches", parts),
                   ("compute.remat", remat), ("compute.loss_chunks", chunks))  # fmt: skip
      if bytes_ <= _ROOM * chip.hbm_bytes:
        found.append(Candidate(overrides, bytes_, Range(seconds, seconds, seconds)))
  return sorted(found, key=lambda one: (one.step.likely, one.bytes))


def count(
  network: Any, config: ConfigDict, chip: Chip, mesh: dict[str, int], remat: str, chunks: int
) -> tuple[float, float]:
  """Bytes of a device and seconds of a step, from sizes alone: good to put candidates in order, not to believe."""
  spec, micro = network.spec, config.train.micro_batches
  devices, tensor = math.prod(mesh.values()), mesh["tensor"]
  tokens = config.train.batch_size * config.data.length
  own = tokens / (mesh["data"] * mesh["fsdp"] * micro)  # Of a micro-batch, on a device.
  width, wide = spec.width, block_matrices(spec, active=True) / spec.width
  kept = {"full": width, "dots": 2 * width + wide / tensor, "none": 4 * width + 2 * wide / tensor}[remat]
  parameters, others, batch = stored_bytes(network, config)
  gradients = parameters * (2 if micro > 1 else 1)
  logits = 6 * own * spec.vocab_rows / tensor / chunks
  layer = 2 * own * (4 * width + 2 * wide / tensor)
  bytes_ = parameters + others + batch + gradients + 2 * own * kept * spec.layers + logits + layer
  peak = peak_seconds(network, config, chip, tokens / devices)
  seconds = peak * (1 + _RECOMPUTED[remat]) / _EFFICIENCY * (1 + _PER_MICRO_BATCH * (micro - 1))
  if chip.link_bandwidth:
    whole = parameters / 4 * mesh["fsdp"]  # Parameters of a tensor part.
    gathered = 2 * whole * (3 if remat != "none" else 2) * micro if mesh["fsdp"] > 1 else 0.0
    reduced = 2 * 2 * whole if mesh["data"] * mesh["fsdp"] > 1 else 0.0
    summed = 8 * spec.layers * 2 * own * width * micro if tensor > 1 else 0.0
    seconds += max(0.0, gathered / (2 * chip.link_bandwidth) - seconds) + (reduced + summed) / (2 * chip.link_bandwidth)
  return bytes_, seconds


def cached(folder: Path, config: ConfigDict, topology: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
  """What `compute` gives for a config on a topology with these packages: kept, and read the next time."""
  facts = json.dumps([flatten(config), topology, jax.__version__], sort_keys=True, default=str)
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
  return sorted(known, key=lambda one: (bool(one.problem), one.step.likely))


def config_file(base: str, one: Candidate, topology: str, name: str) -> str:
  """The text of a config file that is `base` with a candidate's overrides."""
  low, likely, high = (f"{1000 * x:.0f}" for x in (one.step.low, one.step.likely, one.step.high))
  changes = "\n".join(f"  config.{key} = {json.dumps(value)}" for key, value in one.overrides)
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
