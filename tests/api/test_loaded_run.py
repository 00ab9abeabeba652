# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 7 through the loop and `lmx.load`: a run resumes, and is used, on any devices; and the errors of `load`."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from laws import assert_law_catches
from tiny_runs import WORDS, experiment, heldout_losses, lines

import lmx
from lmx.api.loaded_run import LoadedRun
from lmx.api.tasks import TextLoss
from lmx.errors import LmxError
from lmx.models.spec import TransformerSpec
from lmx.run import loop

# Every document fits into a row, so that .loss of a document sees what the evaluation of the run saw.
RUN = {"model__context": 64, "data__length": 64, "model__dropout": 0.0, "optimizer__ema": 0.9}
MESHES = {"8 x data": (8, {"mesh__data": 8}), "mixed": (8, {"mesh__fsdp": 2, "mesh__tensor": 2}), "one": (1, {})}


@pytest.fixture(scope="module", autouse=True)
def no_check():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(TransformerSpec, "check_attention", lambda spec, backend: "not checked in this test")
    yield


@pytest.fixture(scope="module")
def short_text(tmp_path_factory) -> Path:
  """Documents of some twenty to fifty letters."""
  folder, random = tmp_path_factory.mktemp("short"), np.random.default_rng(1)
  for number in range(60):
    (folder / f"{number:02d}.txt").write_text(" ".join(random.choice(WORDS, random.integers(6, 12))))
  return folder


@pytest.fixture(scope="module")
def begun(short_text, tmp_path_factory) -> Path:
  """A run on eight devices, stopped after 6 of its 10 steps; its uninterrupted twin is in the folder next to it."""
  folder = tmp_path_factory.mktemp("runs")
  devices, mesh = MESHES["8 x data"]
  x = experiment(short_text, folder / "begun", devices=devices, **mesh, **RUN)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop.Run, "asked_to_stop", lambda self: self.step == 6)
    loop.train(x)
  shutil.copytree(folder / "begun", folder / "whole")
  assert loop.train(dataclasses.replace(x, run_dir=folder / "whole")).finished
  return folder / "begun"


@pytest.fixture(scope="module")
def whole(begun) -> Path:
  return begun.parent / "whole"


@pytest.fixture(scope="module")
def run(whole) -> LoadedRun:
  return lmx.load(whole)


def check_resumes_as_on_the_original_mesh(resume, begun: Path, whole: Path, folder: Path) -> None:
  run = Path(shutil.copytree(begun, folder))
  resume(run)
  ours, theirs = lines(run), lines(whole)
  assert [line["step"] for line in ours] == [line["step"] for line in theirs]
  for mine, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose([mine[k] for k in other], list(other.values()), rtol=1e-4, err_msg=str(mine))


@pytest.mark.parametrize("name", ["mixed", "one"])
def test_a_run_resumes_on_another_mesh_with_the_same_data_and_losses(begun, whole, short_text, tmp_path, name, capsys):
  devices, mesh = MESHES[name]
  x = experiment(short_text, tmp_path / "unused", devices=devices, **mesh, **RUN)
  check_resumes_as_on_the_original_mesh(
    lambda run: loop.train(dataclasses.replace(x, run_dir=run)), begun, whole, tmp_path / "run"
  )
  assert "the data continues where it stopped" in capsys.readouterr().out

  def forgetful(run: Path) -> None:
    """The broken twin: only the parameters travel to the other mesh."""
    initialize = loop.initialize

    def initialize_without_optimizer_state(checkpointer, abstract, plan, optimizer, *args, **kwargs):
      start = initialize(checkpointer, abstract, plan, optimizer, *args, **kwargs)
      fresh = jax.tree.map(np.zeros_like, start.state.opt_state)
      fresh = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), fresh, start.state.opt_state)
      return dataclasses.replace(start, state=dataclasses.replace(start.state, opt_state=fresh))

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(loop, "initialize", initialize_without_optimizer_state)
      loop.train(dataclasses.replace(x, run_dir=run))

  if name == "one":
    assert_law_catches(check_resumes_as_on_the_original_mesh, forgetful, begun, whole, tmp_path / "twin")


# ---------------------------------------------------------------- lmx.load


def test_one_line_loads_a_run_and_its_validation_loss_is_the_one_that_was_logged(run, whole):
  assert (run.step, run.config.name, run.tokenizer.vocab_size) == (10, "tiny", 258)
  assert run.evaluate().loss == pytest.approx(heldout_losses(whole)[10], rel=1e-5)
  assert len(run.layout.mesh.devices.flat) == 1


