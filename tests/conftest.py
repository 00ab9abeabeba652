# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every test runs strict: eight simulated devices, no silent broadcasting between ranks, warnings are errors.

Warnings become errors in pyproject.toml, next to the few exceptions and their reasons.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

# Before jax is imported anywhere: these are read once. A test of another platform starts its own process.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's remarks about reused machine code are no test result.

import buckets
import jax
import pytest
import tiny_runs

ROOT = Path(__file__).resolve().parent.parent
DEVICES = 8

jax.config.update("jax_num_cpu_devices", DEVICES)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Everything that took some time to compile is worth keeping.
jax.config.update("jax_compilation_cache_dir", str(tiny_runs.COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="session", autouse=True)
def eight_devices() -> None:
  """Fails at once when something made jax start before this file could ask for its devices."""
  assert jax.device_count() == DEVICES


@pytest.fixture
def repository() -> Path:
  """The root of the clone."""
  return ROOT


@pytest.fixture
def with_qwix(monkeypatch):
  """As if it was installed, for code that does not call it."""
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The text of the runs in tiny_runs.py, next to the cache of its tokens."""
  return tiny_runs.write_text(tmp_path_factory.mktemp("tiny_text"))


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[buckets.BucketServer]:
  """A server of Google Cloud Storage on loopback, which this process's clients use from now on."""
  with buckets.serve() as server, pytest.MonkeyPatch.context() as patch:
    for name, value in server.environment.items():
      patch.setenv(name, value)
    yield server


@pytest.fixture
def bucket(bucket_server: buckets.BucketServer, request: pytest.FixtureRequest) -> str:
  """An empty folder in a bucket of that server."""
  return f"gs://{buckets.NAME}/{request.node.name.replace('[', '_').replace(']', '')[:60]}"
