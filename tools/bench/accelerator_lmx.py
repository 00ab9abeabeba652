# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""lmx's side of the accelerator benchmark: the step that `lmx train` compiles, over batches in memory.

Reads settings from standard input, a JSON line each, and answers each with a JSON line:
`{"config": FILE, "overrides": [...], "documents": false, "windows": 3, "steps": 10, "profile": null}`.
Command:  python -m tools.bench.accelerator_lmx   (started by tools.bench.accelerator)
"""

import gc
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lmx.config import loading as configs
from lmx.experiment.build import abstract_setup
from lmx.objectives.parts import token_loss
from lmx.parallel.mesh import global_batch
from lmx.training.meter import peak_memory, peak_of
from lmx.training.state import init_state
from lmx.training.step import make_train_step
from tools.bench.batches import make_batch


def measure(setting: Mapping[str, Any]) -> dict[str, Any]:
  """Trains for some windows of steps.

  Returns:
    seconds of a step in each window, of the first step, losses, bytes, parameters, and FLOPs and peak FLOP/s.
  """
  config = configs.load(setting["config"], setting["overrides"])
  network, sizes = abstract_setup(config, None, token_loss())
  rows, length = config.train.batch_size, sizes["length"]
  batch = global_batch(make_batch(rows, length, network.spec.vocab_size, setting["documents"]), network.layout.mesh)
  state = init_state(network.make, jax.random.key(0), network.plan, network.optimizer, network.abstract)
  step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
  start = time.perf_counter()
  state, metrics = step(state, batch)
  losses = [float(metrics["loss"])]
  first = time.perf_counter() - start
  seconds = []
  for _ in range(setting["windows"]):
    start = time.perf_counter()
    for _ in range(setting["steps"]):
      state, metrics = step(state, batch)
    losses.append(float(metrics["loss"]))
    seconds.append((time.perf_counter() - start) / setting["steps"])
  if setting.get("profile"):
    with jax.profiler.trace(setting["profile"]):
      for _ in range(2):
        state, metrics = step(state, batch)
      jax.block_until_ready(state)
  device = jax.devices()[0]
  flops = network.spec.flops_per_token(length)
  return {
    "seconds": seconds,
    "first_step_seconds": first,
    "losses": losses,
    "bytes": peak_memory(device),
    "parameters": sum(int(np.prod(leaf.shape)) for leaf in network.plan.shapes.values()),
    "tokens": rows * length,
    "flops": {"causal": flops.causal, "full": flops.full},
    "peak": peak_of(jax.devices()).flops,
    "device": device.device_kind,
  }


def main() -> None:
  for line in sys.stdin:
    try:
      answer = measure(json.loads(line))
    except (RuntimeError, ValueError) as error:  # Out of memory is a RuntimeError; the next setting may fit.
      answer = {"error": str(error)[:2000]}
    print(json.dumps(answer), flush=True)
    gc.collect()
    jax.clear_caches()


if __name__ == "__main__":
  main()