@pytest.mark.parametrize("mesh", [{"data": 8}, {"fsdp": 2, "tensor": 2, "data": 2}], ids=str)
def test_a_run_loaded_on_a_mesh_gives_the_same_losses_and_texts(run, whole, mesh):
  spread = lmx.load(whole, mesh=mesh)
  assert spread.evaluate().loss == pytest.approx(run.evaluate().loss, rel=1e-5)
  assert spread.loss("a batch of text").nats == pytest.approx(run.loss("a batch of text").nats, rel=1e-5)
  assert spread.generate("the ", max_new_tokens=8, temperature=0) == run.generate(
    "the ", max_new_tokens=8, temperature=0
  )


def test_the_evaluation_of_a_loaded_run_does_not_depend_on_the_batch(run):
  values = [run.evaluate(batch_size=size) for size in (1, 3, 16)]
  assert [value.loss for value in values] == pytest.approx([values[0].loss] * 3, rel=1e-6)
  assert len({value.targets for value in values}) == 1


def test_the_losses_of_the_validation_documents_add_up_to_the_evaluation(run, short_text):
  texts = [file.read_text() for file in sorted(short_text.glob("*.txt"))]
  everything = run.evaluate(sources=[f"{short_text}/*.txt"])
  losses = [run.loss(text) for text in texts]
  assert sum(loss.tokens for loss in losses) == everything.targets
  assert sum(loss.nats for loss in losses) == pytest.approx(everything.loss * everything.targets, rel=1e-5)
  bits = sum(loss.nats for loss in losses) / math.log(2) / sum(loss.bytes for loss in losses)
  assert bits == pytest.approx(everything.bits_per_byte, rel=1e-5)


def test_the_numbers_of_a_text_follow_from_its_nats():
  loss = TextLoss(nats=8 * math.log(2), tokens=4, bytes=2)
  assert loss.bits_per_byte == pytest.approx(4.0)
  assert loss.nats_per_token == pytest.approx(2 * math.log(2))
  assert loss.perplexity == pytest.approx(4.0)


def test_a_text_longer_than_the_context_is_read_in_windows(run):
  long = "a batch of text " * 100
  assert run.loss(long).tokens == len(long) + 1
  assert math.isfinite(run.loss(long).nats)
  with pytest.raises(LmxError, match="at least one character"):
    run.loss("")


def test_the_same_seed_gives_the_same_text_and_another_seed_another(run):
  def sample(seed: int) -> list[str]:
    return run.generate(["the ", "a batch"], max_new_tokens=12, temperature=1.0, num_samples=2, seed=seed)

  assert sample(1) == sample(1)
  assert sample(1) != sample(2)
  assert len(sample(1)) == 4
  assert len(set(sample(1))) > 1


def test_an_earlier_checkpoint_is_loaded_when_asked_for(begun, whole):
  assert lmx.load(begun).step == 6
  assert lmx.load(whole, 6).step == 6
  with pytest.raises(LmxError, match=r"got 7\. Allowed: .*10"):
    lmx.load(whole, 7)


def broken_run(whole: Path, folder: Path, what: str) -> Path:
  if what == "no such run":
    return folder / "nowhere"
  run = Path(shutil.copytree(whole, folder / "run"))
  config = (run / "config.json").read_text()
  if what == "no checkpoint yet":
    shutil.rmtree(run / "checkpoints")
  elif what == "truncated config":
    (run / "config.json").write_text(config[: len(config) // 2])
  elif what == "other model":
    values = json.loads(config)
    values["model"]["width"] = 32
    (run / "config.json").write_text(json.dumps(values))
  elif what == "no tokenizer":
    shutil.rmtree(run / "tokenizer")
  return run


@pytest.mark.parametrize(
  ("what", "expected"),
  [
    ("no such run", r"run directory: got '.*nowhere'\. Allowed: a folder that holds config\.json"),
    ("no checkpoint yet", r"checkpoints: there is no complete checkpoint here"),
    ("truncated config", r"run/config\.json: config\.json is not JSON"),
    ("other model", r"is \(\(.*16.*\).* in the checkpoint and .*32.* here"),
    ("no tokenizer", r"tokenizer directory: got '.*tokenizer'"),
  ],
)
def test_a_run_that_cannot_be_loaded_is_one_clear_error(whole, tmp_path, monkeypatch, what, expected):
  monkeypatch.chdir(tmp_path)  # The runs of the folder where the tests are started would be proposed.
  with pytest.raises(LmxError, match=expected):
    lmx.load(broken_run(whole, tmp_path, what))
