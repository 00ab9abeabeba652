# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""SentencePiece tokenizers: trained by lmx so that decoding is lossless, or loaded from a .model file.

https://github.com/google/sentencepiece, https://arxiv.org/abs/1808.06226
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_format

from lmx.data.tokenizers.huggingface_tokenizer import HuggingFaceTokenizer
from lmx.data.tokenizers.published_tokenizer import read_published
from lmx.data.tokenizers.special_tokens import chat_template, read_config, read_config_file
from lmx.data.tokenizers.tokenizer_classes import from_sentencepiece_as
from lmx.data.tokenizers.tokenizer_json import from_sentencepiece
from lmx.data.tokenizers.vocabulary import Tokenizer, cpu_count, digest, read_file, round_trips
from lmx.errors import LmxError, choose, message

MODEL_FILE = "tokenizer.model"
MODEL_TYPES = {"bpe": "bpe", "unigram": "unigram", "char": "char"}
_SPACE = "\u2581"  # SentencePiece represents a space by this character, so the character itself is encoded as bytes.
_CHUNK = 16384  # Characters per call of the library; a longer text is split after a newline, which is always one piece.
_GRID = 256  # Scores of unigram models trained by lmx are multiples of 1 / 256, so a chunk's sums are exact in float32.
_MAX_LINE = 4000  # Characters per training sentence.


class SentencePieceTokenizer(Tokenizer):
  """A SentencePiece model.

  Models trained by lmx are lossless: no normalization, no added or removed spaces, bytes for unseen characters. Only
    the type `char` has no byte pieces, so that its vocabulary is the characters of the training text.
  """

  kind = "sentencepiece"

  def __init__(self, model: bytes, where: str = "tokenizer", template: str | None = None):
    """Reads a model.

    Args:
      model: the contents of a .model file.
      where: its path, for messages.
      template: the chat template.

    Raises:
      LmxError: not a SentencePiece model, or one without an end-of-sentence piece.
    """
    self.model, self._where = model, where
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.load_from_serialized_proto(model)
      self._own_sentinels = _sentinels(self._processor)
      if self._own_sentinels:
        self._processor.load_from_serialized_proto(_as_controls(model, self._own_sentinels))
    except (RuntimeError, ValueError, OSError) as error:
      raise LmxError(
        f"{where} is not a SentencePiece model: {error}. Fix: --config.tokenizer.kind=huggingface for a tokenizer.json"
      ) from error
    self.vocab_size = self._processor.vocab_size()
    if self._processor.eos_id() < 0:
      raise LmxError(
        f"{where} has no end-of-sentence piece, so documents would have no end. Fix: train it with an eos_id."
      )
    self.eos_id = self._processor.eos_id()
    self.bos_id = self._processor.bos_id() if self._processor.bos_id() >= 0 else self.eos_id
    self.pad_id = self._processor.pad_id() if self._processor.pad_id() >= 0 else self.eos_id
    self.cls_id = self._find("[CLS]", self.bos_id)
    self.sep_id = self._find("[SEP]", self.eos_id)
    self._own_mask_id = self._find("[MASK]", self._find("<mask>"))
    self.chat_template = template
    self.name = f"sentencepiece {self.vocab_size}"
    self.fingerprint = digest("sentencepiece", model)
    unknown = self._processor.unk_id()
    space_bytes = [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in _SPACE.encode()]
    normalizer = model_format.ModelProto.FromString(model).normalizer_spec  # type: ignore[attr-defined]
    self.prefixes_space = bool(normalizer.add_dummy_prefix)
    # In a lossless model U+2581 in a text is encoded as its three bytes; SentencePiece would read it as a space.
    in_bytes = not self.prefixes_space and unknown not in space_bytes
    self._space_ids = np.array(space_bytes, np.int32) if in_bytes else None
    self._splits = False  # Until round_trips has shown that splitting a text can't change its ids.
    self.lossless = round_trips(self)
    self._splits = self.lossless and self._processor.piece_to_id("\n") != unknown
    self.unknown_id = unknown
    self.unk_id = None if self.lossless else unknown

  def _find(self, piece: str, otherwise: int | None = None) -> Any:
    """The id of a control piece, else `otherwise`."""
    token = self._processor.piece_to_id(piece)
    return token if token != self._processor.unk_id() and self._processor.is_control(token) else otherwise

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    parts: list[str] = []
    plans = []  # Of each text: its range of parts, and after which of them U+2581 follows.
    for text in texts:
      first = len(parts)
      marks = self._add_parts(text, parts)
      plans.append((first, len(parts), marks))
    ids = self._processor.encode(parts, out_type="numpy", num_threads=min(cpu_count(), len(parts))) if parts else []
    return [self._join(ids[first:stop], marks) for first, stop, marks in plans]

  def _add_parts(self, text: str, parts: list[str]) -> frozenset[int]:
    """Appends the parts of a text that are encoded separately; returns those that U+2581 follows in the text."""
    if self._space_ids is None or _SPACE not in text:
      parts.extend(self._chunks(text))
      return frozenset()
    first, marks = len(parts), set()
    segments = text.split(_SPACE)
    for index, segment in enumerate(segments):
      parts.extend(self._chunks(segment))
      if index < len(segments) - 1:
        marks.add(len(parts) - first - 1)
    return frozenset(marks)

  def _chunks(self, text: str) -> Iterator[str]:
    start = 0
    while self._splits and len(text) - start > _CHUNK:
      cut = text.find("\n", start + _CHUNK) + 1
      if not cut:
        break
      yield text[start:cut]
      start = cut
    yield text[start:] if start else text

  def _join(self, ids: list[np.ndarray], marks: frozenset[int]) -> np.ndarray:
    if not marks:
      return ids[0] if len(ids) == 1 else np.concatenate(ids)
    assert self._space_ids is not None
    joined: list[np.ndarray] = []
    for index, part in enumerate(ids):
      joined.append(part)
      if index in marks:
        joined.append(self._space_ids)
    return np.concatenate(joined).astype(np.int32)

  def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    parts: list[str] = []
    marks = self._add_parts(text, parts)
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    begin = 0
    for index, part in enumerate(parts):
      places = _character_of_byte(part, begin)
      for piece in self._processor.encode(part, return_type="proto").pieces:
        ids.append(piece.id)
        offsets.append((places[piece.begin], places[piece.end]))
      begin += len(part)
      if index in marks:
        assert self._space_ids is not None
        ids.extend(self._space_ids.tolist())
        offsets.extend([(begin, begin + 1)] * len(self._space_ids))
        begin += 1
    self._widen_bytes(ids, offsets)
    return np.array(ids, np.int32), np.array(offsets, np.int32).reshape(-1, 2)

  def _widen_bytes(self, ids: list[int], offsets: list[tuple[int, int]]) -> None:
    """Gives every byte piece of a character the character's offsets; SentencePiece gives them only to the last one."""
    for index in range(len(ids) - 2, -1, -1):
      begin, end = offsets[index]
      if begin == end and self._processor.is_byte(ids[index]):
        offsets[index] = offsets[index + 1]

  def decode(self, ids: Iterable[int]) -> str:
    return self._processor.decode([int(i) for i in ids if i < self.own_size])

  def _own_piece(self, token: int) -> str:
    return self._processor.id_to_piece(token).replace(_SPACE, " ")

  def _own_word_starts(self) -> np.ndarray:
    pieces = [self._processor.id_to_piece(i) for i in range(self.own_size)]
    special = [self._processor.is_control(i) for i in range(self.own_size)]
    return np.array([c or p.startswith((_SPACE, " ", "\n", "\t")) for p, c in zip(pieces, special, strict=True)])

  def own_json(self) -> dict[str, Any]:
    model = _as_controls(self.model, self._own_sentinels)
    return json.loads(from_sentencepiece(model, marks_are_spaces=self._space_ids is None, where=self._where))

  @property
  def json_is_exact(self) -> bool:
    """As `Tokenizer.json_is_exact`; False for a unigram model whose scores aren't multiples of 1 / _GRID."""
    proto = model_format.ModelProto.FromString(self.model)  # type: ignore[attr-defined]
    normal = (piece.score for piece in proto.pieces if piece.type == proto.SentencePiece.NORMAL)
    return proto.trainer_spec.model_type != proto.trainer_spec.UNIGRAM or all(
      (score * _GRID).is_integer() for score in normal
    )

  def save_files(self, directory: Path) -> None:
    (directory / MODEL_FILE).write_bytes(self.model)


