# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of models: name -> how a spec of it is made and built."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from lmx.models.contract import Model
from lmx.models.encoder import Encoder
from lmx.models.encoder_decoder import EncoderDecoder
from lmx.models.lstm import LSTM, LSTMSpec
from lmx.models.spec import EncoderDecoderSpec, EncoderSpec, TransformerSpec
from lmx.models.transformer import Transformer
from lmx.nn.mixers import MIXERS


@dataclasses.dataclass(frozen=True)
class ModelFamily:
  """One row of `MODELS`.

  Attributes:
    spec: the record of its sizes and choices, made from the keys of config.model; raises LmxError for bad ones.
    build: (spec, rngs=nnx.Rngs(...)) -> the model; its contract is in lmx/models/contract.py.
  """

  spec: type[Any]
  build: Callable[..., Model]

  @property
  def keys(self) -> set[str]:
    """The keys of config.model that the family reads, those of its mixers included."""
    fields = {field.name for field in dataclasses.fields(self.spec)}
    return fields.union(*(row.keys for row in MIXERS.values())) if "mixer_options" in fields else fields

  def make_spec(self, given: Mapping[str, Any]) -> Any:
    """The record from the values that the family, and the mixer that it names, read; others are left out.

    Raises:
      LmxError: see `spec`.
    """
    fields = {field.name for field in dataclasses.fields(self.spec)}
    read = {key: value for key, value in given.items() if key in fields}
    if "mixer_options" in fields and (row := MIXERS.get(given.get("mixer", "attention"))) is not None:
      read["mixer_options"] = tuple((key, given[key]) for key in row.keys if key not in fields)
    return self.spec(**read)


MODELS: dict[str, ModelFamily] = {
  "transformer": ModelFamily(TransformerSpec, Transformer),
  "encoder": ModelFamily(EncoderSpec, Encoder),
  "encoder_decoder": ModelFamily(EncoderDecoderSpec, EncoderDecoder),
  "lstm": ModelFamily(LSTMSpec, LSTM),
}
