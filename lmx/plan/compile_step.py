# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Plans for TPUs: memory, communication and time of a training step, compiled ahead of time.

The program is the step that `lmx train` compiles, lowered for the devices of a topology; nothing is allocated or run.
Memory, collectives and cycles of matmuls are the compiler's figures. It has none for kernels and for the time of
collectives: these are calculated from FLOPs and bytes (lmx/plan/step_time.py), and reported as separate parts.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections.config_dict import ConfigDict

from lmx.data.batches.assemble import Assemble
from lmx.data.batches.rows import Segment
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup, data_needs
from lmx.experiment.train_setup import TrainSetup, make_context, objective_spec
from lmx.objectives.base import Objective
from lmx.parallel.compilation_cache import without_compilation_cache
from lmx.parallel.mesh import batch_sharding
from lmx.plan.hlo import Program, read_program
from lmx.plan.step_time import Part, Range, program_parts, total
from lmx.training.state import local_bytes
from lmx.training.step import make_train_step
from lmx.units import Chip, StepFlops, chip_of, human_bytes


@dataclasses.dataclass(frozen=True)
class DeviceMemory:
  """Bytes of one device.

  Attributes:
    parameters, optimizer: of the state on the device.
    batch: of its share of a batch.
    rest: activations, gradients, gathered weights and temporaries.
    program: the compiled code.
    limit: the chip's memory, or None where it is unknown.
    host: in host memory, one device's share.
    counted: whether `rest` is counted from sizes, without compiling.
  """

  parameters: float
  optimizer: float
  batch: float
  rest: float
  program: float
  limit: float | None
  host: float = 0.0
  counted: bool = False

  @property
  def total(self) -> float:
    return self.parameters + self.optimizer + self.batch + self.rest + self.program


@dataclasses.dataclass(frozen=True)
class Plan:
  """The memory, communication and time of a step, ahead of time.

  Attributes:
    devices: how many.
    chip: their kind, or None where it is unknown.
    mesh: axis -> size.
    tokens: of a batch, over all devices.
    flops: of one token.
    roofline: seconds of the FLOPs at the chip's peaks: 8-bit for quantized matmuls, bf16 for the others.
    memory: of one device.
    program: the compiled step, or None (GPUs).
    parts: of the time: (what, source, seconds).
    step: seconds of a step.
  """

  devices: int
  chip: Chip | None
  mesh: Mapping[str, int]
  tokens: int
  flops: StepFlops
  roofline: float
  memory: DeviceMemory
  program: Program | None
  parts: Sequence[Part]
  step: Range

  def rate(self, seconds: float) -> float:
    """Tokens per second, all devices together."""
    return self.tokens / seconds

  @property
  def peaks(self) -> str:
    """The peaks of the roofline, as text."""
    faster = self.roofline < (self.mfu(1.0) or 0.0)
    return "the bf16 peak, those of quantized products at that of 8-bit operands" if faster else "the bf16 peak"

  def mfu(self, seconds: float) -> float | None:
    """Share of the bf16 peak, also where matmuls are quantized; attention counted causally. None: chip unknown."""
    chip = self.chip
    return None if chip is None else self.tokens * self.flops.causal / (self.devices * chip.bf16_flops) / seconds


# ------------------------------------------------------------------------------------------------------------- compile

_EXAMPLE = {
  "text": "a b", "text_b": "c d", "source": "a b", "target": "c d", "prompt": "a", "completion": "b", "chosen": "a",
  "rejected": "b", "question": "a", "context": "a b", "answer": "b", "answer_start": 2, "tokens": ["a", "b"],
  "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
}  # fmt: skip
_LABELS = ("0", "1")


