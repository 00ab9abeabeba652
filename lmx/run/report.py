# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A run's output: before it starts, while it trains, and at its end."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from rich.console import Console

from lmx.console import print_table
from lmx.errors import LmxError
from lmx.evaluation.baseline import Baseline
from lmx.evaluation.heldout import HeldOut
from lmx.evaluation.plots import draw
from lmx.experiment.build import Experiment
from lmx.experiment.train_setup import TrainSetup
from lmx.nn.layers.quantized import describe_quantization
from lmx.training.checkpoint_digests import note_without_digests
from lmx.training.initialize import InitialState
from lmx.training.meter import peak_of
from lmx.training.metrics import FILE as METRICS_FILE
from lmx.training.metrics import read_metrics
from lmx.trees import count
from lmx.units import human, human_time
from lmx.versions import libtpu_warning

PLOT_FILE = "loss.png"


def introduce(out: Console, x: Experiment, kernels: Mapping[str, str]) -> None:
  """Prints what is about to be trained, on which data and devices, and for how long.

  Args:
    out: where to print.
    x: the experiment.
    kernels: {kernel: result of its check against the reference}.
  """
  network, rows = x.network, x.rows
  mesh, spec = network.layout.mesh, network.spec
  tokens = rows.batch_size * rows.length
  flops = spec.flops_per_token(rows.length, rows.encoder_length)
  parts = f", in {network.options.micro_batches} parts" if network.options.micro_batches > 1 else ""
  peak = peak_of(list(mesh.devices.flat))
  warn_of_libtpu(out, mesh.devices.flat[0].platform)
  eight_bits = describe_quantization(x.flat_config["compute.quantization"], mesh.devices.flat[0].device_kind)
  epochs = x.cadence.total * rows.batch_size / rows.epoch.rows
  print_table(
    out,
    f"{x.name}: {network.plan.parameters:,} parameters{_frozen_note(network)}",
    {
      "model": spec.describe(),
      "data": x.corpus.describe(),
      "tokenizer": f"{x.tokenizer.name}, {x.tokenizer.vocab_size:,} ids",
      "step": f"{tokens:,} tokens ({rows.batch_size} rows of {rows.length}, {x.corpus.spec.packing}{parts})",
      "run": f"{x.cadence.total:,} steps, {human(x.cadence.total * tokens)} tokens, {epochs:.3g} epochs, "
      f"{human(flops.causal * tokens * x.cadence.total, ' FLOPs')}",
      "mesh": describe_mesh(mesh),
      **kernels,
      "precision": f"{spec.dtype} compute{eight_bits and ', ' + eight_bits}; float32 parameters, optimizer, softmax "
      "and loss",
      "MFU": f"reported, {peak.why}" if peak.flops else f"none: {peak.why}",
      "export": x.export,
      "folder": str(x.run_dir),
    },
  )


def warn_of_libtpu(out: Console, platform: str) -> None:
  """Warns if the TPU's compiler was not tested with this version of jax."""
  if platform == "tpu" and (warning := libtpu_warning()):
    out.print(f"warning: {warning}", markup=False)


def _frozen_note(network: TrainSetup) -> str:
  """Such as ", 1,024 of them trained"; "" if no parameter is frozen."""
  trained = count([shape for name, shape in network.plan.shapes.items() if name in network.optimizer.multipliers])
  return "" if trained == network.plan.parameters else f", {trained:,} of them trained"


def describe_mesh(mesh: Mesh) -> str:
  """Such as "8 devices (data 4 x tensor 2), TPU v4, in 2 processes"."""
  axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items() if size > 1)
  devices = f"{mesh.size} devices ({axes})" if mesh.size > 1 else "1 device"
  processes = f", in {jax.process_count()} processes" if jax.process_count() > 1 else ""
  return f"{devices}, {mesh.devices.flat[0].device_kind}{processes}"


def report_already_finished(out: Console, x: Experiment, step: int) -> None:
  """Prints that there is nothing to do, and the command that would train for longer."""
  out.print(f"Run already finished at step {step:,} of {x.cadence.total:,}; nothing to do.", markup=False)
  longer = f'--config.train.duration="{2 * x.cadence.total} steps" --accept-changes --workdir={x.run_dir}'
  _next(out, x, {"continue": _again(x, longer)})


def report_start(out: Console, start: InitialState, step: int, verdict: str) -> None:
  """Prints where the parameters come from.

  Args:
    out: where to print.
    start: the initial state and its origin.
    step: the step that the run resumes at.
    verdict: the result of the check of a resumed run's data.
  """
  if start.source == "resumed":
    out.print(f"resumed at step {step:,} from {start.origin}; {verdict}", markup=False)
  elif start.origin is not None:
    new = f"; new and untrained: {', '.join(start.new)}" if start.new else ""
    out.print(f"{start.source} {start.origin}{new}", markup=False)
  if start.origin is not None and (note := note_without_digests(start.origin)):
    out.print(note, markup=False)


