# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The compiler options of a step: each backend's own, and what a config adds."""

import pytest

from lmx.config.loading import load
from lmx.experiment.build import abstract_setup
from lmx.parallel.compiler_options import TPU_OPTIONS, VMEM, compiler_options
from lmx.units import CHIPS, chip_of


def test_vector_memory_is_asked_for_on_tpus_alone_and_in_kib():
  assert compiler_options("tpu", "TPU v5 lite", 16)[VMEM] == 16 * 1024
  assert compiler_options("tpu", "TPU v5 lite")[VMEM] == 32 * 1024
  assert compiler_options("tpu", "TPU v5 lite").keys() == TPU_OPTIONS["TPU v5 lite"].keys()
  assert compiler_options("cpu", "cpu", 32) == compiler_options("cuda", "NVIDIA H100", 32) == {}


@pytest.mark.parametrize("kind", TPU_OPTIONS)
def test_collectives_are_fused_on_v5e_alone_and_each_option_has_its_reason(kind):
  """Newer compilers refuse fused collectives on every other chip (tests/plan/test_tpu.py compiles with all of them)."""
  chosen = compiler_options("tpu", kind)
  assert any("async_collective_fusion" in name for name in chosen) == (kind == "TPU v5 lite")
  assert all(len(option.why) > 20 for option in TPU_OPTIONS[kind].values())
  assert chip_of(kind) is not None


def test_every_supported_tpu_has_its_options():
  tpus = {chip.name for chip in CHIPS.values() if "TPU" in chip.name}
  assert {chip_of(kind).name for kind in TPU_OPTIONS} == tpus


def test_a_tpu_of_tomorrow_gets_what_every_tpu_has():
  assert compiler_options("tpu", "TPU v99").keys() == TPU_OPTIONS["TPU v4"].keys()


def test_the_configs_vector_memory_reaches_the_step():
  config = load("configs/cpu.py", ["compute.scoped_vmem=32"])
  network, _ = abstract_setup(config, 1)
  assert network.options.scoped_vmem == 32
