# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The training step of lmx and of MaxText, compiled ahead of time for the same TPU slices by the same compiler.

Command:  python -m tools.bench.maxtext --maxtext=CHECKOUT --python=PYTHON [--columns 1.3b-v5e 8b-v5p] [--record]
Time:     two to ten minutes a column on two cores, nearly all of it compiling; no TPU is needed

CHECKOUT is a clone of https://github.com/AI-Hypercomputer/maxtext (measured at e591f30cb), PYTHON a Python of 3.12 or
later that runs it, with the same jax and libtpu as the one that runs this script (another pair is refused):

  python3.13 -m venv maxtext-venv
  maxtext-venv/bin/pip install jax==0.12.0.1 libtpu==0.0.50.1 flax==0.12.12 tokamax aqtp drjax pathwaysutils grain \\
    qwix transformers datasets orbax-checkpoint optax omegaconf pydantic sentencepiece tiktoken jsonlines jinja2 \\
    sympy gcsfs tensorboardx tensorflow tensorflow-datasets jaxtyping ml-goodput-measurement google-cloud-storage \\
    google-cloud-monitoring google-cloud-aiplatform google-cloud-mldiagnostics google-api-python-client

MaxText runs through its own entry point, `train_compile`, with its own configs and the settings below: those of its
benchmark configs for the chip, with full rematerialization on both sides, or none where a column is named "kept".
`lmx.plan.hlo` reads both programs. Cycles are the compiler's estimates; it makes none for kernels (attention) and
collectives.
"""

import argparse
import dataclasses
import gzip
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.plan.compile_step import compile_step
from lmx.plan.hlo import read_program
from lmx.plan.topology import parse_topology, tpu_devices
from tools.bench.contest import load_average
from tools.bench.maxtext_worker import memory_bytes
from tools.bench.process import NoAnswerError, Process
from tools.bench.reporting import ROOT, make_result, report, table, versions

PAIR = ("jax", "jaxlib", "libtpu")
_ALWAYS = (
  "run_name=compared", "base_output_directory=unused", "dataset_type=synthetic", "enable_checkpointing=False",
  "hardware=tpu", "skip_jax_distributed_system=True", "log_config=False", "compile_topology_num_slices=1",
  "ici_fsdp_parallelism=-1", "dtype=bfloat16", "weight_dtype=float32", "attention=flash",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Model:
  """A model and its rows: lmx's config and overrides, and MaxText's arguments for the same."""

  config: str
  overrides: tuple[str, ...]
  arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Column:
  """A model on a slice.

  Attributes:
    model: of `MODELS`.
    topology, devices: of the slice, as `lmx plan` has them.
    rows: of a device.
    overrides: lmx's for this slice.
    target: MaxText's name of the slice.
    arguments, options: MaxText's for this slice, and the compiler's that it sets there.
  """

  model: str
  topology: str
  devices: int
  rows: int
  overrides: tuple[str, ...]
  target: str
  arguments: tuple[str, ...]
  options: tuple[str, ...]


MODELS = {
  "1.3b": Model(
    "configs/gpt3.py:1.3b",
    ("model.vocab_size=50304",),
    (
      "model_name=gpt3-6b", "override_model_config=True", "base_num_decoder_layers=24", "base_emb_dim=2048",
      "base_num_query_heads=16", "base_num_kv_heads=16", "head_dim=128", "base_mlp_dim=8192", "vocab_size=50304",
      "trainable_position_size=2048", "max_target_length=2048",
    ),
  ),
  "8b": Model("configs/llama.py:8b", (), ("model_name=llama3.1-8b", "max_target_length=8192")),
}  # fmt: skip

_LONG_BLOCKS = tuple(f"sa_block_{name}=2048" for name in ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute",
                                                          "q_dq", "kv_dq"))  # fmt: skip
_BLOCKS = ("sa_block_q=1024", "sa_block_q_dkv=2048", "sa_block_q_dq=2048")
_NO_RINGS = "xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000"
_DATA_PARALLEL = ("xla_tpu_enable_data_parallel_all_reduce_opt=true",
                  "xla_tpu_data_parallel_opt_different_sized_ops=true")  # fmt: skip
_FUSED_GATHERS = (
  "xla_tpu_enable_async_collective_fusion=true", "xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
  "xla_tpu_enable_async_collective_fusion_multiple_steps=true", "xla_tpu_overlap_compute_collective_tc=true",
  "xla_enable_async_all_gather=true",
)  # fmt: skip
# What newer compilers take instead, on all kinds but v5e: collectives on the SparseCores.
_OFFLOADED = (
  "xla_tpu_enable_async_collective_fusion_fuse_all_gather=false",
  "xla_tpu_enable_async_collective_fusion_fuse_all_reduce=false",
  "xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter=false",
  "xla_tpu_enable_sparse_core_collective_offload_all_gather=true",
  "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter=true",
  "xla_tpu_enable_sparse_core_collective_offload_all_reduce=true", "xla_tpu_use_tc_device_shape_on_sc=true",
  "xla_sc_enable_instruction_fusion=false", "xla_sc_disable_megacore_partitioning=true",
)  # fmt: skip
_LAYOUT = (
  "xla_tpu_use_minor_sharding_for_major_trivial_input=true",
  "xla_tpu_relayout_group_size_threshold_for_reduce_scatter=1", "xla_tpu_assign_all_reduce_scatter_layout=true",
)  # fmt: skip
_IRONWOOD = (
  "xla_tpu_scoped_vmem_limit_kib=65536", "xla_tpu_bf16_emission_mode=NATIVE_EMISSION", "xla_tpu_dvfs_p_state=7",
  "xla_tpu_enable_sparse_core_collective_offload_all_reduce=true",
  "xla_tpu_enable_sparse_core_collective_offload_all_gather=true",
  "xla_tpu_enable_sparse_core_collective_offload_2d_all_gather=true",
  "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter=true", "xla_tpu_use_tc_device_shape_on_sc=true",
  "xla_sc_disable_megacore_partitioning=true", "xla_tpu_enable_async_collective_fusion_fuse_all_gather=false",
)  # fmt: skip
_VMEM = "xla_tpu_scoped_vmem_limit_kib=98304"
_OURS = ("compute.loss_chunks=4", "compute.layers=scanned", "compute.remat=full", "compute.compilation_cache=")
COLUMNS = {
  "1.3b-v5e": Column("1.3b", "v5e:4x4", 16, 8, (*_OURS, "compute.scoped_vmem=64"), "v5e-16", ("remat_policy=full",),
                     (_VMEM, *_DATA_PARALLEL, *_FUSED_GATHERS, _NO_RINGS)),
  "1.3b-v6e": Column("1.3b", "v6e:4x4", 16, 8, _OURS, "v6e-16", ("remat_policy=full", *_BLOCKS),
                     (_VMEM, *_OFFLOADED, *_DATA_PARALLEL, "xla_tpu_use_bundle_aware_cost_model_for_fusions=false",
                      _NO_RINGS)),
  "1.3b-tpu7x": Column("1.3b", "tpu7x:2x2x2", 16, 8, _OURS, "tpu7x-16",
                       ("remat_policy=full", *_BLOCKS), (*_IRONWOOD, _NO_RINGS)),
  "1.3b-tpu7x-kept": Column("1.3b", "tpu7x:2x2x2", 16, 8, (*_OURS, "compute.remat=none"), "tpu7x-16",
                            ("remat_policy=minimal_with_context", *_BLOCKS), (*_IRONWOOD, _NO_RINGS)),
  "8b-v5p": Column("8b", "v5p:4x4x4", 64, 2, (*_OURS, "compute.remat_keep=keys,values"), "v5p-128",
                   ("remat_policy=full", *_LONG_BLOCKS), (_VMEM, *_OFFLOADED, *_DATA_PARALLEL, *_LAYOUT, _NO_RINGS)),
  "8b-v6e": Column("8b", "v6e:16x16", 256, 1, _OURS, "v6e-256", ("remat_policy=full", *_LONG_BLOCKS),
                   (_VMEM, *_OFFLOADED, *_DATA_PARALLEL, *_LAYOUT, _NO_RINGS)),
  "8b-tpu7x": Column("8b", "tpu7x:4x4x4", 128, 2, (*_OURS, "compute.remat_keep=keys,values"), "tpu7x-128",
                     ("remat_policy=full", *_LONG_BLOCKS), (*_IRONWOOD, _NO_RINGS)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reading:
  """A compiled program's figures for one step on one device.

  Attributes:
    matmul_cycles, other_cycles: the compiler's own estimates.
    hidden, exposed: bytes that travel between devices while something else is computed, or are waited for.
    live, reserved: bytes of memory: the most that is alive at once, and all that is set aside.
    host: bytes of the host's memory.
    seconds: of tracing, lowering and compiling.
  """

  matmul_cycles: int
  other_cycles: int
  hidden: float
  exposed: float
  live: int
  reserved: int
  host: int
  seconds: float

  @property
  def cycles(self) -> int:
    return self.matmul_cycles + self.other_cycles


def read(text: str, devices: int, memory: Mapping[str, int], seconds: float) -> Reading:
  """Reads a program for a number of devices along one axis, with `memory_bytes` of it."""
  program = read_program(text, {"fsdp": devices})
  moved = {True: 0.0, False: 0.0}
  for one in program.collectives:
    moved[one.overlapped] += one.count * one.bytes
  reserved = sum(memory[kind] for kind in ("argument", "output", "temp", "generated_code")) - memory["alias"]
  return Reading(program.matmul_cycles, program.other_cycles, moved[True], moved[False], memory["peak"], reserved,
                 memory["host_argument"] + memory["host_temp"], seconds)  # fmt: skip


def compile_ours(column: Column, file: Path) -> dict[str, Any]:
  """lmx's step; the program goes to the file. The answer is as that of maxtext_worker.py."""
  config = configs.load(MODELS[column.model].config, our_overrides(column))
  devices = tpu_devices(parse_topology(column.topology))
  start = time.perf_counter()
  try:
    _, compiled = compile_step(config, devices)
  except LmxError as error:
    return {"error": str(error)[:4000]}
  answer = {"seconds": time.perf_counter() - start, "memory": memory_bytes(compiled), "versions": versions(PAIR)}
  with gzip.open(file, "wt") as opened:
    opened.write(compiled.as_text())
  return answer


