# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Find the answer to a question as a span of a text: extractive question answering (https://arxiv.org/abs/1606.05250)."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.data.cache.encoding import BadExampleError, Encoded
from lmx.data.document import RequiredColumns, is_missing
from lmx.objectives.base import Arrays, Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.columns import optional_text, text_of, whole_number_of
from lmx.objectives.examples import Frame, places_of, prepare_row
from lmx.objectives.parts import task_scores, with_auxiliary
from lmx.objectives.scores import span_scores

MOST_ANSWERS = 16  # Correct answers of a question that an evaluation compares with.
NO_ANSWER = (0, 0)  # The row's first token stands for it.
_NO_COLUMN = "a column that config.data.columns.answer or config.data.columns.answers names"
_NOT_THERE = "questions had further answers that don't stand in the context, which are left out"
_TOO_MANY = f"questions had more than {MOST_ANSWERS} different answers, of which the first count"
OVERLAP = 128  # Tokens of the context that two windows in a row share, as in BERT's reference code.
_FAR = -1e30  # The score of what cannot be an answer.


@dataclasses.dataclass(frozen=True)
class Window:
  """A question with as much of its context as a row holds, framed as a pair of texts is.

  Attributes:
    fields: `tokens`, `context_mask` (1 for the context's tokens), and `token_types` where the model has them.
    first: the place of the part's first token in the row.
    start: tokens of the context before the part.
    offsets: (n, 2) the characters of the context that each of the part's tokens stands for.
  """

  fields: Arrays
  first: int
  start: int
  offsets: np.ndarray

  def places(self, characters: tuple[int, int]) -> tuple[int, int] | None:
    """The first and the last place of the row that stand for characters of the context; None: they aren't in it."""
    begin, end = characters
    inside = np.flatnonzero((self.offsets[:, 1] > begin) & (self.offsets[:, 0] < end))
    if len(inside) and self.offsets[inside[0], 0] <= begin and self.offsets[inside[-1], 1] >= end:
      return self.first + int(inside[0]), self.first + int(inside[-1])
    return None

  def text(self, context: str, span: tuple[int, int]) -> str:
    """The text of a span of the row, first and last token included; "" for one outside of the context."""
    first, last = (place - self.first for place in span)
    if not 0 <= first <= last < len(self.offsets):
      return ""
    return context[int(self.offsets[first, 0]) : int(self.offsets[last, 1])]


