# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tokenizer classes of transformers 5 that read only vocabulary and merges and build everything else themselves.

https://github.com/huggingface/transformers/tree/main/src/transformers/models, each model's tokenization file.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as model_format
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

Values = dict[str, Any]
_END, _SPACE = "<|endoftext|>", "\u2581"
# Class -> its special tokens, unless tokenizer_config.json names others.
DEFAULTS: dict[str, dict[str, str]] = {
  "BertTokenizer": {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"},
  "RobertaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
                       "pad_token": "<pad>", "mask_token": "<mask>"},
  "GPT2Tokenizer": {"bos_token": _END, "eos_token": _END},
  "GPTNeoXTokenizer": {"bos_token": _END, "eos_token": _END, "pad_token": "<|padding|>"},
  "Qwen2Tokenizer": {"eos_token": _END, "pad_token": _END},
  "LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>"},
  "GemmaTokenizer": {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "mask_token": "<mask>"},
  "T5Tokenizer": {"eos_token": "</s>", "pad_token": "<pad>"},
}  # fmt: skip
# model_type -> the class that reads its folders if they name none; "": reads a tokenizer.json as it is.
OF_MODELS = {
  "bert": "BertTokenizer", "distilbert": "BertTokenizer", "roberta": "RobertaTokenizer", "gpt2": "GPT2Tokenizer",
  "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "qwen2_moe": "Qwen2Tokenizer", "qwen3_moe": "Qwen2Tokenizer",
  "gemma2": "GemmaTokenizer", "gemma3_text": "GemmaTokenizer", "t5": "T5Tokenizer", "mamba2": "GPTNeoXTokenizer",
  "mistral": "", "mixtral": "", "olmo2": "",
}  # fmt: skip
IGNORES_STATED_CLASS = ("qwen2",)  # model_types whose folders are read with the class above even if they name another.
QWEN_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def rebuilt(model: Mapping[str, Any], kind: str, stated: Mapping[str, Any]) -> Values:
  """The contents of a tokenizer.json as a class would rebuild them.

  Args:
    model: the contents of tokenizer.json.
    kind: a row of `DEFAULTS`; other classes change nothing.
    stated: the contents of tokenizer_config.json.
  """
  values = dict(model)
  needed, build = _BUILDERS.get(kind, ("", None))
  if build is None or values["model"].get("type") != needed:
    return values
  if kind == "LlamaTokenizer" and "ByteLevel" in json.dumps(values.get("pre_tokenizer")):
    return values  # Llama 3 and similar models name this class, but transformers doesn't use it for them.
  shell = Tokenizer(models.BPE({}, []))
  build(shell, values, stated)
  parts = json.loads(shell.to_str())
  return values | {name: parts[name] for name in ("normalizer", "pre_tokenizer", "decoder")}


def _bert(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  keys = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None, **stated}
  shell.normalizer = normalizers.BertNormalizer(
    clean_text=True,
    handle_chinese_chars=keys["tokenize_chinese_chars"],
    strip_accents=keys["strip_accents"],
    lowercase=keys["do_lower_case"],
  )
  shell.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  shell.decoder = decoders.WordPiece(prefix="##")
  cls, sep = (_named(stated, key, "BertTokenizer") for key in ("cls_token", "sep_token"))
  values["post_processor"] = _template(values, [cls, "A0", sep], [cls, "A0", sep, "B1", f"{sep}:1"])


def _byte_level(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  shell.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(stated.get("add_prefix_space")))
  shell.decoder = decoders.ByteLevel()


def _neox(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  _byte_level(shell, values, stated)
  shell.normalizer = normalizers.NFC()


def _roberta(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  _byte_level(shell, values, stated)
  cls, sep = (_named(stated, key, "RobertaTokenizer") for key in ("cls_token", "sep_token"))
  values["post_processor"] = _template(values, [cls, "A0", sep], [cls, "A0", sep, sep, "B0", sep])


def _qwen(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  shell.normalizer = normalizers.NFC()
  level = pre_tokenizers.ByteLevel(add_prefix_space=bool(stated.get("add_prefix_space")), use_regex=False)
  shell.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated"), level])
  shell.decoder = decoders.ByteLevel()


def _llama(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  prefix = stated.get("add_prefix_space") in (None, True)
  scheme = ("always" if stated.get("legacy") else "first") if prefix else "never"
  shell.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=False)
  strip = [decoders.Strip(content=" ", left=1)] if prefix else []
  shell.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])


def _gemma(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  shell.normalizer = normalizers.Replace(" ", _SPACE)
  shell.pre_tokenizer = pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous", invert=False)
  shell.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])


def _t5(shell: Tokenizer, values: Values, stated: Mapping[str, Any]) -> None:
  before = values.get("normalizer") or {}
  steps = before.get("normalizers") or [before]
  kept = [step for step in steps if step.get("type") == "Precompiled"]
  spaces = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=True)
  shell.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces])
  shell.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always", split=True)
  if kept:
    shell.normalizer = Tokenizer.from_str(json.dumps(_EMPTY | {"normalizer": kept[0]})).normalizer
  values["post_processor"] = _template(values, ["A0", "</s>"], ["A0", "</s>", "B0", "</s>"])


