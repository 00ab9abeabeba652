# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Packages that don't fit each other are named before they fail somewhere else."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from laws import assert_law_catches
from packaging.requirements import Requirement

import lmx
from lmx.versions import LOWER_BOUNDS, TESTED_LIBTPU, libtpu_warning, version_problems

GOOD = {**LOWER_BOUNDS, "jaxlib": "0.10.2"}

WRONG = [
  ({"jax": None}, "jax is not installed; lmx needs jax >= 0.10.2"),
  ({"flax": "0.10.0"}, "flax 0.10.0 is too old; lmx needs flax >= 0.12.8"),
  ({"jax": "0.12.0.1", "flax": "0.12.9"}, "jax 0.12.0.1 needs flax >= 0.12.10, and flax 0.12.9 is installed"),
]


def fits(versions: dict) -> None:
  assert version_problems(versions.get) == []


def test_versions_that_fit_are_passed():
  fits(GOOD)
  fits({**GOOD, "jax": "0.12.0.1", "jaxlib": "0.12.0.1", "flax": "0.12.12"})
  fits({**GOOD, "jax": "0.10.3.dev20260101"})


@pytest.mark.parametrize(("change", "text"), WRONG, ids=[text for _, text in WRONG])
def test_versions_that_do_not_fit_are_named(change, text):
  assert_law_catches(fits, {**GOOD, **change})
  assert version_problems({**GOOD, **change}.get) == [text]


def test_the_installed_versions_fit():
  assert version_problems() == []


@pytest.mark.parametrize(("jax", "libtpu", "expected"), [
  ("0.10.2", "0.0.42.1", ""),
  ("0.12.0.1", "0.0.50.1", ""),
  ("0.10.2", None, ""),
  ("0.10.2", "0.0.52", 'pip install "libtpu==0.0.42.1"'),
  ("0.13", "0.0.60", "pip install -c constraints.txt"),
])  # fmt: skip
def test_a_tpu_s_compiler_that_was_not_tested_with_this_jax_is_named(jax, libtpu, expected):
  warning = libtpu_warning({"jax": jax, "libtpu": libtpu}.get)
  assert (warning == "") == (expected == "")
  assert expected in warning


def test_the_tested_compilers_are_those_of_the_constraints(repository):
  pins: dict[str, list[str]] = {}
  for line in (repository / "constraints.txt").read_text().splitlines():
    name, _, version = line.partition(";")[0].strip().partition("==")
    pins.setdefault(name, []).append(version)
  assert dict(zip(pins["jax"], pins["libtpu"], strict=True)) == TESTED_LIBTPU


@pytest.mark.parametrize(("requirement", "problem"), [
  ("jax<0.5,>=0.4", "needs jax <0.5,>=0.4, and jax"),
  ("orbax_checkpoint ~= 0.1.0", "needs orbax-checkpoint ~=0.1.0, and orbax-checkpoint"),
  ("jax!=0.4", ""),
  ("jax<0.5; extra == 'old'", ""),
  ("jax<0.5; python_version < '3'", ""),
])  # fmt: skip
def test_what_a_package_requires_of_another_is_checked(monkeypatch, requirement, problem):
  monkeypatch.setattr(metadata, "requires", lambda package: [requirement] if package == "flax" else [])
  problems = version_problems()
  assert len(problems) == bool(problem)
  assert problem in "".join(problems)


def test_versions_are_compared_as_numbers():
  assert version_problems((GOOD | {"flax": "0.12.10"}).get) == []
  assert version_problems((GOOD | {"flax": "0.12.7.1"}).get)


def test_the_bounds_are_those_of_pyproject(repository):
  project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
  bounds = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in project["dependencies"])
  assert {name: bounds[name] for name in LOWER_BOUNDS} == LOWER_BOUNDS


def test_the_version_is_that_of_pyproject(repository):
  assert tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"] == lmx.__version__


def test_the_known_good_set_satisfies_the_bounds(repository):
  project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
  pins: dict[str, list[str]] = {}
  for line in (repository / "constraints.txt").read_text().splitlines():
    if not line.startswith("#"):
      name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)(?:; python_version .*)?", line).groups()
      pins.setdefault(name, []).append(version)
  extras = [line for lines in project["optional-dependencies"].values() for line in lines]
  for line in [*project["dependencies"], *extras]:
    requirement = Requirement(line)
    if requirement.name != "lmx":
      assert all(requirement.specifier.contains(version) for version in pins[requirement.name]), line


def test_importing_lmx_imports_nothing_heavy_and_warns_when_packages_do_not_fit():
  code = "import sys, lmx; assert not {'jax', 'flax', 'numpy', 'ml_collections', 'argparse'} & set(sys.modules)"
  subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
  code = (
    "from importlib import metadata; metadata.version = lambda name: '0.0.1'\n"
    "import lmx\n"
    "try:\n  lmx.load\nexcept lmx.LmxError as error:\n  print(error)\n"
  )
  done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
  assert "jax 0.0.1 is too old" in done.stdout
  assert "RuntimeWarning: lmx: jax 0.0.1 is too old" in done.stderr
  assert "Fix: pip install" in done.stdout
