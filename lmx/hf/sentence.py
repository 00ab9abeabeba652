# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The files by which sentence-transformers makes one vector of a text, read and written.

modules.json lists what a text goes through: the Transformer, a Pooling with a config.json of its own, perhaps a
Normalize. sentence-transformers 6 writes other names and another pooling file than 5 did, and reads both; what is
written here is the older form, which both read. https://sbert.net/docs/sentence_transformer/usage/custom_models.html
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
# The newer word -> ours; and the older key -> the newer word.
_WORDS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_OLDER = {
  "pooling_mode_cls_token": "cls",
  "pooling_mode_max_tokens": "max",
  "pooling_mode_mean_tokens": "mean",
  "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
  "pooling_mode_weightedmean_tokens": "weightedmean",
  "pooling_mode_lasttoken": "lasttoken",
}
# Keys of sentence_bert_config.json that lmx has nothing for -> their values that change no vector; (): all.
_OFF: dict[str, tuple[Any, ...]] = {
  "modality_config": (None, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
  "module_output_name": (None, "token_embeddings"),
  "unpad_inputs": (),
  **dict.fromkeys(("query_length", "document_length", "query_expansion", "tokenizer_name_or_path"), (None,)),
  **dict.fromkeys(("processing_kwargs", "model_args", "tokenizer_args", "config_args", "model_kwargs",
                   "processor_kwargs", "config_kwargs"), (None, {})),
}  # fmt: skip
_ENDLESS = 10**9  # Tokenizers write a model_max_length beyond it where they know none.


@dataclasses.dataclass(frozen=True)
class SentenceModel:
  """What the files of a directory say.

  Attributes:
    pooling: cls | mean | last.
    normalize: whether vectors have length 1.
    length: tokens of a text, at most, its special tokens included; None: the model's context.
  """

  pooling: str
  normalize: bool
  length: int | None


def read_sentence_model(directory: Path, width: int) -> SentenceModel | None:
  """What sentence-transformers makes of a model's hidden states; None: the directory has no such files.

  Args:
    directory: of the model.
    width: of its hidden states.

  Raises:
    LmxError: a module or an option that lmx lacks, by name.
  """
  folder, normalize = _modules(directory)
  if folder is None:
    return None
  return SentenceModel(_pooling(folder / "config.json", width), normalize, _length(directory))


def normalizes(directory: Path) -> bool:
  """Whether a directory's modules.json, if it has one, makes vectors of length 1."""
  return not (directory / MODULES_FILE).is_file() or _modules(directory)[1]


def _modules(directory: Path) -> tuple[Path | None, bool]:
  """(the folder of the pooling, whether vectors are normalised)."""
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
  """The last part of a module's type, where it is one of the library's own."""
  named = module.get("type")
  if not isinstance(named, str):
    raise LmxError(message(f"{file}: type", got=named, allowed="the name of a module of sentence-transformers"))
  return named.rpartition(".")[2] if named.startswith("sentence_transformers.") else named


def _pooling(file: Path, width: int) -> str:
  """The word for the pooling, of the newer key, or of the older ones that are true; mean if none is."""
  settings = HFConfig(read_json(file), str(file), {"word_embedding_dimension": "embedding_dimension"})
  older = [word for key, word in _OLDER.items() if settings.take(key, False, bool)]
  newer = settings.take("pooling_mode", None)
  modes = [newer] if isinstance(newer, str) else newer if isinstance(newer, list) else older or ["mean"]
  if newer is not None and not isinstance(newer, str | list):
    raise settings.refuse("pooling_mode", newer, list(_WORDS))
  if newer is not None and older and older != modes:
    raise settings.refuse("pooling_mode", newer, f"{older}, as the older keys say")
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
  """Tokens that a text is cut to; checks what else is done to a text."""
  named = next(iter(sorted(directory.glob("sentence_*_config.json"))), directory / LENGTH_FILE)
  settings = HFConfig(read_optional(named), str(named))
  tokenizer_file = directory / "tokenizer_config.json"
  tokenizer = HFConfig(read_optional(tokenizer_file), str(tokenizer_file))
  if settings.take("do_lower_case", False, bool) and not tokenizer.take("do_lower_case", False, bool):
    raise settings.refuse("do_lower_case", True, "false, where the tokenizer doesn't lower-case texts itself")
  task = settings.take("transformer_task", "feature-extraction", str)
  if task != "feature-extraction":
    raise settings.refuse("transformer_task", task, ["feature-extraction"])
  prompts = HFConfig(read_optional(directory / PROMPTS_FILE), str(directory / PROMPTS_FILE))
  default = prompts.take("default_prompt_name", None, str)
  if default is not None and (prompts.take("prompts", None, dict) or {}).get(default) != "":
    raise prompts.refuse("default_prompt_name", default, "null: lmx puts no prompt before a text")
  length = settings.take("max_seq_length", None, int)
  settings.check_rest(_OFF)
  if length is None:
    given = tokenizer.take("model_max_length", None)
    length = int(given) if isinstance(given, int | float) and 0 < given < _ENDLESS else None
  if length is not None and length < 1:
    raise settings.refuse("max_seq_length", length, "a positive number, or null")
  return length


def write_sentence_model(directory: Path, model: SentenceModel, width: int, carried: Path | None) -> None:
  """Writes the files, so that sentence-transformers makes lmx's vectors.

  Args:
    directory: exists.
    model: what to write.
    width: of the hidden states.
    carried: a folder with the files that the model was imported with; its prompts are kept.
  """
  kinds = [(_TRANSFORMER, ""), (_POOLING, POOLING_FOLDER), (_NORMALIZE, f"2_{_NORMALIZE}")]
  modules = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
             for n, (kind, path) in enumerate(kinds[: 2 + model.normalize])]  # fmt: skip
  modes = {key: _WORDS.get(word) == model.pooling for key, word in _OLDER.items()
           if word in ("cls", "mean", "max", "mean_sqrt_len_tokens") or _WORDS.get(word) == model.pooling}  # fmt: skip
  said: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
  files: dict[str, Any] = {
    MODULES_FILE: modules,
    f"{POOLING_FOLDER}/config.json": {"word_embedding_dimension": width, **modes},
    LENGTH_FILE: {"max_seq_length": model.length, "do_lower_case": False},
    PROMPTS_FILE: (read_optional(carried / PROMPTS_FILE) if carried is not None else {}) or said,
  }
  for name, values in files.items():
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
