# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Finds a model's directory, downloading it from the Hugging Face hub if it is a hub name."""

import importlib
import re
from pathlib import Path

from lmx.errors import LmxError, message
from lmx.hf.weights import GGUF
from lmx.paths import any_path, local_copy, scheme_of

# Weights, configs and tokenizers; no code.
_WANTED = (
  "*.safetensors",
  "*.safetensors.index.json",
  "*.json",
  "*.txt",
  "*.model",
  "*.spm",
  "*.jinja",
  "1_Pooling/config.json",
)
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def model_directory(path_or_name: str | Path) -> Path:
  """The directory of a model; a hub name is downloaded into huggingface_hub's cache.

  Raises:
    LmxError: neither a directory nor a hub name, or the hub can't be reached.
  """
  if scheme_of(str(path_or_name)):
    return local_copy(any_path(path_or_name, "model"))
  path = Path(path_or_name).expanduser()
  if path.is_dir():
    return path
  if path.suffix == ".gguf":
    raise LmxError(message("model", got=str(path), allowed=GGUF))
  if path.is_file():
    raise LmxError(message("model", got=str(path), allowed=f"its directory, {path.parent}"))
  name = str(path_or_name)
  if not _NAME.fullmatch(name):
    raise LmxError(message("model", got=name, allowed="a directory that exists, or a name on the hub such as gpt2"))
  try:
    hub = importlib.import_module("huggingface_hub")
  except ModuleNotFoundError as error:
    fix = f"pip install huggingface_hub, or fetch the files of {name} and give their directory"
    raise LmxError(message("model", got=name, allowed="a directory that exists; hub names need huggingface_hub",
                           fix=fix)) from error  # fmt: skip
  try:
    return Path(hub.snapshot_download(name, allow_patterns=list(_WANTED)))
  except Exception as error:  # Any error of the network, the hub or its client.
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    fix = "give the directory of a downloaded model"
    raise LmxError(
      f"There is no directory {name!r}, and the hub gave no model of that name: {reason}. Fix: {fix}"
    ) from error
