# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Traces, lowers, compiles and runs the step of lmx at one setting after another, each from scratch.

Reads settings from standard input, a JSON line each, and answers each with a JSON line:
`{"overrides": [...], "steps": 3}`, or to compile for a TPU slice `{"config": FILE, "overrides": [...], "topology": T}`.
Command:  python -m tools.bench.scaling_worker DEVICES   (started by tools.bench.scaling; DEVICES of the CPU, or 0)
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from lmx.cli.allocator import keep_freed_memory
from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup
from lmx.objectives.parts import token_loss
from lmx.parallel.mesh import global_batch
from lmx.plan.compile_step import compile_step, read_plan
from lmx.plan.topology import parse_topology, tpu_devices
from lmx.training.state import init_state
from lmx.training.step import make_train_step
from tools.bench.batches import make_batch


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
  """The work's result, with its seconds by the clock and those of all threads of this process."""
  wall, cpu = time.perf_counter(), time.process_time()
  result = work()
  return result, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def measure_step(setting: Mapping[str, Any]) -> dict[str, Any]:
  """Times of a step's making, the size of its program, and its own times."""
  network, sizes = abstract_setup(configs.load("configs/base.py", setting["overrides"]), None, token_loss())
  batch = global_batch(make_batch(sizes["rows"], sizes["length"], network.spec.vocab_size, documents=True),
                       network.layout.mesh)  # fmt: skip
  step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
  traced, tracing = timed(lambda: step.trace(network.abstract, batch))
  lowered, lowering = timed(traced.lower)
  compiled, compiling = timed(lowered.compile)
  memory = compiled.memory_analysis()
  answer = {
    "trace": tracing,
    "lower": lowering,
    "compile": compiling,
    "instructions": sum(" = " in line for line in compiled.as_text().splitlines()),
    "temporary_bytes": memory.temp_size_in_bytes,
    "argument_bytes": memory.argument_size_in_bytes,
    "tokens": sizes["rows"] * sizes["length"],
    "flops": network.spec.flops_per_token(sizes["length"], sizes["length"]).causal,
    "steps": [],
  }
  state = init_state(network.make, jax.random.key(0), network.plan, network.optimizer, network.abstract)
  for number in range(1 + setting["steps"]):
    (state, _), took = timed(lambda state=state: jax.block_until_ready(compiled(state, batch)))
    answer["steps"] += [took] if number else []  # Not the first one: it is the first to touch all memory.
  return answer


def measure_plan(setting: Mapping[str, Any]) -> dict[str, Any]:
  """Time of compiling the step for a TPU slice, and what the plan says of it."""
  config = configs.load(setting["config"], setting["overrides"])
  devices = tpu_devices(parse_topology(setting["topology"]))
  (network, compiled), compiling = timed(lambda: compile_step(config, devices))
  plan = read_plan(config, devices, network, compiled)
  return {
    "devices": len(devices),
    "compile": compiling,
    "instructions": sum(" = " in line for line in compiled.as_text().splitlines()),
    "bytes": plan.memory.total,
    "matmul_cycles": plan.program.matmul_cycles,
    "other_cycles": plan.program.other_cycles,
    "parts": {what: one.likely for what, _, one in plan.parts},
    "step": {"low": plan.step.low, "likely": plan.step.likely, "high": plan.step.high},
    "mfu": plan.mfu(plan.step.likely),
    "tokens": plan.tokens,
  }


def main(devices: int) -> None:
  keep_freed_memory()  # As `lmx train` does, before anything starts threads.
  jax.config.update("jax_enable_compilation_cache", False)
  if devices:
    jax.config.update("jax_num_cpu_devices", devices)
    jax.jit(lambda x: x + 1.0)(1.0)  # Loads the compiler.
  for line in sys.stdin:
    setting = json.loads(line)
    try:
      answer = measure_plan(setting) if "topology" in setting else measure_step(setting)
    except LmxError as error:
      answer = {"error": str(error)[:2000]}
    print(json.dumps(answer), flush=True)
    jax.clear_caches()
    gc.collect()


if __name__ == "__main__":
  main(int(sys.argv[1]))
