# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Span corruption (T5) and mixtures of denoisers (UL2), for encoder-decoders.

T5: https://arxiv.org/abs/1910.10683, section 3.1.4. UL2: https://arxiv.org/abs/2205.05131, section 3.1.
"""

import dataclasses

import numpy as np

from lmx.data.tokenizers.vocabulary import Tokenizer
from lmx.errors import LmxError, message
from lmx.objectives.base import Arrays, Objective, ObjectiveContext, ObjectiveSpec
from lmx.objectives.parts import decoder_pair, text_part, token_loss

_LONGEST_WINDOW = 64  # Largest window that is tried, over the encoder's row: most of it would be taken out.


@dataclasses.dataclass(frozen=True)
class Denoiser:
  """One way to corrupt a text.

  Attributes:
    share: of the tokens that are taken out.
    span: mean length of what is taken out at once, in tokens; 0: the end of the text, as in a prefix language model.
  """

  share: float
  span: float

  def noise(self, tokens: np.ndarray) -> np.ndarray:
    """How many of n >= 2 tokens are taken out: at least one, and one stays."""
    return np.clip(np.floor(tokens * self.share + 0.5).astype(np.int64), 1, tokens - 1)

  def spans(self, tokens: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """In how many spans, each with a sentinel and kept tokens before it; 0 for the end of the text."""
    if not self.span:
      return np.zeros_like(noise)
    wanted = np.floor(noise / self.span + 0.5).astype(np.int64)
    return np.clip(wanted, 1, np.minimum(noise, tokens - noise))

  def sizes(self, tokens: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the encoder's and of the decoder's row, the end of each included."""
    spans = self.spans(tokens, noise)
    return tokens - noise + spans + 1, noise + spans + 1


