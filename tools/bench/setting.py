# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Text, tokenizer, config, first parameters and batches of a benchmark: made once, the same for every contestant.

The text is random words with the frequencies of a natural language (Zipf's law), and the tokenizer knows exactly those
words, so the vocabulary has the size that the shape asks for. lmx reads it the way it reads any text.
"""

import itertools
import json
from pathlib import Path

import jax
import numpy as np
from ml_collections.config_dict import ConfigDict

from lmx.config import loading as configs
from lmx.experiment.build import Experiment, build
from lmx.run.loop import open_batches
from lmx.training.state import init_state
from tools.bench.shapes import NORM_EPS, UPDATE, Shape

# With the token at its end the text fills rows of 256, 64 and 16 tokens exactly: no batch has padding.
WORDS, HELD_OUT_WORDS = 300_031, 20_000
END = "<|endoftext|>"


def words_of(shape: Shape) -> list[str]:
  """Different words, one per token of the vocabulary except the one that ends a document."""
  letters = "abcdefghijklmnopqrstuvwxyz"
  return ["".join(word) for word in itertools.islice(itertools.product(letters, repeat=3), shape.vocabulary - 1)]


def write_text(shape: Shape, folder: Path) -> None:
  """Writes text.txt, heldout.txt and tokenizer.json into the folder."""
  words = words_of(shape)
  frequencies = 1 / np.arange(2, len(words) + 2)
  random = np.random.default_rng(0)
  for name, size in (("text.txt", WORDS), ("heldout.txt", HELD_OUT_WORDS)):
    drawn = random.choice(len(words), size, p=frequencies / frequencies.sum())
    (folder / name).write_text(" ".join(words[i] for i in drawn), encoding="utf-8")
  end = {"id": 0, "content": END, "special": True}
  end |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
  vocabulary = {word: i for i, word in enumerate([END, *words])}
  tokenizer = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
  tokenizer |= {"version": "1.0", "added_tokens": [end], "pre_tokenizer": {"type": "WhitespaceSplit"}}
  tokenizer |= {"model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": END}}
  (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def overrides(shape: Shape, folder: Path) -> list[str]:
  """What turns configs/base.py into this benchmark: GPT-2's parts in float32 at a constant learning rate."""
  values = {
    "name": "bench",
    "model.layers": shape.layers,
    "model.width": shape.width,
    "model.heads": shape.heads,
    "model.context": shape.context,
    "model.norm_eps": NORM_EPS,
    "compute.dtype": "float32",
    "compute.compilation_cache": "",
    "tokenizer.kind": "huggingface",
    "tokenizer.path": folder / "tokenizer.json",
    "data.sources": folder / "text.txt",
    "data.length": shape.context,
    "data.packing": "concatenated",  # One segment in each row, which torch and the plain contestant can do, too.
    "data.heldout_sources": folder / "heldout.txt",
    "data.cache_dir": folder / "cache",
    "train.duration": "1000000 steps",  # The benchmark stops long before, and before anything is evaluated or saved.
    "train.batch_size": shape.batch,
    "optimizer.schedule": "constant",
    "optimizer.warmup": "0 steps",
    "optimizer.peak_lr": UPDATE.learning_rate,
    "optimizer.b1": UPDATE.b1,
    "optimizer.b2": UPDATE.b2,
    "optimizer.eps": UPDATE.eps,
    "optimizer.weight_decay": UPDATE.weight_decay,
    "optimizer.clip_norm": UPDATE.clip_norm,
  }
  return [f"{key}={value}" for key, value in values.items()]


def load_config(shape: Shape, folder: Path) -> ConfigDict:
  return configs.load("configs/base.py", overrides(shape, folder))


def experiment(shape: Shape, folder: Path, run: str) -> Experiment:
  """The experiment as `lmx train` builds it, with its run directory in the folder."""
  return build(load_config(shape, folder), folder / run)


def prepare(shape: Shape, folder: Path, steps: int) -> None:
  """Writes text, tokenizer, the first parameters (as lmx initialises them) and the first batches (as it draws them).

  Raises:
    ValueError: a batch has padding or several documents in a row, which not every contestant could do.
  """
  write_text(shape, folder)
  x = experiment(shape, folder, "export")
  loader, _ = open_batches(x)
  drawn = [next(loader) for _ in range(steps)]
  loader.close()
  batches = {name: np.stack([batch[name] for batch in drawn]) for name in drawn[0]}
  if not (np.all(batches["loss_weights"] == 1) and np.all(batches["segment_ids"] == 1)):
    raise ValueError("a row is not one whole segment")
  np.savez(folder / "batches.npz", **batches)
  network = x.network
  state = init_state(network.make, jax.random.key(x.seed), network.plan, network.optimizer, network.abstract)
  np.savez(folder / "parameters.npz", **{name: np.asarray(value) for name, value in state.params.items()})
