# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Whether the processes of a run were started alike: what differs is named in every one of them, before any compiles.

Processes with another learning rate train a blend of both, and those with another width abort or wait for ever.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import lmx
from lmx.errors import DifferentProcessesError
from lmx.parallel.processes import gather, is_first_process, send
from lmx.versions import installed, source_digest

# Keys, or sections with a dot at the end, that may differ: where and how fast a process works, not what it computes.
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


def check_same(what: str, facts: Mapping[str, str]) -> None:
  """Compares some facts of this process with those of the others; every process must call it at the same place.

  Process 0 sends its facts, and the others only what differs, so that thousands of processes may do this.

  Args:
    what: the facts are, for the message.
    facts: {name: value}; digests where values are large.

  Raises:
    DifferentProcessesError: in every process, with each fact that differs and which process has which value.
  """
  if jax.process_count() == 1:
    return
  first = json.loads(send(what, json.dumps(dict(facts)) if is_first_process() else None))
  mine = {name: facts.get(name) for name in [*first, *facts] if facts.get(name) != first.get(name)}
  others = [json.loads(one) for one in gather(what, json.dumps(mine))]
  lines = [_line(name, first.get(name), others) for name in dict.fromkeys(name for one in others for name in one)]
  if lines:
    listed = "\n".join(f"  {line}" for line in lines)
    raise DifferentProcessesError(
      f"The processes of this run differ in {what}:\n{listed}\nFix: start the same command, with the same files and "
      "the same versions, in each of them; only --process-index is its own."
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
  """The keys of a flat config that every process must have alike."""
  return {f"config.{key}": repr(value) for key, value in flat.items()
          if not any(key == local or (local.endswith(".") and key.startswith(local)) for local in LOCAL)}  # fmt: skip


def code_values() -> dict[str, str]:
  """What computes: versions, a digest of lmx's own sources, and the settings of jax and XLA that change results."""
  facts = {"lmx": lmx.__version__, "lmx's sources": source_digest(Path(lmx.__file__).parent)}
  facts |= {package: version for package in PACKAGES if (version := installed(package)) is not None}
  facts |= {name: repr(getattr(jax.config, name)) for name in _JAX_SETTINGS}
  for variable in _ENVIRONMENT:
    flags = os.environ.get(variable, "").split()
    facts[variable] = " ".join(sorted(flag for flag in flags if not flag.startswith(_MAY_DIFFER)))
  return facts