def random_lengths(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
  """Splits `total` tokens into `parts` spans of at least one token, every way equally likely, as T5 does."""
  cuts = np.sort(rng.permutation(total - 1)[: parts - 1]) + 1
  return np.diff(cuts, prepend=0, append=total)


def corrupt(text: np.ndarray, noise: int, sentinels: np.ndarray, rng: np.random.Generator) -> tuple:
  """What stays and what is taken out, in turns, beginning with what stays.

  Args:
    text: (n,) ids.
    noise: tokens to take out.
    sentinels: (spans,) ids, one for each span; (0,) takes out the end.
    rng: where the spans are.

  Returns:
    The encoder's ids, with a sentinel for each span, and the decoder's: each span after its sentinel.
  """
  spans = len(sentinels)
  if not spans:
    return text[: len(text) - noise], text[len(text) - noise :]
  lengths = np.stack([random_lengths(len(text) - noise, spans, rng), random_lengths(noise, spans, rng)], axis=1).ravel()
  starts = np.cumsum(lengths) - lengths
  taken = np.repeat(np.arange(2 * spans) % 2 == 1, lengths)
  inputs, targets = text.copy(), text.copy()
  kept_in, kept_out = ~taken, taken.copy()
  inputs[starts[1::2]] = targets[starts[0::2]] = sentinels
  kept_in[starts[1::2]] = kept_out[starts[0::2]] = True
  return inputs[kept_in], targets[kept_out]


class Corruption:
  """Windows to pairs of an encoder's and a decoder's row, by one of several denoisers, drawn for each window.

  Attributes:
    window_length: tokens of a row's windows: a window of that length fits into both rows after its corruption.
  """

  def __init__(self, context: ObjectiveContext, weights: np.ndarray, denoisers: tuple[Denoiser, ...]):
    tokenizer = self._tokenizer = context.tokenizer
    self._limits = (context.encoder_length, context.length)
    self._denoisers, self._chances = denoisers, (np.cumsum(weights) / np.sum(weights))[:-1]
    self.window_length = longest_window(denoisers, context.length, context.encoder_length)
    tokens = np.arange(2, self.window_length + 1)
    needed = max(int(np.max(d.spans(tokens, d.noise(tokens)))) for d in denoisers)
    check_sentinels(tokenizer, needed)
    self._sentinels = np.array([tokenizer.sentinel(index) for index in range(needed)], np.int32)

  def __call__(self, window: np.ndarray, rng: np.random.Generator) -> Arrays:
    """The arrays of one window: `encoder_tokens`, and the decoder's `tokens`, `targets` and `loss_weights`."""
    denoiser = self._denoisers[int(np.searchsorted(self._chances, rng.random(), side="right"))]
    text = text_part(window, self._tokenizer)
    kept, noise = self._fit(denoiser, len(text), len(window))
    if not noise:
      nothing = np.zeros(0, np.int32)
      return {"encoder_tokens": nothing, **decoder_pair(nothing, self._tokenizer, whole=False)}
    spans = int(denoiser.spans(np.array(kept), np.array(noise)))
    inputs, targets = corrupt(text[:kept], noise, self._sentinels[:spans], rng)
    eos = np.int32(self._tokenizer.eos_id)
    return {"encoder_tokens": np.append(inputs, eos), **decoder_pair(targets, self._tokenizer)}

  def _fit(self, denoiser: Denoiser, tokens: int, places: int) -> tuple[int, int]:
    """(tokens of the text to use, how many of them to take out), so that a window keeps to its part of both rows.

    A window of `places` tokens may fill its share of the encoder's and of the decoder's row. One that fills a row
    keeps to T5's numbers exactly; the number for a shorter one is the nearest that fits, and its text may lose a last
    token or two. (0, 0) where even one span would not fit: such a window is left out.
    """
    most_in, most_out = (limit * places // self.window_length for limit in self._limits)
    while tokens > 1 and most_out > 1:
      wanted = denoiser.noise(np.array(tokens))
      size_in, size_out = denoiser.sizes(np.array(tokens), wanted)
      if size_in <= most_in and size_out <= most_out:
        return tokens, int(wanted)
      noise = np.arange(1, tokens)
      size_in, size_out = denoiser.sizes(np.array(tokens), noise)
      fits = (size_in <= most_in) & (size_out <= most_out)
      if fits.any():
        distance = np.where(fits, np.abs(noise - wanted), tokens)
        return tokens, int(noise[np.argmin(distance)])
      if np.min(size_out) > most_out:
        break
      tokens -= 1
    return 0, 0


def longest_window(denoisers: tuple[Denoiser, ...], length: int, encoder_length: int) -> int:
  """The most tokens of text that every denoiser turns into at most `encoder_length` tokens of the encoder's row.

  Raises:
    LmxError: what is taken out would not fit into `length` tokens of the decoder's row.
  """
  tokens = np.arange(2, _LONGEST_WINDOW * encoder_length)
  sizes = [denoiser.sizes(tokens, denoiser.noise(tokens)) for denoiser in denoisers]
  fits = np.max([size_in for size_in, _ in sizes], axis=0) <= encoder_length
  longest = len(tokens) if fits.all() else int(np.argmin(fits))
  if not longest:
    raise LmxError(message("config.data.encoder_length", got=encoder_length, allowed="at least 3"))
  needed = max(int(np.max(size_out[:longest])) for _, size_out in sizes)
  if needed > length:
    allowed = f"at least {needed}, for what is taken out of the text of config.data.encoder_length={encoder_length}"
    raise LmxError(message("config.data.length", got=length, allowed=allowed, fix=f"--config.data.length={needed}"))
  return int(tokens[longest - 1])


def check_sentinels(tokenizer: Tokenizer, needed: int) -> None:
  """Checks that the tokenizer has a sentinel for each of `needed` spans.

  Raises:
    LmxError: it has fewer.
  """
  if tokenizer.sentinels < needed:
    raise LmxError(
      message(
        "config.tokenizer.extra_ids",
        got=tokenizer.extra_ids,
        allowed=f"at least {needed}: each span that is taken out needs an id to stand for it",
        fix=f"--config.tokenizer.extra_ids={max(100, needed)}",
      )
    )


def _objective(name: str, corruption: Corruption, z_loss: float) -> Objective:
  return Objective(name, prepare=corruption, loss=token_loss(z_loss=z_loss), window_length=corruption.window_length)


def span_corruption(context: ObjectiveContext, *, z_loss: float, corrupted: float, span_length: float) -> Objective:
  """T5's objective: spans of the text are replaced by sentinels, and the decoder writes them.

  Args:
    context: the run's; its tokenizer must have enough sentinels.
    z_loss: weight of log(Z)^2 per token.
    corrupted: share of the tokens that are taken out.
    span_length: their mean length, in tokens.

  Metrics: `nll` and `accuracy` over the decoder's tokens.

  Raises:
    LmxError: an option out of range, too few sentinels, or config.data.length too short for what is taken out.
  """
  return _objective("span_corruption", Corruption(context, np.ones(1), (Denoiser(corrupted, span_length),)), z_loss)


def denoising(context: ObjectiveContext, *, z_loss: float, denoisers: tuple) -> Objective:
  """A mixture of denoisers, one of which is drawn for each window.

  Args:
    context: the run's; its tokenizer must have enough sentinels.
    z_loss: weight of log(Z)^2 per token.
    denoisers: (weight, share taken out, mean length) of each; a length of 0 takes out the end of the text.

  Metrics: `nll` and `accuracy` over the decoder's tokens.

  Raises:
    LmxError: an option out of range, too few sentinels, or config.data.length too short for what is taken out.
  """
  kinds = tuple(Denoiser(share, span) for _, share, span in denoisers)
  return _objective("denoising", Corruption(context, np.array([one[0] for one in denoisers]), kinds), z_loss)


SPAN_CORRUPTION = ObjectiveSpec(
  span_corruption,
  head="language",
  families=("encoder_decoder",),
)
DENOISING = ObjectiveSpec(denoising, head="language", families=("encoder_decoder",))
