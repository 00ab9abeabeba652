# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What every benchmark reports next to its numbers: command, machine, versions, load; and where results are kept.

With --record, a result is appended to results/NAME.jsonl, and its table replaces the last one in results/NAME.md.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy")


def proc(name: str) -> str:
  """A file of /proc, or nothing where there is none."""
  file = Path("/proc") / name
  return file.read_text() if file.exists() else ""


def machine() -> dict[str, Any]:
  """Cores, processor and memory; no names and no paths."""
  cpu = [line.partition(":")[2].strip() for line in proc("cpuinfo").splitlines() if line.startswith("model name")]
  flags = next((line.split() for line in proc("cpuinfo").splitlines() if line.startswith("flags")), [])
  memory = [int(line.split()[1]) for line in proc("meminfo").splitlines() if line.startswith("MemTotal")]
  return {
    "cores": os.cpu_count(),
    "cpu": cpu[0] if cpu else platform.processor() or platform.machine(),
    "features": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
    "memory_gib": round(memory[0] / 2**20) if memory else None,
    "system": platform.system(),
  }


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
  return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def revision() -> str:
  """The commit of the working tree, and whether files in lmx/ differ from it."""
  git = ["git", "-C", str(ROOT)]
  commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
  changed = subprocess.run([*git, "status", "--porcelain", "lmx"], capture_output=True, text=True, check=False)
  return (commit.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


def command() -> str:
  """The command that is running; of a path only the fact that one was given."""
  arguments = [f"{a.partition('=')[0]}=..." if "/" in a else a for a in sys.argv[1:]]
  return " ".join(["python -m", f"tools.bench.{Path(sys.argv[0]).stem}", *arguments])


class Load:
  """How busy the machine is with anything but the processes under measurement, from /proc; None elsewhere."""

  def __init__(self, own: Sequence[int]):
    """Starts counting; `own` are processes under measurement other than this one and its ended children."""
    self._own = [os.getpid(), *own]
    self._start, self._begin = time.monotonic(), self._counts()

  def _counts(self) -> tuple[int, int] | None:
    """(clock ticks of all work on this machine, of these processes)."""
    lines = proc("stat").splitlines()
    if not lines:
      return None
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, lines[0].split()[1:9])
    own = [proc(f"{pid}/stat").rpartition(")")[2].split()[11:13] for pid in self._own]
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    awaited = round((ended.ru_utime + ended.ru_stime) * os.sysconf("SC_CLK_TCK"))
    return user + nice + system + irq + softirq + steal, awaited + sum(int(ticks) for pair in own for ticks in pair)

  @property
  def elapsed(self) -> float:
    """Seconds since the start."""
    return time.monotonic() - self._start

  def others(self) -> float | None:
    """The share of all cores' time since the start that went to other processes; call it while all of them live."""
    end = self._counts()
    if end is None or self._begin is None:
      return None
    busy, own = (after - before for after, before in zip(end, self._begin, strict=True))
    ticks = self.elapsed * os.sysconf("SC_CLK_TCK") * (os.cpu_count() or 1)
    return round(max(0.0, (busy - own) / ticks), 3)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A markdown table; the first column is text, the others are numbers."""
  lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
  return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def about(result: Mapping[str, Any]) -> str:
  """The lines above a table: how, on what, with what."""
  m, v = result["machine"], ", ".join(f"{name} {version}" for name, version in result["versions"].items())
  features = f" ({', '.join(m['features'])})" if m["features"] else ""
  memory = f", {m['memory_gib']} GiB" if m["memory_gib"] else ""
  busy = "not known" if result["others"] is None else f"{result['others']:.1%}"
  return (
    f"`{result['command']}`, {result['date']}, lmx at {result['revision']}, {m['cores']} cores of {m['cpu']}{features}"
    f"{memory}; {v}. Load before: {result['load_before']:.2f}; other processes' share of the cores meanwhile: {busy}."
  )


def make_result(values: Mapping[str, Any], seen: Mapping[str, str], others: float | None, load: float) -> dict:
  """The numbers with everything that is needed to judge them."""
  date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
  facts = {"command": command(), "date": date, "revision": revision(), "machine": machine(), "versions": dict(seen)}
  return {**facts, "load_before": load, "others": others, **values}


def report(name: str, result: Mapping[str, Any], text: str, *, record: bool) -> None:
  """Prints a result; with `record`, keeps it.

  Args:
    name: of the files in results/.
    result: as `make_result` makes it.
    text: its table.
    record: whether to keep it.

  Raises:
    ValueError: results/NAME.md has no place for the table.
  """
  text = f"{about(result)}\n\n{text}"
  print(text, flush=True)
  if not record:
    return
  with (HERE / "results" / f"{name}.jsonl").open("a", encoding="utf-8") as file:
    file.write(json.dumps(result) + "\n")
  page = HERE / "results" / f"{name}.md"
  before, mark, rest = page.read_text(encoding="utf-8").partition("<!-- result -->\n")
  _, end, after = rest.partition("<!-- end -->\n")
  if not (mark and end):
    raise ValueError(f"{page} has no place for the table")
  page.write_text(f"{before}{mark}\n{text}\n\n{end}{after}", encoding="utf-8")
