# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 11: every parameter is matched by exactly one rule for decay (and for sharding)."""

import re

import pytest
from jax.sharding import PartitionSpec
from laws import assert_law_catches
from tiny_training import RULES, layout, plan

from lmx.errors import LmxError
from lmx.optim.rules import decay_multipliers, explain


def check_every_parameter_has_exactly_one_rule(multipliers) -> None:
  """Law 11, of a function from rules and names to multipliers."""
  names = list(plan().shapes)
  given = multipliers(RULES, names)
  assert sorted(given) == sorted(names)
  for name in names:
    first = next(value for pattern, value in RULES if re.fullmatch(pattern, name))
    assert given[name] == first
  for broken in (((r".*\.bias", 0.0),), ((r".*\.bia", 0.0), (".*", 1.0)), ((".*", 1.0), (r".*\.bias", 0.0))):
    try:
      multipliers(broken, names)
    except LmxError:
      continue
    raise AssertionError(f"{broken} leaves a parameter or a rule without a match, unnoticed")


def forgiving_multipliers(rules, names):
  """The broken twin: a parameter that no rule matches decays, silently."""
  return {name: next((v for pattern, v in rules if re.fullmatch(pattern, name)), 1.0) for name in names}


def test_every_parameter_is_matched_by_exactly_one_decay_rule():
  check_every_parameter_has_exactly_one_rule(decay_multipliers)
  assert_law_catches(check_every_parameter_has_exactly_one_rule, forgiving_multipliers)


def test_every_parameter_has_exactly_one_sharding():
  shardings = plan().shardings(layout(2, 2, 2))
  assert sorted(shardings) == sorted(plan().shapes)
  assert shardings["layers.0.up"].spec == PartitionSpec(("fsdp", "expert"), "tensor")
  assert shardings["layers.0.bias"].spec == PartitionSpec("tensor")


def test_a_negative_multiplier_is_refused():
  with pytest.raises(LmxError, match="at least 0"):
    decay_multipliers(((".*", -1.0),), ["a"])


def test_the_rules_are_explained_a_line_per_parameter():
  assert explain({"a.bias": 0.0, "kernel": 1.0}, 0.1) == "a.bias  0\nkernel  0.1"
