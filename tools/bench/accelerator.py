# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Step time and MFU of lmx on one accelerator, compared with torch on the same model and batch.

Command:  python -m tools.bench.accelerator [--models 1.3b 124m] [--torch-python PYTHON] [--record]
Time:     three minutes on an H200, most of it compiling

Each side has its own process, one after the other: an accelerator is quiet enough, and its memory holds one side only.
MFU counts 6 FLOPs per matmul parameter and token, and attention causally (half the square), of the dense bf16 peak.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tools.bench.contest import Contestant, hold, load_average
from tools.bench.process import NoAnswerError
from tools.bench.reporting import make_result, report, table, versions


@dataclasses.dataclass(frozen=True)
class Model:
  """A GPT-2-like model, and what was found to be fastest for each side of those settings that fit."""

  config: str
  layers: int
  width: int
  heads: int
  context: int
  rows: int
  overrides: tuple[str, ...]
  checkpointing: bool = False
  vocabulary: int = 50_304


MODELS = {
  "1.3b": Model(
    "configs/gpt3.py:1.3b", layers=24, width=2048, heads=16, context=2048, rows=16,
    overrides=("compute.remat=none", "compute.layers=unrolled", "mesh.data=-1", "mesh.fsdp=1"),
  ),
  "124m": Model(
    "configs/gpt2.py:small", layers=12, width=768, heads=12, context=1024, rows=64,
    overrides=("compute.remat=none", "compute.layers=unrolled"),
  ),
  "tiny": Model(
    "configs/gpt2.py:small", layers=2, width=64, heads=4, context=32, rows=4,
    overrides=("model.layers=2", "model.width=64", "model.heads=4", "model.context=32"), vocabulary=256,
  ),  # For the test.
}  # fmt: skip


WHAT = {
  "lmx": "lmx, the step that `lmx train` compiles",
  "torch": "transformers GPT2LMHeadModel, torch.compile",
  "lmx-documents": "lmx, rows of several documents that don't see each other",
  "torch-eager": "transformers GPT2LMHeadModel, eager",
}


def contestants(name: str, torch_python: str) -> dict[str, Contestant]:
  """A model's contestants by name."""
  model = MODELS[name]
  overrides = [*model.overrides, f"model.vocab_size={model.vocabulary}", f"data.length={model.context}",
               f"train.batch_size={model.rows}", "compute.compilation_cache="]  # fmt: skip
  ours = {"config": model.config, "overrides": overrides, "documents": False}
  theirs = {key: getattr(model, key) for key in ("layers", "width", "heads", "context", "vocabulary", "rows",
                                                 "checkpointing")}  # fmt: skip
  found = [
    Contestant("lmx", "with_lmx", ours),
    Contestant("torch", "with_torch", theirs | {"compiled": True}, torch_python),
    Contestant("lmx-documents", "with_lmx", ours | {"documents": True}),
    Contestant("torch-eager", "with_torch", theirs | {"compiled": False}, torch_python),
  ]
  return {one.name: one for one in found}


def measure(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """What each of a model's contestants reports, printed as it comes: an accelerator holds one of them at a time."""
  for what in args.contestants:
    try:
      outcome = hold([contestants(name, args.torch_python)[what]], args.steps, args.windows, args.limit)
      times = {"seconds": outcome.seconds[what], "first_step_seconds": outcome.first_step_seconds[what]}
      answer = times | outcome.results[what] | {"versions": outcome.versions}
    except NoAnswerError as error:
      answer = {"error": str(error)}
    print(json.dumps({"model": name, "contestant": what} | answer), flush=True)
    yield {"contestant": what} | answer


def render(name: str, answers: Sequence[dict[str, Any]]) -> str:
  """A model's table."""
  model = MODELS[name]
  ours = next((one for one in answers if "flops" in one), {})
  rows = []
  for one in answers:
    if "error" in one:
      rows.append((WHAT[one["contestant"]], "failed", "", "", "", one["error"][-60:].strip().replace("\n", " ")))
      continue
    seconds = sorted(one["seconds"])[len(one["seconds"]) // 2]
    rate = one["tokens"] / seconds
    flops, peak = ours.get("flops"), ours.get("peak")
    mfu = f"{100 * rate * flops['causal'] / peak:.1f}" if flops and peak else "no peak known"
    rows.append((WHAT[one["contestant"]], f"{1000 * seconds:.1f}", f"{rate:,.0f}", mfu, f"{one['bytes'] / 2**30:.1f}",
                 f"{one['first_step_seconds']:.0f}"))  # fmt: skip
  title = (
    f"{name}: {model.layers} layers, width {model.width}, {model.heads} heads, {model.rows} rows of {model.context} "
    f"tokens, vocabulary {model.vocabulary}; on {ours.get('device', 'an unknown device')}."
  )
  return f"{title}\n\n" + table(("contestant", "step, ms", "tokens/s", "MFU, %", "GiB", "first step, s"), rows)


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.accelerator", description=__doc__.partition("\n")[0])
  parser.add_argument("--models", nargs="+", choices=MODELS, default=["1.3b", "124m"])
  parser.add_argument("--contestants", nargs="+", choices=WHAT, default=list(WHAT))
  parser.add_argument("--windows", type=int, default=3)
  parser.add_argument("--steps", type=int, default=10, help="of a window")
  parser.add_argument("--limit", type=float, default=600, help="seconds for one answer of a contestant")
  parser.add_argument("--torch-python", default=sys.executable)
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench/results")
  args = parser.parse_args(argv)
  load = load_average()
  models = {name: list(measure(name, args)) for name in args.models}
  seen = versions()
  for answer in (one for answers in models.values() for one in answers):
    seen |= answer.get("versions", {})
  text = "\n\n".join(render(name, answers) for name, answers in models.items())
  report("accelerator", make_result({"models": models}, seen, None, load), text, record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
