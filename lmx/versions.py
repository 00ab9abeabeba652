# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Versions of the installed jax, flax, optax, orbax and grain: whether they fit lmx and each other, by their metadata.

Packages that don't fit fail far from the cause: flax 0.12.9 on jax 0.12 ends in "module 'jax.experimental.hijax' has
no attribute 'HiPrimitive'". None of them is imported here, so the check works when they can't be.
"""

import hashlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# The oldest versions that lmx works with. pyproject.toml has the same bounds; a test compares them.
LOWER_BOUNDS = {
  "jax": "0.10.2",
  "flax": "0.12.8",
  "optax": "0.2.8",
  "orbax-checkpoint": "0.12.8",
  "grain": "0.2.18",
}
# (package, from version, other package, needs at least): pairs that were tried and are broken below it.
PAIRS = (("jax", "0.12", "flax", "0.12.10"),)
# jax -> the libtpu with which tests/plan/test_tpu.py compiles for every kind of TPU. docs/tpu.md lists them.
TESTED_LIBTPU = {"0.10.2": "0.0.42.1", "0.12.0.1": "0.0.50.1"}
FIX = 'pip install -U -c constraints.txt "jax" "flax" "orbax-checkpoint" (constraints.txt is a set known to work)'


def installed(package: str) -> str | None:
  """The version of an installed package, or None."""
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def version_problems(version_of: Callable[[str], str | None] = installed) -> list[str]:
  """One phrase for each package that is missing, too old, or incompatible with another one; empty when all fit.

  Args:
    version_of: package name -> version or None; tests pass their own.
  """
  found = {package: version_of(package) for package in [*LOWER_BOUNDS, "jaxlib"]}
  problems = []
  for package, least in LOWER_BOUNDS.items():
    version = found[package]
    if version is None:
      problems.append(f"{package} is not installed; lmx needs {package} >= {least}")
    elif Version(version) < Version(least):
      problems.append(f"{package} {version} is too old; lmx needs {package} >= {least}")
  for package, since, other, least in PAIRS:
    version, second = found[package], found[other]
    if version and second and Version(version) >= Version(since) and Version(second) < Version(least):
      problems.append(f"{package} {version} needs {other} >= {least}, and {other} {second} is installed")
  return problems + (_metadata_problems(found) if version_of is installed else [])


def libtpu_warning(version_of: Callable[[str], str | None] = installed) -> str:
  """A warning if the installed jax and libtpu were not tested together, with what to install; "" if they were.

  Newer compilers refuse options that older ones took, and jax 0.10.2 with libtpu 0.0.52 fails on every TPU7x program
  that communicates.

  Args:
    version_of: package name -> version or None; tests pass their own.
  """
  jax, libtpu = version_of("jax"), version_of("libtpu")
  if libtpu is None or jax is None or TESTED_LIBTPU.get(jax) == libtpu:
    return ""
  pairs = "; ".join(f"jax {one} with libtpu {other}" for one, other in TESTED_LIBTPU.items())
  wanted = TESTED_LIBTPU.get(jax)
  fix = f'pip install "libtpu=={wanted}"' if wanted else "pip install -c constraints.txt 'lmx[tpu]'"
  return f"jax {jax} with libtpu {libtpu} is not tested; tested: {pairs}. Fix: {fix}"


def _metadata_problems(found: dict[str, str | None]) -> list[str]:
  """The requirements of each package that the version of another one does not meet."""
  problems = []
  for package, version in found.items():
    for line in (metadata.requires(package) or []) if version else []:
      needed = Requirement(line)
      other = canonicalize_name(needed.name)
      second = found.get(other)
      applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
      if second and applies and not needed.specifier.contains(second, prereleases=True):
        problems.append(f"{package} {version} needs {other} {needed.specifier}, and {other} {second} is installed")
  return problems


def source_digest(folder: Path) -> str:
  """A digest of the names and contents of all Python files under a folder, 16 hexadecimal digits."""
  digest = hashlib.sha256()
  for file in sorted(folder.rglob("*.py")):
    content = file.read_bytes()
    digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
  return digest.hexdigest()[:16]