def batch_shapes(config: ConfigDict, network: TrainSetup) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes, dtypes and shardings of a batch's arrays, made by the objective from an example row.

  Raises:
    LmxError: the objective reads columns that the example row doesn't have.
  """
  row, objective = objective_spec(config), abstract_objective(config)
  needs, random = data_needs(objective), np.random.default_rng(0)
  length, encoder_length = config.data.length, config.data.encoder_length or config.data.length
  if needs.encoder is None:
    content: Any = random.integers(0, 200, (needs.window_length or length) + needs.lookahead, dtype=np.int32)
  else:
    label = (tuple(config.objective.labels) or _LABELS)[0]
    own = dict.fromkeys(needs.encoder.columns, "1")  # Columns that no other objective has: a text, and a number.
    encoded = needs.encoder({**own, **_EXAMPLE, "label": label if row.labelled else 1.0, "tags": [label] * 2})
    content = {name: np.asarray(array) for name, array in encoded.fields.items()}
  assemble = Assemble(needs, {"": length, "encoder_": encoder_length}, pad_id=0)
  arrays = assemble([Segment(content)], random)
  sharding = batch_sharding(network.layout.mesh)
  rows = config.train.batch_size
  return {name: jax.ShapeDtypeStruct((rows, *x.shape), jnp.asarray(x).dtype, sharding=sharding)
          for name, x in arrays.items()}  # fmt: skip


def abstract_objective(config: ConfigDict) -> Objective:
  """A config's objective with a byte tokenizer: its loss and its shapes don't depend on the tokenizer."""
  row, labels = objective_spec(config), tuple(config.objective.labels) or _LABELS
  setting = make_context(config, ByteTokenizer().extended(config.tokenizer.extra_ids), labels)
  return row.build(setting, config.objective)


def compile_step(config: ConfigDict, devices: Sequence[Any]) -> tuple[TrainSetup, Any]:
  """The network on those devices, and its compiled training step.

  Raises:
    LmxError: the step does not fit into the devices' memory (with fixes), or does not compile.
  """
  network, _ = abstract_setup(config, list(devices), abstract_objective(config).loss)
  step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
  platform = devices[0].platform
  lowered = step.trace(network.abstract, batch_shapes(config, network)).lower(lowering_platforms=(platform,))
  try:
    with without_compilation_cache():
      return network, lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    raise LmxError(out_of_memory(str(error), config, len(devices))) from error


_SIZE = r"([\d.]+[KMGT]?)"
_USED = re.compile(rf"Used {_SIZE} of {_SIZE} hbm")
_TEMPORARIES = re.compile(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)")  # Without parameters and optimizer state.


def out_of_memory(text: str, config: ConfigDict, devices: int) -> str:
  """The compiler's error as a sentence with the cheapest fixes first; other errors than of memory as they are."""
  found = _USED.search(text) or _TEMPORARIES.search(text)
  if found is None:
    return f"the step does not compile: {text[:500]}"
  used, limit = (float(text.rstrip("KMGT")) * 1024.0 ** (" KMGT".find(text[-1]) * text[-1].isalpha())
                 for text in found.groups())  # fmt: skip
  return (
    f"The step needs {found.group(1)} of a device's {found.group(2)} of memory. Fixes, the cheapest first: "
    + "; ".join(cheapest_fixes(config, devices, used / limit))
  )


def cheapest_fixes(config: ConfigDict, devices: int, over: float = 1.0) -> list[str]:
  """Three changes that save memory, the one that costs the least speed first.

  Args:
    config: that does not fit.
    devices: how many.
    over: needed memory over the device's memory.
  """
  compute, micro = config.compute, config.train.micro_batches
  fixes = []
  if compute.loss_chunks < 8:
    fixes.append("--config.compute.loss_chunks=8 (logits in parts: almost free)")
  if config.mesh.fsdp == 1 and devices > 1:
    fixes.append("--config.mesh.data=1 --config.mesh.fsdp=-1 (parameters and optimizer split over the devices)")
  if compute.remat == "none":
    fixes.append("--config.compute.remat=dots (only matmul outputs are kept: a few percent slower)")
  if compute.remat in ("none", "dots"):
    fixes.append("--config.compute.remat=full (every layer is recomputed: about a third more work)")
  more = 2 ** max(1, math.ceil(math.log2(over)))
  fixes.append(f"--config.train.micro_batches={more * micro} (activations of 1/{more} of the rows; the same batch)")
  fixes.append("a topology with more devices")
  return fixes[:3]