class Questions:
  """Rows with a question and a context, and the answers' texts and places, to windows.

  Training takes the first answer, and the window that has it farthest from its borders. To answer a question about a
  long context, run the model on all of `windows` and take the best span among them.
  """

  columns: tuple[str, ...] = ("question", "context")
  optional: tuple[str, ...] = ("answer", "answer_start", "answers")

  def __init__(self, context: ObjectiveContext):
    self._context, self._frame = context, Frame.of(context)
    self.fingerprint = {
      "objective": "span",
      "framing": self._frame.framing.described(),
      "length": context.length,
      "token_types": context.token_types,
      "answers": MOST_ANSWERS,
    }

  def windows(self, question: str, context: str) -> list[Window]:
    """All windows of a context, in order, `OVERLAP` tokens shared (fewer in short rows).

    Raises:
      BadExampleError: the question leaves no room for the context.
    """
    tokenizer = self._context.tokenizer
    asked = tokenizer.encode(question)
    ids, offsets = tokenizer.encode_with_offsets(context)
    room = self._context.length - self._frame.framing.pair.added - len(asked)
    if room < 1:
      raise BadExampleError("question too long", f"{len(asked)} tokens of config.data.length={self._context.length}")
    step = room - min(OVERLAP, room // 2)
    starts = range(0, max(1, len(ids) - room + step), step)
    return [self._window(asked, ids[a : a + room], a, offsets[a : a + room]) for a in starts]

  def _window(self, asked: np.ndarray, part: np.ndarray, start: int, offsets: np.ndarray) -> Window:
    template = self._frame.framing.pair
    first, end = places_of(template, (len(asked), len(part)))[1]
    fields = self._frame.fields(template, (asked, part))
    places = np.arange(len(fields["tokens"]))
    fields["context_mask"] = ((places >= first) & (places < end)).astype(np.int32)
    return Window(fields, first, start, offsets)

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    context = text_of(row, "context")
    windows = self.windows(text_of(row, "question"), context)
    total = windows[-1].start + len(windows[-1].offsets)
    answers, lost = answers_of(row, context)
    if answers[0] is None:
      window, span = windows[0], NO_ANSWER
    else:
      window, span = self._with_answer(windows, answers[0])
    places = [NO_ANSWER if one is None else window.places(one) for one in answers]
    right = dict.fromkeys([span, *(one for one in places if one is not None)])
    notes = (_NOT_THERE,) * bool(lost) + (_TOO_MANY,) * (len(right) > MOST_ANSWERS)
    golds = np.array(([*right] + [span] * MOST_ANSWERS)[:MOST_ANSWERS], np.int32)
    fields = {**window.fields, "labels": np.array(span, np.int32), "golds": golds}
    doubts = () if any(name in row for name in ("answer", "answers")) else (_NO_COLUMN,)
    return Encoded(fields, total - len(window.offsets), notes=notes, doubts=doubts)

  def _with_answer(self, windows: list[Window], characters: tuple[int, int]) -> tuple[Window, tuple[int, int]]:
    """The window in which the answer is farthest from the borders, and its first and last place there."""
    found = []
    for window in windows:
      places = window.places(characters)
      if places is not None:
        first, last = (place - window.first for place in places)
        margin = min(first, len(window.offsets) - 1 - last)
        found.append((margin, -window.start, window, places))
    if not found:
      size = f"{characters[1] - characters[0]} characters, config.data.length={self._context.length} tokens"
      raise BadExampleError("answer fits no window of its context", size)
    best = max(found, key=lambda one: one[:2])
    return best[2], best[3]


_Characters = tuple[int, int] | None  # The first of an answer and the one after its last; None: there is no answer.


def answers_of(row: Mapping[str, Any], context: str) -> tuple[list[_Characters], int]:
  """The characters of the context that are the right answers, the one to learn first; and how many were left out.

  The columns `answer` and `answer_start` hold one, or lists of them; `answers` holds all of them, as SQuAD has them
  ({"text": [...], "answer_start": [...]}), as a list of {"text": ..., "answer_start": ...}, or as a list of texts.
  Texts without a place are looked for in the context, and left out where they aren't in it, unless it is the first.

  Raises:
    BadExampleError: an answer does not stand at its place, or the columns hold something else.
  """
  pairs = [*_answer_pairs(row.get("answer"), row.get("answer_start")), *_listed_answers(row.get("answers"))]
  found: list[_Characters] = []
  lost = 0
  for text, start in pairs:
    cells = {"answer": text, "answer_start": start}
    if found and is_missing(start) and optional_text(cells, "answer") not in context:
      lost += 1
    else:
      found.append(answer_characters(cells, context))
  return found or [None], lost


def _answer_pairs(texts: Any, starts: Any) -> list[tuple[Any, Any]]:
  """(text, start) of answers that two columns hold, each one value or a list; lists have equal lengths."""
  if is_missing(texts):
    return []
  if not isinstance(texts, list):
    return [(texts, starts)]
  if not isinstance(starts, list):
    starts = [None] * len(texts) if is_missing(starts) else [starts]
  if len(texts) != len(starts):
    raise BadExampleError("answers and their places differ in number", f"{len(texts)} answers, {len(starts)} places")
  return list(zip(texts, starts, strict=True))


def _listed_answers(value: Any) -> list[tuple[Any, Any]]:
  """(text, start) of the answers in the column `answers`."""
  if isinstance(value, str) and value.strip():
    try:
      value = json.loads(value)
    except (ValueError, RecursionError) as error:
      raise BadExampleError("column 'answers' is not JSON", str(error)) from error
  if isinstance(value, dict) and "text" in value:
    return _answer_pairs(value["text"], value.get("answer_start"))
  if isinstance(value, list) and all(isinstance(one, str | dict) for one in value):
    pairs = [(one, None) if isinstance(one, str) else (one.get("text"), one.get("answer_start")) for one in value]
    if not any(text is None for text, _ in pairs):
      return pairs
  elif is_missing(value) or value == "":
    return []
  detail = f'it is {{"text": [...], "answer_start": [...]}} or a list of answers, got {json.dumps(value)[:60]}'
  raise BadExampleError("column 'answers' has no answers", detail)


def answer_characters(row: Mapping[str, Any], context: str) -> _Characters:
  """The characters of the context that are the answer, without spaces around them; None where there is no answer.

  Without `answer_start` the answer's first place in the context is taken.

  Raises:
    BadExampleError: the answer does not stand there.
  """
  answer = optional_text(row, "answer")
  if not answer.strip():
    return None
  given = optional_text(row, "answer_start").strip()
  start = whole_number_of(row, "answer_start") if given else context.find(answer)
  if start < 0 or context[start : start + len(answer)] != answer:
    there = f", there stands {context[start : start + len(answer)][:40]!r}" if start >= 0 else ""
    raise BadExampleError("answer not in the context", f"got {answer[:40]!r} at character {given or 'any'}{there}")
  begin = start + len(answer) - len(answer.lstrip())
  return begin, begin + len(answer.strip())


def best_spans(scores_BL2: jax.Array, context_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The span with the highest sum of start and end score, within the context or (0, 0): no answer.

  Args:
    scores_BL2: start and end scores.
    context_BL: 1 for tokens of the context.

  Returns:
    (B, 2) int32 first and last place, and (B,) float32, how much better it is than no answer.
  """
  length = context_BL.shape[1]
  start_BL, end_BL = (jnp.where(context_BL > 0, scores_BL2[..., i].astype(jnp.float32), _FAR) for i in (0, 1))
  # The best start up to each place, then the best end: linear in the length.
  best_BL = jax.lax.cummax(start_BL, axis=1)
  last_B = jnp.argmax(best_BL + end_BL, axis=1)
  before_BL = jnp.arange(length, dtype=jnp.int32)[None] <= last_B[:, None]
  first_B = jnp.argmax(jnp.where(before_BL, start_BL, 2 * _FAR), axis=1)
  score_B = jnp.max(best_BL + end_BL, axis=1) - scores_BL2[:, 0].astype(jnp.float32).sum(axis=-1)
  spans_B2 = jnp.stack([first_B, last_B], axis=1).astype(jnp.int32)
  return jnp.where((score_B > 0)[:, None], spans_B2, 0), score_B


def border_loss(scores_BL: jax.Array, labels_B: jax.Array, real_BL: jax.Array) -> jax.Array:
  """(B,) float32: -log softmax over the row's real tokens, at the label."""
  log_probs = jax.nn.log_softmax(jnp.where(real_BL, scores_BL.astype(jnp.float32), _FAR), axis=1)
  return -jnp.take_along_axis(log_probs, labels_B[:, None], axis=1)[:, 0]


def span(context: ObjectiveContext) -> Objective:
  """Cross-entropy of the answer's first and last token, averaged; no answer is the first token, [CLS].

  Args:
    context: the run's.

  Metrics of a split: `exact_match` and `f1` of the tokens of the best span, each with the right answer nearest to it.
  """

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    del reference
    outputs = run_model(model, batch, dropout_key)
    scores = task_scores(outputs)
    labels, weights, real = batch["labels"], batch["loss_weights"], batch["segment_ids"] > 0
    losses = [border_loss(scores[..., i], labels[:, i], real) for i in (0, 1)]
    total, weight = jnp.sum((losses[0] + losses[1]) / 2 * weights), jnp.sum(weights)
    spans, _ = best_spans(scores, batch["context_mask"])
    right = jnp.any(jnp.all(spans[:, None] == batch["golds"], axis=-1), axis=1).astype(jnp.float32)
    predictions = {"spans": spans, "golds": batch["golds"], "weights": weights}
    metrics = {"exact_match": (jnp.sum(right * weights), weight)}
    return with_auxiliary(Loss(total, weight, metrics, predictions), outputs)

  return Objective(
    "span",
    prepare=prepare_row,
    loss=loss,
    encoder=Questions(context),
    per_row=("labels", "golds", "loss_weights"),
    score=span_scores,
  )


ROW = ObjectiveSpec(
  span, head="span", families=("encoder",), packings=("padded",), texts=RequiredColumns(("question", "context"))
)
