# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Settings of JAX that hold for a whole process."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from lmx.parallel.compilation_cache import without_compilation_cache


@pytest.fixture
def cache(tmp_path):
  """An empty compilation cache that keeps every program."""
  before = {name: getattr(jax.config, name) for name in ("jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs")}  # fmt: skip
  jax.config.update("jax_compilation_cache_dir", str(tmp_path))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  reset_cache()
  yield tmp_path
  for name, value in before.items():
    jax.config.update(name, value)
  reset_cache()


def test_the_compilation_cache_is_left_alone_between_uses_of_it(cache):
  def kept_by_compiling(power: int) -> int:
    jax.jit(lambda x: x**power + power).lower(jnp.ones(3)).compile()
    return len([file for file in cache.iterdir() if "lambda" in file.name and file.name.endswith("-cache")])

  assert kept_by_compiling(3) == 1
  with without_compilation_cache():
    assert kept_by_compiling(4) == 1
  assert kept_by_compiling(5) == 2
