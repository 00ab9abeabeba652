# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""LoRA adapters of PEFT (https://huggingface.co/docs/peft): reads a base's weights with the adapter merged in.

The folder has adapter_config.json and adapter_model.safetensors; the base is in the same folder or where the config
points. Fully trained modules (modules_to_save) replace those of the base. Everything else that PEFT supports is refused
by its key: a base without its adapter is another model.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from lmx.errors import LmxError, message
from lmx.hf.carried import CONFIG_FILE
from lmx.hf.files import read_json
from lmx.hf.hub import model_directory
from lmx.hf.settings import REQUIRED, HFConfig, is_a
from lmx.hf.weights import PICKLED_ADAPTER, Stored, WeightFiles

ADAPTER_CONFIG, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"
BEGINNING = "base_model.model."  # Prefix of every name in an adapter's file.
# task_type -> the heads of that task; the first is used if the base has none of them.
TASKS = {"CAUSAL_LM": ("language",), "SEQ_2_SEQ_LM": ("language",), "SEQ_CLS": ("classification", "regression"),
         "TOKEN_CLS": ("tagging",), "QUESTION_ANS": ("span",), "FEATURE_EXTRACTION": ("embedding",)}  # fmt: skip
# Keys that change what an adapter computes -> the values of plain LoRA.
_PLAIN: dict[str, tuple[Any, ...]] = {
  "peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None), "lora_bias": (False, None),
  "use_qalora": (False, None), "trainable_token_indices": (None,), "layer_replication": (None,),
  "target_parameters": (None, []), "megatron_config": (None,), "init_lora_weights": (True, False, None, "gaussian"),
  "alora_invocation_tokens": (None,), "task_type": (None, *TASKS),
}  # fmt: skip


class AdaptedFiles(WeightFiles):
  """The tensors of a base with the adapter merged in as they are read.

  Attributes:
    heads: the heads of the adapter's task; () where it names no task.
    replaced: names of the tensors of fully trained modules.
  """

  def __init__(self, base: Path, adapter: Path):
    """Reads the headers of the base, and all of the adapter.

    Raises:
      LmxError: the adapter is no plain LoRA, or isn't of this base.
    """
    super().__init__(base)
    settings = HFConfig(read_json(adapter / ADAPTER_CONFIG), str(adapter / ADAPTER_CONFIG))
    for key, allowed in _PLAIN.items():
      if (value := settings.take(key, allowed[0])) not in allowed:
        raise settings.refuse(key, value, list(allowed))
    self.heads: tuple[str, ...] = TASKS.get(settings.take("task_type", None), ())
    self._scales = _Scales(settings)
    self._transposed = bool(settings.take("fan_in_fan_out", False, bool))
    file = adapter / ADAPTER_FILE
    arrays = _arrays(file)
    saved = _saved_names(settings, arrays, self.tensors)
    factors = _factors(file, {name: array for name, array in arrays.items() if name not in saved})
    shift = _prefixes([*factors, *sorted(saved)], self.tensors)
    self._base_kinds = super().kinds
    self._saved = {_shifted(name, shift): arrays[name] for name in saved}
    self._factors = {_shifted(name, shift): both for name, both in factors.items()}
    for name, both in factors.items():
      self._check(file, name, _shifted(name, shift), both)
    self.tensors |= {name: Stored(file, array.shape, "F32") for name, array in self._saved.items()}

  @property
  def replaced(self) -> frozenset[str]:
    return frozenset(self._saved)

  @property
  def kinds(self) -> set[str]:
    """dtypes of the base's tensors, as the headers name them."""
    return self._base_kinds

  def _check(self, file: Path, module: str, name: str, both: tuple[np.ndarray, np.ndarray]) -> None:
    """Checks A (r, inputs) and B (outputs, r) against the tensor that they adapt, and scales B."""
    a_RI, b_OR = both
    shape, rank = (b_OR.shape[0], a_RI.shape[1]), self._scales.rank(module.removesuffix(".weight"))
    there = self.tensors[name].shape if name in self.tensors else None
    if there != (shape[::-1] if self._transposed else shape) or a_RI.shape[0] != rank or b_OR.shape[1] != rank:
      raise LmxError(message(f"{file}: shape of the adapter of {module}", got=list(shape),
                             allowed=f"{there}, as in {self.directory}, of rank {rank}",
                             fix="check that this is the adapter's base"))  # fmt: skip
    self._factors[name] = a_RI, self._scales.scale(module.removesuffix(".weight")) * b_OR

  def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
    """As `WeightFiles.read`; float32 for adapted and replaced tensors."""
    if name in self._saved:
      return self._saved[name][index or ...]
    stored = super().read(name, index)
    if name not in self._factors:
      return stored
    a_RI, b_OR = self._factors[name]
    rows, columns = index or (slice(None), slice(None))
    if self._transposed:
      return stored.astype(np.float32) + (b_OR[columns] @ a_RI[:, rows]).T
    return stored.astype(np.float32) + b_OR[rows] @ a_RI[:, columns]


