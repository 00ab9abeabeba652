# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Whether the installed jax, flax, optax, orbax and grain fit lmx and each other, from their metadata alone.

Packages that don't fit fail far from the cause: flax 0.12.9 on jax 0.12 ends in "module 'jax.experimental.hijax' has
no attribute 'HiPrimitive'". Nothing is imported here, so the check works when the packages don't.
"""

import hashlib
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

# What lmx needs at least. pyproject.toml holds the same bounds; a test compares them.
LOWER_BOUNDS = {
  "jax": "0.10.2",
  "flax": "0.12.8",
  "optax": "0.2.8",
  "orbax-checkpoint": "0.12.8",
  "grain": "0.2.18",
}
# (package, from this version on, other package, needs at least): pairs that were tried and found broken below it.
PAIRS = (("jax", "0.12", "flax", "0.12.10"),)
# jax -> the libtpu that every kind of TPU was compiled for with it, by tests/plan/test_tpu.py. docs/tpu.md lists them.
TESTED_LIBTPU = {"0.10.2": "0.0.42.1", "0.12.0.1": "0.0.50.1"}
FIX = 'pip install -U -c constraints.txt "jax" "flax" "orbax-checkpoint" (constraints.txt is a set known to work)'


def parse(version: str) -> tuple[int, ...]:
  """The numbers a version starts with: "0.12.0.1" and "0.12.0.1.dev3" -> (0, 12, 0, 1)."""
  match = re.match(r"\d+(?:\.\d+)*", version)
  return tuple(int(n) for n in match[0].split(".")) if match else ()


def installed(package: str) -> str | None:
  """The version of an installed package, or None."""
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def _bounds(requirement: str) -> list[tuple[str, str]]:
  """(operator, version) pairs of a requirement such as "jax>=0.11.1,<0.13"."""
  return re.findall(r"(>=|<=|<|==|!=|>|~=)\s*([0-9][\w.]*)", requirement.partition(";")[0])


def _breaks(version: str, bound: tuple[str, str]) -> bool:
  operator, limit = bound
  have, want = parse(version), parse(limit)
  return (operator == ">=" and have < want) or (operator == "<=" and have > want) or (operator == "<" and have >= want)


def version_problems(version_of: Callable[[str], str | None] = installed) -> list[str]:
  """One sentence for each package that is missing, too old, or not made for another that is here; empty when all fit.

  Args:
    version_of: package name -> version or None; tests pass their own.
  """
  found = {package: version_of(package) for package in [*LOWER_BOUNDS, "jaxlib"]}
  problems = []
  for package, least in LOWER_BOUNDS.items():
    version = found[package]
    if version is None:
      problems.append(f"{package} is not installed; lmx needs {package} >= {least}")
    elif parse(version) < parse(least):
      problems.append(f"{package} {version} is too old; lmx needs {package} >= {least}")
  for package, since, other, least in PAIRS:
    version, second = found[package], found[other]
    if version and second and parse(version) >= parse(since) and parse(second) < parse(least):
      problems.append(f"{package} {version} needs {other} >= {least}, and {other} {second} is here")
  return problems + (_metadata_problems(found) if version_of is installed else [])


def libtpu_warning(version_of: Callable[[str], str | None] = installed) -> str:
  """Says that the installed jax and libtpu were not tested with each other, and what to install; "" where they were.

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
  """What each package itself says that it needs of the others."""
  problems = []
  for package, version in found.items():
    for requirement in (metadata.requires(package) or []) if version else []:
      other = re.match(r"[\w-]+", requirement)
      second = found.get(other[0].replace("_", "-")) if other and "extra" not in requirement else None
      broken = [limit for limit in _bounds(requirement) if second and _breaks(second, limit)]
      problems += [f"{package} {version} needs {other[0]} {op} {limit}, and {second} is here"
                   for op, limit in broken if other]  # fmt: skip
  return problems


def source_digest(folder: Path) -> str:
  """A digest of the names and contents of all Python files under a folder."""
  digest = hashlib.sha256()
  for file in sorted(folder.rglob("*.py")):
    content = file.read_bytes()
    digest.update(f"{file.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
  return digest.hexdigest()[:16]