def load_sentencepiece(path: Path, subject: str) -> Tokenizer:
  """Loads a .model file, or a directory with one; in a published folder, with the settings next to it.

  Raises:
    LmxError: the file doesn't exist or isn't a SentencePiece model.
  """
  file = path / MODEL_FILE if path.is_dir() else path
  template = chat_template(file.parent, read_config(read_config_file(file.parent), str(file)))
  plain = SentencePieceTokenizer(read_file(file, subject), str(file), template)
  published = read_published(file.parent)
  if published is None:
    return plain
  values = from_sentencepiece_as(published.kind, plain.model, published.values)
  model, config = published.finish(plain.own_json() if values is None else values, from_json=False)
  return HuggingFaceTokenizer(model, config, str(file), template)


def _sentinels(processor: sentencepiece.SentencePieceProcessor) -> tuple[int, ...]:
  """Ids of <extra_id_0>, <extra_id_1>, ... (or with U+2581 before them), up to the first that doesn't exist."""
  found: list[int] = []
  while True:
    name = f"<extra_id_{len(found)}>"
    tokens = [processor.piece_to_id(piece) for piece in (name, _SPACE + name)]
    known = [token for token in tokens if token != processor.unk_id()]
    if not known:
      return tuple(found)
    found.append(known[0])


def _as_controls(model: bytes, tokens: Iterable[int]) -> bytes:
  """The model with these pieces turned into control pieces, which text is never encoded to."""
  proto = model_format.ModelProto.FromString(model)  # type: ignore[attr-defined]
  for token in tokens:
    proto.pieces[token].type = proto.SentencePiece.CONTROL
  return proto.SerializeToString()


