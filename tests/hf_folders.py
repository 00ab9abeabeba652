# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Directories of small Hugging Face models as people have them, made from the golden ones and changed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from safetensors.numpy import load_file, save_file

WORDS = [f"w{number}" for number in range(30)]


def write_tokenizer(folder: Path, words: list[str], *, framed: str | None = None, pad: int = 0) -> None:
  """Writes a word-level tokenizer.json with its tokenizer_config.json.

  Args:
    folder: of the model.
    words: the vocabulary, after four special tokens.
    framed: template of its post-processor ("<s> $A </s>"), or None.
    pad: id of <pad>, 0 or 1.
  """
  pieces = [*(["<pad>", "<s>"] if pad == 0 else ["<s>", "<pad>"]), "</s>", "<unk>", *words]
  model = tokenizers.models.WordLevel({piece: n for n, piece in enumerate(pieces)}, unk_token="<unk>")
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  tokenizer.add_special_tokens(["<pad>", "<s>", "</s>"])
  if framed is not None:
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single=framed, pair=f"{framed} $B:1 </s>:1", special_tokens=[("<s>", 1 - pad), ("</s>", 2)]
    )
  tokenizer.save(str(folder / "tokenizer.json"))
  names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"}
  names |= {"unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}
  write(folder, "tokenizer_config.json", names)


def copy(source: Path, folder: Path, *, framed: str | None = None, pad: int = 0, **changes: Any) -> Path:
  """A model's directory with a tokenizer, a generation config, and some keys of its config.json changed."""
  shutil.copytree(source, folder)
  write_tokenizer(folder, WORDS, framed=framed, pad=pad)
  write(folder, "generation_config.json", {"temperature": 0.7})
  change_config(folder, **changes)
  return folder


def change_config(folder: Path, **changes: Any) -> None:
  """Sets keys of config.json."""
  write(folder, "config.json", json.loads((folder / "config.json").read_text()) | changes)


def change_weights(folder: Path, change) -> None:
  """Applies `change` to the weights: {name: array} -> {name: array}."""
  arrays = load_file(folder / "model.safetensors")
  changed = {name: np.ascontiguousarray(array) for name, array in change(arrays).items()}  # save_file ignores strides.
  save_file(changed, folder / "model.safetensors")


def write(folder: Path, name: str, values: Any) -> None:
  """A JSON file in a folder, or in one below it."""
  (folder / name).parent.mkdir(parents=True, exist_ok=True)
  (folder / name).write_text(json.dumps(values))


def write_sentence_files(folder: Path, *kinds: str, pooling: str = "mean", package: str = "models") -> None:
  """modules.json of some kinds of modules of sentence-transformers, and the pooling's file in the newer form."""
  places = {"Transformer": "", "Pooling": "1_Pooling"}
  modules = [{"idx": n, "name": str(n), "path": places.get(kind, f"{n}_{kind}"),
              "type": f"sentence_transformers.{package}.{kind}"} for n, kind in enumerate(kinds)]  # fmt: skip
  write(folder, "modules.json", modules)
  values = json.loads((folder / "config.json").read_text())
  width = next(values[key] for key in ("hidden_size", "n_embd", "d_model") if key in values)
  write(folder, "1_Pooling/config.json", {"word_embedding_dimension": width, "pooling_mode": pooling})
