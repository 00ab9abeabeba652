# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 for texts, against `transformers` itself: what lmx exports and what people publish, from text to answer."""

import importlib
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from exported_models import TEXTS, exported_run, tokenizer
from golden_models import NAMES

import lmx
from lmx.errors import LmxError
from lmx.hf.families import FAMILIES as FAMILY_NAMES
from lmx.hf.tokenizer_files import Reading

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]
FAMILIES = [next(name for name in NAMES if name.startswith(f"{family}-")) for family in FAMILY_NAMES]
CASES = [(name, "sentencepiece+3") for name in NAMES]
CASES += [(name, kind) for name in FAMILIES for kind in ("bytes", "byte pairs")]
CASES += [("bert-classification-8", kind) for kind in ("char", "unigram", "word pieces")]


def export(name: str, kind: str, folder: Path, **settings) -> lmx.notebook.LoadedRun:
  run = exported_run(name, tokenizer(kind), **settings)
  lmx.to_hf(run, folder, family=name.partition("-")[0])
  return run


def auto_tokenizer(folder: Path):
  return importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_an_exports_tokenizer_gives_lmxs_ids_in_every_family(name, kind, tmp_path):
  reader = tokenizer(kind)
  if name.startswith("roberta") and kind != "roberta":
    with pytest.raises(LmxError, match=r"padding.*id 1"):
      export(name, kind, tmp_path / "out")
    return
  if name.startswith("qwen2-"):
    with pytest.raises(LmxError, match="Qwen2Tokenizer"):
      export(name, kind, tmp_path / "out")
    return
  run = export(name, kind, tmp_path / "out")
  theirs = auto_tokenizer(tmp_path / "out")
  setting = run.setting
  framing = Reading.of(reader, run.model.spec, setting.architecture, setting.framing).framing
  assert len(theirs) == reader.vocab_size
  for text in TEXTS:
    ids = reader.encode(text)
    assert theirs.encode(text, add_special_tokens=False) == ids.tolist(), repr(text)
    assert theirs.encode(text) == framing.single.fill(ids)[0].tolist()
  first, second = map(reader.encode, TEXTS[:2])
  pair, types = framing.pair.fill(first, second)
  found = theirs(TEXTS[0], TEXTS[1])
  assert found["input_ids"] == pair.tolist()
  assert ("token_type_ids" in found) == (setting.token_types > 1)
  if "token_type_ids" in found:
    assert found["token_type_ids"] == types.tolist()
