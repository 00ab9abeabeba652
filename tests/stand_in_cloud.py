# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A stand-in for Google Cloud's queued resources: a program `gcloud` that keeps state in a folder, and its machines.

Machines are folders, and what is run on them by ssh runs here, with the folder as home. A resource goes one state
further at each `describe`. Every call is recorded.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

GCLOUD = """#!{python} -IS
import contextlib, json, os, shutil, signal, subprocess, sys, time
from pathlib import Path

ROOT = Path({root!r})
words = sys.argv[1:]
with (ROOT / "calls.jsonl").open("a") as file:
  file.write(json.dumps(words) + "\\n")
words = words[1:] if words[0] == "alpha" else words
flags = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
plain = [word for word in words if not word.startswith("--")]
resources = json.loads((ROOT / "resources.json").read_text())
plan = json.loads((ROOT / "plan.json").read_text())


def save():
  for name, value in (("resources", resources), ("plan", plan)):
    partial = ROOT / (name + ".partial")
    partial.write_text(json.dumps(value))
    partial.replace(ROOT / (name + ".json"))


def fail(text):
  save()
  sys.exit(print("ERROR: (gcloud) " + text, file=sys.stderr) or 1)


def homes(node):
  return sorted((ROOT / "machines" / node / "home").glob("user-*"))


def end_machines(resource):
  for node in resource["nodes"]:
    for home in homes(node):
      for file in home.glob("*/pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
          os.killpg(int(file.read_text()), signal.SIGKILL)
    shutil.rmtree(ROOT / "machines" / node, ignore_errors=True)


def start_machines(resource):
  for node in resource["nodes"]:
    for worker in range(plan["workers"]):
      home = ROOT / "machines" / node / "home" / f"user-{{worker}}"
      (home / ".local" / "bin").mkdir(parents=True, exist_ok=True)
      for tool in ("python3", "uv"):
        shutil.copy(ROOT / tool, home / ".local" / "bin" / tool)


def create(name):
  if name in resources:
    fail("ALREADY_EXISTS: the resource already exists")
  if not plan["creates"]:
    fail("the stand-in has no more machines")
  this = plan["creates"].pop(0)
  if this.get("refused"):
    fail(this["refused"])
  count = int(flags.get("node-count", 1))
  prefix = flags.get("node-id") or flags["node-prefix"]
  labels = dict([flags["labels"].split("=")]) if "labels" in flags else {{}}
  resources[name] = {{"states": this["states"], "message": this.get("message", ""), "labels": labels, "left": None,
                     "nodes": [prefix] if count == 1 else [f"{{prefix}}-{{n}}" for n in range(count)]}}
  save()
  time.sleep(this.get("hangs", 0))


def describe(name):
  if name not in resources:
    fail("NOT_FOUND: Requested entity was not found.")
  this = resources[name]
  if this["left"] is not None:
    this["left"] -= 1
    if this["left"] < 0:
      end_machines(resources.pop(name))
      fail("NOT_FOUND: Requested entity was not found.")
    state = "DELETING"
  else:
    state = this["states"].pop(0) if len(this["states"]) > 1 else this["states"][0]
    if state == "ACTIVE":
      start_machines(this)
    elif state in ("SUSPENDED", "FAILED"):
      end_machines(this)
  this["now"] = state
  values = {{"name": name, "state": {{"state": state}}}}
  if state == "FAILED":
    values["state"]["failedData"] = {{"error": {{"code": 8, "message": this["message"]}}}}
  values["tpu"] = {{"nodeSpec": [{{"nodeId": n, "node": {{"labels": this["labels"]}}}} for n in this["nodes"]]}}
  print(json.dumps(values))


def delete(name):
  if name not in resources:
    fail("NOT_FOUND: Requested entity was not found.")
  if "force" not in flags:
    fail("FAILED_PRECONDITION: the queued resource has nodes; use --force")
  if plan["deletes_fail"] > 0:
    plan["deletes_fail"] -= 1
    fail("UNAVAILABLE: try again")
  resources[name]["left"] = plan["deleting"]


def there(node):
  if not any(node in one["nodes"] and one.get("now") == "ACTIVE" for one in resources.values()):
    sys.exit(print("ssh: connect to host: Connection refused", file=sys.stderr) or 255)
  found = homes(node)
  return found if flags["worker"] == "all" else [found[int(flags["worker"])]]


def ssh(node):
  text, worst = None, 0
  for home in there(node):
    env = {{**os.environ, "HOME": str(home), "WORKER": home.name[-1], "NODE": node}}
    source = {{"stdin": sys.stdin}} if flags["command"].startswith("umask") else {{"stdin": subprocess.DEVNULL}}
    done = subprocess.run(["bash", "-c", flags["command"]], cwd=home, env=env, **source)
    worst = worst or done.returncode
  sys.exit(worst)


def scp(*files):
  node, folder = files[-1].split(":")
  for home in there(node):
    for file in files[:-1]:
      shutil.copy(file, home / folder)


area, verb, names = plain[2], plain[3], plain[4:]
{{"create": create, "describe": describe, "delete": delete, "ssh": ssh, "scp": scp}}[verb](*names)
save()
"""
# The machines' installer: makes a Python that is the test's stand-in for lmx.
UV = """#!/bin/bash
if [[ $1 == pip && -s {root}/installs-fail ]]; then sed -i 1d {root}/installs-fail; echo "no network" >&2; exit 1; fi
[[ $1 == venv ]] || exit 0
mkdir -p .venv/bin
printf '#!/bin/bash\\nexec bash {root}/train.sh "$@"\\n' > .venv/bin/python
chmod +x .venv/bin/python
"""
GRANTED = ("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")


