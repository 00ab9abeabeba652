# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A tokenizer's files next to an exported model: every reader of them gets the ids that lmx gets.

tokenizer.json holds all of it, with the special tokens that the model reads around texts as its post-processor, and
tokenizer_config.json names a class of `transformers` that takes it as it is.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.data.tokenizers.framing import FIRST, Framing, framing
from lmx.data.tokenizers.huggingface_tokenizer import MODEL_FILE
from lmx.data.tokenizers.special_tokens import CONFIG_FILE
from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.data.tokenizers.tokenizer_classes import QWEN_WORDS
from lmx.data.tokenizers.vocabulary import DESCRIPTION_FILE
from lmx.errors import LmxError
from lmx.objectives.examples import find_framing

# Files of older layouts, whose contents tokenizer.json has: two sources of one thing.
_OLDER = ("special_tokens_map.json", "added_tokens.json", "merges.txt", "vocab.json", "vocab.txt")
_STALE = ("add_bos_token", "add_eos_token", "added_tokens_decoder", "tokenizer_file", "auto_map", "chat_template",
          "special_tokens_map_file")  # fmt: skip
# transformers 5 reads these families with this class whatever the files name, and it takes nothing of a tokenizer.json
# but vocabulary, merges and post-processor.
_FORCED = {"qwen2": "Qwen2Tokenizer"}


@dataclasses.dataclass(frozen=True)
class Reading:
  """How an exported model reads texts.

  Attributes:
    tokenizer: the run's.
    framing: the special tokens around a text and around two.
    head: the model's, a row of `lmx.nn.heads.HEADS`.
    context: tokens that a row may have.
    token_types: rows of the model's table that tells two texts apart.
    masks: whether padding is left out by the attention mask alone; else the last token that isn't padding is scored.
    starts: whether the padding id also starts what a decoder writes: it is the tokenizer's own then.
  """

  tokenizer: Tokenizer
  framing: Framing
  head: str
  context: int
  token_types: int
  masks: bool
  starts: bool = False

  @classmethod
  def of(cls, tokenizer: Tokenizer, spec: Any, architecture: str, name: str) -> "Reading":
    """How a model with this spec reads texts, with the special tokens that `name` stands for (see `find_framing`)."""
    found = find_framing(tokenizer, architecture, name)
    if spec.head == "language" and architecture in ("transformer", "lstm") and found is not tokenizer.own_framing:
      found = _open(found)  # A text to be continued doesn't end.
    own = tokenizer.own_framing
    if spec.head in ("language", "masked") and own is not None and own.single == found.single:
      found = own  # Pairs are nothing that such a model was trained on: the tokenizer's stay as they are.
    token_types = spec.token_types if architecture == "encoder" else 0
    encodes, starts = architecture == "encoder", architecture == "encoder_decoder"
    return cls(tokenizer, found, spec.head, spec.context, token_types, encodes, starts)

  @property
  def pad_id(self) -> int | None:
    """The id that fills short rows, or None where any would be mistaken for something else.

    Decoders that score a row take its last token that isn't padding, so it is one that no text ends with. The end of a
    document is it only where nothing else is free, since training on padded text would leave it out.
    """
    tokenizer, last = self.tokenizer, self.framing.single.ids[-1]
    if self.starts or tokenizer.pad_id != tokenizer.eos_id or tokenizer.own_settings.get("pad_token"):
      return tokenizer.pad_id
    if tokenizer.lossless and tokenizer.unknown_id is not None:
      return tokenizer.unknown_id  # Never made of a text.
    if self.head == "language" and tokenizer.own_framing is not None:
      return None
    free = [one for one in (tokenizer.bos_id, tokenizer.eos_id) if self.masks or one != last]
    return free[0] if free else None


def _open(found: Framing) -> Framing:
  """The same tokens before a text, and none after it or between two."""
  return framing(found.single.ids[: found.single.before(FIRST)], (), ())