_EMPTY = json.loads(Tokenizer(models.BPE({}, [])).to_str())
_BUILDERS: dict[str, tuple[str, Callable[[Tokenizer, Values, Mapping[str, Any]], None]]] = {
  "BertTokenizer": ("WordPiece", _bert),
  "RobertaTokenizer": ("BPE", _roberta),
  "GPT2Tokenizer": ("BPE", _byte_level),
  "GPTNeoXTokenizer": ("BPE", _neox),
  "Qwen2Tokenizer": ("BPE", _qwen),
  "LlamaTokenizer": ("BPE", _llama),
  "GemmaTokenizer": ("BPE", _gemma),
  "T5Tokenizer": ("Unigram", _t5),
}


def _named(stated: Mapping[str, Any], key: str, kind: str) -> str:
  token = stated.get(key) or DEFAULTS[kind][key]
  return token["content"] if isinstance(token, dict) else token


def template(values: Mapping[str, Any], named: Mapping[str, str], stated: Mapping[str, Any]) -> Values | None:
  """The post-processor by add_bos_token and add_eos_token, for a vocabulary without a tokenizer.json.

  Args:
    values: the contents of a tokenizer.json with the vocabulary.
    named: names of special tokens by key ("bos_token").
    stated: the contents of tokenizer_config.json.
  """
  bos = [named["bos_token"]] if stated.get("add_bos_token") and "bos_token" in named else []
  eos = [named["eos_token"]] if stated.get("add_eos_token") and "eos_token" in named else []
  second = [*(f"{one}:1" for one in bos), "B1", *(f"{one}:1" for one in eos)]
  return _template(values, [*bos, "A0", *eos], [*bos, "A0", *eos, *second])


def _template(values: Mapping[str, Any], single: list[str], pair: list[str]) -> Values | None:
  """TemplateProcessing of tokens and texts ("A0": the first text, of type 0); None if the vocabulary lacks a token."""
  tokens = {part.removesuffix(":1") for part in pair if part not in ("A0", "B0", "B1")}
  vocabulary = values["model"]["vocab"]
  ids = vocabulary if isinstance(vocabulary, dict) else {piece: number for number, (piece, _) in enumerate(vocabulary)}
  ids = ids | {token["content"]: token["id"] for token in values["added_tokens"]}
  if not tokens <= ids.keys():
    return None
  special = {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in sorted(tokens)}
  return {"type": "TemplateProcessing", "single": [*map(_part, single)], "pair": [*map(_part, pair)],
          "special_tokens": special}  # fmt: skip


def _part(text: str) -> Values:
  if text in ("A0", "B0", "B1"):
    return {"Sequence": {"id": text[0], "type_id": int(text[1])}}
  return {"SpecialToken": {"id": text.removesuffix(":1"), "type_id": int(text.endswith(":1"))}}


def from_sentencepiece_as(kind: str, model: bytes, stated: Mapping[str, Any]) -> Values | None:
  """The contents of a tokenizer.json with a SentencePiece model's pieces, for a class that builds the rest; else None.

  Args:
    kind: a row of `DEFAULTS`.
    model: the contents of the .model file.
    stated: the contents of tokenizer_config.json.
  """
  proto = model_format.ModelProto.FromString(model)  # type: ignore[attr-defined]
  pieces = [(piece.piece, piece.score) for piece in proto.pieces]
  if kind == "T5Tokenizer":
    extra = stated.get("extra_ids")
    count = 100 if extra is None else int(extra)
    pieces += [(f"<extra_id_{number}>", 0.0) for number in range(count - 1, -1, -1)]
    tokenizer = Tokenizer(models.Unigram(pieces, 2, False))
    special = [piece for piece, _ in pieces[len(proto.pieces) :]]
    if proto.normalizer_spec.precompiled_charsmap:
      tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
  elif kind in ("LlamaTokenizer", "GemmaTokenizer"):
    vocabulary = {piece: number for number, (piece, _) in enumerate(pieces)}
    unknown = {"unk_token": "<unk>"} if kind == "GemmaTokenizer" else {}
    tokenizer = Tokenizer(models.BPE(vocabulary, _merges(vocabulary), fuse_unk=True, byte_fallback=True, **unknown))
    special = []
  else:
    return None
  kinds = proto.SentencePiece
  special += [piece.piece for piece in proto.pieces if piece.type in (kinds.UNKNOWN, kinds.CONTROL)]
  tokenizer.add_special_tokens(special)
  tokenizer.add_tokens([piece.piece for piece in proto.pieces if piece.type == kinds.USER_DEFINED])
  return json.loads(tokenizer.to_str())


def _merges(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
  """All pairs of pieces that merge into a piece, in the order of the merged pieces."""
  merges = []
  for piece in vocabulary:
    halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
    found = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
    merges += sorted(found, key=lambda pair: (len(pair[0]), len(pair[1])))
  return merges
