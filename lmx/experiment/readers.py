# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Which keys of a config the rows of lmx's tables read: families, mixers, objectives and optimizers."""

import dataclasses
from collections.abc import Collection
from typing import Any

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config, flatten
from lmx.config.table import keys
from lmx.config.unread import unread_by_row
from lmx.models import MODELS
from lmx.nn.mixers import MIXERS
from lmx.objectives import OBJECTIVES
from lmx.optim.optimizers import OPTIMIZERS


def rows() -> dict[str, dict[str, Collection[str]]]:
  """{the key that chooses a row: {row: the keys of its section that the row reads}}."""
  return {
    "model.family": {name: row.keys for name, row in MODELS.items()},
    "model.mixer": {name: row.keys for name, row in MIXERS.items()},
    "objective.name": {name: row.reads for name, row in OBJECTIVES.items()},
    "optimizer.name": {name: row.hyperparameters for name, row in OPTIMIZERS.items()},
  }


def spec_fields(spec: type[Any]) -> set[str]:
  """The names of a spec's fields."""
  return {field.name for field in dataclasses.fields(spec)}


def unread_keys(config: ConfigDict, *choosers: str) -> list[str]:
  """Messages about changed keys that the chosen rows don't read.

  Args:
    config: the experiment's.
    choosers: keys of `rows`.
  """
  flat, base, tables = flatten(config), flatten(base_config()), rows()
  return [text for chooser in choosers for text in unread_by_row(flat, base, chooser, tables[chooser])]


def readers_of(name: str) -> str:
  """Who reads a key, for people: "sgd, lion (optimizer.name)"; "": every run does."""
  entry, last, tables = keys()[name], name.rpartition(".")[2], rows()
  found = []
  for reader in entry.readers:
    if reader.by_row:
      table = tables[reader.chooser]
      names = [row for row, read in table.items() if last in read]
      found += [f"{', '.join(names)} ({reader.chooser})"] if len(names) < len(table) else []
    else:
      found.append(reader.described())
  return "; ".join(found)
