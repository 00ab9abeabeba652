# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a TPU's compiler makes of one large product, in bf16 and in 8 bits, and how much memory it lets a program have.

Command:  python -m tools.bench.products [--size=16384]
Time:     about two minutes on two cores, for all kinds of TPU; none is needed
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from lmx.parallel.compilation_cache import without_compilation_cache
from lmx.parallel.mesh import make_mesh
from lmx.plan.hlo import read_program
from lmx.plan.topology import TPUS, parse_topology, tpu_devices
from lmx.units import chip_of
from tools.bench.reporting import table

OPERANDS = ("bfloat16", "int8", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz")
_TOO_MUCH = 2**37  # Bytes, more than any device has.


def product_cycles(sharding: Any, size: int, dtype: str) -> float:
  """The compiler's estimate for (size, size) times (size, size), operands in that dtype."""
  result = jnp.int32 if dtype == "int8" else jnp.bfloat16
  operand = jax.ShapeDtypeStruct((size, size), jnp.dtype(dtype), sharding=sharding)
  product = jax.jit(lambda a, b: jax.lax.dot(a, b, preferred_element_type=result))
  program = read_program(product.lower(operand, operand).compile().as_text(), {"data": 1})
  return program.matmul_cycles + program.other_cycles


def memory_limit(sharding: Any) -> str:
  """The limit that the compiler states when a program asks for too much."""
  whole = jax.ShapeDtypeStruct((_TOO_MUCH // 4,), jnp.float32, sharding=sharding)
  try:
    jax.jit(lambda x: x + 1).lower(whole).compile()
  except jax.errors.JaxRuntimeError as error:
    found = re.search(r"available HBM \(([\d.]+)G|of ([\d.]+)G hbm", str(error))
    return next(filter(None, found.groups())) if found else "not said"
  return "no limit"


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.products", description=__doc__.partition("\n")[0])
  parser.add_argument("--size", type=int, default=16_384, help="of both matrices, in both dimensions")
  size = parser.parse_args(argv).size
  rows = []
  for kind, tpu in TPUS.items():
    device = tpu_devices(parse_topology(f"{kind}:{'2x2' if tpu.sizes else '2x2x1'}"))[:1]
    sharding, chip = NamedSharding(make_mesh(None, device), PartitionSpec()), chip_of(device[0].device_kind)
    with without_compilation_cache():
      cycles = {dtype: product_cycles(sharding, size, dtype) for dtype in OPERANDS}
      limit = memory_limit(sharding)
    at_the_peak = 2 * size**3 / chip.bf16_flops * chip.clock
    ratios = [f"{cycles[dtype] / cycles['bfloat16']:.2f}" for dtype in OPERANDS[1:]]
    share = f"{100 * at_the_peak / cycles['bfloat16']:.0f} %"
    rows.append((kind, f"{cycles['bfloat16'] / 1e6:.2f}", share, *ratios, limit))
  print(
    table(("chip", "Mcycles in bf16", "of the peak", *(f"{dtype}, over bf16" for dtype in OPERANDS[1:]), "GiB"), rows)
  )


if __name__ == "__main__":
  main(sys.argv[1:])
