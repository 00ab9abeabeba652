# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a run says about itself: before it starts, while it runs, and at its end."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.markup import escape

from lmx.build import SAMPLE_DIR, Experiment
from lmx.console import facts
from lmx.errors import LmxError
from lmx.evaluation.heldout import HeldOut
from lmx.evaluation.plots import draw
from lmx.metrics import read_metrics
from lmx.training.meter import peak_of
from lmx.training.start import Start
from lmx.units import human, human_time

PLOT_FILE = "loss.png"


def introduce(out: Console, x: Experiment, attention: str) -> None:
  """Says what is about to be trained, on what, and for how long; `attention` names the kernel that was checked."""
  network, rows = x.network, x.rows
  mesh, spec = network.layout.mesh, network.spec
  tokens = rows.batch_size * rows.length
  flops = spec.flops_per_token(rows.length)
  parts = f", in {network.options.micro_batches} parts" if network.options.micro_batches > 1 else ""
  axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
  devices = f"{mesh.size} x {mesh.devices.flat[0].device_kind}, {jax.process_count()} process(es)"
  peak = peak_of(list(mesh.devices.flat))
  mfu = f"reported, {peak.why}" if peak.flops else f"none: {peak.why}"
  epochs = x.cadence.total * rows.batch_size / rows.epoch.rows
  facts(
    out,
    f"{x.name}: {x.network.plan.parameters:,} parameters",
    {
      "model": spec.describe(),
      "data": x.corpus.describe(),
      "tokenizer": f"{x.tokenizer.name}, {x.tokenizer.vocab_size:,} ids",
      "step": f"{tokens:,} tokens ({rows.batch_size} rows of {rows.length}, {x.corpus.spec.packing}{parts})",
      "run": f"{x.cadence.total:,} steps, {human(x.cadence.total * tokens)} tokens, {epochs:.3g} epochs, "
      f"{human(flops.causal * tokens * x.cadence.total, ' FLOPs')}",
      "mesh": f"{axes} on {devices}",
      "attention": attention,
      "precision": f"{spec.dtype} compute; float32 parameters, optimizer, softmax and loss",
      "MFU": mfu,
      "folder": str(x.run_dir),
    },
  )


def say_start(out: Console, start: Start, step: int, verdict: str) -> None:
  """Says where the parameters come from, and for a resumed run what the check of its data found."""
  if start.source == "resumed":
    out.print(f"resumed at step {step:,} from {start.origin}; {verdict}", markup=False)
  elif start.origin is not None:
    out.print(f"{start.source} {start.origin}", markup=False)


def progress_note(values: Mapping[str, float]) -> str:
  """The numbers beside the progress bar."""
  parts = []
  if "loss" in values:
    parts.append(f"loss {values['loss']:.3f}")
    parts.append(f"{values['bits_per_byte']:.3f} bits/byte")
  if "tokens_per_second" in values:
    parts.append(f"{human(values['tokens_per_second'])} tokens/s")
    parts.append(f"MFU {values['mfu_causal']:.1%}" if "mfu_causal" in values else "MFU n/a")
  if values["skipped_total"]:
    parts.append(f"{values['skipped_total']:.0f} skipped")
  return "  ".join(parts)


def heldout_line(step: int, heldout: HeldOut, xz: float | None) -> str:
  beside = "" if xz is None else f" (xz: {xz:.3f})"
  return (
    f"step {step:,}: held out {heldout.bits_per_byte:.4f} bits/byte{beside}, loss {heldout.loss:.4f} nats/token, "
    f"perplexity {heldout.perplexity:.2f}"
  )


def write_plot(x: Experiment, xz: float | None) -> Path | None:
  """The loss curve of the run directory, or None where there is nothing to draw yet."""
  try:
    return draw({x.name: read_metrics(x.run_dir)}, x.run_dir / PLOT_FILE,
                baselines={} if xz is None else {"xz on the held-out text": xz})  # fmt: skip
  except LmxError:
    return None


def write_samples(run_dir: Path, step: int, prompts: Sequence[str], texts: Sequence[str]) -> Path:
  """Keeps the samples of a step as JSON lines: {"prompt": ..., "text": ...}."""
  folder = run_dir / SAMPLE_DIR
  folder.mkdir(exist_ok=True)
  file = folder / f"{step}.jsonl"
  lines = [json.dumps({"prompt": p, "text": t}, ensure_ascii=False) for p, t in zip(prompts, texts, strict=True)]
  file.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return file


def show_samples(out: Console, prompts: Sequence[str], texts: Sequence[str]) -> None:
  for prompt, text in zip(prompts, texts, strict=True):
    out.rule("sample" if not prompt else f"sample after {escape(repr(prompt))}", align="left")
    out.print(f"[bold]{escape(prompt)}[/bold]{escape(text)}", soft_wrap=True)
  out.rule()


def finish(out: Console, x: Experiment, step: int, seconds: float, plot: Path | None, *, finished: bool) -> None:
  """Where everything is, and what to try next."""
  lmx = "lmx" if shutil.which("lmx") else "python -m lmx"
  facts(
    out,
    f"{'finished' if finished else 'stopped'} at step {step:,}, after {human_time(seconds)} of training",
    {
      "run": str(x.run_dir),
      "loss curve": str(plot) if plot else "none yet",
      "metrics": str(x.run_dir / "metrics.jsonl"),
    },
  )
  if not finished:
    out.print("The same command goes on from here.")
    return
  facts(
    out,
    "Next",
    {
      "sample": f'{lmx} generate {x.run_dir} --prompt "def main" --samples 3',
      "measure": f"{lmx} evaluate {x.run_dir}",
      "change": f"{lmx} train --config.optimizer.peak_lr=1e-3 --workdir={x.run_dir}_lr",
      "your text": f'{lmx} train --config.data.sources="my_texts/*.txt" --workdir=runs/mine',
    },
  )
