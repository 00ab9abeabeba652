# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes a tokenizer's files next to an exported model, so that every reader gets lmx's token ids.

tokenizer.json is complete, with the special tokens around the model's texts as its post-processor, and
tokenizer_config.json names a class of `transformers` that uses it unchanged.
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
from lmx.data.tokenizers.tokenizer_classes import IGNORES_STATED_CLASS, OF_MODELS, QWEN_WORDS
from lmx.data.tokenizers.vocabulary import DESCRIPTION_FILE
from lmx.errors import LmxError
from lmx.objectives.examples import find_framing

# Files of older layouts, whose contents are in tokenizer.json.
_OLDER = ("special_tokens_map.json", "added_tokens.json", "merges.txt", "vocab.json", "vocab.txt")
_STALE = ("add_bos_token", "add_eos_token", "added_tokens_decoder", "tokenizer_file", "auto_map", "chat_template",
          "special_tokens_map_file")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TextInputs:
  """How the texts of an exported model become token ids.

  Attributes:
    tokenizer: the run's.
    framing: the special tokens around one text and around a pair.
    head: the model's, a row of `lmx.nn.heads.HEADS`.
    context: maximum number of tokens.
    token_types: rows of the model's token type table.
    masks: whether padding is only masked; else a head scores the last token that isn't the padding id.
    starts: whether the padding id also starts the decoder, so that it must be the tokenizer's own.
  """

  tokenizer: Tokenizer
  framing: Framing
  head: str
  context: int
  token_types: int
  masks: bool
  starts: bool = False

  @classmethod
  def of(cls, tokenizer: Tokenizer, spec: Any, architecture: str, name: str) -> "TextInputs":
    """The inputs of a model.

    Args:
      tokenizer: the run's.
      spec: of the model.
      architecture: a key of `lmx.models.MODELS`.
      name: of the framing, see `find_framing`.
    """
    found = find_framing(tokenizer, architecture, name)
    if spec.head == "language" and architecture in ("transformer", "lstm") and found is not tokenizer.own_framing:
      found = _open(found)  # No end of text after a prompt.
    own = tokenizer.own_framing
    if spec.head in ("language", "masked") and own is not None and own.single == found.single:
      found = own  # Such a model isn't trained on pairs, so the tokenizer keeps its template of pairs.
    token_types = spec.token_types if architecture == "encoder" else 0
    encodes, starts = architecture == "encoder", architecture == "encoder_decoder"
    return cls(tokenizer, found, spec.head, spec.context, token_types, encodes, starts)

  @property
  def pad_id(self) -> int | None:
    """The padding id; None where every id would be mistaken for something else.

    Decoders that score a sequence use its last token that isn't padding, so padding must be an id that no text ends
    with. The end of a document is used only if there is no other, since training on padded text would mask it out of
    the loss.
    """
    tokenizer, last = self.tokenizer, self.framing.single.ids[-1]
    if self.starts or tokenizer.pad_id != tokenizer.eos_id or tokenizer.own_settings.get("pad_token"):
      return tokenizer.pad_id
    if tokenizer.lossless and tokenizer.unknown_id is not None:
      return tokenizer.unknown_id  # No text is ever tokenized to it.
    if self.head == "language" and tokenizer.own_framing is not None:
      return None
    free = [one for one in (tokenizer.bos_id, tokenizer.eos_id) if self.masks or one != last]
    return free[0] if free else None


def _open(found: Framing) -> Framing:
  """The same tokens before a text, without any after it or between two."""
  return framing(found.single.ids[: found.single.before(FIRST)], (), ())


def check_padding(inputs: TextInputs, pad_id: int, family: str) -> None:
  """Checks a tokenizer for a family with a fixed padding id.

  Args:
    inputs: of the model.
    pad_id: the family's padding id.
    family: model_type, for the message.

  Raises:
    LmxError: the tokenizer has another token under that id.
  """
  if inputs.tokenizer.pad_id != pad_id:
    shown = inputs.tokenizer.piece(pad_id)
    raise LmxError(
      f"A {family} model uses id {pad_id} for padding and gives it no position, but in this run's tokenizer that id is "
      f"{shown!r}. Fix: export it as another family, such as --family=bert."
    )


