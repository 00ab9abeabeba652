# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx.load`: a finished or running run as a model to use, on whatever devices are here.

import lmx
run = lmx.load("runs/cpu")
print(run.generate("The with statement", max_new_tokens=40)[0])
print(run.loss("The with statement is used to wrap the execution of a block.").bits_per_byte)
print(lmx.load("runs/classify").classify("a moving film"))
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections.config_dict import ConfigDict

from lmx.api import tasks
from lmx.api.tasks import TextLoss
from lmx.config.loading import from_json, to_json
from lmx.config.run_config import IMPORTED_DIR, TOKENIZER_DIR, read_labels, read_run_config
from lmx.data.corpus import make_eval_batches, prepare_corpus
from lmx.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from lmx.errors import choose
from lmx.evaluation.heldout import HeldOut, evaluate
from lmx.experiment.build import data_needs, data_spec
from lmx.experiment.train_setup import (
  load_reference,
  lora_spec,
  make_objective,
  make_setting,
  model_maker,
  model_spec,
  objective_spec,
)
from lmx.hf.generation import GenerationDefaults, read_generation
from lmx.inference.beam import beam_search
from lmx.inference.generate import Continuation, generate
from lmx.nn.layers.lora import merge_lora
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.chat_rows import Chat, as_messages
from lmx.objectives.chat_template import find_template
from lmx.objectives.columns import text_of
from lmx.objectives.examples import FRAMINGS
from lmx.parallel.mesh import make_mesh, padded_batch_size, process_rows
from lmx.parallel.sharding import Layout, use_layout
from lmx.training.checkpoint_choice import find_checkpoint
from lmx.training.checkpoint_reading import restore_model
from lmx.training.run_directory import CHECKPOINT_DIR
from lmx.training.state import abstract_model, abstract_model_of
from lmx.training.step import ModelLoss, make_eval_step


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRun:
  """A model with the tokenizer it reads through.

  Attributes:
    model: the Flax module, restored.
    tokenizer: the run's.
    config: the run's, as it was trained.
    step: updates that the checkpoint has seen.
    layout: the mesh it lies on.
    labels: what the scores of a head for labels stand for, in order; () for the others.
    folder: the run directory, or None for a model that has none.
    carried: the folder with the small files that the model was imported with, or None.
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
    """What the model's generation_config.json says: the defaults of `generate`, `chat` and `translate`."""
    return read_generation(self.carried, decodes_alone=self.config.model.family == "encoder_decoder")

  @property
  def stops(self) -> tuple[int, ...]:
    """Ids that end a text, or for a model trained on chats an answer."""
    if self.config.objective.name != "chat":
      return (self.tokenizer.eos_id,)
    template = find_template(self.tokenizer, None)
    return tasks.chat_prompt(Chat([{"role": "user", "content": "x"}]), template, self.tokenizer).stops

  @property
  def setting(self) -> ObjectiveContext:
    """What texts are framed by."""
    return make_setting(self.config, self.tokenizer, self.labels)

  def merged(self) -> "LoadedRun":
    """The run with its low-rank adapters added to the weights; itself where it has none."""
    spec = lora_spec(self.config)
    if spec is None:
      return self
    config = from_json(to_json(self.config))
    config.lora.rank = 0
    arrays = merge_lora(abstract_model_of(self.model).split(self.model), spec)
    plan = abstract_model(model_maker(config, self.model.spec))
    return dataclasses.replace(self, model=plan.join(arrays), config=config)

  # ---------------------------------------------------------------- text

  def generate(
    self,
    text: str | Sequence[str] = "",
    *,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    num_samples: int = 1,
    seed: int = 0,
    slide: bool = False,
    plain: bool = False,
    framing: str | None = None,
  ) -> list[str]:
    """Continuations of `text`, without the text itself; of a model with an encoder, or trained as seq2seq, its answers.

    Args:
      text: a prompt, or several; "" is the start of a document.
      max_new_tokens: tokens to add, at most; None: as the model's generation_config.json says, else 100.
      temperature, top_k, top_p: 0 temperature always takes the likeliest token; top_k and top_p cut the tail. None: as
        the model's generation_config.json says, which may also ask for beam search, else 0.8 and no cuts.
      num_samples: continuations of each prompt.
      seed: the same seed gives the same text.
      slide: go on where the context is full, without the oldest half of the text.
      plain: don't look into generation_config.json.
      framing: "document": the start of a document before each prompt; "own": the special tokens of the tokenizer's
        post-processor, as `transformers` adds them; None: what config.tokenizer.framing says.

    Returns:
      All samples of the first prompt, then of the next, and so on.
    """
    prompts = [text] if isinstance(text, str) else list(text)
    said = GenerationDefaults() if plain else self.generation
    most = max_new_tokens or said.max_new_tokens or 100
    if said.searches and num_samples == 1 and all(value is None for value in (temperature, top_k, top_p)):
      return self.translate(prompts, max_new_tokens=most)
    samples = self.continuations(prompts, max_new_tokens=most, num_samples=num_samples, seed=seed, slide=slide,
                                 plain=plain, framing=framing, **said.sampling(temperature, top_k, top_p))  # fmt: skip
    return [self.tokenizer.decode(sample.tokens) for of_prompt in samples for sample in of_prompt]

  def continuations(
    self, prompts: Sequence[str], *, seed: int, plain: bool = False, framing: str | None = None, **settings: Any
  ) -> list[list[Continuation]]:
    """Like `generate`, as tokens with the reason each one stopped; `num_samples` of each prompt."""
    framed, said = self._prompts(prompts, framing), GenerationDefaults() if plain else self.generation
    settings |= said.settings(framed.settings())
    with use_layout(self.layout):
      return generate(self.model, framed.ids, key=jax.random.key(seed), **settings)

  def translate(
    self, text: str | Sequence[str], *, beams: int | None = None, length_penalty: float | None = None,
    max_new_tokens: int | None = None, batch_size: int = 32, plain: bool = False,
  ) -> list[str]:  # fmt: skip
    """The likeliest answer to each text by beam search: translations, summaries, continuations.

    Args:
      text: one, or several.
      beams: hypotheses kept at each step; 1 is greedy. None: as generation_config.json says, else 4.
      length_penalty: 0 ranks by probability, more favours longer answers. None: as generation_config.json says, whose
        formula is then transformers' own, else GNMT's with 0.6.
      max_new_tokens: of an answer, at most; None: as generation_config.json says, else 100.
      batch_size: texts at once; the result does not depend on it.
      plain: don't look into generation_config.json.
    """
    framed = self._prompts([text] if isinstance(text, str) else list(text))
    said = GenerationDefaults() if plain else self.generation
    usual = 0.6 if said.length_penalty is None else said.length_penalty
    settings = said.settings(framed.settings()) | {
      "max_new_tokens": max_new_tokens or said.max_new_tokens or 100,
      "beams": beams or said.beams or 4,
      "length_penalty": usual if length_penalty is None else length_penalty,
      "ranking": said.ranking,
    }
    found: list[str] = []
    for start in range(0, len(framed.ids), batch_size):
      some = framed.ids[start : start + batch_size]
      with use_layout(self.layout):
        results = beam_search(self.model, some, **settings)
      found += [self.tokenizer.decode(one[0].tokens) for one in results]
    return found

  def chat(
    self, messages: str | Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None,
    max_new_tokens: int | None = None, temperature: float | None = None, top_k: int | None = None,
    top_p: float | None = None, seed: int = 0, slide: bool = False, plain: bool = False,
  ) -> str:  # fmt: skip
    """The assistant's next turn.

    Args:
      messages: [{"role": "user", "content": "Hello"}], or a text: one message of the user's.
      tools: JSON schemas of functions that the assistant may call, for templates that write them.
      max_new_tokens: None: as generation_config.json says, else 200.
      temperature, top_k, top_p, seed, slide, plain: as in `generate`.

    Raises:
      LmxError: the chat template refuses the messages.
    """
    asked = as_messages(messages if isinstance(messages, str) else list(messages), "prompt")
    said = GenerationDefaults() if plain else self.generation
    return self._chat(Chat(asked, [dict(one) for one in tools] if tools else None), said, seed=seed, slide=slide,
                      max_new_tokens=max_new_tokens or said.max_new_tokens or 200,
                      **said.sampling(temperature, top_k, top_p))  # fmt: skip

  def _chat(self, chat: Chat, said: GenerationDefaults, *, seed: int = 0, slide: bool = False, **settings: Any) -> str:
    template = find_template(self.tokenizer, None, self.config.objective.chat_date)
    framed = tasks.chat_prompt(chat, template, self.tokenizer)
    if not slide:
      tasks.check_room(framed, self.model.spec)
    settings |= said.settings(framed.settings())
    with use_layout(self.layout):
      rows = generate(self.model, framed.ids, key=jax.random.key(seed), slide=slide, **settings)
    return self.tokenizer.decode(rows[0][0].tokens).strip()

  def _setting(self, framing: str | None) -> ObjectiveContext:
    if framing is None:
      return self.setting
    choose("framing", framing, dict.fromkeys(FRAMINGS))
    return dataclasses.replace(self.setting, framing=framing)

  def _prompts(self, texts: Sequence[str], framing: str | None = None) -> tasks.TextPrompts:
    return tasks.text_prompts(texts, self._setting(framing), self.config.objective.name)

  # ---------------------------------------------------------------- labels, numbers, answers, vectors

  def classify(self, text: str | Sequence[str], text_b: str | Sequence[str] | None = None) -> list[dict[str, float]]:
    """For each text, or pair of texts, the probability of each label, the likeliest first."""
    multi_label = self.config.objective.multi_label
    with use_layout(self.layout):
      return tasks.classify(self.model, tasks.rows_of(text, text_b), self.setting, multi_label=multi_label)

  def regress(self, text: str | Sequence[str], text_b: str | Sequence[str] | None = None) -> list[float]:
    """A number for each text, or pair of texts."""
    with use_layout(self.layout):
      return tasks.regress(self.model, tasks.rows_of(text, text_b), self.setting)

  def answer(self, question: str, context: str) -> tasks.Answer:
    """The span of the context that answers the question."""
    with use_layout(self.layout):
      return tasks.answer(self.model, [{"question": question, "context": context}], self.setting)[0]

  def tag(self, words: str | Sequence[str]) -> list[str]:
    """A tag for each word."""
    with use_layout(self.layout):
      return tasks.tag(self.model, [{"tokens": words}], self.setting)[0]

  def embed(self, text: str | Sequence[str], *, normalize: bool = True, pooling: str | None = None) -> np.ndarray:
    """(n, D) float32 vectors, whatever the model's head is.

    Args:
      text: one, or several.
      normalize: vectors of length 1, so that a dot product is the cosine.
      pooling: cls | mean | last; None: as the model's files say or it was trained, else config.model.pooling's usual.
    """
    texts = [text] if isinstance(text, str) else text
    with use_layout(self.layout):
      return tasks.vectors(self.model, texts, self.setting, normalize=normalize, pooling=pooling)

  def predict(self, rows: Sequence[Mapping[str, Any]], *, beams: int = 1) -> list[dict[str, Any]]:
    """What the model was trained to say of each row of columns: {"label": ...}, {"answer": ...}, {"target": ...}.

    Args:
      rows: the columns of the training data, without what is to be predicted.
      beams: of beam search, for models that write.

    Returns:
      One for each row, {"error": why} where it cannot be used.

    Raises:
      LmxError: the model was trained for none of `lmx.api.tasks.COLUMNS`.
    """
    name = "multi_label" if self.config.objective.multi_label else self.config.objective.name
    tasks.wanted_columns(name)

    def predict_all(some: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
      if name == "seq2seq":
        texts = [text_of(row, "source") for row in some]
        tasks.check_room(self._prompts(texts), self.model.spec)
        return [{"target": text} for text in self.translate(texts, beams=beams)]
      if name == "chat":
        return [
          {"completion": self._chat(tasks.unanswered(one), self.generation, max_new_tokens=200, temperature=0.0)}
          for one in some
        ]
      with use_layout(self.layout):
        return tasks.PREDICTIONS[name](self.model, some, self.setting)

    some_at_once = [[row] for row in rows] if name == "chat" else [rows] * bool(rows)
    return [one for some in some_at_once for one in tasks.for_each(predict_all, some)]

  # ---------------------------------------------------------------- loss

  def loss(self, text: str, *, framing: str | None = None) -> TextLoss:
    """How likely the model finds `text`: a run trained on documents as a whole one, its end included.

    A text longer than the context is read in consecutive windows, each without the ones before it.

    Args:
      text: what is scored.
      framing: "document": the start before the text and the end after it; "own": the special tokens of the tokenizer's
        post-processor, so that the loss is that of `transformers`; None: what config.tokenizer.framing says.

    Raises:
      LmxError: nothing to predict: the text is empty, or one token with none before it.
    """
    with use_layout(self.layout):
      return tasks.text_loss(self.model, text, self._setting(framing))

  def evaluate(self, *, sources: Sequence[str] = (), max_rows: int | None = None, batch_size: int = 16) -> HeldOut:
    """Loss and metrics over what the run held out, or over all of some other data.

    The run's own held-out data is found as it was at training: from its sources, or the cache.

    Args:
      sources: as in config.data.sources; (): what the run held out.
      max_rows: rows, spread evenly over it; None: all.
      batch_size: rows at once; the result does not depend on it, but for the loss of contrastive models, and a little
        for models that carry a state, which begin so many times.

    Raises:
      LmxError: data that is not there, or yields nothing.
    """
    spec = data_spec(self.config)
    if sources:
      spec = dataclasses.replace(spec, sources=tuple(sources), heldout_sources=tuple(sources), weights=())
    objective = make_objective(self.config, self.tokenizer, self.labels)
    needs = data_needs(objective)
    batches = make_eval_batches(
      prepare_corpus(spec, self.tokenizer, encoder=needs.encoder),
      needs,
      batch_size=padded_batch_size(batch_size, self.layout.mesh),
      max_rows=max_rows,
      share=process_rows(self.layout.mesh),
    )
    plan = abstract_model_of(self.model)
    other, reference = load_reference(self.config, plan, self.layout, self.folder, self.step)
    step = make_eval_step(ModelLoss(objective.loss, plan, self.layout, other))
    ratio = batches.bytes_per_target if objective.reports_bits_per_byte else None
    rows = padded_batch_size(batch_size, self.layout.mesh)
    carry = self.model.spec.carry_shapes(rows) if self.config.model.carry_state else None
    return evaluate(step, plan.split(self.model), reference, batches, bytes_per_target=ratio, score=objective.score,
                    mesh=self.layout.mesh, carry=carry)  # fmt: skip


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
  config = read_run_config(run_dir)
  tokenizer = load_tokenizer(run_dir / TOKENIZER_DIR)
  labels = read_labels(run_dir) or tuple(config.objective.labels)
  # The kernel that a run was trained with may not exist on the machine at hand; every kernel computes the same.
  config.compute.attention = "auto"
  config.compute.quantization = "none"  # A matter of training speed; the weights are float32.
  if "chat_template" in objective_spec(config).options:  # Runs of earlier versions have none beside the tokenizer.
    tokenizer.chat_template = find_template(tokenizer, None).source
  config.objective.chat_template = None  # It lies with the tokenizer.
  make_model = model_maker(config, model_spec(config, tokenizer.vocab_size, len(labels)))
  checkpoints = run_dir / CHECKPOINT_DIR
  found = find_checkpoint(checkpoints, step)
  plan = abstract_model(make_model)
  layout = Layout(make_mesh({}, jax.local_devices()[:1]) if mesh is None else make_mesh(mesh))
  model = restore_model(checkpoints, plan.join(plan.template(layout)), int(found.name))
  kept = run_dir / IMPORTED_DIR
  carried = kept if kept.is_dir() else None
  return LoadedRun(model, tokenizer, config, int(found.name), layout, labels, run_dir, carried)
