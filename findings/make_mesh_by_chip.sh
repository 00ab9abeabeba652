#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# jax 0.10.2: the same mesh on the same 4x4 torus can be made on TPU v5e and not on v6e, and hosts' rows are scattered.
#
# 1. jax.make_mesh((2, 8)) works on v5e:4x4 and raises NotImplementedError on v6e:4x4: it splits dimensions of the torus
#    between axes for some device kinds only. `mesh_utils.create_device_mesh(..., allow_split_physical_axes=True)` does it
#    for all.
# 2. jax.make_mesh((16,)) on v5e:4x4 orders devices as a ring, so the four devices of the first host stand at places
#    0, 1, 6 and 15: a loader that gives each host consecutive rows gives them to the wrong devices.
#
# Nothing needs a TPU: libtpu describes the slices. The same with jax 0.12.0.1 and libtpu 0.0.50.1.
# Output seen (jax 0.10.2, libtpu 0.0.42.1, Python 3.11):
#   v5e:4x4 (2, 8): made
#   v6e:4x4 (2, 8): NotImplementedError
#   v5e:4x4 (16,): host 0 at [0, 1, 6, 15]
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q jax==0.10.2 libtpu==0.0.42.1
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 TPU_ACCELERATOR_TYPE=v5litepod-4 TPU_WORKER_HOSTNAMES=localhost \
  "$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys

import jax
from jax.experimental import topologies
from jax.sharding import AxisType


def mesh(kind, shape):
  devices = topologies.get_topology_desc(platform="tpu", topology_name=f"{kind}:4x4").devices
  axes = tuple("ab"[: len(shape)])
  return jax.make_mesh(shape, axes, axis_types=(AxisType.Auto,) * len(axes), devices=devices)


def outcome(kind):
  try:
    mesh(kind, (2, 8))
  except NotImplementedError as error:
    return type(error).__name__
  return "made"


found = {kind: outcome(kind) for kind in ("v5e", "v6e")}
for kind, result in found.items():
  print(f"{kind}:4x4 (2, 8): {result}")
places = [place for place, device in enumerate(mesh("v5e", (16,)).devices) if device.process_index == 0]
print(f"v5e:4x4 (16,): host 0 at {places}")
sys.exit(0 if found == {"v5e": "made", "v6e": "NotImplementedError"} and places == [0, 1, 6, 15] else 1)
PYTHON
