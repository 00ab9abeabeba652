# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Predictions of a model from text: labels, numbers, tags, answers, prompts of chats and translations, embeddings.

Each function frames its input exactly as the objective that the model was trained with does. In their arguments, `rows`
are dictionaries of columns, and `setting` has the tokenizer, labels and lengths of that objective.
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
  """The answer to a question about a text.

  Attributes:
    text: a span of the context; "" if the model finds no answer.
    score: sum of the logits of its ends minus that of "no answer"; positive if there is an answer.
  """

  text: str
  score: float


def framed(rows: Sequence[Row], setting: ObjectiveContext) -> tuple[list[np.ndarray], dict[str, Any]]:
  """Token ids and, for models with token types, {"token_types": ...} of rows with `text` and maybe `text_b`."""
  frame = Frame.of(setting)
  fields = [frame(*setting.tokenizer.encode_batch(texts_of(row))).fields for row in rows]
  aligned = {"token_types": [one["token_types"] for one in fields]} if frame.token_types else {}
  return [one["tokens"] for one in fields], aligned


def classify(
  model: Any, rows: Sequence[Row], setting: ObjectiveContext, *, multi_label: bool
) -> list[dict[str, float]]:
  """For each row {label: probability}, the likeliest label first; with `multi_label`, labels are independent."""
  ids, aligned = framed(rows, setting)
  found = []
  for probabilities in predict.classify(model, ids, multi_label=multi_label, **aligned):
    order = np.argsort(-probabilities, kind="stable")
    found.append({setting.labels[i]: float(probabilities[i]) for i in order})
  return found


