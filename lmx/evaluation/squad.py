# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The official scores of SQuAD: exact match and word-level F1 of answers.

Source: https://arxiv.org/abs/1606.05250, section 6.1. Both ignore case, punctuation, articles and extra spaces, and
take the best of several reference answers.
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
  """1 if the two texts are the same after normalization, else 0."""
  return float(normalized(given) == normalized(right))


def f1(given: str, right: str) -> float:
  """F1 of the two bags of words after normalization; 1 if both are empty."""
  words, wanted = normalized(given).split(), normalized(right).split()
  if not words or not wanted:
    return float(words == wanted)
  shared = sum((collections.Counter(words) & collections.Counter(wanted)).values())
  return 2 * shared / (len(words) + len(wanted))


def squad_scores(given: Mapping[str, str], right: Mapping[str, Sequence[str]]) -> dict[str, float]:
  """Computes `exact_match` and `f1` in percent, averaged over all questions in `right`.

  Args:
    given: id of a question -> predicted answer; "" for no answer.
    right: id of a question -> reference answers; () or only "" if it has no answer.

  Returns:
    {"exact_match": ..., "f1": ...}, 0 to 100.

  Raises:
    LmxError: a question without a prediction, or no question at all.

  Examples:
    >>> from lmx.evaluation.squad import squad_scores
    >>> squad_scores({"q1": "the Thames", "q2": ""}, {"q1": ["Thames", "River Thames"], "q2": [""]})
    {'exact_match': 100.0, 'f1': 100.0}
  """
  missing = [name for name in right if name not in given]
  if missing or not right:
    raise LmxError(f'{len(missing)} of {len(right)} questions were not answered (give "" for none): {missing[:3]}')
  totals = [0.0, 0.0]
  for name, answers in right.items():
    # Without a reference answer, only a prediction that normalizes to "" is right.
    allowed = [answer for answer in answers if normalized(answer)] or [""]
    for index, score in enumerate((exact_match, f1)):
      totals[index] += max(score(given[name], answer) for answer in allowed)
  return {"exact_match": 100 * totals[0] / len(right), "f1": 100 * totals[1] / len(right)}