def _character_of_byte(text: str, begin: int) -> np.ndarray:
  """(bytes + 1,) the index of the character at each byte of the text in UTF-8, and at its end, counted from `begin`."""
  sizes = [len(character.encode()) for character in text]
  return np.append(np.repeat(np.arange(begin, begin + len(text)), sizes), begin + len(text)).astype(np.int32)


def train_sentencepiece(
  texts: Iterable[str],
  *,
  vocab_size: int,
  model_type: str = "bpe",
) -> SentencePieceTokenizer:
  """Trains a lossless SentencePiece model.

  Identity normalization, bytes for rare characters, digits split, newline a separate piece, runs of spaces kept and
  learned. Ids: 0 unknown, 1 start, 2 end of a document.

  Args:
    texts: documents.
    vocab_size: number of pieces, special and byte pieces (256) included. Ignored for model_type "char", whose
      vocabulary is the characters of the texts.
    model_type: bpe | unigram | char.

  Raises:
    LmxError: no text, or a vocabulary that is larger than the text supports or smaller than its characters need.
  """
  choose("config.tokenizer.model_type", model_type, MODEL_TYPES)
  if model_type == "char":
    seen: set[str] = set()
    for text in texts:
      seen.update(text)
    return _train_characters(seen)
  sentences = (sentence for text in texts for sentence in _sentences(text))
  options = {"byte_fallback": True, "user_defined_symbols": ["\n"]}
  model = _train(sentences, vocab_size=vocab_size, model_type=model_type, **options)
  return SentencePieceTokenizer(_on_grid(model) if model_type == "unigram" else model)


def _on_grid(model: bytes) -> bytes:
  """A unigram model with its pieces' scores rounded to multiples of 1 / _GRID.

  SentencePiece adds scores in float32, readers of a tokenizer.json in float64. If two segmentations of a text have the
  same score, both take the first one, unless rounding makes the scores differ; on this grid the sums are exact.
  """
  proto = model_format.ModelProto.FromString(model)  # type: ignore[attr-defined]
  for piece in proto.pieces:
    if piece.type == proto.SentencePiece.NORMAL:
      piece.score = round(piece.score * _GRID) / _GRID
  return proto.SerializeToString()


def _sentences(text: str) -> Iterator[str]:
  for line in text.split("\n"):
    for start in range(0, len(line), _MAX_LINE):
      yield line[start : start + _MAX_LINE]


def _train_characters(seen: set[str]) -> SentencePieceTokenizer:
  """A vocabulary of single characters. Control characters are user-defined symbols, or the trainer would drop them."""
  seen -= {_SPACE}
  controls = sorted(c for c in seen if not c.isprintable())
  plain = sorted(seen - set(controls) - {" "})
  if not plain:
    raise LmxError("The training text has no printable character. Fix: --config.data.sources=PATH of other text")
  # As words of one character each, because the trainer's alphabet consists of the characters that it counts.
  sentences = (" ".join(plain[start : start + 1000]) for start in range(0, len(plain), 1000))
  size = 3 + len(controls) + len(plain) + 1
  return SentencePieceTokenizer(
    _train(
      sentences,
      vocab_size=size,
      model_type="char",
      byte_fallback=False,
      user_defined_symbols=controls,
      hard_vocab_limit=False,
    )
  )


def _train(sentences: Iterable[str], *, vocab_size: int, model_type: str, **options) -> bytes:
  model = io.BytesIO()
  # bpe and unigram encode the rarest characters as bytes; a coverage of 0.9995 spends no pieces on stray characters.
  coverage = 1.0 if model_type == "char" else 0.9995
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(sentences),
      model_writer=model,
      vocab_size=vocab_size,
      model_type=model_type,
      character_coverage=coverage,
      normalization_rule_name="identity",
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      allow_whitespace_only_pieces=True,
      split_digits=True,
      max_sentence_length=1 << 16,
      unk_id=0,
      bos_id=1,
      eos_id=2,
      pad_id=-1,
      minloglevel=2,
      **options,
    )
  except (RuntimeError, ValueError) as error:
    raise LmxError(_training_problem(str(error), vocab_size)) from error
  return model.getvalue()


def _training_problem(text: str, vocab_size: int) -> str:
  """SentencePiece's error message in terms of the config."""
  key = "config.tokenizer.vocab_size"
  if most := re.search(r"value <= (\d+)", text):
    return message(key, got=vocab_size, allowed=f"at most {most[1]} for this text", fix=f"--{key}={most[1]}")
  if least := re.search(r"required_chars\. \d+ vs (\d+)", text):
    allowed = f"more than {least[1]}: the special pieces, 256 bytes and the distinct characters of this text"
    return message(key, got=vocab_size, allowed=allowed, fix="a larger one, or --config.tokenizer.kind=bytes")
  return f"SentencePiece could not train on this text (is it empty?): {text}"
