# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Per-parameter rules for weight decay, learning rate and freezing."""

from collections.abc import Iterable

from lmx.errors import LmxError, message
from lmx.trees import match_rules

Rules = Iterable[tuple[str, float]]
DECAY_RULES = "config.optimizer.decay_rules"
RATE_RULES = "config.optimizer.lr_rules"


def decay_multipliers(rules: Rules, names: Iterable[str]) -> dict[str, float]:
  """Each parameter's multiplier of the weight decay: the first rule that matches its full name decides.

  Args:
    rules: (regular expression, multiplier) pairs.
    names: every parameter's dotted name.

  Raises:
    LmxError: a parameter that no rule matches, a rule that is never used, or a negative multiplier.
  """
  return _multipliers(rules, names, DECAY_RULES)


def rate_multipliers(rules: Rules, names: Iterable[str]) -> dict[str, float]:
  """Each parameter's multiplier of the learning rate, as `decay_multipliers`; 0 freezes it.

  Raises:
    LmxError: as there, or nothing is left to train.
  """
  rates = _multipliers(rules, names, RATE_RULES)
  if not any(rates.values()):
    raise LmxError(message(RATE_RULES, got="all parameters frozen", allowed="at least one rule above 0 that matches"))
  return rates


def _multipliers(rules: Rules, names: Iterable[str], subject: str) -> dict[str, float]:
  rules = tuple((pattern, multiplier) for pattern, multiplier in rules)
  for pattern, multiplier in rules:
    if multiplier < 0:
      raise LmxError(message(f"{subject}, {pattern!r}", got=multiplier, allowed="a multiplier of at least 0"))
  matched = match_rules(rules, names, subject=subject)
  return {name: float(multiplier) for name, multiplier in matched.items()}


def explain(multipliers: dict[str, float], weight_decay: float) -> str:
  """One line per parameter, for the log: its name and its decay per step, over the learning rate."""
  width = max(map(len, multipliers), default=0)
  return "\n".join(f"{name:<{width}}  {weight_decay * value:g}" for name, value in multipliers.items())