@dataclasses.dataclass
class Cloud:
  """The stand-in, in a folder.

  Args:
    root: the folder.
    train: what `python -m lmx ...` is on a machine, as bash. $STARTS is a file that outlives machines.
    creates: what becomes of each `create`, in turn: its states, the message of FAILED, the error that refuses it, and
      how long the answer takes.
    workers: machines of a node.
    deleting: `describe`s that still find a resource after it was deleted.
    deletes_fail: deletes that fail at first.
  """

  root: Path
  train: str
  creates: list[dict[str, Any]] = dataclasses.field(default_factory=lambda: [{"states": [*GRANTED]}])
  workers: int = 1
  deleting: int = 2
  deletes_fail: int = 0

  def __post_init__(self) -> None:
    self.root.mkdir(parents=True)
    plan = {name: getattr(self, name) for name in ("creates", "workers", "deleting", "deletes_fail")}
    (self.root / "plan.json").write_text(json.dumps(plan))
    (self.root / "resources.json").write_text("{}")
    (self.root / "calls.jsonl").write_text("")
    (self.root / "train.sh").write_text(f"STARTS={self.root}/starts\necho $NODE-$WORKER >> $STARTS\n{self.train}\n")
    bin_ = self.root / "bin"
    bin_.mkdir()
    for file, text in ((bin_ / "gcloud", GCLOUD.format(python=sys.executable, root=str(self.root))),
                       (self.root / "uv", UV.format(root=self.root)),
                       (self.root / "python3", "#!/bin/sh\n")):  # fmt: skip
      file.write_text(text)
      file.chmod(0o755)

  @property
  def path(self) -> str:
    return f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"

  @property
  def resources(self) -> dict[str, Any]:
    return json.loads((self.root / "resources.json").read_text())

  def put(self, name: str, **labels: str) -> None:
    """A resource that somebody created."""
    there = {"states": ["ACTIVE"], "message": "", "labels": labels, "left": None, "nodes": [name]}
    (self.root / "resources.json").write_text(json.dumps({name: there}))

  def calls(self, verb: str = "") -> list[list[str]]:
    """Calls with a verb, or all; without "alpha"."""
    found = [json.loads(line) for line in (self.root / "calls.jsonl").read_text().splitlines()]
    found = [words[1:] if words[0] == "alpha" else words for words in found]
    return [words for words in found if words[3] == verb or not verb]

  def verbs(self) -> list[str]:
    """The verbs of all calls, without describe."""
    return [words[3] for words in self.calls() if words[3] != "describe"]

  def starts(self) -> int:
    """How often a command was started on a machine."""
    file = self.root / "starts"
    return len(file.read_text().splitlines()) if file.exists() else 0

  def end(self) -> None:
    """Ends what still runs on the machines."""
    for file in self.root.glob("machines/*/home/*/*/pid"):
      try:
        os.killpg(int(file.read_text()), signal.SIGKILL)
      except (ProcessLookupError, ValueError):
        continue
