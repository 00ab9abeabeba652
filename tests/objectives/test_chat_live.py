# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Chats against `transformers` itself: the same ids, whatever the tokenizer does around special tokens."""

import datetime
import importlib
import json
import warnings
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import tokenizers
from objectives.rewriting import TEMPLATES, TWO_TURNS
from objectives.test_chat_samples import CALLING, SHORT, SPECIAL, TOOLS
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from lmx.data.tokenizers.tokenizer import ByteTokenizer, open_tokenizer, train_sentencepiece
from lmx.objectives.chat_samples import fitted, samples
from lmx.objectives.chat_template import CHATML, ChatTemplate, find_template

pytestmark = pytest.mark.live
TEXT = [
  {"role": "user", "content": " 2 + 2?  \n"},
  {"role": "assistant", "content": "\n4 é ▁ "},
  {"role": "user", "content": "  and\u00a03?"},
  {"role": "assistant", "content": "6"},
]
# Chats that a template takes: all take the first ones.
CHATS = {name: [SHORT, TEXT, *([TWO_TURNS] if name in ("drops", "opens") else [])] for name in TEMPLATES}
CHATS["parts"] = [SHORT, [{"role": "user", "content": [{"type": "text", "text": text} for text in "ab"]}, SHORT[1]]]
KINDS = ("metaspace first", "metaspace always", "metaspace never", "prepended", "bytes")


def library_tokenizer(kind: str, *, lstrip: bool, rstrip: bool) -> tokenizers.Tokenizer:
  """Characters with a few merges, as Llama's and GPT-2's tokenizers read them."""
  if kind == "bytes":
    letters, space = sorted(pre_tokenizers.ByteLevel.alphabet()), "\u0120"
    tokenizer = tokenizers.Tokenizer(models.BPE(*_vocabulary(letters, space)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
  else:
    letters = [*(f"<0x{byte:02X}>" for byte in range(256)), *map(chr, range(33, 127)), "\u2581"]
    model = models.BPE(*_vocabulary(letters, "\u2581"), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(model)
    if kind == "prepended":
      tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
      scheme = kind.split()[1]
      tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
  added = [AddedToken(name, normalized=False) for name in ("<unk>", *SPECIAL[:2])]
  added += [AddedToken(name, lstrip=lstrip, rstrip=rstrip, normalized=False) for name in SPECIAL[2:]]
  tokenizer.add_special_tokens(added)
  tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ("<think>", "</think>", "<call>")])
  return tokenizer


def _vocabulary(letters: list[str], space: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
  merges = [(space, "a"), (space + "a", "n"), (space, "<"), ("y", "o"), (space, "yo"), (space, "4")]
  pieces = ["<unk>", "<s>", "</s>", *letters, *(first + second for first, second in merges)]
  return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}, merges


def theirs(folder: Path):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder)


def write(folder: Path, tokenizer: tokenizers.Tokenizer) -> Path:
  tokenizer.save(str(folder / "tokenizer.json"))
  names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
  (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names}))
  return folder


@pytest.mark.parametrize("strip", ["", "l", "r", "lr"])
@pytest.mark.parametrize("kind", KINDS)
def test_chats_have_the_ids_of_apply_chat_template(kind, strip, tmp_path):
  write(tmp_path, library_tokenizer(kind, lstrip="l" in strip, rstrip="r" in strip))
  other, ours = theirs(tmp_path), open_tokenizer("huggingface", str(tmp_path))
  for name in sorted(TEMPLATES.keys() - {"dated"}):
    template = ChatTemplate(TEMPLATES[name], ours)
    for messages in CHATS[name]:
      expected = other.apply_chat_template(messages, chat_template=TEMPLATES[name])["input_ids"]
      assert template.encode(template.render(messages))[0].tolist() == expected, (name, messages)
      asked = other.apply_chat_template(messages[:-1], chat_template=TEMPLATES[name], add_generation_prompt=True)
      assert template.encode_asked(messages[:-1]).tolist() == asked["input_ids"], (name, messages)
      for one, stop in zip(samples(template, fitted(template, messages, None), None, "apart"),
                           range(2, len(messages) + 1, 2), strict=True):  # fmt: skip
        until = other.apply_chat_template(messages[:stop], chat_template=TEMPLATES[name])["input_ids"]
        assert one.ids.tolist() == until, (name, messages)


@pytest.mark.parametrize("kind", ["metaspace first", "bytes"])
def test_what_is_scored_is_what_their_mask_marks(kind, tmp_path):
  write(tmp_path, library_tokenizer(kind, lstrip=False, rstrip=True))
  other, ours = theirs(tmp_path), open_tokenizer("huggingface", str(tmp_path))
  source = CHATML.replace("START", "bos_token").replace("END", "'<|im_end|>'")
  marked = other.apply_chat_template(TEXT, chat_template=source, return_assistant_tokens_mask=True)
  template = ChatTemplate(source, ours)
  (one,) = samples(template, TEXT, None, "auto")
  assert one.ids.tolist() == marked["input_ids"]
  assert one.scored.astype(int).tolist() == marked["assistant_masks"]


@pytest.mark.parametrize("name", ["calls", "text calls"])
def test_tool_calls_have_the_ids_of_apply_chat_template(name, tmp_path):
  write(tmp_path, library_tokenizer("metaspace first", lstrip=False, rstrip=True))
  other, ours = theirs(tmp_path), open_tokenizer("huggingface", str(tmp_path))
  messages = json.loads(json.dumps(CALLING))
  if name == "text calls":
    messages[1]["tool_calls"][0]["function"]["arguments"] = '{"city":"Ulm"}'
  messages[1]["content"] = None
  template = ChatTemplate(TEMPLATES[name], ours)
  expected = other.apply_chat_template(messages, tools=TOOLS, chat_template=TEMPLATES[name])["input_ids"]
  (one,) = samples(template, fitted(template, messages, TOOLS), TOOLS, "auto")
  assert one.ids.tolist() == expected


def test_a_date_is_written_as_theirs(tmp_path, monkeypatch):
  module = importlib.import_module("transformers.utils.chat_template_utils")

  class Then(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
      return cls(2025, 2, 3)

  monkeypatch.setattr(module, "datetime", Then)
  write(tmp_path, library_tokenizer("bytes", lstrip=False, rstrip=False))
  expected = theirs(tmp_path).apply_chat_template(SHORT, chat_template=TEMPLATES["dated"], tokenize=False)
  ours = ChatTemplate(TEMPLATES["dated"], open_tokenizer("huggingface", str(tmp_path)), date="2025-02-03")
  assert ours.render(SHORT).text == expected


def test_the_built_in_template_is_rendered_by_transformers(tmp_path):
  """Its own words, with another tokenizer: nothing in it is a variable of lmx's."""
  other = theirs(write(tmp_path, library_tokenizer("bytes", lstrip=False, rstrip=False)))
  trained = train_sentencepiece(["some text to train on, and some more of it " * 50], vocab_size=300)
  for tokenizer in (ByteTokenizer(), trained, open_tokenizer("huggingface", str(tmp_path))):
    template = find_template(tokenizer, None)
    expected = other.apply_chat_template(TEXT, chat_template=template.source, tokenize=False)
    assert template.render(TEXT).text == expected
