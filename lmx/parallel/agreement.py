# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Agreement: values that must be the same in all processes of a run are compared before anything compiles.

Processes with different learning rates would train a mixture of both; with different widths, they abort or hang.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import lmx
from lmx.errors import DifferentProcessesError
from lmx.parallel.processes import broadcast, gather, is_first_process
from lmx.versions import installed, source_digest

# Keys, and sections with a dot at the end, that may differ: they change paths or speed, and no result.
LOCAL = (
  "compute.compilation_cache",
  "data.cache_dir",
  "data.prefetch_batches",
  "data.tfds_dir",
  "data.threads",
  "processes.",
)
PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "qwix", "tokamax")
_JAX_SETTINGS = (
  "jax_enable_x64",
  "jax_default_matmul_precision",
  "jax_default_prng_impl",
  "jax_threefry_partitionable",
  "jax_numpy_dtype_promotion",
)
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_MAY_DIFFER = ("--xla_dump", "--xla_force_host_platform_device_count", "--xla_hlo_profile")


def check_same(what: str, values: Mapping[str, str]) -> None:
  """Compares values of this process with those of the others; all processes must call it in the same order.

  Process 0 sends its values, and the others only those that differ, so that this scales to thousands of processes.

  Args:
    what: describes the values, for the message.
    values: {name: value}; digests where values are large.

  Raises:
    DifferentProcessesError: in every process, with each value that differs and the processes that have it.
  """
  if jax.process_count() == 1:
    return
  first = json.loads(broadcast(what, json.dumps(dict(values)) if is_first_process() else None))
  mine = {name: values.get(name) for name in [*first, *values] if values.get(name) != first.get(name)}
  others = [json.loads(one) for one in gather(what, json.dumps(mine))]
  lines = [_line(name, first.get(name), others) for name in dict.fromkeys(name for one in others for name in one)]
  if lines:
    listed = "\n".join(f"  {line}" for line in lines)
    raise DifferentProcessesError(
      f"The processes of this run differ in {what}:\n{listed}\nFix: start the same command, with the same files and "
      "the same versions, in each of them; only --process-index differs."
    )


def _line(name: str, first: str | None, others: list[dict[str, str | None]]) -> str:
  """ "train.duration: 10 steps in process 0, 20 steps in processes 1, 2"."""
  holders: dict[str | None, list[int]] = {}
  for index, differing in enumerate(others):
    holders.setdefault(differing.get(name, first), []).append(index)
  return f"{name}: " + ", ".join(f"{_short(value)} in {_processes(found)}" for value, found in holders.items())


def _short(value: str | None) -> str:
  return "nothing" if value is None else value if len(value) <= 100 else f"{value[:100]}..."


def _processes(indices: list[int]) -> str:
  shown = ", ".join(map(str, indices[:8])) + (f" and {len(indices) - 8} more" if len(indices) > 8 else "")
  return f"process{'es' if len(indices) > 1 else ''} {shown}"


def config_values(flat: Mapping[str, Any]) -> dict[str, str]:
  """The keys of a flat config that must be the same in all processes."""
  return {f"config.{key}": repr(value) for key, value in flat.items()
          if not any(key == local or (local.endswith(".") and key.startswith(local)) for local in LOCAL)}  # fmt: skip


def code_values() -> dict[str, str]:
  """Versions, a digest of lmx's sources, and the settings of jax and XLA that change results."""
  values = {"lmx": lmx.__version__, "lmx's sources": source_digest(Path(lmx.__file__).parent)}
  values |= {package: version for package in PACKAGES if (version := installed(package)) is not None}
  values |= {name: repr(getattr(jax.config, name)) for name in _JAX_SETTINGS}
  for variable in _ENVIRONMENT:
    flags = os.environ.get(variable, "").split()
    values[variable] = " ".join(sorted(flag for flag in flags if not flag.startswith(_MAY_DIFFER)))
  return values
