# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Run folders that older versions of lmx wrote: loaded, evaluated and resumed with the numbers of the version they had.

tests/old_runs/lmx_0_1.zip is a run of six steps by lmx 0.1.0, stopped after its checkpoint of step 3, with its text.
Its metrics are those of the whole run. It has no digests of checkpoints or data and none of the keys added since.
"""

import re
import shutil
from pathlib import Path

import jax
import pytest
from tiny_runs import lines

import lmx
from lmx.cli import main
from lmx.errors import LmxWarning
from lmx.experiment import train_setup
from lmx.parallel.mesh import make_mesh
from lmx.training.checkpoint_choice import committed_steps

# The flags with which the run was begun.
FLAGS = {
  "tokenizer.kind": "bytes",
  "model.layers": "1",
  "model.width": "4",
  "model.heads": "2",
  "model.context": "16",
  "compute.dtype": "float32",
  "compute.attention": "einsum",
  "compute.compilation_cache": "",
  "data.length": "16",
  "data.sources": "text.txt",
  "data.cache_dir": "cache",
  "data.heldout_split": "tail",
  "data.heldout_fraction": "0.2",
  "train.duration": "6 steps",
  "train.batch_size": "4",
  "log.every": "1 steps",
  "evaluation.every": "3 steps",
  "checkpoint.every": "3 steps",
  "evaluation.sample_tokens": "4",
  "optimizer.peak_lr": "0.05",
  "optimizer.warmup": "1 steps",
}
NO_DIGESTS = r"checkpoints/3 has no digests\.json \(an older lmx wrote it\): damage to its files can't be found"


@pytest.fixture
def run(repository, tmp_path, monkeypatch):
  """The run folder, on one device; its text is in the working directory, as it was for the old version."""
  shutil.unpack_archive(repository / "tests" / "old_runs" / "lmx_0_1.zip", tmp_path)
  monkeypatch.chdir(tmp_path / "lmx-0.1-run")
  monkeypatch.setattr(train_setup, "make_mesh", lambda sizes: make_mesh(sizes, jax.devices()[:1]))
  return Path.cwd()


def test_a_run_of_lmx_0_1_loads_and_evaluates_with_the_loss_that_it_was_saved_with(run, capsys):
  (wanted,) = [line["heldout_loss"] for line in lines(run) if line["step"] == 3 and "heldout_loss" in line]
  with pytest.warns(LmxWarning, match=NO_DIGESTS):
    loaded = lmx.load(run)
  assert loaded.step == 3
  assert loaded.evaluate().loss == pytest.approx(wanted, rel=1e-5)
  assert len(loaded.generate("a batch", max_new_tokens=3)) == 1
  with pytest.warns(LmxWarning, match=NO_DIGESTS):
    assert main.main(["evaluate", str(run)]) == 0
  assert f"{wanted:.4f} nats per target" in capsys.readouterr().out


def test_a_run_of_lmx_0_1_resumes_with_the_losses_that_it_would_have_had(run, repository, capsys):
  wanted = lines(run)
  flags = [f"--config.{key}={value}" for key, value in FLAGS.items()]
  assert main.main(["train", f"--config={repository / 'configs' / 'base.py'}", f"--workdir={run}", *flags]) == 0
  output = " ".join(capsys.readouterr().out.split())
  for part in ("resumed at step 3", "fingerprint 8d3e14c2bc54baa6, as saved", "has no digest of the data"):
    assert part in output
  assert len(re.findall(NO_DIGESTS, output)) == 1
  assert committed_steps(run / "checkpoints") == [3, 6]
  found = lines(run)
  assert [(line["step"], line.keys()) for line in found] == [(line["step"], line.keys()) for line in wanted]
  for mine, other in zip(found, wanted, strict=True):
    assert mine == pytest.approx(other, rel=1e-4)