class _Scales:
  """Rank and scale of each module's adapter, from adapter_config.json."""

  def __init__(self, settings: HFConfig):
    self._rank = settings.take("r", REQUIRED, int, nullable=False)
    self._alpha = settings.take("lora_alpha", REQUIRED, float, nullable=False)
    self._ranks = _patterns(settings, "rank_pattern", int)
    self._alphas = _patterns(settings, "alpha_pattern", float)
    for key, rank in [("r", self._rank), *(("rank_pattern", rank) for rank in self._ranks.values())]:
      if rank < 1:
        raise settings.refuse(key, rank, "at least 1")
    self._stabilised = settings.take("use_rslora", False, bool)

  def rank(self, module: str) -> int:
    return _of_pattern(self._ranks, module, self._rank)

  def scale(self, module: str) -> float:
    rank = self.rank(module)
    return _of_pattern(self._alphas, module, self._alpha) / (math.sqrt(rank) if self._stabilised else rank)


def _patterns(settings: HFConfig, key: str, kind: type) -> dict[str, Any]:
  """{end of a module's name: its value}. PEFT allows any regex here, lmx only plain names."""
  given = settings.take(key, None, dict) or {}
  for name, value in given.items():
    if not is_a(kind, value):
      raise settings.refuse(f"{key}.{name}", value, "a number")
    if not re.fullmatch(r"[\w.]+", name):
      raise settings.refuse(key, name, "names of modules, or ends of names")
  return given


def _of_pattern(values: Mapping[str, Any], module: str, usual: Any) -> Any:
  return next((value for end, value in values.items() if f".{module}".endswith(f".{end}")), usual)


def _saved_names(settings: HFConfig, arrays: Iterable[str], base: Iterable[str]) -> set[str]:
  """Names of the tensors of fully trained modules (modules_to_save)."""
  modules = settings.take("modules_to_save", None, list) or []
  if not all(isinstance(module, str) and module for module in modules):
    raise settings.refuse("modules_to_save", modules, "names of modules")
  for module in modules:  # PEFT also lists names that the model lacks; only those that it has must be in the file.
    if any(_is_saved(name, module) for name in base) and not any(_is_saved(name, module) for name in arrays):
      raise settings.refuse("modules_to_save", module, f"modules that are in {ADAPTER_FILE}")
  return {name for name in arrays if any(_is_saved(name, module) for module in modules)}


def _is_saved(name: str, module: str) -> bool:
  """Whether a tensor belongs to a module; PEFT compares the ends of names."""
  return any(name[:at].endswith(module) for at, letter in enumerate(name) if letter == ".")


