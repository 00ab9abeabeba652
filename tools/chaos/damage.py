# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Bytes flipped, cut off or gone in every kind of file that a run reads or wrote."""

import random
import re
from pathlib import Path

from tools.chaos.disturbance import FINISHED, HALF, Disturbance
from tools.chaos.scene import Scene

# Kinds of files, by a pattern over their paths from the case's folder; the first that matches counts.
AREAS = {
  "arrays": r"disk/run/checkpoints/\d+/\w+/(ocdbt\.process_\d+/)?d/\w+",
  "checkpoint": r"disk/run/checkpoints/.*",
  "metrics": r"disk/run/metrics\.jsonl",
  "config": r"disk/run/config\.json",
  "tokenizer": r"disk/run/tokenizer/.*",
  "other": r"disk/run/.*",
  "cache": r"disk/cache/.*",
  "compiled": r"disk/compiled/.*",
  "source": r"text/.*",
}
_CHECKPOINTS = "disk/run/checkpoints"
WHAT = {
  "arrays": "arrays of checkpoints",
  "checkpoint": "manifests, metadata and other files of checkpoints",
  "metrics": "metrics.jsonl",
  "config": "config.json",
  "tokenizer": "the run's tokenizer files",
  "other": "every other file of the run's folder",
  "cache": "caches of tokens and of the trained tokenizer",
  "compiled": "compiled programs",
  "source": "the text that is trained on",
}


def area_of(path: str) -> str:
  """The kind of a file, by its path from the case's folder."""
  return next((name for name, pattern in AREAS.items() if re.fullmatch(pattern, path)), "")


def files_of(folder: Path, area: str) -> list[str]:
  """A case's files of a kind that hold anything, in order."""
  files = (file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
  return sorted(name for name in (str(file.relative_to(folder)) for file in files) if area_of(name) == area)


def spoil(file: Path, pick: random.Random) -> str:
  """Flips one bit of a file, mostly; or several bytes, a block to zeros, the end cut off, or the file removed."""
  data = bytearray(file.read_bytes())
  kind = pick.choices(("bit", "bytes", "zeros", "cut", "gone"), (6, 1, 1, 1, 1))[0]
  start = pick.randrange(len(data))
  if kind == "gone":
    file.unlink()
    return "removed"
  if kind == "bit":
    data[start] ^= 1 << pick.randrange(8)
  elif kind == "bytes":
    for _ in range(4):
      data[pick.randrange(len(data))] ^= pick.randrange(1, 256)
  elif kind == "zeros":
    data[start : start + 512] = bytes(len(data[start : start + 512]))
  else:
    del data[start:]
  file.write_bytes(data)
  return {"bit": "a bit flipped at byte", "bytes": "four bytes changed, one near", "zeros": "zeros from byte",
          "cut": "cut off at byte"}[kind] + f" {start} of {file.name}"  # fmt: skip


def damage(area: str, scene: Scene, pick: random.Random) -> None:
  """Spoils one file of a kind in a case where no process runs."""
  names = files_of(scene.folder, area)
  if not names:
    raise RuntimeError(f"no files of the kind {area} in {scene.folder}")
  checkpoints = [name for name in names if name.startswith(_CHECKPOINTS)]
  if checkpoints and pick.random() < 2 / 3:  # The newest is what a resume reads.
    newest = max(int(name.split("/")[3]) for name in checkpoints if name.split("/")[3].isdigit())
    names = [name for name in names if name.startswith(f"{_CHECKPOINTS}/{newest}/")]
  name = pick.choice(names)
  scene.note(f"{name}: {spoil(scene.folder / name, pick)}")


def damage_half(area: str) -> Disturbance:
  """A run that was stopped half-way is damaged, and started again."""

  def act(scene: Scene, pick: random.Random) -> None:
    damage(area, scene, pick)

  weight = 4 if area in ("arrays", "checkpoint", "cache") else 2
  return Disturbance(f"damage-{area}", f"damaged: {WHAT[area]}", act, begins=HALF, heals=False, weight=weight)


def damage_any(scene: Scene, pick: random.Random) -> None:
  """Spoils one file of a finished run, of any kind that loading it reads."""
  damage(pick.choice(("arrays", "arrays", "checkpoint", "config", "tokenizer")), scene, pick)


DAMAGE = (
  *(damage_half(area) for area in AREAS),
  Disturbance("damage-finished", "a finished run damaged, then evaluated", damage_any, begins=FINISHED, heals=False,
              weight=4),
)  # fmt: skip
