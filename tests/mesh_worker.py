# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""One of several processes that train on one mesh, save, and resume on another: see parallel/test_mesh_processes.py.

python tests/mesh_worker.py COORDINATOR COUNT INDEX FOLDER MESH OTHER_MESH [scattered]
"""

import json
import sys

import jax
import numpy as np

count, index = int(sys.argv[2]), int(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 8 // count)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], count, index)

from mesh_cases import EVERY, abstract_on, batch_for, fresh_on, layout_of, step_on  # noqa: E402

from lmx.parallel.mesh import global_batch, process_rows  # noqa: E402
from lmx.training.checkpoint import Checkpointer  # noqa: E402


def step(state, layout):
  share = process_rows(layout.mesh)
  own = {name: np.concatenate([np.split(rows, share.parts)[part] for part in share.held])
         for name, rows in batch_for(False).items()}  # fmt: skip
  state, metrics = step_on(layout)(state, global_batch(own, layout.mesh))
  return state, {name: float(metrics[name]) for name in ("loss", "grad_norm", "param_norm")}


one, other = (layout_of(EVERY[mesh], scattered=len(sys.argv) > 7) for mesh in sys.argv[5:7])
state, first = step(fresh_on(one), one)
with Checkpointer(sys.argv[4]) as checkpoints:
  checkpoints.save(1, state, {})
del state
with Checkpointer(sys.argv[4]) as checkpoints:
  state, _ = checkpoints.restore(abstract_on(other))
_, second = step(state, other)
if index == 0:
  print("RESULT", json.dumps([first, second]))
jax.distributed.shutdown()
