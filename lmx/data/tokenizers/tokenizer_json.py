# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tokenizers as a tokenizer.json, which `transformers`, CTranslate2 and others read: the same ids for every text.

https://huggingface.co/docs/tokenizers
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as model_format
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from lmx.errors import LmxError

_SPACE = "\u2581"  # How SentencePiece writes a space. A tokenizer.json of ours writes a space.
_UNIGRAM, _BPE, _CHAR = 1, 2, 4  # Of TrainerSpec.model_type.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6  # Of a piece.


def byte_level(bos_id: int, eos_id: int) -> str:
  """Ids 0 to 255 are bytes, in the characters that GPT-2 writes them as; then come the start and the end."""
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
  """A SentencePiece model.

  BPE gives the same ids: a piece is merged where SentencePiece merges it, by its score. In a unigram model, several
  ways to write a text may be equally likely, and which of them is taken is the same where their scores add up exactly,
  as in models that lmx trains.

  Args:
    model: the contents of a .model file.
    marks_are_spaces: whether U+2581 in a text is read as a space; else it becomes bytes.
    where: its path, for messages.

  Raises:
    LmxError: a kind of model that a tokenizer.json can't hold.
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
  if kind == _UNIGRAM and in_bytes:  # Without bytes, a run of unknown characters is one token, which this would cut.
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
  """A pattern for a place in each name, and in byte pieces, where a text is cut: it never becomes such a piece.

  The place is one that none of the `pieces` that texts are made of could reach over, where the name has one.
  """
  pairs = {piece[place : place + 2] for piece in pieces for place in range(len(piece) - 1)}
  apart = []
  for name in (one for one in names if len(one) > 1):
    cut = next((place for place in range(1, len(name)) if name[place - 1 : place + 1] not in pairs), 1)
    apart.append(f"(?<={re.escape(name[:cut])})(?={re.escape(name[cut:])})")
  return "|".join([*apart, "(?<=<)(?=0x[0-9A-F]{2}>)"])


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
  """Every way to make a piece of two others, those of the piece with the highest score first."""
  merges = []
  for piece in sorted(scores, key=lambda one: -scores[one]):
    halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
    merges += [(left, right) for left, right in halves if left in scores and right in scores]
  return merges


def _normalizers(spec: Any, marks_are_spaces: bool) -> list[Any]:
  """What SentencePiece does to a text before it is split, in its order."""
  steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
  if marks_are_spaces:
    steps.append(normalizers.Replace(_SPACE, " "))
  if spec.remove_extra_whitespaces:
    steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
  return [*steps, normalizers.Prepend(" ")] if spec.add_dummy_prefix else steps


def with_added(values: dict[str, Any], names: Sequence[str], first: int, where: str) -> dict[str, Any]:
  """A tokenizer.json with more special tokens.

  Args:
    values: its contents.
    names: of the tokens, in the order of their ids.
    first: the first one's id.
    where: its path, for messages.

  Raises:
    LmxError: the format would give them other ids.
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
        "Fix: train with a tokenizer whose own ids have no gaps and no such token."
      )
  return json.loads(tokenizer.to_str())
