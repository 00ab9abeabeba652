# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx.load`: a finished or running run as a model to use, on whatever devices are here.

import lmx
run = lmx.load("runs/cpu")
print(run.generate("The with statement", max_new_tokens=40)[0])
print(run.loss("The with statement is used to wrap the execution of a block.").bits_per_byte)
"""

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections.config_dict import ConfigDict

from lmx.build import data_spec, make_objective, model_maker, model_spec, run_model
from lmx.config import from_json
from lmx.data.corpus import make_eval_batches, prepare_corpus
from lmx.data.tokenizer import Tokenizer, load_tokenizer
from lmx.errors import LmxError, message
from lmx.evaluation.heldout import HeldOut, evaluate
from lmx.inference.generate import Sample, generate
from lmx.inference.score import score
from lmx.mesh import make_mesh, process_rows, whole_batch
from lmx.run_folder import CHECKPOINT_DIR, CONFIG_FILE, TOKENIZER_DIR
from lmx.sharding import Layout, use_layout
from lmx.training.checkpoint import find_checkpoint, restore_model
from lmx.training.state import blueprint, blueprint_of
from lmx.training.step import make_eval_step


@dataclasses.dataclass(frozen=True)
class TextLoss:
  """How likely a model finds a text.

  Attributes:
    nats: of the whole text and its end.
    tokens: predicted tokens, the end of the document included.
    bytes: of the text in UTF-8.
  """

  nats: float
  tokens: int
  bytes: int

  @property
  def nats_per_token(self) -> float:
    return self.nats / self.tokens

  @property
  def bits_per_byte(self) -> float:
    return self.nats / math.log(2) / self.bytes

  @property
  def perplexity(self) -> float:
    """exp of the nats per token."""
    return math.exp(self.nats_per_token)


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRun:
  """A model with the tokenizer it reads through.

  Attributes:
    model: the Flax module, restored.
    tokenizer: the run's.
    config: the run's, as it was trained.
    step: updates that the checkpoint has seen.
    layout: the mesh it lies on.
  """

  model: Any
  tokenizer: Tokenizer
  config: ConfigDict
  step: int
  layout: Layout

  def generate(
    self,
    text: str | Sequence[str] = "",
    *,
    max_new_tokens: int = 100,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    num_samples: int = 1,
    seed: int = 0,
  ) -> list[str]:
    """Continuations of `text`, without the text itself.

    Args:
      text: a prompt, or several; "" is the start of a document.
      max_new_tokens: tokens to add, at most.
      temperature, top_k, top_p: 0 temperature always takes the likeliest token; top_k and top_p cut the tail.
      num_samples: continuations of each prompt.
      seed: the same seed gives the same text.

    Returns:
      All samples of the first prompt, then of the next, and so on.
    """
    prompts = [text] if isinstance(text, str) else list(text)
    samples = self.continuations(prompts, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k,
                                 top_p=top_p, num_samples=num_samples, seed=seed)  # fmt: skip
    return [self.tokenizer.decode(sample.tokens) for of_prompt in samples for sample in of_prompt]

  def continuations(self, prompts: Sequence[str], *, seed: int, **settings: Any) -> list[list[Sample]]:
    """Like `generate`, as tokens with the reason each one stopped; `num_samples` of each prompt."""
    start = np.array([self.tokenizer.bos_id], np.int32)
    rows = [np.concatenate([start, self.tokenizer.encode(prompt)]) for prompt in prompts]
    with use_layout(self.layout):
      return generate(self.model, rows, key=jax.random.key(seed), eos_id=self.tokenizer.eos_id, **settings)

  def loss(self, text: str) -> TextLoss:
    """How likely the model finds `text` as a whole document, its end included.

    A text longer than the context is read in consecutive windows, each without the ones before it.

    Raises:
      LmxError: the text is empty.
    """
    if not text:
      raise LmxError(message("text", got=text, allowed="at least one character"))
    document = np.concatenate([[self.tokenizer.bos_id], self.tokenizer.encode(text), [self.tokenizer.eos_id]])
    length = self.model.spec.context
    windows = [document[i : i + length + 1] for i in range(0, len(document) - 1, length)]
    with use_layout(self.layout):
      log_probs = score(self.model, windows)
    nats = -sum(float(np.sum(row, dtype=np.float64)) for row in log_probs)
    return TextLoss(nats, len(document) - 1, len(text.encode()))

  def evaluate(self, *, sources: Sequence[str] = (), max_rows: int | None = None, batch_size: int = 16) -> HeldOut:
    """Loss over the text that the run held out, or over all of some other text.

    The run's own held-out text is found as it was at training: from its sources, or the cache.

    Args:
      sources: as in config.data.sources; (): the run's held-out text.
      max_rows: rows of text, spread evenly over it; None: all.
      batch_size: rows at once; the result does not depend on it.

    Raises:
      LmxError: text that is not there, or yields nothing.
    """
    spec = data_spec(self.config)
    if sources:
      spec = dataclasses.replace(spec, sources=tuple(sources), heldout_sources=tuple(sources), weights=())
    objective = make_objective(self.config)
    index, count = process_rows(self.layout.mesh)
    batches = make_eval_batches(
      prepare_corpus(spec, self.tokenizer),
      objective.prepare,
      lookahead=objective.lookahead,
      batch_size=whole_batch(batch_size, self.layout.mesh),
      max_rows=max_rows,
      process_index=index,
      process_count=count,
    )
    plan = blueprint_of(self.model)
    step = make_eval_step(functools.partial(run_model, objective), plan, self.layout)
    mesh, ratio = self.layout.mesh, batches.bytes_per_target
    return evaluate(step, plan.split(self.model), batches, bytes_per_target=ratio, mesh=mesh)


def load(path: str | os.PathLike, step: int | None = None, *, mesh: dict[str, int] | None = None) -> LoadedRun:
  """The model of a run directory, its tokenizer and its config. Nothing outside the directory is read.

  Args:
    path: the run directory (`runs/cpu`).
    step: which checkpoint; None: the newest whole one. The average of the parameters is taken where the run kept one.
    mesh: devices along each axis to spread the model over ({"fsdp": 4}); None: the first device.

  Raises:
    LmxError: not a run, no whole checkpoint, or one that this version of lmx can't read.
  """
  run_dir = Path(path).expanduser()
  file = run_dir / CONFIG_FILE
  if not file.is_file():
    allowed = f"a folder that holds {CONFIG_FILE}; lmx train makes them"
    raise LmxError(message("run directory", got=str(path), allowed=allowed))
  try:
    config = from_json(file.read_text(encoding="utf-8"))
  except LmxError as error:
    raise LmxError(f"{file}: {error}") from error
  tokenizer = load_tokenizer(run_dir / TOKENIZER_DIR)
  # The kernel that a run was trained with may not exist on the machine at hand; every kernel computes the same.
  config.compute.attention = "auto"
  make_model = model_maker(config.model.family, model_spec(config, tokenizer.vocab_size))
  checkpoints = run_dir / CHECKPOINT_DIR
  found = find_checkpoint(checkpoints, step)
  plan = blueprint(make_model)
  layout = Layout(make_mesh({}, jax.local_devices()[:1]) if mesh is None else make_mesh(mesh))
  places = plan.shardings(layout)
  shapes = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[name]) for name, leaf in plan.shapes.items()
  }
  model = restore_model(checkpoints, plan.join(shapes), int(found.name))
  return LoadedRun(model, tokenizer, config, int(found.name), layout)
