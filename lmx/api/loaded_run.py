# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Loaded models: generation, predictions and embeddings of a run or a Hugging Face model."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from lmx.api import tasks
from lmx.api.continuing import train_from
from lmx.api.loaded_model import LoadedModel
from lmx.api.reading import read_run
from lmx.hf.generation import GenerationDefaults
from lmx.inference.beam import beam_search
from lmx.inference.generate import Continuation, generate
from lmx.objectives.chat_rows import Chat, as_messages
from lmx.objectives.chat_template import find_template
from lmx.objectives.columns import text_of
from lmx.parallel.sharding import use_layout


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedRun(LoadedModel):
  """A model with its tokenizer, as `lmx.load` and `lmx.from_hf` return it; see `LoadedModel` for its attributes.

  A method that needs another output head than the model's raises an `LmxError`.
  """

  # ---------------------------------------------------------------- text

  def generate(
    self, text: str | Sequence[str] = "", *, max_new_tokens: int | None = None, temperature: float | None = None,
    top_k: int | None = None, top_p: float | None = None, num_samples: int = 1, seed: int = 0, slide: bool = False,
    plain: bool = False, framing: str | None = None,
  ) -> list[str]:  # fmt: skip
    """Generates text that continues each prompt; with an encoder-decoder or a seq2seq model, its answer.

    Args:
      text: a prompt, or several; "" is the start of a document.
      max_new_tokens: maximum number of new tokens; None: as the model's generation_config.json has it, else 100.
      temperature: 0 always takes the likeliest token. None for all three of temperature, top_k and top_p: the defaults
        of generation_config.json, which may also ask for beam search, else 0.8 and no cutoff.
      top_k: sample from the k likeliest tokens.
      top_p: sample from the fewest tokens whose probabilities sum to at least top_p.
      num_samples: continuations per prompt.
      seed: the same seed gives the same text.
      slide: continue past the model's context by dropping the oldest half of the text.
      plain: ignore generation_config.json.
      framing: special tokens of the prompt. "document": the start of a document; "own": what the tokenizer's
        post-processor adds, as `transformers` does; None: config.tokenizer.framing.

    Returns:
      The new text of each sample, without the prompt: all samples of the first prompt, then of the next, and so on.

    Raises:
      LmxError: a prompt that fills the context, or a number out of range.

    Examples:
      >>> run = lmx.load("runs/cpu")
      >>> len(run.generate("class Node", max_new_tokens=8, num_samples=3))
      3
    """
    prompts = [text] if isinstance(text, str) else list(text)
    defaults = GenerationDefaults() if plain else self.generation
    max_new_tokens = max_new_tokens or defaults.max_new_tokens or 100
    if defaults.searches and num_samples == 1 and all(value is None for value in (temperature, top_k, top_p)):
      return self.translate(prompts, max_new_tokens=max_new_tokens)
    samples = self.continuations(prompts, max_new_tokens=max_new_tokens, num_samples=num_samples, seed=seed,
                                 slide=slide, plain=plain, framing=framing,
                                 **defaults.sampling(temperature, top_k, top_p))  # fmt: skip
    return [self.tokenizer.decode(sample.tokens) for of_prompt in samples for sample in of_prompt]

  def continuations(
    self, prompts: Sequence[str], *, seed: int, plain: bool = False, framing: str | None = None, **settings: Any
  ) -> list[list[Continuation]]:
    """Like `generate`, but returns tokens and why each sample ended.

    Args:
      prompts, seed, plain, framing: as in `generate`.
      **settings: max_new_tokens, num_samples, temperature, top_k, top_p, slide: as in
        `lmx.inference.generate.generate`, whose defaults hold here.

    Returns:
      For each prompt, its samples.

    Raises:
      LmxError: a prompt that fills the context, or a number out of range.

    Examples:
      >>> run = lmx.load("runs/cpu")
      >>> [[sample]] = run.continuations(["class Node"], seed=0, max_new_tokens=1)
      >>> sample.tokens.shape, sample.stop
      ((1,), 'length')
    """
    framed, defaults = self._prompts(prompts, framing), GenerationDefaults() if plain else self.generation
    settings |= defaults.settings(framed.settings())
    with use_layout(self.layout):
      return generate(self.model, framed.ids, key=jax.random.key(seed), **settings)

  def translate(
    self, text: str | Sequence[str], *, beams: int | None = None, length_penalty: float | None = None,
    max_new_tokens: int | None = None, batch_size: int = 32, plain: bool = False,
  ) -> list[str]:  # fmt: skip
    """Finds the likeliest answer to each text by beam search: translations, summaries, continuations.

    Args:
      text: one, or several.
      beams: beam width; 1 is greedy. None: as generation_config.json has it, else 4.
      length_penalty: 0 ranks by probability, more favours longer answers. None: as generation_config.json has it, with
        the formula of transformers, else 0.6 with that of GNMT.
      max_new_tokens: maximum length of an answer in tokens; None: as generation_config.json has it, else 100.
      batch_size: texts per batch; the result does not depend on it.
      plain: ignore generation_config.json.

    Returns:
      One answer per text.

    Raises:
      LmxError: a text that is too long, or a number out of range.

    Examples:
      >>> run = lmx.load("runs/translation")
      >>> len(run.translate(["good morning", "thank you"], beams=2, max_new_tokens=4))
      2
    """
    framed = self._prompts([text] if isinstance(text, str) else list(text))
    defaults = GenerationDefaults() if plain else self.generation
    usual = 0.6 if defaults.length_penalty is None else defaults.length_penalty
    settings = defaults.settings(framed.settings()) | {
      "max_new_tokens": max_new_tokens or defaults.max_new_tokens or 100,
      "beams": beams or defaults.beams or 4,
      "length_penalty": usual if length_penalty is None else length_penalty,
      "ranking": defaults.ranking,
    }
    answers: list[str] = []
    for start in range(0, len(framed.ids), batch_size):
      with use_layout(self.layout):
        results = beam_search(self.model, framed.ids[start : start + batch_size], **settings)
      answers += [self.tokenizer.decode(one[0].tokens) for one in results]
    return answers

  def chat(
    self, messages: str | Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None,
    max_new_tokens: int | None = None, temperature: float | None = None, top_k: int | None = None,
    top_p: float | None = None, seed: int = 0, slide: bool = False, plain: bool = False,
  ) -> str:  # fmt: skip
    """Generates the assistant's next message.

    Args:
      messages: [{"role": "user", "content": "Hello"}], or a string: one user message.
      tools: JSON schemas of functions that the assistant may call, for chat templates that support them.
      max_new_tokens: maximum length in tokens; None: as generation_config.json has it, else 200.
      temperature, top_k, top_p, seed, slide, plain: as in `generate`.

    Returns:
      The text of the message, without special tokens.

    Raises:
      LmxError: the chat template refuses the messages, or the chat is longer than the context.

    Examples:
      >>> run = lmx.load("runs/sft")
      >>> reply = run.chat("Name three colours.", max_new_tokens=8, temperature=0)
      >>> reply == run.chat([{"role": "user", "content": "Name three colours."}], max_new_tokens=8, temperature=0)
      True
    """
    asked = as_messages(messages if isinstance(messages, str) else list(messages), "prompt")
    defaults = GenerationDefaults() if plain else self.generation
    return self._chat(Chat(asked, [dict(one) for one in tools] if tools else None), defaults, seed=seed, slide=slide,
                      max_new_tokens=max_new_tokens or defaults.max_new_tokens or 200,
                      **defaults.sampling(temperature, top_k, top_p))  # fmt: skip

  def _chat(
    self, chat: Chat, defaults: GenerationDefaults, *, seed: int = 0, slide: bool = False, **settings: Any
  ) -> str:
    template = find_template(self.tokenizer, None, self.config.objective.chat_date)
    framed = tasks.chat_prompt(chat, template, self.tokenizer)
    if not slide:
      tasks.check_room(framed, self.model.spec)
    settings |= defaults.settings(framed.settings())
    with use_layout(self.layout):
      rows = generate(self.model, framed.ids, key=jax.random.key(seed), slide=slide, **settings)
    return self.tokenizer.decode(rows[0][0].tokens).strip()

  # ---------------------------------------------------------------- labels, numbers, answers, vectors

  def classify(self, text: str | Sequence[str], text_b: str | Sequence[str] | None = None) -> list[dict[str, float]]:
    """Computes the probability of each label for each text, or pair of texts.

    Args:
      text: one, or several; longer ones than the model reads are truncated.
      text_b: the second text of each pair, for models trained on pairs.

    Returns:
      For each text {label: probability}, the likeliest label first.

    Raises:
      LmxError: a model without a classification head, or another number of second texts than of first ones.

    Examples:
      >>> run = lmx.load("runs/classify")
      >>> [scores] = run.classify("a moving film")
      >>> sorted(scores), round(sum(scores.values()), 3)
      (['bad', 'good', 'mixed'], 1.0)
    """
    multi_label = self.config.objective.multi_label
    with use_layout(self.layout):
      return tasks.classify(self.model, tasks.rows_of(text, text_b), self.setting, multi_label=multi_label)

  def regress(self, text: str | Sequence[str], text_b: str | Sequence[str] | None = None) -> list[float]:
    """Predicts a number for each text, or pair of texts; arguments and errors as in `classify`.

    Examples:
      >>> run = lmx.load("runs/regress")
      >>> len(run.regress(["a moving film", "a dull one"]))
      2
    """
    with use_layout(self.layout):
      return tasks.regress(self.model, tasks.rows_of(text, text_b), self.setting)

  def answer(self, question: str, context: str) -> tasks.Answer:
    """Finds the span of the context that answers the question; a long context is read in windows.

    Raises:
      LmxError: a model without a span head, or a question that fills the model's context.

    Examples:
      >>> run = lmx.load("runs/span")
      >>> run.answer("who wrote it?", "it was written by Ada").text in "it was written by Ada"
      True
    """
    with use_layout(self.layout):
      return tasks.answer(self.model, [{"question": question, "context": context}], self.setting)[0]

  def tag(self, words: str | Sequence[str]) -> list[str]:
    """Predicts a tag for each word of a list or of a string with spaces; "" for words past the model's context.

    Raises:
      LmxError: a model without a tagging head.

    Examples:
      >>> run = lmx.load("runs/tag")
      >>> len(run.tag("Ada Lovelace lived in London"))
      5
    """
    with use_layout(self.layout):
      return tasks.tag(self.model, [{"tokens": words}], self.setting)[0]

  def embed(self, text: str | Sequence[str], *, normalize: bool = True, pooling: str | None = None) -> np.ndarray:
    """Computes sentence embeddings from the final hidden states, whatever the model's head is.

    Args:
      text: one, or several.
      normalize: scale vectors to length 1, so that a dot product is the cosine.
      pooling: cls | mean | last; None: that of the imported model or of the training, else the usual one of the family.

    Returns:
      (n, D) float32.

    Raises:
      LmxError: an unknown pooling, or one that the model can't use.

    Examples:
      >>> run = lmx.load("runs/embed")
      >>> vectors = run.embed(["a plane takes off", "an aircraft starts"])
      >>> (vectors @ vectors.T).shape
      (2, 2)
    """
    texts = [text] if isinstance(text, str) else text
    with use_layout(self.layout):
      return tasks.vectors(self.model, texts, self.setting, normalize=normalize, pooling=pooling)

  def predict(self, rows: Sequence[Mapping[str, Any]], *, beams: int = 1) -> list[dict[str, Any]]:
    """Predicts, for each row of columns, the column that the model was trained on.

    Args:
      rows: the columns of the training data, without the one that is predicted.
      beams: beam width, for models that generate text.

    Returns:
      One dictionary per row: {"label": ...}, {"answer": ...}, {"target": ...} and so on, {"error": reason} for
      a row that can't be used.

    Raises:
      LmxError: the model's objective is none of `lmx.api.tasks.COLUMNS`.

    Examples:
      >>> run = lmx.load("runs/classify")
      >>> [good, bad] = run.predict([{"text": "a moving film"}, {"text": ""}])
      >>> good["label"] in run.labels, "error" in bad
      (True, True)
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

    batches = [[row] for row in rows] if name == "chat" else [rows] * bool(rows)
    return [one for batch in batches for one in tasks.for_each(predict_all, batch)]

  # ---------------------------------------------------------------- training

  def train(
    self, *, steps: int, workdir: str | os.PathLike[str] | None = None, changes: Mapping[str, Any] | None = None
  ) -> Self:
    """Trains for more steps, as a new run that starts from this one's parameters; this run stays as it is.

    The new run has an optimizer state and a learning rate schedule of its own, over `steps`, and uses all devices here.
    The same call again resumes it where it was stopped, by the notebook's stop button or a lost machine, and loads it
    once it is finished. To finish a run that was stopped, with its own schedule, use `lmx train`.

    Args:
      steps: optimizer updates.
      workdir: the new run's folder; None: next to this run's, as in "runs/cpu_200_steps".
      changes: keys of the config, {"optimizer.peak_lr": 1e-4, "data.sources": "more/*.txt"}; every other key is as in
        this run.

    Returns:
      The new run, loaded.

    Raises:
      LmxError: not a run's newest checkpoint, changes that don't fit, or a folder that holds something else.

    Examples:
      >>> run = lmx.load("runs/trained")
      >>> run.train(steps=2, changes={"optimizer.peak_lr": 1e-3}).step
      2
    """
    folder = train_from(self.config, self.folder, self.step, steps=steps, changes=changes or {},
                        workdir=None if workdir is None else Path(workdir).expanduser())  # fmt: skip
    return type(self)(**read_run(folder))