def check_padding(reading: Reading, pad_id: int, family: str) -> None:
  """Whether a family that always has one padding id fits a tokenizer.

  Raises:
    LmxError: the id is another token's.
  """
  if reading.tokenizer.pad_id != pad_id:
    shown = reading.tokenizer.piece(pad_id)
    raise LmxError(
      f"A {family} model takes id {pad_id} for padding and counts no position for it, and that is {shown!r} in this "
      "run's tokenizer. Fix: export it as another family, such as --family=bert."
    )


def write_tokenizer(directory: Path, reading: Reading, family: str) -> None:
  """Writes the tokenizer's files into the directory of a model.

  Args:
    directory: of the model.
    reading: how it reads texts.
    family: model_type.

  Raises:
    LmxError: no tokenizer.json gives the ids of this tokenizer, or `transformers` would read it otherwise in this
      family.
  """
  tokenizer = reading.tokenizer
  if family == tokenizer.kind:  # Marian's files are those that transformers reads for its models.
    tokenizer.save(directory)
    (directory / DESCRIPTION_FILE).unlink(missing_ok=True)
    return
  values = tokenizer.as_json()
  if reading.framing is not tokenizer.own_framing:
    values["post_processor"] = reading.framing.template_processing(tokenizer.piece)
  if family in _FORCED and not _as_qwen(values):
    raise LmxError(
      f"transformers reads the tokenizer of every {family} model as {_FORCED[family]}, which would give other ids than "
      f"this run's {tokenizer.name}. Fix: export it as another family (lmx export --family=..., or another "
      "config.model.attention_bias when training)."
    )
  tokenizer.save(directory)
  for name in (DESCRIPTION_FILE, *_OLDER):
    (directory / name).unlink(missing_ok=True)
  (directory / MODEL_FILE).write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
  config = json.dumps(_config(reading, family), indent=2, ensure_ascii=False, sort_keys=True)
  (directory / CONFIG_FILE).write_text(config + "\n", encoding="utf-8")


def _config(reading: Reading, family: str) -> dict[str, Any]:
  """tokenizer_config.json: what the tokenizer came with, and what this model needs."""
  tokenizer = reading.tokenizer
  kept = {key: value for key, value in tokenizer.own_settings.items() if key not in _STALE}
  unknown = tokenizer.unknown_id
  if unknown is None and family == "gpt2":
    unknown = tokenizer.eos_id  # As GPT2Tokenizer has it; no text becomes it, but CTranslate2 reads no model without.
  roles = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": unknown,
           "mask": tokenizer.mask_id if reading.head == "masked" else None}  # fmt: skip
  if reading.framing.added and reading.head != "language":
    roles |= {"cls": tokenizer.cls_id, "sep": tokenizer.sep_id}
  named = {f"{role}_token": None if token is None else tokenizer.piece(token) for role, token in roles.items()}
  pad = reading.pad_id
  generates = reading.head == "language"
  inputs = ["input_ids", *(["token_type_ids"] if reading.token_types > 1 else []), "attention_mask"]
  return {
    "add_prefix_space": tokenizer.prefixes_space,
    "clean_up_tokenization_spaces": False,
    "padding_side": "left",
    **{key: name for key, name in named.items() if name is not None},
    **kept,
    **({} if generates else {"padding_side": "right"}),
    "pad_token": None if pad is None else tokenizer.piece(pad),
    "model_input_names": inputs,
    "model_max_length": reading.context,
    "tokenizer_class": _FORCED.get(family, "PreTrainedTokenizerFast"),
  }


def _as_qwen(values: Mapping[str, Any]) -> bool:
  """Whether a tokenizer.json does what Qwen2Tokenizer does."""
  split = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
  level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
  before = (values.get("pre_tokenizer") or {}).get("pretokenizers") or []
  same = [{**part, "trim_offsets": True} if part["type"] == "ByteLevel" else part for part in before] == [split, level]
  return same and values.get("normalizer") == {"type": "NFC"}