def compile_theirs(column: Column, file: Path, checkout: Path, python: str) -> dict[str, Any]:
  """MaxText's step, in a process of its own Python; the program goes to the file."""
  environment = os.environ | {
    "PYTHONPATH": str(checkout / "src"), "JAX_PLATFORMS": "cpu", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost",
    "DECOUPLE_GCLOUD": "TRUE", "HF_HUB_OFFLINE": "1",
  }  # fmt: skip
  setting = {"arguments": their_arguments(column, checkout), "program": str(file)}
  command = [python, "-P", str(ROOT / "tools/bench/maxtext_worker.py")]
  log = file.with_suffix(".log")
  with Process(command, log=log, environment=environment, folder=checkout) as process:
    try:
      return process.ask(setting)
    except NoAnswerError as error:
      return {"error": str(error)}


def our_overrides(column: Column) -> list[str]:
  """What lmx's config of that model is changed by."""
  return [*MODELS[column.model].overrides, f"train.batch_size={column.rows * column.devices}", *column.overrides]


def their_arguments(column: Column, checkout: Path) -> list[str]:
  """What MaxText's `train_compile` is called with."""
  return [
    str(checkout / "src/maxtext/configs/base.yml"), *MODELS[column.model].arguments, *_ALWAYS, *column.arguments,
    f"per_device_batch_size={column.rows}", f"compile_topology={column.target}",
    f"compile_xla_flags={' '.join(f'--{option}' for option in column.options)}",
  ]  # fmt: skip


