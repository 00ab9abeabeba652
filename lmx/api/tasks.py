# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a trained model is used for: labels, numbers, tags, answers, chats, translations, vectors.

Each function frames its input exactly as the objective that the model was trained with does.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lmx.data.cache.encoding import BadExampleError
from lmx.data.document import RequiredColumns
from lmx.data.tokenizers.framing import FIRST
from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.errors import LmxError, message
from lmx.inference import predict
from lmx.inference.embed import embed
from lmx.inference.score import score
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.chat_rows import CHAT_COLUMNS, Chat, chat_of
from lmx.objectives.chat_samples import answer_end, fitted
from lmx.objectives.chat_template import ChatTemplate
from lmx.objectives.classification import texts_of
from lmx.objectives.columns import text_of, words_of
from lmx.objectives.examples import Frame, find_framing
from lmx.objectives.span import Questions
from lmx.objectives.tagging import first_tokens

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a text says to a question.

  Attributes:
    text: the span of the context; "" where the model finds no answer.
    score: its logits less those of no answer; over 0: there is an answer.
  """

  text: str
  score: float


def framed(rows: Sequence[Row], setting: ObjectiveContext) -> tuple[list[np.ndarray], dict[str, Any]]:
  """(ids, {"token_types": ...} for models that have them) of rows with `text`, maybe `text_b`; cut to fit."""
  frame = Frame.of(setting)
  fields = [frame(*setting.tokenizer.encode_batch(texts_of(row))).fields for row in rows]
  beside = {"token_types": [one["token_types"] for one in fields]} if frame.token_types else {}
  return [one["tokens"] for one in fields], beside


def classify(
  model: Any, rows: Sequence[Row], setting: ObjectiveContext, *, multi_label: bool
) -> list[dict[str, float]]:
  """For each row the probability of each label, the likeliest first."""
  ids, beside = framed(rows, setting)
  found = []
  for probabilities in predict.classify(model, ids, multi_label=multi_label, **beside):
    order = np.argsort(-probabilities, kind="stable")
    found.append({setting.labels[i]: float(probabilities[i]) for i in order})
  return found


def regress(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[float]:
  """A number for each row."""
  ids, beside = framed(rows, setting)
  return [float(value) for value in predict.regress(model, ids, **beside)]


def vectors(
  model: Any, texts: Sequence[str], setting: ObjectiveContext, *, normalize: bool, pooling: str | None = None
) -> np.ndarray:
  """(n, D) float32 embeddings; see `lmx.inference.embed.embed`."""
  ids, beside = framed([{"text": text} for text in texts], setting)
  return embed(model, ids, normalize=normalize, pooling=pooling, **beside)


def tag(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[list[str]]:
  """For each row (`tokens`: words, or words with spaces between) a tag for each word.

  A word that the row had no room for gets "".
  """
  frame, ids, firsts = Frame.of(setting), [], []
  for row in rows:
    words = words_of(row, "tokens")
    pieces, offsets = setting.tokenizer.encode_with_offsets(" ".join(words))
    framed_row = frame(pieces)
    ids.append(framed_row.fields["tokens"])
    firsts.append((len(words), framed_row.places[0], *first_tokens(offsets, np.array([len(word) for word in words]))))
  tags = []
  for row_tags, (count, (begin, end), places, found) in zip(predict.tag(model, ids), firsts, strict=True):
    words_tags = [""] * count
    for place, word in zip(places.tolist(), found.tolist(), strict=True):
      if begin + place < end:
        words_tags[word] = setting.labels[int(row_tags[begin + place])]
    tags.append(words_tags)
  return tags


def answer(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[Answer]:
  """For each row (`question`, `context`) the best span of the whole context, read in windows where it is long."""
  questions = Questions(setting)
  windows = [(number, one) for number, row in enumerate(rows)
             for one in questions.windows(text_of(row, "question"), text_of(row, "context"))]  # fmt: skip
  ids, masks = ([one.fields[name] for _, one in windows] for name in ("tokens", "context_mask"))
  types = [one.fields["token_types"] for _, one in windows if "token_types" in one.fields]
  spans = predict.find_spans(model, ids, context_mask=masks, **({"token_types": types} if types else {}))
  best: dict[int, Answer] = {}
  for (number, window), span in zip(windows, spans, strict=True):
    text = window.text(rows[number]["context"], (span.first, span.last)) if span.score > 0 else ""
    if number not in best or span.score > best[number].score:
      best[number] = Answer(text, float(span.score))
  return [best[number] for number in range(len(rows))]


def rows_of(text: str | Sequence[str], text_b: str | Sequence[str] | None) -> list[dict[str, str]]:
  """Texts, or pairs of them, as rows of columns.

  Raises:
    LmxError: not as many second texts as first ones.
  """
  first = [text] if isinstance(text, str) else list(text)
  if text_b is None:
    return [{"text": one} for one in first]
  second = [text_b] if isinstance(text_b, str) else list(text_b)
  if len(first) != len(second):
    raise LmxError(message("text_b", got=f"{len(second)} texts", allowed=f"as many as text: {len(first)}"))
  return [{"text": one, "text_b": other} for one, other in zip(first, second, strict=True)]


# ---------------------------------------------------------------- generation


@dataclasses.dataclass(frozen=True)
class TextPrompts:
  """What generation starts from.

  Attributes:
    ids: of each prompt; an encoder's input for a model that has one.
    stops: ids that end a continuation.
    start_ids: what a decoder with an encoder begins with; None without one.
    prefix: the tokens of a prompt see each other both ways.
  """

  ids: list[np.ndarray]
  stops: tuple[int, ...]
  start_ids: tuple[int, ...] | None = None
  prefix: bool = False

  def settings(self) -> dict[str, Any]:
    """The arguments of `generate` and `beam_search` that follow from it."""
    return {"eos_id": self.stops, "start_ids": self.start_ids, "prefix": self.prefix}


def text_prompts(texts: Sequence[str], setting: ObjectiveContext, objective: str) -> TextPrompts:
  """Texts to be continued, or sources to be answered, framed as `objective` frames them.

  An open text has the special tokens that `setting` says, without the end of a document. One that would be empty is
  the start of a document.
  """
  tokenizer = setting.tokenizer
  ids = tokenizer.encode_batch(list(texts))
  bos, sep, eos = tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id
  whole = find_framing(tokenizer, setting.architecture, setting.framing).single
  if setting.architecture == "encoder_decoder":
    return TextPrompts([whole.fill(one)[0] for one in ids], (eos,), (tokenizer.pad_id,))
  if objective == "seq2seq":
    return TextPrompts([np.concatenate([[bos], one, [sep]]).astype(np.int32) for one in ids], (eos,))
  framed_ids = [open_text(one, setting) for one in ids]
  return TextPrompts(framed_ids, (eos,), prefix=objective == "prefix")


def open_text(ids: np.ndarray, setting: ObjectiveContext) -> np.ndarray:
  """The ids of a text to be continued, with special tokens; see `text_prompts`."""
  tokenizer = setting.tokenizer
  if setting.framing == "own" and tokenizer.own_framing is not None:
    ids = tokenizer.own_framing.single.fill(ids)[0]
    return ids if len(ids) else np.array([tokenizer.bos_id], np.int32)
  return np.concatenate([[tokenizer.bos_id], ids]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class TextLoss:
  """How likely a model finds a text.

  Attributes:
    nats: of all predicted tokens.
    tokens: how many there are: all but the first, a document's start and end among them.
    bytes: of the text that they stand for, in UTF-8.
  """

  nats: float
  tokens: int
  bytes: int

  @property
  def nats_per_token(self) -> float:
    return self.nats / self.tokens

  @property
  def bits_per_byte(self) -> float:
    return self.nats / math.log(2) / self.bytes

  @property
  def perplexity(self) -> float:
    """exp of the nats per token."""
    return math.exp(self.nats_per_token)


def text_loss(model: Any, text: str, setting: ObjectiveContext) -> TextLoss:
  """How likely a model finds a text: a whole document, or what the tokenizer's own framing makes of the text.

  A text longer than the context is read in consecutive windows, each without the ones before it.

  Raises:
    LmxError: nothing to predict: the text is empty, or one token with none before it.
  """
  if not text:
    raise LmxError(message("text", got=text, allowed="at least one character"))
  tokenizer = setting.tokenizer
  ids, offsets = tokenizer.encode_with_offsets(text)
  document = np.concatenate([[tokenizer.bos_id], ids, [tokenizer.eos_id]])
  unread = 0  # Characters of the text that nothing stands before.
  if setting.framing == "own" and tokenizer.own_framing is not None:
    template = tokenizer.own_framing.single
    document = template.fill(ids)[0]
    unread = 0 if template.before(FIRST) or not len(ids) else int(offsets[0, 1])
  if len(document) < 2:
    fix = 'framing="document" puts the start of a document before it (lmx: --config.tokenizer.framing=document)'
    raise LmxError(message("text, tokens", got=len(document), allowed="at least 2: the first isn't predicted", fix=fix))
  length = model.spec.context
  windows = [document[i : i + length + 1] for i in range(0, len(document) - 1, length)]
  nats = -sum(float(np.sum(row, dtype=np.float64)) for row in score(model, windows))
  return TextLoss(nats, len(document) - 1, len(text[unread:].encode()))


def chat_prompt(chat: Chat, template: ChatTemplate, tokenizer: Tokenizer) -> TextPrompts:
  """A chat up to where the assistant's next answer begins.

  Raises:
    LmxError: the template refuses the chat, or leaves a part of it out.
  """
  messages = fitted(template, chat.messages, chat.tools)
  end = answer_end(template, messages, chat.tools)
  stops = (tokenizer.eos_id,) if end is None else (end, tokenizer.eos_id)
  return TextPrompts([template.encode_asked(messages, chat.tools)], tuple(dict.fromkeys(stops)))


def unanswered(row: Row) -> Chat:
  """The chat of a row, without the answer that ends it, if one does.

  Raises:
    LmxError: the row has no chat.
  """
  chat = chat_of(row, answered=False)
  messages = chat.messages
  while messages and messages[-1]["role"] == "assistant":
    messages = messages[:-1]
  return dataclasses.replace(chat, messages=messages)


def check_room(prompts: TextPrompts, spec: Any) -> None:
  """Whether a model can read each prompt, and add to it where it has no encoder.

  Raises:
    BadExampleError: one is too long.
  """
  longest = spec.context - (prompts.start_ids is None)
  most = max(map(len, prompts.ids), default=0)
  if most > longest and not spec.unlimited:
    raise BadExampleError("too long", f"{most} tokens, the model reads at most {longest}")


# ---------------------------------------------------------------- whatever the model was trained for

Predict = Callable[[Any, Sequence[Row], ObjectiveContext], list[dict[str, Any]]]


def _labels(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[dict[str, Any]]:
  return [{"label": next(iter(found)), "probabilities": found}
          for found in classify(model, rows, setting, multi_label=False)]  # fmt: skip


def _label_sets(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[dict[str, Any]]:
  found = classify(model, rows, setting, multi_label=True)
  return [{"label": [name for name, p in one.items() if p > 0.5], "probabilities": one} for one in found]


def _numbers(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[dict[str, Any]]:
  return [{"label": value} for value in regress(model, rows, setting)]


def _tags(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[dict[str, Any]]:
  return [{"tags": tags} for tags in tag(model, rows, setting)]


def _answers(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[dict[str, Any]]:
  return [{"answer": one.text, "score": one.score} for one in answer(model, rows, setting)]


def for_each(predict_all: Callable[[Sequence[Row]], list[dict[str, Any]]], rows: Sequence[Row]) -> list[dict[str, Any]]:
  """What is predicted of each row, {"error": why} for those that cannot be used.

  Rows are predicted together; only where that fails are they parted, until the bad ones are alone.
  """
  try:
    return predict_all(rows)
  except BadExampleError as error:
    if len(rows) == 1:
      return [{"error": str(error)}]
  middle = len(rows) // 2
  return [*for_each(predict_all, rows[:middle]), *for_each(predict_all, rows[middle:])]


def _vectors(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[dict[str, Any]]:
  found = vectors(model, [text_of(row, "text") for row in rows], setting, normalize=True)
  return [{"embedding": vector.tolist()} for vector in found]


PREDICTIONS: dict[str, Predict] = {
  "classification": _labels,
  "multi_label": _label_sets,
  "regression": _numbers,
  "tagging": _tags,
  "span": _answers,
  "contrastive": _vectors,
}
_TEXTS = RequiredColumns(("text",), ("text_b",))
# What of a row each kind of prediction reads; the last two are written by the model.
COLUMNS: dict[str, RequiredColumns] = {
  "classification": _TEXTS,
  "multi_label": _TEXTS,
  "regression": _TEXTS,
  "tagging": RequiredColumns(("tokens",)),
  "span": RequiredColumns(("question", "context")),
  "contrastive": RequiredColumns(("text",)),
  "seq2seq": RequiredColumns(("source",)),
  "chat": RequiredColumns((), CHAT_COLUMNS),
}


def wanted_columns(objective: str) -> RequiredColumns:
  """The columns that predictions of a run with this objective read.

  Raises:
    LmxError: such runs predict nothing of rows.
  """
  if objective not in COLUMNS:
    raise LmxError(message("the run's objective", got=objective, allowed=COLUMNS, fix="lmx generate continues text"))
  return COLUMNS[objective]