def report_note(out: Console, text: str) -> None:
  """Prints a line unless it is empty."""
  if text:
    out.print(text, markup=False)


def progress_note(values: Mapping[str, float]) -> str:
  """The numbers next to the progress bar."""
  parts = []
  if "loss" in values:
    parts.append(f"loss {values['loss']:.3f}")
  if "bits_per_byte" in values:
    parts.append(f"{values['bits_per_byte']:.3f} bits/byte")
  elif "accuracy" in values:
    parts.append(f"accuracy {values['accuracy']:.1%}")
  if "tokens_per_second" in values:
    parts.append(f"{human(values['tokens_per_second'])} tokens/s")
    parts.append(f"MFU {values['mfu_causal']:.1%}" if "mfu_causal" in values else "MFU n/a")
  if values["skipped_total"]:
    parts.append(f"{values['skipped_total']:.0f} skipped")
  return "  ".join(parts)


def validation_line(step: int, heldout: HeldOut, baseline: Baseline | None) -> str:
  return f"step {step:,}: validation {validation_numbers(heldout, baseline)}"


def validation_numbers(heldout: HeldOut, baseline: Baseline | None = None) -> str:
  """The numbers of an evaluation in one line, the ones usual for the objective first."""
  if heldout.bits_per_byte is not None:
    compared = f" (xz {baseline.bits_per_byte:.4f})" if baseline else ""
    loss = f"loss {heldout.loss:.4f} nats/token, perplexity {heldout.perplexity:.2f}"
    return f"{heldout.bits_per_byte:.4f} bits/byte{compared}, {loss}"
  metrics = {name: value for name, value in heldout.metrics.items() if name != "nll"}
  numbers = [f"{name} {value:.4f}" for name, value in metrics.items()]
  perplexity = [f"perplexity {heldout.perplexity:.2f}"] if "nll" in heldout.metrics else []
  return ", ".join([*numbers, f"loss {heldout.loss:.4f}", *perplexity])


def write_plot(x: Experiment, baseline: Baseline | None) -> Path | None:
  """Draws the run's loss curve; returns its file, or None where there is nothing to draw yet."""
  baselines = {baseline.label: baseline.bits_per_byte} if baseline else {}
  try:
    return draw({x.name: read_metrics(x.run_dir)}, x.run_dir / PLOT_FILE, baselines=baselines)
  except LmxError:
    return None


def finish(
  out: Console, x: Experiment, step: int, seconds: float, heldout: HeldOut | None, plot: Path | None, *, finished: bool
) -> None:
  """Prints where the run's files are and which commands to try next.

  Args:
    out: where to print.
    x: the experiment.
    step: updates done.
    seconds: of training.
    heldout: the last evaluation, or None.
    plot: the file of the loss curve, or None.
    finished: whether the run reached its end.
  """
  rows = {
    "run": str(x.run_dir),
    "validation": validation_numbers(heldout) if heldout else "",
    "loss curve": str(plot or ""),
    "metrics": str(x.run_dir / METRICS_FILE),
  }
  title = f"{'finished' if finished else 'stopped'} at step {step:,}, after {human_time(seconds)} of training"
  print_table(out, title, {name: text for name, text in rows.items() if text})
  if not finished:
    out.print("The same command resumes from here.")
    return
  change = _again(x, f"--config.optimizer.peak_lr=1e-3 --workdir={x.run_dir}_lr")
  _next(out, x, {"change": change, "compare": _typed(f"lmx plot {x.run_dir} {x.run_dir}_lr")})


def _typed(command: str) -> str:
  """A command as it can be typed here: `lmx` may not be on PATH, if its environment isn't active."""
  if shutil.which("lmx"):
    return command
  called = Path(sys.argv[0])
  program = str(called) if called.name == "lmx" else "python -m lmx"
  return program + command.removeprefix("lmx")


def _again(x: Experiment, flags: str) -> str:
  """The command that started the run, with more flags; a long command is not repeated."""
  return f"the same command with {flags}" if len(x.command) > 80 else _typed(f"{x.command} {flags}")


def _next(out: Console, x: Experiment, more: Mapping[str, str]) -> None:
  """Prints commands to try, the one that such a run is for first."""
  if x.objective.name in ("chat", "dpo"):
    use = {"chat": f"lmx chat {x.run_dir}"}
  elif x.objective.name == "masked":
    use = {"fine-tune": f"lmx train --config=configs/classify.py:{x.run_dir} --config.data.sources=FILE"}
  elif x.objective.encoder is not None:
    use = {"use": f"lmx predict {x.run_dir} FILE"}
  else:
    use = {"sample": f'lmx generate {x.run_dir} --prompt "def main" --samples 3'}
  commands = {**use, "measure": f"lmx evaluate {x.run_dir}"}
  print_table(out, "Next", {**{name: _typed(command) for name, command in commands.items()}, **more})
