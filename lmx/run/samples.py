# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Samples at the end of a run: generated from the config's prompts, written and printed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape

from lmx.experiment.build import Experiment
from lmx.inference.generate import generate
from lmx.storage import patiently, write_atomically
from lmx.training.run_directory import samples_file


def writes_samples(x: Experiment) -> bool:
  """Whether a run ends with samples; with several processes, use `lmx generate` afterwards."""
  return bool(x.samples.prompts) and x.objective.reports_bits_per_byte and jax.process_count() == 1


def write_run_samples(out: Console, x: Experiment, parameters: Mapping[str, jax.Array], step: int) -> None:
  """Generates the run's samples, if it has any, writes and prints them.

  Args:
    out: where to print.
    x: the experiment.
    parameters: {dotted name: array} to generate with.
    step: updates done.
  """
  if not writes_samples(x):
    return
  samples, start = x.samples, np.array([x.tokenizer.bos_id], np.int32)
  prompts = [np.concatenate([start, x.tokenizer.encode(prompt)]) for prompt in samples.prompts]
  rows = generate(x.network.plan.join(parameters), prompts, key=jax.random.key(x.seed), eos_id=x.tokenizer.eos_id,
                  max_new_tokens=samples.tokens, temperature=samples.temperature)  # fmt: skip
  texts = [x.tokenizer.decode(row[0].tokens) for row in rows]
  write_samples(x.run_dir, step, samples.prompts, texts)
  show_samples(out, samples.prompts, texts)


def write_samples(run_dir: Path, step: int, prompts: Sequence[str], texts: Sequence[str]) -> Path:
  """Writes the samples of a step as JSON lines: {"prompt": ..., "text": ...}.

  Args:
    run_dir: the run's folder.
    step: updates done.
    prompts, texts: of the same length; a text is the continuation of its prompt.
  """
  file = samples_file(run_dir, step)
  file.parent.mkdir(parents=True, exist_ok=True)
  lines = [json.dumps({"prompt": p, "text": t}, ensure_ascii=False) for p, t in zip(prompts, texts, strict=True)]
  patiently(lambda: write_atomically(file, "\n".join(lines) + "\n"), file)  # Its existence marks the run as finished.
  return file


def show_samples(out: Console, prompts: Sequence[str], texts: Sequence[str]) -> None:
  for prompt, text in zip(prompts, texts, strict=True):
    out.rule("sample" if not prompt else f"sample after {escape(repr(prompt))}", align="left")
    out.print(f"[bold]{escape(prompt)}[/bold]{escape(text)}", soft_wrap=True)
  out.rule()
