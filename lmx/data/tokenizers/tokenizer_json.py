# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Converts lmx's tokenizers to a tokenizer.json with the same ids, for `transformers`, CTranslate2 and others.

The converters of `transformers` aren't used: it isn't a dependency, and they don't keep the ids of lossless models.
https://huggingface.co/docs/tokenizers
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as model_format
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from lmx.errors import LmxError

_SPACE = "\u2581"  # SentencePiece's character for a space. The tokenizer.json written here has a plain space.
_UNIGRAM, _BPE, _CHAR = 1, 2, 4  # Values of TrainerSpec.model_type.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # Values of SentencePiece.type.


def byte_level(bos_id: int, eos_id: int) -> str:
  """A tokenizer.json of bytes: ids 0 to 255 in GPT-2's characters for bytes, then start and end of a document."""
  pieces = {character: byte for byte, character in _byte_characters().items()}
  tokenizer = Tokenizer(models.BPE(pieces | {"<s>": bos_id, "</s>": eos_id}, []))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.decoder = decoders.ByteLevel()
  tokenizer.add_special_tokens(["<s>", "</s>"])
  return tokenizer.to_str()


def _byte_characters() -> dict[int, str]:
  """Byte -> character, as in https://github.com/openai/gpt-2/blob/master/src/encoder.py."""
  shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = [byte for byte in range(256) if byte not in shown]
  return {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


def from_sentencepiece(model: bytes, *, marks_are_spaces: bool, where: str) -> str:
  """A SentencePiece model as a tokenizer.json.

  BPE models have the same ids, because merges are ordered by the pieces' scores as in SentencePiece. In a unigram
  model, several segmentations of a text may be equally likely; both programs choose the same one if the scores add up
  exactly, as in models that lmx trains.

  Args:
    model: the contents of a .model file.
    marks_are_spaces: whether U+2581 in a text is encoded as a space; else as bytes.
    where: its path, for messages.

  Raises:
    LmxError: a model that a tokenizer.json can't represent.
  """
  proto = model_format.ModelProto.FromString(model)  # type: ignore[attr-defined]
  kind, spec = proto.trainer_spec.model_type, proto.normalizer_spec
  if kind not in (_UNIGRAM, _BPE, _CHAR) or proto.trainer_spec.treat_whitespace_as_suffix:
    raise LmxError(f"{where}: a tokenizer.json can't hold this kind of SentencePiece model (word pieces or suffixes).")
  pieces = [_plain(piece.piece, piece.type) for piece in proto.pieces]
  if len(set(pieces)) < len(pieces):
    raise LmxError(f"{where}: two pieces differ in U+2581 and space only, which a tokenizer.json can't hold.")
  unknown = next(number for number, piece in enumerate(proto.pieces) if piece.type == _UNKNOWN)
  in_bytes = any(piece.type == _BYTE for piece in proto.pieces)
  scores = [piece.score for piece in proto.pieces]
  inner: models.Model
  if kind == _UNIGRAM:
    inner = models.Unigram(list(zip(pieces, scores, strict=True)), unknown, in_bytes)
  else:
    normal = {name: piece.score for name, piece in zip(pieces, proto.pieces, strict=True) if piece.type == _NORMAL}
    merges = _merges(normal) if kind == _BPE else []
    vocabulary = {name: number for number, name in enumerate(pieces)}
    inner = models.BPE(vocabulary, merges, unk_token=pieces[unknown], fuse_unk=True, byte_fallback=in_bytes)
  tokenizer = Tokenizer(inner)
  if kind == _UNIGRAM and in_bytes:  # Without byte pieces, this would split a run of unknown characters.
    hidden = [name for name, piece in zip(pieces, proto.pieces, strict=True) if piece.type in (_CONTROL, _UNKNOWN)]
    usual = [name for name, piece in zip(pieces, proto.pieces, strict=True) if piece.type in (_NORMAL, _USER_DEFINED)]
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_within(hidden, usual)), "isolated")
  steps = _normalizers(spec, marks_are_spaces)
  if steps:
    tokenizer.normalizer = normalizers.Sequence(steps)
  tokenizer.decoder = decoders.Sequence(
    [decoders.ByteFallback(), decoders.Fuse(), *([decoders.Strip(" ", 1, 0)] if spec.add_dummy_prefix else [])]
  )
  for special in (False, True):
    types = (_CONTROL, _UNKNOWN) if special else (_USER_DEFINED,)
    names = [name for name, piece in zip(pieces, proto.pieces, strict=True) if piece.type in types]
    tokenizer.add_tokens([AddedToken(name, special=special, normalized=False) for name in names])
  return tokenizer.to_str()


def _plain(piece: str, kind: int) -> str:
  return piece.replace(_SPACE, " ") if kind in (_NORMAL, _USER_DEFINED, _UNUSED) else piece


def _within(names: Sequence[str], pieces: Sequence[str]) -> str:
  """A pattern that splits a text inside each name, and inside names of byte pieces, so it never becomes such a piece.

  The split is between two characters that no other piece contains side by side, if the name has such a pair: then it
  can't change how other texts are encoded.

  Args:
    names: of control and unknown pieces.
    pieces: that texts are encoded to.
  """
  pairs = {piece[place : place + 2] for piece in pieces for place in range(len(piece) - 1)}
  splits = []
  for name in (one for one in names if len(one) > 1):
    cut = next((place for place in range(1, len(name)) if name[place - 1 : place + 1] not in pairs), 1)
    splits.append(f"(?<={re.escape(name[:cut])})(?={re.escape(name[cut:])})")
  return "|".join([*splits, "(?<=<)(?=0x[0-9A-F]{2}>)"])


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
  """All pairs of pieces that merge into a piece, ordered by the score of the merged piece."""
  merges = []
  for piece in sorted(scores, key=lambda one: -scores[one]):
    halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
    merges += [(left, right) for left, right in halves if left in scores and right in scores]
  return merges


def _normalizers(spec: Any, marks_are_spaces: bool) -> list[Any]:
  """SentencePiece's normalization of a text, step by step."""
  steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
  if marks_are_spaces:
    steps.append(normalizers.Replace(_SPACE, " "))
  if spec.remove_extra_whitespaces:
    steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
  return [*steps, normalizers.Prepend(" ")] if spec.add_dummy_prefix else steps


def with_added(values: dict[str, Any], names: Sequence[str], first: int, where: str) -> dict[str, Any]:
  """The contents of a tokenizer.json with additional special tokens.

  Args:
    values: the contents of tokenizer.json.
    names: of the tokens, in the order of their ids.
    first: id of the first one.
    where: the tokenizer's name, for messages.

  Raises:
    LmxError: the library would assign other ids.
  """
  if not names:
    return values
  tokenizer = Tokenizer.from_str(json.dumps(values))
  tokenizer.add_special_tokens(list(names))
  for number, name in enumerate(names, first):
    if tokenizer.token_to_id(name) != number:
      found = tokenizer.token_to_id(name)
      raise LmxError(
        f"{where}: a tokenizer.json would give the added token {name!r} the id {found}, and the model has {number}. "
        "Fix: train with a tokenizer whose ids have no gaps and that has no such token."
      )
  return json.loads(tokenizer.to_str())
