#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# jax 0.10.2: programs compiled for a TPU topology are written to the persistent cache, which can't give them back.
#
# Compiling ahead of time for devices that aren't here fills jax_compilation_cache_dir as any compilation does. The second
# compilation finds the entry, fails to load it (DeserializeLoadedExecutable needs a client), warns, and compiles again:
# a cache that costs disk and never saves anything, and an exception where warnings are errors.
# Nothing needs a TPU: libtpu compiles ahead of time. The same with jax 0.12.0.1 and libtpu 0.0.50.1.
#
# Output seen (jax 0.10.2, libtpu 0.0.42.1, Python 3.11):
#   first: 1 entry, warnings: []
#   second: 1 entry, warnings: ['Error reading persistent compilation cache entry']
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q jax==0.10.2 libtpu==0.0.42.1
mkdir "$folder/cache"
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 TPU_ACCELERATOR_TYPE=v5litepod-4 TPU_WORKER_HOSTNAMES=localhost \
  "$folder/env/bin/python" - "$folder/cache" <<'PYTHON'
import os
import sys
import warnings

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
device = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
x = jax.ShapeDtypeStruct((128, 128), jnp.float32, sharding=SingleDeviceSharding(device))
seen = []
for order in ("first", "second"):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    jax.jit(lambda x: x @ x).lower(x).compile()
  jax.clear_caches()
  texts = [str(one.message).partition(" for ")[0] for one in caught]
  entries = len([name for name in os.listdir(sys.argv[1]) if name.endswith("-cache")])
  seen.append((entries, texts))
  print(f"{order}: {entries} entry, warnings: {texts}")
sys.exit(0 if seen == [(1, []), (1, ["Error reading persistent compilation cache entry"])] else 1)
PYTHON
