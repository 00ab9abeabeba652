# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The small files of an imported model that lmx has no keys for, and that an export restores.

An imported run keeps them in a subfolder, a run that starts from it copies that folder, and an export writes what still
holds: ids of special tokens, defaults of generation, prompts of sentence-transformers.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmx.hf.family import Family
from lmx.hf.files import read_optional
from lmx.hf.sentence import FILES as SENTENCE_FILES
from lmx.hf.settings import Keys

CONFIG_FILE, GENERATION_FILE = "config.json", "generation_config.json"
ORIGIN_FILE = "imported_from.json"  # The directory or hub name, which an exported PEFT adapter names as its base.
# Files of older tokenizers, which lmx doesn't write itself.
_TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json", "merges.txt")
_KEPT = (CONFIG_FILE, GENERATION_FILE, *_TOKENIZER_FILES, *SENTENCE_FILES)
_TOKEN_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
# Keys that every export writes, or that belong to the version of transformers that wrote the file.
_STALE = ("dtype", "torch_dtype", "transformers_version", "id2label", "label2id", "num_labels", "problem_type")


def keep(source: Path, target: Path, *, origin: str, other_tokenizer: bool = False) -> None:
  """Copies a model's small files into a new folder.

  Args:
    source: the model's directory.
    target: the folder to create.
    origin: what the model was imported from: a directory, or a name on the hub.
    other_tokenizer: the run has another tokenizer than the model's own, so token ids of the files don't hold.
  """
  for name in _KEPT:
    if (source / name).is_file() and not (other_tokenizer and name in _TOKENIZER_FILES):
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(source / name, target / name)
  target.mkdir(parents=True, exist_ok=True)
  path = Path(origin).expanduser()
  _write(target / ORIGIN_FILE, {"model": str(path.resolve()) if path.is_dir() else origin})
  for name in (CONFIG_FILE, GENERATION_FILE) if other_tokenizer else ():
    if (target / name).is_file():
      values = {key: value for key, value in read_optional(target / name).items() if not key.endswith("_token_id")}
      _write(target / name, values)


def carried_origin(carried: Path | None) -> str | None:
  """The directory or hub name that a model was imported from; None where it is unknown."""
  values = {} if carried is None else read_optional(carried / ORIGIN_FILE)
  return str(values["model"]) if "model" in values else None


def carried_config(carried: Path | None) -> Keys:
  """The config.json that a model was imported with; {} where there is none."""
  return {} if carried is None else read_optional(carried / CONFIG_FILE)


def carried_family(carried: Path | None) -> str | None:
  """The family (model_type) that a model was imported as; None where there is none."""
  values = carried_config(carried)
  return str(values["model_type"]) if "model_type" in values else None


def carried_keys(carried: Path | None, family: Family) -> Keys:
  """Keys of the config.json that a model was imported with, if it is exported as the same family."""
  values = carried_config(carried)
  if values.get("model_type") != family.name:
    return {}
  return {key: value for key, value in values.items() if key not in (*_STALE, *family.aliases)}


def token_ids(written: Keys, carried: Keys, stops: Sequence[int]) -> Keys:
  """Ids of special tokens for a config.json or generation_config.json.

  Args:
    written: ids of the tokenizer.
    carried: the file that the model was imported with; its ids take precedence.
    stops: further ids that end a text.
  """
  ids = {key: carried.get(key) if carried.get(key) is not None else written.get(key) for key in _TOKEN_KEYS}
  eos = ids["eos_token_id"]
  ends = [*(eos if isinstance(eos, list) else [] if eos is None else [eos]), *stops]
  ends = list(dict.fromkeys(ends))
  ids["eos_token_id"] = ends if len(ends) > 1 else ends[0] if ends else None
  return {key: value for key, value in ids.items() if value is not None}


def restore_tokenizer_files(directory: Path, carried: Path | None) -> None:
  """Copies the tokenizer's files that a model was imported with into `directory`."""
  if carried is None:
    return
  for name in _TOKENIZER_FILES:
    if (carried / name).is_file():
      shutil.copyfile(carried / name, directory / name)


def write_generation(directory: Path, carried: Path | None, ids: Keys, stops: Sequence[int]) -> None:
  """Writes generation_config.json: the one that the model was imported with, and all ids that end a text.

  Args:
    directory: of the exported model.
    carried: the folder of the file, or None.
    ids: ids of special tokens of config.json.
    stops: further ids that end a text.
  """
  values = {} if carried is None else read_optional(carried / GENERATION_FILE)
  values |= token_ids(ids, values, stops)
  if values:
    _write(directory / GENERATION_FILE, values)


def _write(file: Path, values: dict[str, Any]) -> None:
  file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
