# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every command on one tiny run, as a person would type them, one after another."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lmx.cli import doctor, doctor_jax, main
from lmx.config import loading as configs
from lmx.training.metrics import read_metrics

TINY = (
  *("tokenizer.kind=bytes", "model.layers=1", "model.width=32", "model.heads=2", "model.context=32", "data.length=32"),
  *("train.batch_size=8", "evaluation.max_rows=8", "evaluation.sample_tokens=4", "data.heldout_split=tail"),
  *("evaluation.every=4 steps", "checkpoint.every=4 steps", "compute.compilation_cache="),
)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  folder = tmp_path_factory.mktemp("text")
  for number in range(12):
    (folder / f"{number}.txt").write_text(f"Document {number} says: " + "to be, or not to be. " * (20 + number))
  return folder


def train(text, run, *more: str) -> int:
  overrides = [*TINY, f"data.sources={text}/*.txt", f"data.cache_dir={text}/cache", *more]
  flags = [flag if flag.startswith("--") else f"--config.{flag}" for flag in overrides]
  return main.main(["train", f"--workdir={run}", *flags])


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "tiny"
  assert train(text, folder, "train.duration=4 steps", "log.every=1 steps") == 0
  return folder


def test_training_leaves_a_complete_folder(run):
  names = {path.name for path in run.iterdir()}
  assert names >= {"config.json", "tokenizer", "checkpoints", "metrics.jsonl", "samples", "loss.png"}
  assert max(record["step"] for record in read_metrics(run)) == 4


def test_the_same_command_again_has_nothing_left_to_do(text, run, capsys):
  assert train(text, run, "train.duration=4 steps", "log.every=1 steps") == 0
  assert f"resuming in {run}" in capsys.readouterr().out
  assert train(text, run, "train.duration=6 steps") == 2
  assert "train.duration: '4 steps' in the run, '6 steps' now" in capsys.readouterr().err


