# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Changed files of a model's directory: config.json, the small files next to it, and the tokenizer's."""

import json
import random
from pathlib import Path
from typing import Any

from lmx.data.tokenizers.tokenizer import open_tokenizer
from lmx.hf.description import describe, make_spec
from lmx.hf.generation import read_generation
from lmx.hf.sentence import read_sentence_model
from tools.fuzz.loop import Case
from tools.fuzz.mutations import change_file

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "hf" / "golden"
_CONFIG_NAMES = ("rope_scaling", "rope_parameters", "layer_types", "head_dim", "text_config", "num_labels")
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 16}  # fmt: skip
_SMALL: dict[str, Any] = {
  "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                   {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
  "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
  "sentence_bert_config.json": {"max_seq_length": 24, "do_lower_case": False},
  "config_sentence_transformers.json": {"prompts": {"query": ""}, "default_prompt_name": None},
  "generation_config.json": {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2],
                             "bad_words_ids": [[3]], "num_beams": 2, "max_length": 20},
}  # fmt: skip
_TOKENIZER_NAMES = ("bos_token", "eos_token", "chat_template", "added_tokens_decoder", "model_max_length", "vocab")
_PIECES = {piece: n for n, piece in enumerate(("<pad>", "<s>", "</s>", "<unk>", *(f"w{n}" for n in range(20))))}
_LETTERS = {piece: n for n, piece in enumerate(("<pad>", "<s>", "</s>", "<unk>", "\u2581", *"w0123456789", "w1"))}
_FRAME = {"type": "TemplateProcessing",
          "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
          "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
          "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}  # fmt: skip
_MODELS: dict[str, dict[str, Any]] = {
  "words": {"model": {"type": "WordLevel", "vocab": _PIECES, "unk_token": "<unk>"},
            "pre_tokenizer": {"type": "Whitespace"}},
  "word pieces": {"model": {"type": "WordPiece", "vocab": _PIECES, "unk_token": "<unk>",
                            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
                  "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                                 "strip_accents": None, "lowercase": True},
                  "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": _FRAME},
  "pairs": {"model": {"type": "BPE", "vocab": _LETTERS, "merges": [["w", "1"]], "unk_token": "<unk>",
                      "byte_fallback": False, "fuse_unk": True},
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"},
                           {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False},
            "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False},
            "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                        "pad_type_id": 0, "pad_token": "<pad>"}, "post_processor": _FRAME},
  "unigram": {"model": {"type": "Unigram", "unk_id": 3, "vocab": [[piece, -float(n)] for piece, n in _LETTERS.items()],
                        "byte_fallback": False},
              "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                                {"type": "Digits", "individual_digits": True}]}},
}  # fmt: skip


def _text(file: Path) -> str:
  return file.read_bytes().decode(errors="replace")


def config(folder: Path, pick: random.Random) -> Case:
  """A config.json of every family."""
  source = pick.choice(sorted(GOLDEN.glob("*/config.json")))
  file, values = folder / "config.json", json.loads(source.read_text())
  if "hidden_act" in values and pick.random() < 0.3:
    values |= {"rope_theta": 1e4, "rope_scaling": _LLAMA3}
    values.pop("rope_parameters", None)
  file.write_text(json.dumps(values))
  change_file(file, pick, _CONFIG_NAMES)

  def read() -> bool:
    found = describe(folder)
    make_spec(found.model, vocab_size=found.vocab_size, head=found.head, outputs=found.outputs)
    return True

  return Case(source.parent.name.partition("-")[0], _text(file), read)


def small(folder: Path, pick: random.Random) -> Case:
  """A file of sentence-transformers, or generation_config.json."""
  (folder / "1_Pooling").mkdir()
  for name, values in _SMALL.items():
    (folder / name).write_text(json.dumps(values))
  name = pick.choice(list(_SMALL))
  change_file(folder / name, pick, ("pooling_mode", "top_k", "max_new_tokens", "transformer_task"))

  def read() -> bool:
    read_sentence_model(folder, 16)
    read_generation(folder)
    return True

  return Case(name, _text(folder / name), read)


def tokenizer(folder: Path, pick: random.Random) -> Case:
  """A tokenizer.json of each kind of model, or the tokenizer_config.json next to it."""
  base = pick.choice(list(_MODELS))
  special = [{"id": n, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for piece, n in list(_PIECES.items())[:3]]  # fmt: skip
  parts = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
  whole = {"version": "1.0", **parts, "added_tokens": special, **_MODELS[base]}
  (folder / "tokenizer.json").write_text(json.dumps(whole))
  named = {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>"}, "pad_token": "<pad>",
           "chat_template": "{{ messages }}"}  # fmt: skip
  (folder / "tokenizer_config.json").write_text(json.dumps(named))
  file = folder / pick.choice(("tokenizer.json", "tokenizer.json", "tokenizer_config.json"))
  change_file(file, pick, _TOKENIZER_NAMES)

  def read() -> bool:
    found = open_tokenizer("huggingface", str(folder))
    found.decode(found.encode("w1 w2 \u20ac"))
    return True

  return Case(f"{base}, {file.name}", _text(file), read)