def write_tokenizer(directory: Path, inputs: TextInputs, family: str) -> None:
  """Writes the tokenizer's files into the directory of a model.

  Args:
    directory: of the model.
    inputs: how its texts are tokenized.
    family: model_type.

  Raises:
    LmxError: no tokenizer.json gives the ids of this tokenizer, or `transformers` would change it in this family.
  """
  tokenizer = inputs.tokenizer
  if family == tokenizer.kind:  # transformers reads Marian's own files for Marian models.
    tokenizer.save(directory)
    (directory / DESCRIPTION_FILE).unlink(missing_ok=True)
    return
  values = tokenizer.as_json()
  if inputs.framing is not tokenizer.own_framing:
    values["post_processor"] = inputs.framing.template_processing(tokenizer.piece)
  if family in IGNORES_STATED_CLASS and not _as_qwen(values):
    raise LmxError(
      f"transformers reads the tokenizer of every {family} model as {OF_MODELS[family]}, which gives other ids than "
      f"this run's {tokenizer.name}. Fix: export it as another family (lmx export --family=..., or another "
      "config.model.attention_bias when training)."
    )
  tokenizer.save(directory)
  for name in (DESCRIPTION_FILE, *_OLDER):
    (directory / name).unlink(missing_ok=True)
  (directory / MODEL_FILE).write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
  config = json.dumps(_config(inputs, family), indent=2, ensure_ascii=False, sort_keys=True)
  (directory / CONFIG_FILE).write_text(config + "\n", encoding="utf-8")


def _config(inputs: TextInputs, family: str) -> dict[str, Any]:
  """tokenizer_config.json: the tokenizer's own settings, and those of this model."""
  tokenizer = inputs.tokenizer
  kept = {key: value for key, value in tokenizer.own_settings.items() if key not in _STALE}
  unknown = tokenizer.unknown_id
  if unknown is None and OF_MODELS.get(family) == "GPT2Tokenizer":
    unknown = tokenizer.eos_id  # As in GPT2Tokenizer. No text is tokenized to it, but CTranslate2 requires one.
  roles = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "unk": unknown,
           "mask": tokenizer.mask_id if inputs.head == "masked" else None}  # fmt: skip
  if inputs.framing.added and inputs.head != "language":
    roles |= {"cls": tokenizer.cls_id, "sep": tokenizer.sep_id}
  named = {f"{role}_token": None if token is None else tokenizer.piece(token) for role, token in roles.items()}
  pad = inputs.pad_id
  generates = inputs.head == "language"
  arrays = ["input_ids", *(["token_type_ids"] if inputs.token_types > 1 else []), "attention_mask"]
  return {
    "add_prefix_space": tokenizer.prefixes_space,
    "clean_up_tokenization_spaces": False,
    "padding_side": "left",
    **{key: name for key, name in named.items() if name is not None},
    **kept,
    **({} if generates else {"padding_side": "right"}),
    "pad_token": None if pad is None else tokenizer.piece(pad),
    "model_input_names": arrays,
    "model_max_length": inputs.context,
    "tokenizer_class": OF_MODELS[family] if family in IGNORES_STATED_CLASS else "PreTrainedTokenizerFast",
  }


def _as_qwen(values: Mapping[str, Any]) -> bool:
  """Whether Qwen2Tokenizer, which rebuilds normalizer and pre-tokenizer, leaves a tokenizer.json unchanged."""
  split = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
  level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
  before = (values.get("pre_tokenizer") or {}).get("pretokenizers") or []
  same = [{**part, "trim_offsets": True} if part["type"] == "ByteLevel" else part for part in before] == [split, level]
  return same and values.get("normalizer") == {"type": "NFC"}
