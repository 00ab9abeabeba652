# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""For changed tokenizer files, lmx's ids and framing are those of AutoTokenizer of `transformers`."""

import importlib
import logging
import random

import pytest

from lmx.data.tokenizers.tokenizer import open_tokenizer
from lmx.errors import LmxError
from tools.fuzz import models

pytestmark = pytest.mark.live
pytest.importorskip("transformers")
TEXTS = ("w1 w2 \u20ac", "W1  w3w2", " w1")


def theirs(folder) -> tuple[list[list[int]], list[int]] | None:
  """(ids of the texts alone, those of the first word framed); None: it takes no such file."""
  try:
    tokenizer = importlib.import_module("transformers").AutoTokenizer.from_pretrained(str(folder))
    texts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    return texts, tokenizer("w1")["input_ids"]
  except Exception:  # It has no error of its own for files that it doesn't take.
    return None


def test_no_change_of_a_tokenizer_gives_other_ids_than_in_transformers(tmp_path):
  logging.disable(logging.CRITICAL)
  alike, otherwise = 0, []
  for number in range(800):
    folder = tmp_path / str(number)
    folder.mkdir()
    case = models.tokenizer(folder, random.Random(f"live {number}"))
    try:
      ours = open_tokenizer("huggingface", str(folder))
    except LmxError:
      continue
    if any(not name.strip() for name in ours.special_tokens):
      continue  # A special token of spaces alone: lmx reads those of a text as text, like all that are typed.
    expected = theirs(folder)
    if expected is None:
      continue
    framed = ours.encode("w1") if ours.own_framing is None else ours.own_framing.single.fill(ours.encode("w1"))[0]
    found = [ours.encode(text).tolist() for text in TEXTS], framed.tolist()
    alike += found == expected
    otherwise += [] if found == expected else [f"{number} {case.base}: {found} {expected}\n{case.shown}"]
  logging.disable(logging.NOTSET)
  assert not otherwise, "\n".join(otherwise[:5])
  assert alike > 80