def same_pair(versions: Mapping[str, str], theirs: Mapping[str, str]) -> None:
  """Refuses to compare programs of different compilers.

  Raises:
    LmxError: jax, jaxlib or libtpu differ.
  """
  for name in PAIR:
    if versions.get(name) != theirs.get(name):
      raise LmxError(f"lmx was compiled with {name} {versions.get(name)}, MaxText with {theirs.get(name)}. "
                     f"Fix: install {name}=={versions.get(name)} in the Python given by --python")  # fmt: skip


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
  """Both sides of a column: {"lmx": ..., "maxtext": ...}, each the fields of a reading, or an error."""
  column, result = COLUMNS[name], {}
  for side in ("lmx", "maxtext"):
    file = Path(args.programs).resolve() / f"{name}-{side}.txt.gz"
    kept = file.with_name(f"{name}-{side}.json")
    if not (file.exists() and kept.exists()):
      theirs = (file, Path(args.maxtext).resolve(), args.python)
      kept.write_text(json.dumps(compile_ours(column, file) if side == "lmx" else compile_theirs(column, *theirs)))
    answer = json.loads(kept.read_text())
    result[side] = answer
    if "error" not in answer:
      with gzip.open(file, "rt") as opened:
        result[side] = dataclasses.asdict(read(opened.read(), column.devices, answer["memory"], answer["seconds"]))
        result[side]["versions"] = answer["versions"]
    print(json.dumps({"column": name, "side": side} | result[side]), flush=True)
  if all("versions" in one for one in result.values()):
    same_pair(result["lmx"]["versions"], result["maxtext"]["versions"])
  return result


