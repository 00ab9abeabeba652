# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 6 through the real loop, and the loop's handling of bad steps, samples, evaluations and finished runs."""

import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from laws import assert_law_catches
from tiny_runs import TINY, assert_same_run, experiment, heldout_losses, lines, once, saved, write_text

import lmx
from lmx.errors import LmxError
from lmx.evaluation.heldout import HeldOut
from lmx.experiment.build import Experiment
from lmx.models.spec import TransformerSpec
from lmx.run import loop
from lmx.training.checkpoint_choice import committed_steps
from lmx.training.divergence import NonFiniteError
from lmx.training.meter import Meter
from lmx.training.metrics import read_metrics

STEPS = 10


@pytest.fixture(autouse=True, scope="module")
def one_compilation():
  """All runs of one network in this file share its compiled steps."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "make_train_step", once(loop.make_train_step))
    patch.setattr(loop, "make_eval_step", once(loop.make_eval_step))
    patch.setattr(TransformerSpec, "check_attention", lambda spec, backend: "not checked in this test")
    yield


@pytest.fixture(scope="module")
def tiny(tiny_text, tmp_path_factory) -> Experiment:
  """An experiment with all that a resume could forget: dropout, an average, micro-batches, parts of a window."""
  folder = tmp_path_factory.mktemp("runs") / "whole"
  return experiment(tiny_text, folder, devices=4, optimizer__ema=0.9, train__micro_batches=2, mesh__fsdp=2,
                    mesh__tensor=2)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tiny) -> Path:
  """Its uninterrupted run."""
  assert loop.train(tiny).finished
  return tiny.run_dir


def elsewhere(x: Experiment, run_dir: Path, **changes) -> Experiment:
  return dataclasses.replace(x, run_dir=run_dir, **changes)


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
  """Sends this process SIGTERM when the loop is through with a step."""
  save = loop.Run.save

  def save_and_signal(run: loop.Run) -> None:
    save(run)
    if run.step == step:
      signal.raise_signal(signal.SIGTERM)

  patch.setattr(loop.Run, "save", save_and_signal)


def train_until(x: Experiment, step: int) -> None:
  with pytest.MonkeyPatch.context() as patch:
    stop_at(step, patch)
    result = loop.train(x)
  assert (result.step, result.finished) == (step, False)
  assert committed_steps(x.run_dir / "checkpoints")[-1] == step


@pytest.fixture
def no_picture(monkeypatch):
  """A third of the time of a resume so short is the drawing of its curve."""
  monkeypatch.setattr(loop, "write_plot", lambda x, baseline: None)


# ---------------------------------------------------------------- law 6


@pytest.fixture(scope="module")
def chain(tiny, whole, tmp_path_factory) -> dict[int, Path]:
  """A run stopped after every single step and taken up again: its folder as it was at each stop."""
  folder = tmp_path_factory.mktemp("chain")
  copies = {}
  for step in range(1, STEPS):
    train_until(elsewhere(tiny, folder / "run"), step)
    copies[step] = Path(shutil.copytree(folder / "run", folder / f"stopped_at_{step}"))
  loop.train(elsewhere(tiny, folder / "run"))
  return {**copies, STEPS: folder / "run"}


def test_a_run_stopped_after_every_step_equals_an_uninterrupted_one_bit_for_bit(tiny, whole, chain):
  assert_same_run(tiny, chain[STEPS], whole)


def test_a_run_stopped_once_anywhere_equals_an_uninterrupted_one_bit_for_bit(tiny, whole, chain, tmp_path, no_picture):
  for step in range(1, STEPS):
    run = Path(shutil.copytree(chain[step], tmp_path / str(step)))
    loop.train(elsewhere(tiny, run))
    assert_same_run(tiny, run, whole)


def data_one_batch_late(patch: pytest.MonkeyPatch) -> None:
  """A broken twin: the resumed run leaves out a batch, after having proved that it would not."""
  check = loop.check_data

  def check_and_slip(loader, step, fingerprint, *, accept_other):
    verdict = check(loader, step, fingerprint, accept_other=accept_other)
    next(loader)
    return verdict

  patch.setattr(loop, "check_data", check_and_slip)


def window_forgotten(patch: pytest.MonkeyPatch) -> None:
  """A broken twin: the first line after a resume is the mean of the steps since then."""
  patch.setattr(Meter, "restore", lambda meter, saved: None)


def lines_repeated(patch: pytest.MonkeyPatch) -> None:
  """A broken twin: the lines of steps that are done again stay in the file."""
  patch.setattr(loop.MetricsWriter, "truncate_after", lambda writer, step: 0)


def test_a_resume_that_forgets_something_is_noticed(tiny, whole, chain, tmp_path):
  def check(break_it) -> None:
    run = Path(shutil.copytree(chain[6], tmp_path / break_it.__name__))
    with (run / "metrics.jsonl").open("a") as file:  # As a killed process leaves it: a step that will be done again.
      file.write(json.dumps({**lines(whole)[-1], "step": 7, "time": 0.0}) + "\n")
    with pytest.MonkeyPatch.context() as patch:
      break_it(patch)
      loop.train(elsewhere(tiny, run))
    assert_same_run(tiny, run, whole)

  def nothing(patch) -> None:
    pass

  check(nothing)
  for twin in (data_one_batch_late, window_forgotten, lines_repeated):
    assert_law_catches(check, twin)


def test_a_resumed_run_reports_that_its_data_continues(tiny, chain, tmp_path, capsys):
  run = Path(shutil.copytree(chain[9], tmp_path / "run"))
  loop.train(elsewhere(tiny, run))
  out = capsys.readouterr().out
  assert re.search(r"resumed at step 9 from .*checkpoints/9; the data continues where it stopped \(batch 8 has", out)


def test_other_data_is_refused_and_leaves_the_run_as_it_was_unless_it_is_accepted(tiny, tiny_text, chain, tmp_path):
  run = Path(shutil.copytree(chain[7], tmp_path / "run"))
  before = (run / "config.json").read_text()
  other = elsewhere(tiny, run, seed=1, config_json=before.replace('"seed": 0', '"seed": 1'))
  with pytest.raises(LmxError, match=r"not what this run was trained on: seed is 1, and was 0. .*--accept-changes"):
    loop.train(other)
  assert (run / "config.json").read_text() == before
  policy = dataclasses.replace(tiny.policy, accept_other_data=True)
  assert loop.train(dataclasses.replace(other, policy=policy)).finished
  assert '"seed": 1' in (run / "config.json").read_text()


def test_text_added_or_edited_late_after_a_checkpoint_is_named_and_refused_unless_it_is_accepted(tmp_path, no_picture):
  text, run = write_text(tmp_path / "text"), tmp_path / "run"
  train_until(experiment(text, run), 5)
  last = text / "11.txt"
  whole = last.read_text()
  for file, content, reason in (
    (last, whole[:-8] + "CHANGED.", r"11.txt changed \(.* tokens in .* and had "),
    (text / "12.txt", "an added text", r"12.txt \(13 bytes\) was added; .* tokens in .* and had "),
  ):
    file.write_text(content)
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")}
    with pytest.raises(LmxError, match=rf"not what this run was trained on: .*{reason}.*--accept-changes"):
      loop.train(experiment(text, run))
    assert {path: path.stat().st_mtime_ns for path in (run / "checkpoints").rglob("*")} == before
    last.write_text(whole)
  with pytest.raises(LmxError, match="was added"):
    loop.train(experiment(text, run))
  (text / "12.txt").unlink()
  train_until(experiment(text, run), 7)  # As it was: it resumes.
  (text / "12.txt").write_text("an added text")
  x = experiment(text, run)
  assert loop.train(dataclasses.replace(x, policy=dataclasses.replace(x.policy, accept_other_data=True))).finished
  assert any("12.txt" in path for path, *_ in saved(x)[1]["data"]["sources"][0]["files"])


# ---------------------------------------------------------------- the end of a run


def test_a_finished_run_reports_it_and_does_nothing(tiny, whole, capsys):
  before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
  result = loop.train(tiny)
  assert (result.step, result.finished) == (STEPS, True)
  assert "already finished at step 10 of 10; nothing to do" in capsys.readouterr().out
  assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_run_killed_between_its_last_checkpoint_and_its_samples_makes_them(tiny, whole, tmp_path):
  run = Path(shutil.copytree(whole, tmp_path / "run"))
  shutil.rmtree(run / "samples")
  (run / "loss.png").unlink()
  assert loop.train(elsewhere(tiny, run)).finished
  assert (run / "samples" / "10.jsonl").read_text() == (whole / "samples" / "10.jsonl").read_text()
  assert (run / "loss.png").exists()
  assert_same_run(tiny, run, whole)


def test_a_run_leaves_samples_and_a_picture(whole):
  (sample,) = [json.loads(line) for line in (whole / "samples" / "10.jsonl").read_text().splitlines()]
  assert sample["prompt"] == ""
  assert 0 < len(sample["text"]) <= TINY["evaluation.sample_tokens"]
  image = (whole / "loss.png").read_bytes()
  assert image.startswith(b"\x89PNG")
  assert int.from_bytes(image[16:20], "big") > 600  # Its width in pixels.


def test_the_start_and_the_end_print_what_a_person_wants_to_know(tiny, tmp_path, capsys):
  train_until(elsewhere(tiny, tmp_path / "run"), 3)
  out = capsys.readouterr().out
  for part in (
    *("tiny: 9,968 parameters", "Transformer, 1 layer", "bytes, 258 ids", "8 rows of 32, packed, in 2 parts"),
    *("4 devices (fsdp 2 x tensor 2), cpu", "none: no published peak for 'cpu'", "float32 compute"),
    *("step 3: validation ", "(xz ", "stopped at step 3", "same command resumes"),
  ):
    assert part in out, part
  loop.train(elsewhere(tiny, tmp_path / "run"))
  out = capsys.readouterr().out
  for part in (
    *("step 10/10", "bits/byte", "tokens/s", "MFU n/a", "finished at step 10", "loss curve", "lmx generate"),
    *("lmx evaluate", "--config.optimizer.peak_lr="),
  ):
    assert part in out, part


# ---------------------------------------------------------------- steps that are not finite


@pytest.fixture(scope="module")
def plain(tiny_text, tmp_path_factory) -> Experiment:
  """A faster experiment, on one device."""
  return experiment(tiny_text, tmp_path_factory.mktemp("plain") / "run", evaluation__prompts=(), model__dropout=0.0)


@pytest.fixture
def poisoned(monkeypatch):
  """Call it with steps whose batches shall have losses that are no numbers."""

  def poison(*steps: int) -> None:
    draw = loop.Run.draw

    def draw_poisoned(run: loop.Run) -> dict[str, jax.Array]:
      batch = draw(run)
      if run.step + 1 in steps:
        nan = np.full(batch["loss_weights"].shape, np.nan, np.float32)
        batch["loss_weights"] = jax.device_put(nan, batch["loss_weights"].sharding)
      return batch

    monkeypatch.setattr(loop.Run, "draw", draw_poisoned)

  return poison


def with_policy(x: Experiment, run_dir: Path, **changes) -> Experiment:
  return elsewhere(x, run_dir, policy=dataclasses.replace(x.policy, **changes))


def test_a_step_that_is_not_finite_stops_the_run_and_is_named(plain, tmp_path, poisoned):
  poisoned(7)
  with pytest.raises(NonFiniteError, match=r"step 7: loss nan.* of step 7 was skipped.* last checkpoint is of step 5"):
    loop.train(elsewhere(plain, tmp_path / "run"))
  assert committed_steps(tmp_path / "run" / "checkpoints") == [5]


def test_a_skipped_step_is_counted_and_named_and_spoils_nothing(plain, tmp_path, poisoned, capsys):
  poisoned(7)
  assert loop.train(with_policy(plain, tmp_path / "run", nonfinite="skip")).finished
  assert "step 7: loss nan, gradient norm nan: skipped (1 so far)" in capsys.readouterr().out
  trained = [line for line in lines(tmp_path / "run") if "loss" in line]
  assert [line["skipped_total"] for line in trained] == [0, 1, 1]
  assert all(np.isfinite(value) for line in trained for value in line.values())
  arrays, _ = saved(plain, tmp_path / "run")
  assert all(np.all(np.isfinite(value)) for value in arrays.values())


def test_too_many_skipped_steps_in_a_row_stop_the_run_and_are_named(plain, tmp_path, poisoned):
  poisoned(4, 6, 7, 8, 9)
  with pytest.raises(NonFiniteError, match=r"The update of steps 6 to 8 was skipped and the run stopped"):
    loop.train(with_policy(plain, tmp_path / "run", nonfinite="skip", max_skipped=3))


def test_parameters_that_are_not_finite_stop_the_run_whatever_the_policy(tiny_text, tmp_path):
  x = experiment(tiny_text, tmp_path / "run", optimizer__peak_lr=1e38, optimizer__warmup="0 steps", model__dropout=0.0,
                 optimizer__schedule="constant", train__nonfinite="skip")  # fmt: skip
  expected = r"parameters are not finite.*skipping steps can't repair them. .*last gradient norms are .*peak_lr"
  with pytest.raises(NonFiniteError, match=expected):
    loop.train(x)
  assert not committed_steps(tmp_path / "run" / "checkpoints")


def test_the_message_of_a_stop_names_what_diverged_and_the_last_gradient_norms(plain, tmp_path, poisoned):
  poisoned(4)
  with pytest.raises(NonFiniteError, match=r"No gradient is finite.*norms are (\d[\d.]*, ){3}nan\. Fix"):
    loop.train(elsewhere(plain, tmp_path / "run"))


def test_a_learning_rate_far_too_high_ends_in_the_same_message(tiny_text, tmp_path):
  x = experiment(tiny_text, tmp_path / "run", optimizer__peak_lr=1e30, optimizer__warmup="0 steps", model__dropout=0.0)
  with pytest.raises(NonFiniteError, match=r"step \d+: .* a lower --config.optimizer.peak_lr"):
    loop.train(x)


def test_spikes_are_skipped_counted_and_named(plain, tmp_path, capsys):
  options = dataclasses.replace(plain.network.options, spike_factor=1.0, spike_history=3)
  x = elsewhere(plain, tmp_path / "run", network=dataclasses.replace(plain.network, options=options))
  assert loop.train(x).finished
  skipped = capsys.readouterr().out.count(": skipped (")
  assert skipped == lines(tmp_path / "run")[-2]["skipped_total"] > 0


# ---------------------------------------------------------------- evaluations, checkpoints, logs


def test_the_average_of_the_parameters_is_what_is_evaluated_and_loaded(tiny, whole):
  run = lmx.load(whole)
  last = heldout_losses(whole)[STEPS]
  assert run.evaluate().loss == pytest.approx(last, rel=1e-6)
  arrays, _ = saved(tiny)
  name = "token_embedding.embedding"
  average = np.asarray(run.model.token_embedding.embedding[...])
  np.testing.assert_array_equal(average, arrays[f".ema['{name}']"])
  assert np.any(average != arrays[f".params['{name}']"])


def test_the_last_the_best_and_every_nth_checkpoint_are_kept(plain, tmp_path, monkeypatch):
  losses = iter([5.0, 3.0, 4.0, 4.0, 4.0])
  monkeypatch.setattr(loop, "evaluate", lambda *args, **kwargs: HeldOut(next(losses), 1.0, 1.0, {}))
  cadence = dataclasses.replace(plain.cadence, evaluate=2, save=4, keep=3)
  saving = dataclasses.replace(plain.saving, keep_last=1)
  loop.train(elsewhere(plain, tmp_path / "run", cadence=cadence, saving=saving))
  assert committed_steps(tmp_path / "run" / "checkpoints") == [3, 4, 6, 9, 10]


def test_a_run_can_start_from_the_parameters_of_another(tiny, whole, tmp_path, capsys):
  saving = dataclasses.replace(tiny.saving, start_from=str(whole))
  x = elsewhere(tiny, tmp_path / "run", saving=saving, cadence=dataclasses.replace(tiny.cadence, total=1, evaluate=1))
  loop.train(x)
  assert f"started from {whole}/checkpoints/10" in capsys.readouterr().out
  assert read_metrics(tmp_path / "run")[0]["step"] == 1
  first = heldout_losses(tmp_path / "run")[1]
  assert abs(first - heldout_losses(whole)[STEPS]) < 0.5 * abs(first - heldout_losses(whole)[3])


def test_a_missing_run_to_start_from_is_one_clear_error(plain, tmp_path):
  saving = dataclasses.replace(plain.saving, start_from=str(tmp_path / "nowhere"))
  with pytest.raises(LmxError, match="nowhere/checkpoints: there is no complete checkpoint"):
    loop.train(elsewhere(plain, tmp_path / "run", saving=saving))


def test_tensorboard_gets_what_the_file_gets(plain, tmp_path):
  pytest.importorskip("tensorboard")
  loop.train(with_policy(plain, tmp_path / "run", tensorboard=True))
  (events,) = (tmp_path / "run" / "tensorboard").iterdir()
  assert b"heldout_bits_per_byte" in events.read_bytes()


# ---------------------------------------------------------------- devices


def test_nothing_goes_to_the_devices_unnoticed_between_two_steps(plain, tmp_path, monkeypatch):
  """The loop of every test here runs guarded; this is the guard's own broken twin."""
  draw = loop.Run.draw
  monkeypatch.setattr(loop.Run, "draw", lambda run: {k: np.asarray(v) for k, v in draw(run).items()})
  with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
    loop.train(elsewhere(plain, tmp_path / "run"))
