# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The comparison with MaxText: its counts, and the pairs that it refuses to compare. MaxText itself is not run here."""

import dataclasses
import gzip
import importlib
import json
import math
import sys
from pathlib import Path

import pytest
from laws import assert_law_catches

from lmx.config import loading as configs
from lmx.errors import LmxError

ROOT = Path(__file__).resolve().parents[2]
MEMORY = {"argument": 100, "output": 90, "alias": 80, "temp": 1000, "generated_code": 7, "peak": 600,
          "host_argument": 3, "host_temp": 4}  # fmt: skip
PROGRAM = """HloModule step, is_scheduled=true

%product (a: bf16[8,8]) -> bf16[8,8] {
  %a = bf16[8,8]{1,0} parameter(0)
  ROOT %dot = bf16[8,8]{1,0} dot(%a, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%sum (b: bf16[8,8]) -> bf16[8,8] {
  %b = bf16[8,8]{1,0} parameter(0)
  ROOT %add = bf16[8,8]{1,0} add(%b, %b)
}

ENTRY %main (x: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[8,8]{1,0} parameter(0)
  %one = bf16[8,8]{1,0} fusion(%x), kind=kOutput, calls=%product, backend_config={"estimated_cycles":"300"}
  %two = bf16[8,8]{1,0} fusion(%one), kind=kLoop, calls=%sum, backend_config={"estimated_cycles":"20"}
  ROOT %all = bf16[8,8]{1,0} all-reduce(%two), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%sum
}
"""


@pytest.fixture
def maxtext(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  return importlib.import_module("tools.bench.maxtext")


def test_a_program_is_read_into_cycles_bytes_that_are_waited_for_and_memory(maxtext):
  found = maxtext.read(PROGRAM, 4, MEMORY, 12.5)
  assert (found.matmul_cycles, found.other_cycles, found.cycles) == (300, 20, 320)
  assert (found.hidden, found.exposed) == (0.0, 128.0)
  assert (found.live, found.reserved, found.host) == (600, 100 + 90 - 80 + 1000 + 7, 7)


def test_programs_of_different_compilers_are_not_compared(maxtext):
  def check(theirs: dict) -> None:
    maxtext.same_pair({"jax": "0.12.0.1", "jaxlib": "0.12.0.1", "libtpu": "0.0.50.1"}, theirs)

  check({"jax": "0.12.0.1", "jaxlib": "0.12.0.1", "libtpu": "0.0.50.1", "flax": "0.12.12"})
  with pytest.raises(LmxError, match=r"libtpu 0\.0\.50\.1, MaxText with 0\.0\.52"):
    check({"jax": "0.12.0.1", "jaxlib": "0.12.0.1", "libtpu": "0.0.52"})
  with pytest.raises(LmxError, match="MaxText with None"):
    check({"jax": "0.12.0.1", "jaxlib": "0.12.0.1"})


def test_every_column_is_the_same_model_on_both_sides(maxtext):
  """Layers, width, heads, feed-forward, vocabulary and rows, where both sides name them."""
  same = {"base_num_decoder_layers": "model.layers", "base_emb_dim": "model.width", "base_mlp_dim": "model.mlp_width",
          "base_num_query_heads": "model.heads", "max_target_length": "data.length", "vocab_size": "model.vocab_size",
          }  # fmt: skip

  def check(column) -> None:
    model = maxtext.MODELS[column.model]
    flat = configs.flatten(configs.load(model.config, maxtext.our_overrides(column)))
    theirs = dict(one.split("=", 1) for one in maxtext.their_arguments(column, Path("checkout")) if "=" in one)
    for name, key in same.items():
      if name in theirs and flat[key]:
        assert str(flat[key]) == theirs[name], (column, name)
    assert flat["train.batch_size"] == column.devices * float(theirs["per_device_batch_size"])

  for column in maxtext.COLUMNS.values():
    check(column)
    assert_law_catches(check, dataclasses.replace(column, arguments=(*column.arguments, "max_target_length=1024")))


def test_the_columns_slices_have_the_devices_that_are_counted(maxtext):
  for column in maxtext.COLUMNS.values():
    kind, _, shape = column.topology.partition(":")
    a_chip = 2 if kind == "tpu7x" else 1
    assert math.prod(int(size) for size in shape.split("x")) * a_chip == column.devices
    assert column.target.partition("-")[0] == kind
    assert column.target.partition("-")[2] == str(column.devices * (2 if kind == "v5p" else 1))  # Named by its cores.


def test_kept_programs_are_read_again_and_the_table_has_the_quotient(maxtext, tmp_path, capsys):
  name = next(iter(maxtext.COLUMNS))
  for side, cycles in (("lmx", "300"), ("maxtext", "620")):
    with gzip.open(tmp_path / f"{name}-{side}.txt.gz", "wt") as file:
      file.write(PROGRAM.replace('"300"', f'"{cycles}"'))
    answer = {"seconds": 1.0, "memory": MEMORY, "versions": {"jax": "1", "jaxlib": "1", "libtpu": "1"}}
    (tmp_path / f"{name}-{side}.json").write_text(json.dumps(answer))
  maxtext.main([f"--maxtext={tmp_path}", f"--python={sys.executable}", "--columns", name, f"--programs={tmp_path}"])
  printed = capsys.readouterr().out
  assert f"| {name}, lmx | 0 + 0 | 0.50 |" in printed
  assert f"| {name}, maxtext | 0 + 0 |  |" in printed


def test_a_side_that_does_not_compile_is_a_row_of_its_own(maxtext):
  fine = dataclasses.asdict(maxtext.read(PROGRAM, 4, MEMORY, 1.0)) | {"versions": {}}
  text = maxtext.render({"1.3b-v5e": {"lmx": fine, "maxtext": {"error": "RESOURCE_EXHAUSTED"}}})
  assert "| 1.3b-v5e, maxtext | failed |" in text
  assert "RESOURCE_EXHAUSTED" in text
