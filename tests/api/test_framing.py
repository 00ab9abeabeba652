# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""config.tokenizer.framing: which special tokens texts get, in generation, losses, tasks and older runs."""

import dataclasses
import json

import numpy as np
import pytest
from exported_models import exported_run, tokenizer

from lmx.api.tasks import text_prompts
from lmx.config import loading as configs
from lmx.config.run_config import start_from
from lmx.errors import LmxError
from lmx.experiment.train_setup import make_context

TEXT = "The quick brown fox"


@pytest.fixture(scope="module")
def imported():
  """A Qwen as it is imported, with a tokenizer that adds nothing to a text."""
  return exported_run("qwen3-language-4", tokenizer("byte pairs"))


def prompt(run, framing: str | None = None) -> list[int]:
  return text_prompts([TEXT], run._setting(framing), run.config.objective.name).ids[0].tolist()


def test_an_imported_model_reads_a_prompt_as_its_tokenizer_frames_it_and_a_trained_one_as_a_document(imported):
  ids, bos = imported.tokenizer.encode(TEXT).tolist(), imported.tokenizer.bos_id
  assert imported.config.tokenizer.framing == "own"
  assert prompt(imported) == ids
  assert prompt(imported, "document") == [bos, *ids]
  trained = dataclasses.replace(imported, config=configs.from_json(configs.to_json(imported.config)))
  trained.config.tokenizer.framing = "auto"
  assert prompt(trained) == [bos, *ids]
  assert text_prompts([""], imported.setting, "causal").ids[0].tolist() == [bos]
  with pytest.raises(LmxError, match=r"framing: got 'bos'.*document, own"):
    imported.generate(TEXT, framing="bos")


def test_a_loss_counts_the_tokens_that_have_a_token_before_them(imported):
  ids, offsets = imported.tokenizer.encode_with_offsets(TEXT)
  own, document = imported.loss(TEXT), imported.loss(TEXT, framing="document")
  assert (own.tokens, document.tokens) == (len(ids) - 1, len(ids) + 1)
  assert (own.bytes, document.bytes) == (len(TEXT) - int(offsets[0, 1]), len(TEXT))
  assert own.nats != pytest.approx(document.nats)
  with pytest.raises(LmxError, match=r"text, tokens: got 1.*framing=.document"):
    imported.loss("T")


def test_auto_is_a_document_for_objectives_that_read_documents_and_the_tokenizers_own_for_others():
  config = configs.load("configs/base.py")
  kinds = {}
  for name in ("causal", "masked", "prefix", "classification", "chat", "contrastive", "seq2seq", "span"):
    config.objective.name = name
    kinds[name] = make_context(config, tokenizer("bytes")).framing
  assert kinds == dict.fromkeys(("causal", "masked", "prefix"), "document") | dict.fromkeys(
    ("classification", "chat", "contrastive", "seq2seq", "span"), "own"
  )


def test_a_run_from_before_the_key_keeps_the_tokens_it_was_trained_with(tmp_path):
  values = json.loads(configs.to_json(configs.load("configs/base.py")))
  assert configs.from_json(json.dumps(values)).tokenizer.framing == "auto"
  del values["tokenizer"]["framing"]
  assert configs.from_json(json.dumps(values)).tokenizer.framing == "document"


@pytest.mark.parametrize(("before", "after"), [("own", "auto"), ("document", "document"), ("auto", "auto")])
def test_a_fine_tune_of_an_imported_model_frames_texts_as_its_objective_needs(before, after, tmp_path):
  config = configs.load("configs/base.py")
  config.tokenizer.framing = before
  (tmp_path / "config.json").write_text(configs.to_json(config))
  assert start_from(configs.base_config(), tmp_path).tokenizer.framing == after


def test_every_prompt_of_an_encoder_decoder_ends_as_its_tokenizer_says():
  run = exported_run("t5-language-0", tokenizer("byte pairs"))
  ids = run.tokenizer.encode(TEXT)
  np.testing.assert_array_equal(prompt(run), [*ids, run.tokenizer.eos_id])
