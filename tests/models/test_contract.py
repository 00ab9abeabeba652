# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every family keeps the contract of a model; mypy compares the signatures, this the members."""

import jax
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import DECODERS, ENCODER_DECODERS, SPECIMENS, build

from lmx.models.contract import Decoder, Model, ModelSpec, RecurrentSpec
from lmx.models.lstm import LSTM, LSTMSpec

LSTM_SPEC = LSTMSpec(vocab_size=35, layers=1, width=8, context=16)


@pytest.mark.parametrize("name", ["gpt2", "mamba2", "bert", "t5", "lstm"])
def test_a_family_keeps_the_contract(name):
  spec = LSTM_SPEC if name == "lstm" else SPECIMENS[name]
  model = jax.eval_shape(lambda: LSTM(spec, rngs=nnx.Rngs(0)) if name == "lstm" else build(spec, nnx.Rngs(0)))
  assert isinstance(spec, ModelSpec)
  assert isinstance(model, Model)
  assert model.inputs[0] == "tokens"
  assert hash(spec) == hash(model.spec)
  assert isinstance(model, Decoder) == (name == "lstm" or name in (*DECODERS, *ENCODER_DECODERS))
  assert isinstance(spec, RecurrentSpec) == (name == "lstm")


def test_a_model_without_inputs_is_noticed():
  def keeps(model) -> None:
    assert isinstance(model, Model)

  assert_law_catches(keeps, nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