def regress(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[float]:
  """A number for each row."""
  ids, aligned = framed(rows, setting)
  return [float(value) for value in predict.regress(model, ids, **aligned)]


def vectors(
  model: Any, texts: Sequence[str], setting: ObjectiveContext, *, normalize: bool, pooling: str | None = None
) -> np.ndarray:
  """(n, D) float32 embeddings; see `lmx.inference.embed.embed`."""
  ids, aligned = framed([{"text": text} for text in texts], setting)
  return embed(model, ids, normalize=normalize, pooling=pooling, **aligned)


def tag(model: Any, rows: Sequence[Row], setting: ObjectiveContext) -> list[list[str]]:
  """For each row (`tokens`: a list of words, or a string with spaces) a tag per word; "" for truncated words."""
  frame, ids, firsts = Frame.of(setting), [], []
  for row in rows:
    words = words_of(row, "tokens")
    tokens, offsets = setting.tokenizer.encode_with_offsets(" ".join(words))
    framed_row = frame(tokens)
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
  """For each row (`question`, `context`) the best span of the context; a long one is read in windows."""
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
  """Texts, or pairs of texts, as rows of columns.

  Raises:
    LmxError: `text` and `text_b` have different lengths.
  """
  first = [text] if isinstance(text, str) else list(text)
  if text_b is None:
    return [{"text": one} for one in first]
  second = [text_b] if isinstance(text_b, str) else list(text_b)
  if len(first) != len(second):
    raise LmxError(message("text_b", got=f"{len(second)} texts", allowed=f"one per text: {len(first)}"))
  return [{"text": one, "text_b": other} for one, other in zip(first, second, strict=True)]


# ---------------------------------------------------------------- generation


@dataclasses.dataclass(frozen=True)
class TextPrompts:
  """Prompts of generation as token ids.

  Attributes:
    ids: (n,) per prompt; the encoder's input for a model with an encoder.
    stops: ids that end a continuation.
    start_ids: first token ids of the decoder of a model with an encoder; None without one.
    prefix: bidirectional attention within a prompt.
  """

  ids: list[np.ndarray]
  stops: tuple[int, ...]
  start_ids: tuple[int, ...] | None = None
  prefix: bool = False

  def settings(self) -> dict[str, Any]:
    """As arguments of `generate` and `beam_search`."""
    return {"eos_id": self.stops, "start_ids": self.start_ids, "prefix": self.prefix}


def text_prompts(texts: Sequence[str], setting: ObjectiveContext, objective: str) -> TextPrompts:
  """Texts to continue, or sources to answer, framed as `objective` frames them.

  A text to continue gets the special tokens of `setting`, without the end of a document. An empty one becomes the start
  of a document.

  Args:
    texts: the texts.
    setting: how the objective frames texts.
    objective: its name.
  """
  tokenizer = setting.tokenizer
  ids = tokenizer.encode_batch(list(texts))
  bos, sep, eos = tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id
  template = find_framing(tokenizer, setting.architecture, setting.framing).single
  if setting.architecture == "encoder_decoder":
    return TextPrompts([template.fill(one)[0] for one in ids], (eos,), (tokenizer.pad_id,))
  if objective == "seq2seq":
    return TextPrompts([np.concatenate([[bos], one, [sep]]).astype(np.int32) for one in ids], (eos,))
  framed_ids = [open_text(one, setting) for one in ids]
  return TextPrompts(framed_ids, (eos,), prefix=objective == "prefix")


def open_text(ids: np.ndarray, setting: ObjectiveContext) -> np.ndarray:
  """The ids of a text to continue, with special tokens; see `text_prompts`."""
  tokenizer = setting.tokenizer
  if setting.framing == "own" and tokenizer.own_framing is not None:
    ids = tokenizer.own_framing.single.fill(ids)[0]
    return ids if len(ids) else np.array([tokenizer.bos_id], np.int32)
  return np.concatenate([[tokenizer.bos_id], ids]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class TextLoss:
  """The negative log-likelihood of a text under a model.

  Attributes:
    nats: total of all predicted tokens.
    tokens: number of predicted tokens: all but the first, with the end of the document.
    bytes: UTF-8 bytes of the text that the predicted tokens stand for.
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
  """The negative log-likelihood of a text as a complete document, or with the tokenizer's own special tokens.

  A text longer than the context is read in consecutive windows, each without the ones before it.

  Args:
    model: a causal model.
    text: at least one character.
    setting: how texts are framed.

  Raises:
    LmxError: nothing to predict: the text is empty, or a single token with none before it.
  """
  if not text:
    raise LmxError(message("text", got=text, allowed="at least one character"))
  tokenizer = setting.tokenizer
  ids, offsets = tokenizer.encode_with_offsets(text)
  document = np.concatenate([[tokenizer.bos_id], ids, [tokenizer.eos_id]])
  skipped = 0  # Characters of the first token, if no special token precedes it: it isn't predicted.
  if setting.framing == "own" and tokenizer.own_framing is not None:
    template = tokenizer.own_framing.single
    document = template.fill(ids)[0]
    skipped = 0 if template.before(FIRST) or not len(ids) else int(offsets[0, 1])
  if len(document) < 2:
    fix = 'framing="document" adds the start of a document (lmx: --config.tokenizer.framing=document)'
    raise LmxError(message("text, tokens", got=len(document), allowed="at least 2: the first isn't predicted", fix=fix))
  length = model.spec.context
  windows = [document[i : i + length + 1] for i in range(0, len(document) - 1, length)]
  nats = -sum(float(np.sum(row, dtype=np.float64)) for row in score(model, windows))
  return TextLoss(nats, len(document) - 1, len(text[skipped:].encode()))


def chat_prompt(chat: Chat, template: ChatTemplate, tokenizer: Tokenizer) -> TextPrompts:
  """A chat up to the start of the assistant's next message, and the ids that end that message.

  Args:
    chat: the messages, and tools if any.
    template: writes them as text.
    tokenizer: encodes the text.

  Raises:
    LmxError: the template refuses the chat, or omits a part of it.
  """
  messages = fitted(template, chat.messages, chat.tools)
  end = answer_end(template, messages, chat.tools)
  stops = (tokenizer.eos_id,) if end is None else (end, tokenizer.eos_id)
  return TextPrompts([template.encode_asked(messages, chat.tools)], tuple(dict.fromkeys(stops)))


def unanswered(row: Row) -> Chat:
  """The chat of a row, without the assistant messages at its end.

  Raises:
    LmxError: the row has no chat.
  """
  chat = chat_of(row, answered=False)
  messages = chat.messages
  while messages and messages[-1]["role"] == "assistant":
    messages = messages[:-1]
  return dataclasses.replace(chat, messages=messages)


def check_room(prompts: TextPrompts, spec: Any) -> None:
  """Checks that a model can read each prompt, and without an encoder has room for at least one new token.

  Raises:
    BadExampleError: a prompt is too long.
  """
  longest = spec.context - (prompts.start_ids is None)
  most = max(map(len, prompts.ids), default=0)
  if most > longest and not spec.unlimited:
    raise BadExampleError("too long", f"{most} tokens, the model reads at most {longest}")


# ---------------------------------------------------------------- predictions of rows, by objective

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
  """The prediction of each row, {"error": reason} for rows that can't be used.

  Rows are predicted in one batch; if that fails, the batch is halved until the bad rows are separate.
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
# Objective -> the columns that its predictions read; the last two objectives generate text.
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
    LmxError: runs with this objective can't predict rows.
  """
  if objective not in COLUMNS:
    raise LmxError(message("the run's objective", got=objective, allowed=COLUMNS, fix="lmx generate continues text"))
  return COLUMNS[objective]
