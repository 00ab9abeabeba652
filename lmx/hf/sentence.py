# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reads and writes the files of sentence-transformers, which turn a model into one that embeds texts.

modules.json lists the modules: the Transformer, a Pooling with its config.json, and perhaps a Normalize.
sentence-transformers 6 writes other names and another pooling file than version 5, and reads both; exports use the
older form, which both versions read. https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.errors import LmxError, message
from lmx.hf.files import parse_json, read_json, read_optional
from lmx.hf.settings import HFConfig

MODULES_FILE, LENGTH_FILE = "modules.json", "sentence_bert_config.json"
PROMPTS_FILE, POOLING_FOLDER = "config_sentence_transformers.json", "1_Pooling"
FILES = (MODULES_FILE, LENGTH_FILE, PROMPTS_FILE, f"{POOLING_FOLDER}/config.json")
_TRANSFORMER, _POOLING, _NORMALIZE = "Transformer", "Pooling", "Normalize"
# Value of the newer pooling key -> config.model.pooling; and older pooling key -> value of the newer key.
_WORDS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_OLDER = {
  "pooling_mode_cls_token": "cls",
  "pooling_mode_max_tokens": "max",
  "pooling_mode_mean_tokens": "mean",
  "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
  "pooling_mode_weightedmean_tokens": "weightedmean",
  "pooling_mode_lasttoken": "lasttoken",
}
# Keys of sentence_bert_config.json without a counterpart in lmx -> their values that change no vector; (): all.
_OFF: dict[str, tuple[Any, ...]] = {
  "modality_config": (None, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
  "module_output_name": (None, "token_embeddings"),
  "unpad_inputs": (),
  **dict.fromkeys(("query_length", "document_length", "query_expansion", "tokenizer_name_or_path"), (None,)),
  **dict.fromkeys(("processing_kwargs", "model_args", "tokenizer_args", "config_args", "model_kwargs",
                   "processor_kwargs", "config_kwargs"), (None, {})),
}  # fmt: skip
_ENDLESS = 10**9  # transformers writes a larger model_max_length where a tokenizer has no limit.


@dataclasses.dataclass(frozen=True)
class SentenceModel:
  """The settings of the files.

  Attributes:
    pooling: cls | mean | last.
    normalize: whether vectors have length 1.
    length: maximum number of tokens of a text, special tokens included; None: the model's context.
  """

  pooling: str
  normalize: bool
  length: int | None


def read_sentence_model(directory: Path, width: int) -> SentenceModel | None:
  """The settings in a directory; None where it has no files of sentence-transformers.

  Args:
    directory: of the model.
    width: of its hidden states.

  Raises:
    LmxError: names a module or option that lmx doesn't support.
  """
  folder, normalize = _modules(directory)
  if folder is None:
    return None
  return SentenceModel(_pooling(folder / "config.json", width), normalize, _length(directory))


def normalizes(directory: Path) -> bool:
  """Whether a directory's modules.json, if it has one, normalizes vectors to length 1."""
  return not (directory / MODULES_FILE).is_file() or _modules(directory)[1]


def _modules(directory: Path) -> tuple[Path | None, bool]:
  """(folder of the pooling, or None without one; whether vectors are normalized)."""
  file = directory / MODULES_FILE
  if not file.is_file():
    folder = directory / POOLING_FOLDER
    return (folder if (folder / "config.json").is_file() else None), False
  modules = parse_json(file)
  if not isinstance(modules, list) or not all(isinstance(one, dict) for one in modules):
    raise LmxError(f"{file} is not a list of modules.")
  kinds = [_kind(file, one) for one in modules]
  expected = [_TRANSFORMER, _POOLING, _NORMALIZE]
  if kinds != expected[: max(2, len(kinds))]:
    wrong = next((n for n, kind in enumerate(kinds) if n >= len(expected) or kind != expected[n]), len(kinds) - 1)
    got = f"{modules[wrong].get('type')} as module {wrong}" if modules else "no module"
    raise LmxError(message(f"{file}: type", got=got, allowed=f"{', '.join(expected)}, in this order; the last may be "
                           "left out", fix="lmx can't make this model's vectors exactly"))  # fmt: skip
  places = [one.get("path", "") for one in modules]
  if not isinstance(places[1], str) or places[0] not in ("", "."):
    raise LmxError(message(f"{file}: path", got=places, allowed="'' for the Transformer, a folder for the Pooling"))
  return directory / places[1], len(kinds) == len(expected)


def _kind(file: Path, module: Mapping[str, Any]) -> str:
  """The class of a module, without the package if it is one of sentence-transformers'."""
  named = module.get("type")
  if not isinstance(named, str):
    raise LmxError(message(f"{file}: type", got=named, allowed="the name of a module of sentence-transformers"))
  return named.rpartition(".")[2] if named.startswith("sentence_transformers.") else named


def _pooling(file: Path, width: int) -> str:
  """config.model.pooling, from the newer key or the older key that is true; mean if there is none."""
  settings = HFConfig(read_json(file), str(file), {"word_embedding_dimension": "embedding_dimension"})
  older = [word for key, word in _OLDER.items() if settings.take(key, False, bool)]
  newer = settings.take("pooling_mode", None)
  modes = [newer] if isinstance(newer, str) else newer if isinstance(newer, list) else older or ["mean"]
  if newer is not None and not isinstance(newer, str | list):
    raise settings.refuse("pooling_mode", newer, list(_WORDS))
  if newer is not None and older and older != modes:
    raise settings.refuse("pooling_mode", newer, f"{older}, as in the older keys")
  if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in _WORDS:
    raise settings.refuse("pooling_mode", modes, f"one of {', '.join(_WORDS)}")
  if not settings.take("include_prompt", True, bool):
    raise settings.refuse("include_prompt", False, [True])
  size = settings.take("embedding_dimension", width, int)
  if size != width:
    raise settings.refuse("embedding_dimension", size, [width])
  settings.check_rest({})
  return _WORDS[modes[0]]


def _length(directory: Path) -> int | None:
  """Maximum number of tokens of a text; checks that nothing else is done to texts."""
  named = next(iter(sorted(directory.glob("sentence_*_config.json"))), directory / LENGTH_FILE)
  settings = HFConfig(read_optional(named), str(named))
  tokenizer_file = directory / "tokenizer_config.json"
  tokenizer = HFConfig(read_optional(tokenizer_file), str(tokenizer_file))
  if settings.take("do_lower_case", False, bool) and not tokenizer.take("do_lower_case", False, bool):
    raise settings.refuse("do_lower_case", True, "false, since the tokenizer doesn't lowercase texts itself")
  task = settings.take("transformer_task", "feature-extraction", str)
  if task != "feature-extraction":
    raise settings.refuse("transformer_task", task, ["feature-extraction"])
  prompts = HFConfig(read_optional(directory / PROMPTS_FILE), str(directory / PROMPTS_FILE))
  default = prompts.take("default_prompt_name", None, str)
  if default is not None and (prompts.take("prompts", None, dict) or {}).get(default) != "":
    raise prompts.refuse("default_prompt_name", default, "null: lmx adds no prompt to texts")
  length = settings.take("max_seq_length", None, int)
  settings.check_rest(_OFF)
  if length is None:
    given = tokenizer.take("model_max_length", None)
    length = int(given) if isinstance(given, int | float) and 0 < given < _ENDLESS else None
  if length is not None and length < 1:
    raise settings.refuse("max_seq_length", length, "a positive number, or null")
  return length


def write_sentence_model(directory: Path, model: SentenceModel, width: int, carried: Path | None) -> None:
  """Writes the files with which sentence-transformers computes lmx's vectors.

  Args:
    directory: an existing folder.
    model: the settings.
    width: of the hidden states.
    carried: the folder with the files that the model was imported with, or None; their prompts are kept.
  """
  kinds = [(_TRANSFORMER, ""), (_POOLING, POOLING_FOLDER), (_NORMALIZE, f"2_{_NORMALIZE}")]
  modules = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
             for n, (kind, path) in enumerate(kinds[: 2 + model.normalize])]  # fmt: skip
  modes = {key: _WORDS.get(word) == model.pooling for key, word in _OLDER.items()
           if word in ("cls", "mean", "max", "mean_sqrt_len_tokens") or _WORDS.get(word) == model.pooling}  # fmt: skip
  no_prompts: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
  files: dict[str, Any] = {
    MODULES_FILE: modules,
    f"{POOLING_FOLDER}/config.json": {"word_embedding_dimension": width, **modes},
    LENGTH_FILE: {"max_seq_length": model.length, "do_lower_case": False},
    PROMPTS_FILE: (read_optional(carried / PROMPTS_FILE) if carried is not None else {}) or no_prompts,
  }
  for name, values in files.items():
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