def test_a_run_is_evaluated_on_its_own_text_and_on_other_text(run, text, tmp_path, capsys):
  assert main.main(["evaluate", str(run), "--json"]) == 0
  own = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert own["step"] == 4
  last = [r for r in read_metrics(run) if "heldout_bits_per_byte" in r][-1]
  assert own["bits_per_byte"] == pytest.approx(last["heldout_bits_per_byte"], rel=1e-5)
  other = tmp_path / "noise.txt"
  other.write_text("".join(chr(33 + (i * i * 7) % 90) for i in range(600)))
  assert main.main(["evaluate", str(run), "--sources", str(other)]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert float(next(line for line in lines if "bits per byte" in line).split()[-1]) > own["bits_per_byte"]
  assert any(line.split() == ["targets", "601"] for line in lines), lines


def test_samples_start_with_their_prompt_and_repeat_with_their_seed(run, capsys):
  command = ["generate", str(run), "--prompt", "To be", "--prompt", "Or", "--samples", "2", "--max-new-tokens", "4"]
  assert main.main(command) == 0
  first = capsys.readouterr().out
  assert first.count("To be") == 2
  assert first.count("---- sample") == 4
  assert main.main(command) == 0
  assert capsys.readouterr().out == first
  assert main.main([*command, "--seed", "1"]) == 0
  assert capsys.readouterr().out != first


def test_curves_of_several_runs_are_one_picture(run, tmp_path, capsys):
  out = tmp_path / "new" / "both.png"
  for x, y in (("steps", "loss"), ("tokens", "bits_per_byte"), ("time", "loss")):
    assert main.main(["plot", str(run), str(run.parent / "tiny/"), "--out", str(out), "--x", x, "--y", y]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_bytes().startswith(b"\x89PNG")
  assert main.main(["plot", str(run), "--out", "curve.pdf"]) == 2


def test_a_config_is_shown_with_what_its_keys_mean(capsys):
  assert main.main(["config", "show", "--config=configs/gpt2.py:small"]) == 0
  lines = capsys.readouterr().out.splitlines()
  shown = {line[2:].partition(" = ")[0]: line for line in lines if " = " in line}
  assert set(shown) == set(configs.flatten(configs.load("configs/base.py")))
  assert all("  # " in line for line in shown.values())
  assert shown["model.rope_theta"].endswith("Allowed: > 0. Read with model.position = rotary.")
  assert shown["train.batch_size"].startswith("* train.batch_size = 512  ")
  assert shown["model.width"].startswith("  model.width = 768  ")
  assert main.main(["config", "show", "--changed"]) == 0
  assert "model.norm " not in capsys.readouterr().out
  assert main.main(["config", "show", "--json"]) == 0
  assert configs.from_json(capsys.readouterr().out).name == "cpu"


def test_two_configs_or_runs_are_compared(run, capsys):
  assert main.main(["config", "diff", "configs/cpu.py", str(run)]) == 0
  assert "tokenizer.kind: 'sentencepiece' -> 'bytes'" in capsys.readouterr().out
  assert main.main(["config", "diff", str(run), str(run / "config.json")]) == 0
  assert capsys.readouterr().out == "no difference\n"


def test_a_config_check_reports_everything_that_is_wrong_at_once(capsys):
  assert main.main(["config", "check"]) == 0
  capsys.readouterr()
  wrong = ["model.widht=3", "model.heads=7", "data.sources=nowhere.txt", "mesh.fsdp=3", "optimizer.b1=2"]
  assert main.main(["config", "check", *(f"--config.{w}" for w in wrong)]) == 2
  text = capsys.readouterr().err
  for key in ("model.widht", "model.heads", "data.sources", "config.mesh", "optimizer.b1"):
    assert text.count(f"config.{key.removeprefix('config.')}: ") == 1, text


def test_the_doctor_finds_nothing_here_and_something_in_a_broken_config(capsys, tmp_path, monkeypatch):
  flags = [f"--config.data.cache_dir={tmp_path}", f"--config.compute.compilation_cache={tmp_path}"]
  monkeypatch.setattr(doctor, "libtpu_warning", lambda: "jax 0.10.2 with libtpu 0.0.52 is not tested")
  assert main.main(["doctor", *flags]) == 0  # A note, no problem.
  text = capsys.readouterr().out
  assert "note     libtpu       jax 0.10.2 with libtpu 0.0.52 is not tested" in text
  for subject in ("packages", "devices", "mesh", "attention", "cache", "output"):
    assert f" {subject} " in text

  def broken(config):
    raise RuntimeError("no such luck")

  monkeypatch.setattr(doctor, "CHECKS", (doctor_jax._devices, doctor._folders, broken))
  flags = ["--config.mesh.tensor=3", f"--config.data.cache_dir={tmp_path / 'no' / 'such'}"]
  monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
  assert main.main(["doctor", *flags]) == 1
  text = capsys.readouterr().out
  assert "PROBLEM  mesh" in text
  assert "PROBLEM  data cache" in text
  assert "PROBLEM  broken       RuntimeError: no such luck" in text


def test_the_doctor_verifies_every_cache_and_names_what_is_damaged(capsys, tmp_path, text, monkeypatch):
  monkeypatch.setattr(doctor, "CHECKS", ())
  cache = tmp_path / "cache"
  flags = [f"--config.{one}" for one in (*TINY, f"data.sources={text}/*.txt", f"data.cache_dir={cache}")]
  assert main.main(["data", "count", *flags]) == 0
  (cache / "an-older-one").mkdir()
  capsys.readouterr()
  assert main.main(["doctor", "--verify", *flags]) == 0
  output = capsys.readouterr().out
  assert re.search(rf"ok +data cache +{cache}: 2 caches, [\d.]+kB read in ", output)  # Tokens; rows of both parts.
  assert "note     data cache   1 folders have no digests" in output
  for name in ("tokens.bin", "start.npy"):
    file = next(cache.rglob(f"train/**/{name}"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
  assert main.main(["doctor", "--verify", *flags]) == 1
  output = capsys.readouterr().out
  assert re.search(r"PROBLEM  data cache   .*train/tokens.bin is damaged: .* Fix: rm -r .*; it will be rebuilt", output)
  assert re.search(r"PROBLEM  data cache   .*start.npy is damaged: its size is the same", output)


def test_a_run_loads_in_another_python_with_one_device(run):
  code = f"import lmx; run = lmx.load({str(run)!r}); print(run.step, run.loss('To be').tokens)"
  done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
  assert done.stdout.split() == ["4", "6"]