def render(measured: Mapping[str, Mapping[str, Any]]) -> str:
  """The table: two rows a column, and the quotient of their cycles."""
  rows = []
  for name, sides in measured.items():
    read = {side: Reading(**{key: value for key, value in one.items() if key != "versions"})
            for side, one in sides.items() if "error" not in one}  # fmt: skip
    for side, one in sides.items():
      if side not in read:
        rows.append((f"{name}, {side}", "failed", "", "", "", "", one["error"][:60]))
        continue
      found = read[side]
      ratio = f"{found.cycles / read['maxtext'].cycles:.2f}" if len(read) == 2 and side == "lmx" else ""
      cycles = f"{found.matmul_cycles / 1e6:,.0f} + {found.other_cycles / 1e6:,.0f}"
      memory = f"{found.live / 2**30:.2f} / {found.reserved / 2**30:.2f}"
      moved = f"{found.hidden / 1e9:.2f} / {found.exposed / 1e9:.2f}"
      rows.append(
        (f"{name}, {side}", cycles, ratio, memory, moved, f"{found.host / 2**30:.2f}", f"{found.seconds:.0f}")
      )
  header = ("column", "Mcycles: matmuls + bound by memory", "of MaxText's", "GiB alive / reserved",
            "GB hidden / waited for", "GiB of the host", "compiled in, s")  # fmt: skip
  return table(header, rows)


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.maxtext", description=__doc__.partition("\n")[0])
  parser.add_argument("--maxtext", required=True, metavar="CHECKOUT", help="a clone of MaxText")
  parser.add_argument("--python", required=True, help="a Python that runs it")
  parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
  parser.add_argument(
    "--programs", default="runs/maxtext", help="where programs are kept; what is there is not compiled"
  )
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench/results")
  args = parser.parse_args(argv)
  load = load_average()
  Path(args.programs).mkdir(parents=True, exist_ok=True)
  measured = {name: measure(name, args) for name in args.columns}
  text = render(measured)
  compiled_with = next((one["lmx"]["versions"] for one in measured.values() if "versions" in one["lmx"]), {})
  report("maxtext", make_result({"columns": measured}, compiled_with, None, load), text, record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
