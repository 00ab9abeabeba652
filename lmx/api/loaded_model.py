# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A loaded model with its tokenizer and config: what all uses of a model share."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from ml_collections.config_dict import ConfigDict

from lmx.api import tasks
from lmx.api.display import card, plot_history
from lmx.api.history import History
from lmx.api.tasks import TextLoss
from lmx.config.loading import from_json, to_json
from lmx.data.corpus import make_eval_batches, prepare_corpus
from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.errors import choose
from lmx.evaluation.heldout import HeldOut, evaluate
from lmx.evaluation.plots import Plot
from lmx.experiment.build import data_needs, data_spec
from lmx.experiment.train_setup import load_reference, lora_spec, make_context, make_objective, model_maker
from lmx.hf.generation import GenerationDefaults, read_generation
from lmx.nn.layers.lora import merge_lora
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.chat_rows import Chat
from lmx.objectives.chat_template import find_template
from lmx.objectives.examples import FRAMINGS
from lmx.parallel.mesh import padded_batch_size, process_rows
from lmx.parallel.sharding import Layout, use_layout
from lmx.training.metrics import read_metrics
from lmx.training.state import abstract_model, abstract_model_of
from lmx.training.step import ModelLoss, make_eval_step


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedModel:
  """A model with its tokenizer and config: likelihood of texts, and evaluation.

  Attributes:
    model: the Flax module with its parameters.
    tokenizer: its tokenizer.
    config: the config that it was trained with, or one that describes an imported model.
    step: updates before the checkpoint was saved; 0 for an imported model.
    layout: the mesh that it is sharded over.
    labels: names of the classes, in the order of the head's outputs; () for other heads.
    folder: the run directory; None for a model that was not loaded from one.
    carried: the folder with the small files of the imported model, such as generation_config.json; None without one.
  """

  model: Any
  tokenizer: Tokenizer
  config: ConfigDict
  step: int
  layout: Layout
  labels: tuple[str, ...] = ()
  folder: Path | None = None
  carried: Path | None = None

  @property
  def generation(self) -> GenerationDefaults:
    """The defaults of `generate`, `chat` and `translate`, from the model's generation_config.json."""
    return read_generation(self.carried, decodes_alone=self.config.model.family == "encoder_decoder")

  @property
  def stops(self) -> tuple[int, ...]:
    """Token ids that end a text, or an answer of a model trained on chats."""
    if self.config.objective.name != "chat":
      return (self.tokenizer.eos_id,)
    template = find_template(self.tokenizer, None)
    return tasks.chat_prompt(Chat([{"role": "user", "content": "x"}]), template, self.tokenizer).stops

  @property
  def setting(self) -> ObjectiveContext:
    """The tokenizer, labels and lengths with which the objective frames texts."""
    return make_context(self.config, self.tokenizer, self.labels)

  @property
  def history(self) -> History:
    """The records of metrics.jsonl so far, a list of dicts; empty for an imported model."""
    return History(read_metrics(self.folder) if self.folder is not None else [])

  def plot(self, y: str | None = None, *, x: str = "steps") -> Plot:
    """Plots the run's curves: training values and, as dots, validation values.

    Args:
      y: bits_per_byte, loss (nats per token) or accuracy; None: the first of them that the run has measured.
      x: steps, tokens or time (seconds).

    Returns:
      The plot, which shows itself in a notebook; `plot.figure` is matplotlib's, and `plot.save("loss.png")` writes it.

    Raises:
      LmxError: the run has not measured it.

    Examples:
      >>> run = lmx.load("runs/trained")
      >>> run.plot("loss").save("loss.png").name
      'loss.png'
    """
    return plot_history({self.config.name: self.history}, x=x, y=y)

  def _repr_html_(self) -> str:
    return card(self, self.history)

  def merged(self) -> Self:
    """The run with its LoRA adapters merged into the weights; itself where it has none.

    Examples:
      >>> run = lmx.load("runs/cpu")
      >>> run.merged() is run  # It has no adapters.
      True
    """
    spec = lora_spec(self.config)
    if spec is None:
      return self
    config = from_json(to_json(self.config))
    config.lora.rank = 0
    arrays = merge_lora(abstract_model_of(self.model).split(self.model), spec)
    plan = abstract_model(model_maker(config, self.model.spec))
    return dataclasses.replace(self, model=plan.join(arrays), config=config)

  def loss(self, text: str, *, framing: str | None = None) -> TextLoss:
    """Computes the log-likelihood of `text`, for a run trained on documents as a complete document with its end.

    A text longer than the context is read in consecutive windows, each without the ones before it.

    Args:
      text: at least one character.
      framing: as in `generate`; with "own" the loss is that of `transformers`.

    Returns:
      Nats, tokens and bytes, with `bits_per_byte` and `perplexity`.

    Raises:
      LmxError: nothing to predict: the text is empty, or a single token with none before it.

    Examples:
      >>> run = lmx.load("runs/cpu")
      >>> loss = run.loss("The with statement.")
      >>> loss.bytes, loss.nats > 0
      (19, True)
    """
    with use_layout(self.layout):
      return tasks.text_loss(self.model, text, self._setting(framing))

  def evaluate(self, *, sources: Sequence[str] = (), max_rows: int | None = None, batch_size: int = 16) -> HeldOut:
    """Computes loss and metrics on the run's validation data, or on all of some other data.

    The validation data is split off as in training: from the run's sources, or from the cache.

    Args:
      sources: as in config.data.sources; (): the run's validation data.
      max_rows: evaluate on this many rows, spread evenly over the data; None: all.
      batch_size: rows per batch. The result does not depend on it, except for contrastive models, and slightly for
        stateful ones (config.model.carry_state), which start with an empty state once per row of a batch.

    Returns:
      The mean loss in nats per target, bits per byte where they are defined, and the objective's metrics.

    Raises:
      LmxError: data that does not exist, or contains nothing to evaluate.

    Examples:
      >>> run = lmx.load("runs/cpu")
      >>> result = run.evaluate(sources=["text/*.txt"], max_rows=8)
      >>> result.bits_per_byte > 0, result.perplexity > 1
      (True, True)
    """
    spec = data_spec(self.config)
    if sources:
      spec = dataclasses.replace(spec, sources=tuple(sources), heldout_sources=tuple(sources), weights=())
    objective = make_objective(self.config, self.tokenizer, self.labels)
    needs = data_needs(objective)
    rows = padded_batch_size(batch_size, self.layout.mesh)
    batches = make_eval_batches(
      prepare_corpus(spec, self.tokenizer, encoder=needs.encoder), needs, batch_size=rows, max_rows=max_rows,
      share=process_rows(self.layout.mesh),
    )  # fmt: skip
    plan = abstract_model_of(self.model)
    other, reference = load_reference(self.config, plan, self.layout, self.folder, self.step)
    step = make_eval_step(ModelLoss(objective.loss, plan, self.layout, other))
    ratio = batches.bytes_per_target if objective.reports_bits_per_byte else None
    carry = self.model.spec.carry_shapes(rows) if self.config.model.carry_state else None
    return evaluate(step, plan.split(self.model), reference, batches, bytes_per_target=ratio, score=objective.score,
                    mesh=self.layout.mesh, carry=carry)  # fmt: skip

  def _setting(self, framing: str | None) -> ObjectiveContext:
    if framing is None:
      return self.setting
    choose("framing", framing, dict.fromkeys(FRAMINGS))
    return dataclasses.replace(self.setting, framing=framing)

  def _prompts(self, texts: Sequence[str], framing: str | None = None) -> tasks.TextPrompts:
    return tasks.text_prompts(texts, self._setting(framing), self.config.objective.name)
