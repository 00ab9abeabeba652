#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# jax 0.10.2: once a program has been compiled with the persistent cache, its settings are fixed for the whole process.
#
# jax.config.update("jax_enable_compilation_cache", False) is accepted, and later programs are still written to the cache;
# another jax_compilation_cache_dir is accepted, and they still go to the first folder. Only reset_cache() of
# jax.experimental.compilation_cache.compilation_cache makes JAX look at either again. The same with jax 0.12.0.1.
#
# Output seen (jax 0.10.2, Python 3.11):
#   enabled: 1 program kept; switched off: 2; after reset_cache: 2
#   another folder: 0 programs in it; after reset_cache: 1
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q jax==0.10.2
mkdir "$folder/one" "$folder/two"
JAX_PLATFORMS=cpu "$folder/env/bin/python" - "$folder" <<'PYTHON'
import os
import sys

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache.compilation_cache import reset_cache

one, two = (os.path.join(sys.argv[1], name) for name in ("one", "two"))


def kept(power, folder):
  jax.jit(lambda x: x**power + power).lower(jnp.ones(3)).compile()
  return len([name for name in os.listdir(folder) if "lambda" in name and name.endswith("-cache")])


jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_compilation_cache_dir", one)
enabled = kept(2, one)
jax.config.update("jax_enable_compilation_cache", False)
off = kept(3, one)
reset_cache()
off_again = kept(4, one)
print(f"enabled: {enabled} program kept; switched off: {off}; after reset_cache: {off_again}")

jax.config.update("jax_enable_compilation_cache", True)
reset_cache()
kept(5, one)
jax.config.update("jax_compilation_cache_dir", two)
moved = kept(6, two)
reset_cache()
moved_again = kept(7, two)
print(f"another folder: {moved} programs in it; after reset_cache: {moved_again}")
sys.exit(0 if (enabled, off, off_again, moved, moved_again) == (1, 2, 2, 0, 1) else 1)
PYTHON
