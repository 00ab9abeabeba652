# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The official scores of extractive question answering: exact match and F1 of the answers' words.

Source: https://arxiv.org/abs/1606.05250, section 6.1. Both ignore case, punctuation, articles and extra spaces, and
take the best of several right answers.
"""

import collections
import re
import string
from collections.abc import Mapping, Sequence

from lmx.errors import LmxError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
  """Lower case, no punctuation, no English articles, single spaces."""
  return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(given: str, right: str) -> float:
  """1 where the two are the same text once normalized."""
  return float(normalized(given) == normalized(right))


def f1(given: str, right: str) -> float:
  """The F1 of the words of the two, each counted as often as it is there; two empty answers are the same."""
  words, wanted = normalized(given).split(), normalized(right).split()
  if not words or not wanted:
    return float(words == wanted)
  shared = sum((collections.Counter(words) & collections.Counter(wanted)).values())
  return 2 * shared / (len(words) + len(wanted))


def squad_scores(given: Mapping[str, str], right: Mapping[str, Sequence[str]]) -> dict[str, float]:
  """`exact_match` and `f1` in percent, over all questions that have right answers.

  Args:
    given: question's id -> the answer; "": none.
    right: question's id -> the right answers; none or only "" where the context has none.

  Raises:
    LmxError: a question without an answer, or no question.
  """
  missing = [name for name in right if name not in given]
  if missing or not right:
    raise LmxError(f'{len(missing)} of {len(right)} questions were not answered (give "" for none): {missing[:3]}')
  totals = [0.0, 0.0]
  for name, answers in right.items():
    # Where no answer is right but "", only "" is: what normalizes to nothing else is no way to say so.
    allowed = [answer for answer in answers if normalized(answer)] or [""]
    for index, score in enumerate((exact_match, f1)):
      totals[index] += max(score(given[name], answer) for answer in allowed)
  return {"exact_match": 100 * totals[0] / len(right), "f1": 100 * totals[1] / len(right)}