def _prefixes(names: Iterable[str], tensors: Mapping[str, Stored]) -> tuple[str, str]:
  """(prefix of the adapter's names, prefix of the base's): they differ if one of the two lacks "bert.", for example."""
  for name in names:
    if name in tensors:
      break
    for other in tensors:
      if name.endswith(f".{other}"):
        return name.removesuffix(other), ""
      if other.endswith(f".{name}"):
        return "", other.removesuffix(name)
  return "", ""


def _shifted(name: str, shift: tuple[str, str]) -> str:
  return shift[1] + name.removeprefix(shift[0]) if name.startswith(shift[0]) else name


def _arrays(file: Path) -> dict[str, np.ndarray]:
  """Name without `BEGINNING` -> float32 array, for every tensor of an adapter's file."""
  if not file.is_file():
    pickled = (file.parent / PICKLED_ADAPTER).is_file()
    got = f"{PICKLED_ADAPTER}, which is pickled" if pickled else f"no {file.name}"
    raise LmxError(message(str(file.parent), got=got, allowed=f"an adapter with {file.name}"))
  try:
    with safetensors.safe_open(file, framework="numpy") as opened:
      arrays = {name: np.asarray(opened.get_tensor(name), np.float32) for name in opened.keys()}  # noqa: SIM118
  except Exception as error:  # The library's own SafetensorError, or OSError.
    raise LmxError(f"{file} is not a complete safetensors file: {error}. Fix: fetch it again.") from error
  other = next((name for name in arrays if not name.startswith(BEGINNING)), None)
  if other is not None:
    raise LmxError(message(f"{file}: tensor", got=other, allowed=f"names that begin with {BEGINNING}"))
  return {name.removeprefix(BEGINNING): array for name, array in arrays.items()}


def _factors(file: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Name of a tensor of the base -> (A, B) of its adapter, float32 of shape (r, inputs) and (outputs, r)."""
  found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
  for name, array in arrays.items():
    if not name.endswith((".lora_A.weight", ".lora_B.weight")) or array.ndim != 2:
      raise LmxError(message(f"{file}: tensor", got=BEGINNING + name,
                             allowed="A and B of LoRA on linear layers, and modules_to_save"))  # fmt: skip
    other = name.replace(".lora_A.", ".lora_B.") if ".lora_A." in name else name.replace(".lora_B.", ".lora_A.")
    if other not in arrays:
      raise LmxError(message(f"{file}: tensor", got=f"no {BEGINNING}{other}", allowed=f"one for {BEGINNING}{name}"))
    if ".lora_A." in name:
      found[f"{name.removesuffix('.lora_A.weight')}.weight"] = (array, arrays[other])
  return found


def open_weights(directory: Path) -> WeightFiles:
  """The weights of a model's directory; those of an adapter's with its base, which may be elsewhere.

  Raises:
    LmxError: an adapter without its base.
  """
  if not (directory / ADAPTER_CONFIG).is_file():
    return WeightFiles(directory)
  if (directory / CONFIG_FILE).is_file():
    return AdaptedFiles(directory, directory)
  file = directory / ADAPTER_CONFIG
  settings = HFConfig(read_json(file), str(file))
  base = settings.take("base_model_name_or_path", None, str)
  folders = [] if base is None else [Path(base).expanduser(), directory / base, directory.parent / Path(base).name]
  found = next((folder for folder in folders if (folder / CONFIG_FILE).is_file()), None)
  return AdaptedFiles(_fetched(file, base, directory) if found is None else found, directory)


def _fetched(file: Path, base: str | None, directory: Path) -> Path:
  """The folder of a base, downloaded from the hub."""
  fix = f"put {CONFIG_FILE} and the base's safetensors into {directory}, or name the base's folder in the file"
  try:
    return model_directory(base or "")
  except LmxError as error:
    raise LmxError(message(f"{file}: base_model_name_or_path", got=base, allowed="the folder of the base, or its name "
                           "on the hub where there is a network", fix=fix)) from error  # fmt: skip
