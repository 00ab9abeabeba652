# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of models: name -> how a spec of it is made and built."""

import dataclasses
from collections.abc import Callable
from typing import Any

from lmx.models.spec import TransformerSpec
from lmx.models.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class ModelFamily:
  """One row of `MODELS`.

  Attributes:
    spec: the record of its sizes and choices, made from the keys of config.model; raises LmxError for bad ones.
    build: (spec, rngs=nnx.Rngs(...)) -> the model.
    objectives: the objectives it can be trained with.
  """

  spec: type[Any]
  build: Callable[..., Any]
  objectives: tuple[str, ...]


MODELS: dict[str, ModelFamily] = {
  "transformer": ModelFamily(TransformerSpec, Transformer, objectives=("causal",)),
}
