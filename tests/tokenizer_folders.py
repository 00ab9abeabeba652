# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Folders with tokenizers in the layouts of published models."""

import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from exported_models import CORPUS, byte_pairs, word_pieces

LINES = [line for text in CORPUS for line in text.split("\n") if line]


@functools.cache
def _model(kind: str, **options: Any) -> bytes:
  model = io.BytesIO()
  options = {"remove_extra_whitespaces": False, "normalization_rule_name": "identity", **options}
  sizes = {"bpe": 400, "unigram": 85}
  sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, vocab_size=sizes[kind],
                                           model_type=kind, minloglevel=2, **options)  # fmt: skip
  return model.getvalue()


def write(folder: Path, family: str, files: dict[str, Any], vocabulary: tokenizers.Tokenizer | None = None) -> Path:
  """A folder of a model_type with these files, and with a vocabulary's own."""
  folder.mkdir(parents=True)
  for name, content in {"config.json": {"model_type": family}, **files}.items():
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
  if vocabulary is not None:
    vocabulary.model.save(str(folder))
  return folder


def token(content: str, *, special: bool | None = None, **flags: bool) -> dict[str, Any]:
  """A token as `transformers` saves it."""
  plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
  return {"content": content, **plain, **flags, **({} if special is None else {"special": special})}


GPT2 = byte_pairs("<|endoftext|>")
ROBERTA = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERT = word_pieces()
SIZE = GPT2.get_vocab_size()


def _llama(**options: Any) -> bytes:
  return _model("bpe", byte_fallback=True, **options)


def _gemma() -> bytes:
  return _llama(add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                user_defined_symbols="\n,\n\n,<start_of_turn>")  # fmt: skip


def _t5() -> bytes:
  return _model("unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)


def _cased_json() -> dict[str, Any]:
  values = json.loads(BERT.to_str())
  values["normalizer"]["lowercase"] = False
  return values


_LLAMA = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
_MAP = {"bos_token": "<|endoftext|>", "eos_token": token("<|endoftext|>", normalized=True), "pad_token": "<pad>"}
_TOOL = {str(SIZE): token("<tool>", special=False, lstrip=True), str(SIZE + 1): token("<eos>", special=True)}
_IM_END = {"0": token("<|endoftext|>", special=True), str(SIZE): token("<|im_end|>", special=True)}
_EXTRA = [f"<extra_id_{number}>" for number in range(5)]
# Name -> makes the folder.
FOLDERS: dict[str, Callable[[Path], Path]] = {
  "gpt2 with added_tokens.json and special_tokens_map.json": lambda folder: write(
    folder, "gpt2", {"added_tokens.json": {"<new>": SIZE, "<pad>": SIZE + 1}, "special_tokens_map.json": _MAP}, GPT2
  ),
  "gpt2 with added_tokens_decoder and add_prefix_space": lambda folder: write(
    folder, "gpt2", {"tokenizer_config.json": {"add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer",
                                               "added_tokens_decoder": _TOOL, "eos_token": "<eos>"}}, GPT2
  ),
  "roberta": lambda folder: write(folder, "roberta", {"tokenizer_config.json": {"model_max_length": 512}}, ROBERTA),
  "bert, cased": lambda folder: write(
    folder, "bert", {"tokenizer_config.json": {"do_lower_case": False, "strip_accents": True,
                                               "additional_special_tokens": ["[NEW]"]}}, BERT
  ),
  "bert with added_tokens.json": lambda folder: write(
    folder, "bert", {"added_tokens.json": {"[USER]": BERT.get_vocab_size()}}, BERT
  ),
  "llama": lambda folder: write(folder, "llama", {"tokenizer.model": _llama(), "tokenizer_config.json": _LLAMA}),
  "llama with added_tokens.json": lambda folder: write(
    folder, "llama", {"tokenizer.model": _llama(), "added_tokens.json": {"<|im_end|>": 400, "<x y>": 401},
                      "special_tokens_map.json": {"eos_token": token("<|im_end|>"), "pad_token": "</s>"},
                      "tokenizer_config.json": _LLAMA | {"legacy": True, "add_eos_token": True}}
  ),
  "t5": lambda folder: write(folder, "t5", {"spiece.model": _t5()}),
  "t5 with five extra ids": lambda folder: write(
    folder, "t5", {"spiece.model": _t5(), "tokenizer_config.json": {"extra_ids": 5, "tokenizer_class": "T5Tokenizer",
                                                                    "additional_special_tokens": _EXTRA}}
  ),
  "qwen2": lambda folder: write(
    folder, "qwen2", {"tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": _IM_END,
                                                "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}}, GPT2
  ),
  "gemma2": lambda folder: write(
    folder, "gemma2", {"tokenizer.model": _gemma(), "tokenizer_config.json": {
      "tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>",
      "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": None}}
  ),
  "tokenizer.json, tokens named elsewhere": lambda folder: write(
    folder, "qwen3", {"tokenizer.json": GPT2.to_str(),
                      "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>",
                                                "additional_special_tokens": ["<one>"]},
                      "special_tokens_map.json": {"eos_token": "<end2>", "pad_token": token("<pad2>")}}
  ),
  "tokenizer.json of gpt2 with add_prefix_space": lambda folder: write(
    folder, "gpt2", {"tokenizer.json": GPT2.to_str(), "tokenizer_config.json": {
      "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "add_bos_token": True}}
  ),
  "tokenizer.json with a token of the model's own": lambda folder: write(
    folder, "qwen3", {"tokenizer.json": GPT2.to_str(), "tokenizer_config.json": {
      "tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": {"image_token": "<image>"},
      "bos_token": None, "eos_token": "<|endoftext|>"}}
  ),
  "tokenizer.json of a cased bert that says it nowhere else": lambda folder: write(
    folder, "bert", {"tokenizer.json": _cased_json()}
  ),
}  # fmt: skip
