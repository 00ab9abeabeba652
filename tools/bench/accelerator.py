# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Step time and MFU of lmx on one accelerator, beside torch on the same model and batch.

Command:  python -m tools.bench.accelerator [--models 1.3b 124m] [--torch-python PYTHON] [--record]
Time:     three minutes on an H200, most of it compiling

Each side has its own process, one after the other: an accelerator is quiet enough, and its memory holds one side only.
MFU counts 6 FLOPs per matmul parameter and token, and attention causally (half the square), of the dense bf16 peak.
"""

import argparse
import dataclasses
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from tools.bench.contest import load_average
from tools.bench.reporting import ROOT, make_result, report, table, versions


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


def contestants(name: str) -> dict[str, tuple[str, dict[str, Any]]]:
  """A model's contestants: name -> (the module that measures it, its setting)."""
  model = MODELS[name]
  overrides = [*model.overrides, f"model.vocab_size={model.vocabulary}", f"data.length={model.context}",
               f"train.batch_size={model.rows}", "compute.compilation_cache="]  # fmt: skip
  ours = {"config": model.config, "overrides": overrides, "documents": False}
  theirs = {key: getattr(model, key) for key in ("layers", "width", "heads", "context", "vocabulary", "rows",
                                                 "checkpointing")}  # fmt: skip
  return {
    "lmx": ("accelerator_lmx", ours),
    "torch": ("accelerator_torch", theirs | {"compiled": True}),
    "lmx-documents": ("accelerator_lmx", ours | {"documents": True}),
    "torch-eager": ("accelerator_torch", theirs | {"compiled": False}),
  }


def ask(python: str, module: str, setting: dict[str, Any], limit: float) -> dict[str, Any]:
  """One measurement in a process of its own; {"error": ...} where it fails or takes longer than `limit` seconds."""
  command = [python, "-u", "-m", f"tools.bench.{module}"]
  process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
  lines: queue.Queue[str] = queue.Queue()
  threading.Thread(target=lambda: [lines.put(line) for line in [*process.stdout, ""]], daemon=True).start()
  try:
    process.stdin.write(json.dumps(setting) + "\n")
    process.stdin.close()
    return json.loads(lines.get(timeout=limit) or '{"error": "it ended without an answer"}')
  except (queue.Empty, BrokenPipeError):
    return {"error": f"no answer within {limit:.0f} s"}
  finally:
    process.kill()
    process.wait()


def measure(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """The answers of a model's contestants, each printed as it comes."""
  for what in args.contestants:
    module, setting = contestants(name)[what]
    python = args.torch_python if module.endswith("torch") else sys.executable
    answer = ask(python, module, setting | {"windows": args.windows, "steps": args.steps}, args.limit)
    print(json.dumps({"model": name, "contestant": what} | answer), flush=True)
    yield {"contestant": what} | answer


def render(name: str, answers: Sequence[dict[str, Any]]) -> str:
  """A model's table."""
  model = MODELS[name]
  ours = next((one for one in answers if "flops" in one), {})
  rows = []
  for one in answers:
    if "error" in one:
      rows.append((WHAT[one["contestant"]], "failed", "", "", "", one["error"][:40]))
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
  parser.add_argument("--limit", type=float, default=600, help="seconds for one contestant")
  parser.add_argument("--torch-python", default=sys.executable)
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench")
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
