# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The compiler options of a step: each backend's own, and what a config adds."""

from lmx.build import imagine
from lmx.compiler_options import OPTIONS, compiler_options
from lmx.config import load


def test_vector_memory_is_asked_for_on_tpus_alone_and_in_kib():
  name = "xla_tpu_scoped_vmem_limit_kib"
  assert compiler_options("tpu", 32)[name] == 32 * 1024
  assert name not in compiler_options("tpu")
  assert compiler_options("tpu").keys() == OPTIONS["tpu"].keys()
  assert compiler_options("cpu", 32) == compiler_options("cuda", 32) == {}


def test_the_configs_vector_memory_reaches_the_step():
  config = load("configs/cpu.py", ["compute.scoped_vmem=32"])
  network, _ = imagine(config, 1)
  assert network.options.scoped_vmem == 32