# ------------------------------------------------------------------------------------------------------------ estimate


def make_plan(config: ConfigDict, devices: Sequence[Any]) -> Plan:
  """Compiles the step for a TPU slice and reads it."""
  return read_plan(config, devices, *compile_step(config, devices))


def read_plan(config: ConfigDict, devices: Sequence[Any], network: TrainSetup, compiled: Any) -> Plan:
  """The plan of a compiled step.

  Args:
    config: of the step.
    devices: of its topology.
    network: as `compile_step` returns it.
    compiled: as `compile_step` returns it.
  """
  mesh = dict(network.layout.mesh.shape)
  program = read_program(compiled.as_text(), mesh)
  analysis, chip = compiled.memory_analysis(), chip_of(devices[0].device_kind)
  parameters, optimizer, batch, host = stored_bytes(network, config)
  rest = analysis.temp_size_in_bytes + max(0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes)
  memory = DeviceMemory(parameters, optimizer, batch, rest, analysis.generated_code_size_in_bytes,
                  chip.hbm_bytes if chip else None, host + analysis.host_temp_size_in_bytes)  # fmt: skip
  flops = flops_of(network, config)
  tokens = config.train.batch_size * config.data.length
  parts = program_parts(program, chip, network, tokens / len(devices), flops) if chip else []
  step = total(parts) if parts else Range(0, 0, 0)
  roofline = peak_seconds(network, config, chip, tokens / len(devices)) if chip else 0.0
  return Plan(len(devices), chip, mesh, tokens, flops, roofline, memory, program, parts, step)


def flops_of(network: TrainSetup, config: ConfigDict) -> StepFlops:
  """FLOPs of one training token in rows of the config's lengths."""
  return network.spec.flops_per_token(config.data.length, config.data.encoder_length or config.data.length)


def peak_seconds(network: TrainSetup, config: ConfigDict, chip: Chip, tokens: float) -> float:
  """Seconds of the FLOPs at a chip's peaks: 8-bit for quantized matmuls, bf16 for the others.

  Args:
    network: whose FLOPs are counted.
    config: with the length of rows and the quantization.
    chip: the device's kind.
    tokens: on one device.
  """
  name = config.compute.quantization
  flops, spec, quantized = flops_of(network, config), network.spec, 0.0
  if name != "none":  # Weights outside of `quantized_parameters` are multiplied in bf16.
    quantized = flops.matmuls - 6.0 * (spec.matmul_parameters() - spec.quantized_parameters())
  others = flops.causal - quantized
  return tokens * (quantized / chip.peak(name) + others / chip.bf16_flops)


def stored_bytes(network: TrainSetup, config: ConfigDict) -> tuple[float, float, float, float]:
  """Bytes of one device: parameters, other state, its share of a batch, and its share of state in host memory."""
  state = network.abstract
  parameters, everything, host = local_bytes(state.params), local_bytes(state), local_bytes(state, host=True)
  abstract = isinstance(network.layout.mesh, jax.sharding.AbstractMesh)
  batch = 0.0 if abstract else local_bytes(batch_shapes(config, network))
  return parameters, everything - parameters, batch, host


def describe_memory(memory: DeviceMemory) -> str:
  """The memory as one line of text."""
  how = " (counted)" if memory.counted else ""
  parts = [f"parameters {human_bytes(memory.parameters)}", f"optimizer {human_bytes(memory.optimizer)}",
           f"activations, gradients and temporaries {human_bytes(memory.rest)}{how}"]  # fmt: skip
  if memory.program:
    parts.append(f"program {human_bytes(memory.program)}")
  limit = "" if memory.limit is None else f" of {human_bytes(memory.limit)} ({100 * memory.total / memory.limit:.0f} %)"
  host = f"; in the host's memory {human_bytes(memory.host)}" if memory.host else ""
  return f"{human_bytes(memory.total)}{limit}: {', '.join(parts)}{host}"
