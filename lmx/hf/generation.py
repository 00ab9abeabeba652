# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reads generation_config.json, whose settings are the defaults of lmx's generation for that model.

The meaning of the keys, and the defaults of those that are left out, are those of transformers'
`GenerationConfig` (https://huggingface.co/docs/transformers/main_classes/text_generation).
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.hf.carried import GENERATION_FILE
from lmx.hf.files import read_optional
from lmx.hf.settings import HFConfig
from lmx.inference.beam import GNMT, Ranking
from lmx.inference.prompts import Limits

_TEMPERATURE = 0.8  # lmx's default.
_TOP_K = 50  # transformers' default for sampling.
# Keys that change which tokens are generated, and that lmx doesn't support -> the value that turns them off.
_NOT_APPLIED: dict[str, Any] = {
  "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0,
  "encoder_no_repeat_ngram_size": 0, "min_new_tokens": 0, "min_p": 0.0, "typical_p": 1.0, "epsilon_cutoff": 0.0,
  "eta_cutoff": 0.0, "diversity_penalty": 0.0, "num_beam_groups": 1, "penalty_alpha": 0.0, "top_h": 1.0,
  "forced_bos_token_id": None, "begin_suppress_tokens": None, "sequence_bias": None, "stop_strings": None,
  "watermarking_config": None, "guidance_scale": 1.0, "exponential_decay_length_penalty": None,
  "constraints": None, "force_words_ids": None, "prompt_lookup_num_tokens": None, "dola_layers": None,
  "token_healing": False,
}  # fmt: skip
# Keys that don't change which tokens are generated: of speed, of further outputs, of other libraries.
_HARMLESS = re.compile(
  r"assistant_.*|bos_token_id|pad_token_id|decoder_start_token_id|.*cache.*|compile_config|continuous_batching_config|"
  r"disable_compile|is_assistant|low_memory|max_matching_ngram_size|max_time|num_assistant_tokens(_schedule)?|"
  r"num_return_sequences|output_.*|prefill_chunk_size|remove_invalid_values|return_dict_in_generate|speculation_type|"
  r"target_lookbehind|use_mtp|transformers_version|_.*|trust_remote_code|chat_format|max_window_size|max_length"
)


@dataclasses.dataclass(frozen=True)
class GenerationDefaults:
  """The settings of a generation_config.json as arguments of lmx; None for those that the file lacks.

  Attributes:
    temperature, top_k, top_p, max_new_tokens: of `generate`.
    beams, length_penalty: of beam search.
    ranking: how beam search compares hypotheses; lmx's own where there is no file.
    stops: ids that end a text.
    suppressed: ids that are never generated.
    forced_end: the last token that fits is the one that ends the text.
    renormalize: see `Limits`.
    not_applied: "key value" of the settings that lmx doesn't support.
  """

  temperature: float | None = None
  top_k: int | None = None
  top_p: float | None = None
  max_new_tokens: int | None = None
  beams: int | None = None
  length_penalty: float | None = None
  ranking: Ranking = GNMT
  stops: tuple[int, ...] = ()
  suppressed: tuple[int, ...] = ()
  forced_end: bool = False
  renormalize: bool = False
  not_applied: tuple[str, ...] = ()

  @property
  def limits(self) -> Limits:
    """Constraints on the generated tokens."""
    return Limits(self.suppressed, self.forced_end, self.renormalize)

  @property
  def searches(self) -> bool:
    """Whether the file asks for beam search rather than sampling."""
    return self.temperature is None and (self.beams or 1) > 1

  def sampling(self, temperature: float | None, top_k: int | None, top_p: float | None) -> dict[str, Any]:
    """Arguments of `generate`: those of the caller, else the file's, else lmx's.

    Args:
      temperature, top_k, top_p: of the caller; None: not given.
    """
    usual = _TEMPERATURE if self.temperature is None else self.temperature
    return {
      "temperature": usual if temperature is None else temperature,
      "top_k": self.top_k if top_k is None else top_k,
      "top_p": self.top_p if top_p is None else top_p,
    }

  def settings(self, framed: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `generate` and `beam_search` for a framed prompt, with the file's stops and limits added."""
    return {**framed, "eos_id": tuple(dict.fromkeys((*framed["eos_id"], *self.stops))), "limits": self.limits}

  def describe(self) -> str:
    """A one-line summary for logs; "" where the file has no settings."""
    numbers = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p, "beams": self.beams,
             "max_new_tokens": self.max_new_tokens}  # fmt: skip
    parts = [f"{name} {value:g}" for name, value in numbers.items() if value is not None]
    parts += [f"stops at {' '.join(map(str, self.stops))}"] if self.stops else []
    parts += [f"never generates {' '.join(map(str, self.suppressed))}"] if self.suppressed else []
    parts += [f"not applied: {', '.join(self.not_applied)}"] if self.not_applied else []
    return f"{GENERATION_FILE}: {', '.join(parts)}" if parts else ""


def read_generation(folder: Path | None, *, decodes_alone: bool = False) -> GenerationDefaults:
  """The defaults in a folder; empty ones where there is no file.

  Args:
    folder: of a model, or with the small files that it was imported with; None: there is none.
    decodes_alone: the model has an encoder, so max_length doesn't count the prompt.

  Raises:
    LmxError: a value of the wrong type, or out of range.
  """
  if folder is None or not (folder / GENERATION_FILE).is_file():
    return GenerationDefaults()
  file = folder / GENERATION_FILE
  given = HFConfig(read_optional(file), str(file))
  sampled = given.take("do_sample", None, bool)
  temperature = _positive(given, "temperature", zero=True)
  top_k, top_p = _count(given, "top_k", zero=True), _positive(given, "top_p")
  if top_p is not None and top_p > 1:
    raise given.refuse("top_p", top_p, "a number over 0 and up to 1")
  draws = any(value is not None for value in (sampled, temperature, top_k, top_p))
  if draws and not sampled:
    temperature, top_k, top_p = 0.0, None, None  # transformers doesn't sample unless do_sample is true.
  elif draws:
    temperature = 1.0 if temperature is None else temperature
    top_k = _TOP_K if top_k is None else top_k or None
  length, most = _count(given, "max_new_tokens"), _count(given, "max_length")
  if length is None and most is not None and decodes_alone:
    length = max(1, most - 1)  # The start token is counted.
  suppressed, longer = _bad_words(given)
  penalty, early = given.take("length_penalty", None, float), given.take("early_stopping", False)
  if early not in (True, False, None, "never"):
    raise given.refuse("early_stopping", early, [True, False, "never"])
  beams, stops = _count(given, "num_beams"), _ids(given, "eos_token_id")
  ends, renormalize = _ids(given, "forced_eos_token_id"), given.take("renormalize_logits", False, bool)
  suppressed += _ids(given, "suppress_tokens")
  return GenerationDefaults(
    temperature=temperature,
    top_k=top_k,
    top_p=None if top_p == 1 else top_p,
    max_new_tokens=length,
    beams=beams,
    length_penalty=1.0 if penalty is None else penalty,
    ranking=Ranking(gnmt=False, patient=early is not True),
    stops=stops,
    forced_end=bool(ends),
    renormalize=bool(renormalize),
    suppressed=suppressed,
    not_applied=(*_others(given), *longer, *(["early_stopping never"] if early == "never" else [])),
  )


def _positive(given: HFConfig, key: str, *, zero: bool = False) -> float | None:
  value = given.take(key, None, float)
  if value is not None and (value < 0 or (value == 0 and not zero)):
    raise given.refuse(key, value, "0 or a positive number" if zero else "a positive number")
  return value


def _count(given: HFConfig, key: str, *, zero: bool = False) -> int | None:
  value = given.take(key, None, int)
  if value is not None and value < (0 if zero else 1):
    raise given.refuse(key, value, "0 or more" if zero else "at least 1")
  return value


def _ids(given: HFConfig, key: str) -> tuple[int, ...]:
  """One id, or a list of them."""
  value = given.take(key, None)
  ids = [] if value is None else value if isinstance(value, list) else [value]
  for one in ids:
    given.check(key, one, int, nullable=False)
  return tuple(one for one in ids if one >= 0)


def _bad_words(given: HFConfig) -> tuple[tuple[int, ...], tuple[str, ...]]:
  """(ids of the single-token bad_words_ids, entries of `not_applied` for longer ones)."""
  words = given.take("bad_words_ids", None, list) or []
  for word in words:
    given.check("bad_words_ids", word, list, nullable=False)
    for one in word:
      given.check("bad_words_ids", one, int, nullable=False)
  longer = ("bad_words_ids of several tokens",) if any(len(word) != 1 for word in words) else ()
  return tuple(word[0] for word in words if len(word) == 1), longer


def _others(given: HFConfig) -> list[str]:
  """ "key value" of the keys with an effect that lmx doesn't support."""
  found = []
  for key, off in _NOT_APPLIED.items():
    value = given.take(key, None)
    if value is not None and value != off:
      found.append(f"{key} {value}")
  unknown = sorted(key for key in set(given.values) - given.used if not _HARMLESS.fullmatch(key))
  return found + [f"{key} {str(given.values[key])[:60]}, which is not a known key" for key in unknown]
