# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""LoRA adapters of PEFT (https://huggingface.co/docs/peft): a base's weights are read with the adapter merged in.

A folder has adapter_config.json and adapter_model.safetensors; the base is in the same folder or where the config
points. Whatever PEFT supports beyond plain LoRA is refused by its key: a base without its adapter is another model.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from lmx.errors import LmxError, message
from lmx.hf.carried import CONFIG_FILE
from lmx.hf.files import read_json
from lmx.hf.settings import REQUIRED, Settings
from lmx.hf.weights import PICKLED_ADAPTER, WeightFiles

ADAPTER_CONFIG, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"
_BEGINNING = "base_model.model."  # Of every name in an adapter's file.
# Keys that change what an adapter computes -> the values that leave it plain.
_PLAIN: dict[str, tuple[Any, ...]] = {
  "peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None), "modules_to_save": (None, []),
  "rank_pattern": (None, {}), "alpha_pattern": (None, {}), "lora_bias": (False, None), "use_qalora": (False, None),
  "trainable_token_indices": (None,), "layer_replication": (None,), "target_parameters": (None, []),
  "megatron_config": (None,), "init_lora_weights": (True, False, None, "gaussian"), "alora_invocation_tokens": (None,),
}  # fmt: skip


class AdaptedFiles(WeightFiles):
  """The tensors of a base, each with its part of the adapter added when it is read."""

  def __init__(self, base: Path, adapter: Path):
    """Reads the headers of the base and the whole of the adapter.

    Raises:
      LmxError: an adapter that is no plain LoRA, or not of this base.
    """
    super().__init__(base)
    settings = Settings(read_json(adapter / ADAPTER_CONFIG), str(adapter / ADAPTER_CONFIG))
    for key, allowed in _PLAIN.items():
      if (value := settings.take(key, allowed[0])) not in allowed:
        raise settings.refuse(key, value, list(allowed))
    rank = settings.take("r", REQUIRED, int, nullable=False)
    alpha = settings.take("lora_alpha", REQUIRED, float, nullable=False)
    if rank < 1:
      raise settings.refuse("r", rank, "at least 1")
    stabilised = settings.take("use_rslora", False, bool)
    self._scale = alpha / (math.sqrt(rank) if stabilised else rank)
    self._transposed = bool(settings.take("fan_in_fan_out", False, bool))
    self._factors = _factors(adapter / ADAPTER_FILE)
    for name, (a_RI, b_OR) in self._factors.items():
      shape = (b_OR.shape[0], a_RI.shape[1])
      there = self.tensors[name].shape if name in self.tensors else None
      if there != (shape[::-1] if self._transposed else shape) or a_RI.shape[0] != rank or b_OR.shape[1] != rank:
        raise LmxError(message(f"{adapter / ADAPTER_FILE}: shape of the adapter of {name}", got=list(shape),
                               allowed=f"{there}, as in {base}, of rank {rank}",
                               fix="check that this is the adapter's base"))  # fmt: skip

  def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
    """As `WeightFiles.read`, float32 where the adapter has a part in it."""
    stored = super().read(name, index)
    if name not in self._factors:
      return stored
    a_RI, b_OR = self._factors[name]
    rows, columns = index or (slice(None), slice(None))
    if self._transposed:
      return stored.astype(np.float32) + self._scale * (b_OR[columns] @ a_RI[:, rows]).T
    return stored.astype(np.float32) + self._scale * (b_OR[rows] @ a_RI[:, columns])


def _factors(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Name of a tensor of the base -> (A, B) of its adapter, (r, in) and (out, r) float32."""
  if not file.is_file():
    pickled = (file.parent / PICKLED_ADAPTER).is_file()
    got = f"{PICKLED_ADAPTER}, which is pickled" if pickled else f"no {file.name}"
    raise LmxError(message(str(file.parent), got=got, allowed=f"an adapter with {file.name}"))
  try:
    with safetensors.safe_open(file, framework="numpy") as opened:
      arrays = {name: np.asarray(opened.get_tensor(name), np.float32) for name in opened.keys()}  # noqa: SIM118
  except Exception as error:  # The library's own SafetensorError, or OSError.
    raise LmxError(f"{file} is not a whole safetensors file: {error}. Fix: fetch it again.") from error
  found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
  for name, array in arrays.items():
    if not name.startswith(_BEGINNING) or not name.endswith((".lora_A.weight", ".lora_B.weight")) or array.ndim != 2:
      raise LmxError(message(f"{file}: tensor", got=name, allowed="A and B of LoRA on linear layers"))
    other = name.replace(".lora_A.", ".lora_B.") if ".lora_A." in name else name.replace(".lora_B.", ".lora_A.")
    if other not in arrays:
      raise LmxError(message(f"{file}: tensor", got=f"no {other}", allowed=f"one for {name}"))
    if ".lora_A." in name:
      layer = name.removeprefix(_BEGINNING).removesuffix(".lora_A.weight")
      found[f"{layer}.weight"] = (array, arrays[other])
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
  settings = Settings(read_json(file), str(file))
  base = settings.take("base_model_name_or_path", None, str)
  folders = [] if base is None else [Path(base).expanduser(), directory / base, directory.parent / Path(base).name]
  found = next((folder for folder in folders if (folder / CONFIG_FILE).is_file()), None)
  if found is None:
    fix = f"put {CONFIG_FILE} and the base's safetensors into {directory}, or name the base's folder in the file"
    raise LmxError(message(f"{file}: base_model_name_or_path", got=base, allowed="the folder of the base", fix=fix))
  return AdaptedFiles(found, directory)
