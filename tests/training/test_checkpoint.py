# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Laws 6 and 7: resumed equals uninterrupted, bit for bit; restored anywhere equals saved. And which are kept."""

import asyncio
import dataclasses
import gc
import json
import os
import shutil

import jax
import numpy as np
import pytest
from laws import assert_law_catches, slow_but
from tiny_training import Program, assert_same, host, make_batch, make_model, optimizer, plan, program

from lmx.errors import LmxError, LmxWarning
from lmx.optim.optimizers import OPTIMIZERS
from lmx.training.checkpoint import Checkpointer
from lmx.training.checkpoint_choice import committed_steps, find_checkpoint
from lmx.training.checkpoint_digests import DIGESTS
from lmx.training.checkpoint_reading import best_step, read_extra, restore_model
from lmx.training.initialize import initialize
from lmx.training.step import StepOptions

EMA = StepOptions(ema=0.9)
MIX = (2, 2, 2)


def interrupted_after(steps: int, chosen: Program, folder, restore):
  """Trains, saves, forgets everything, restores: the state a resumed run would have."""
  state, _ = chosen.run(chosen.fresh(), range(steps))
  with Checkpointer(folder) as checkpoints:
    checkpoints.save(steps, state, {"position": steps})
  del state
  with Checkpointer(folder) as checkpoints:
    return restore(checkpoints, chosen)


def restore_exactly(checkpoints: Checkpointer, chosen: Program):
  return checkpoints.restore(chosen.abstract)[0]


def restore_without_moments(checkpoints: Checkpointer, chosen: Program):
  """The broken twin: the parameters come back, the optimizer starts over."""
  return dataclasses.replace(restore_exactly(checkpoints, chosen), opt_state=chosen.fresh(1).opt_state)


def check_resumed_equals_uninterrupted(restore, folder, chosen: Program) -> None:
  """Law 6, and twice in a row: 4 steps, and 2 steps, a restart, 1 step, a restart, 1 step, bit for bit."""
  whole, wanted = chosen.run(chosen.fresh(), range(4))
  state = interrupted_after(2, chosen, folder, restore)
  state, third = chosen.run(state, range(2, 3))
  with Checkpointer(folder) as checkpoints:
    checkpoints.save(3, state, {})
    state = restore(checkpoints, chosen)
  state, fourth = chosen.run(state, range(3, 4))
  assert [third[0], fourth[0]] == wanted[2:]
  assert_same(state, whole)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit_also_twice(tmp_path):
  chosen = program(mesh=MIX, options=EMA)
  check_resumed_equals_uninterrupted(restore_exactly, tmp_path / "real", chosen)
  assert_law_catches(check_resumed_equals_uninterrupted, restore_without_moments, tmp_path / "twin", chosen)


# A state of rows and columns, one of two kinds of parameters, one with an average; AdamW is resumed everywhere else.
RESUMED = ("adafactor", "muon", "schedule_free")


@pytest.mark.parametrize("name", slow_but(RESUMED, OPTIMIZERS))
def test_every_optimizer_resumes_bit_for_bit(name, tmp_path):
  chosen = program(name)
  check_resumed_equals_uninterrupted(restore_exactly, tmp_path, chosen)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A run of two steps on 2 x 2 x 2 devices with an average, and its checkpoint."""
  chosen = program(mesh=MIX, options=EMA)
  folder = tmp_path_factory.mktemp("saved")
  state, _ = chosen.run(chosen.fresh(), range(2))
  with Checkpointer(folder) as checkpoints:
    checkpoints.save(2, state, {"position": 2, "fingerprint": "abc"}, loss=1.5)
  return folder, host(state)


def check_restored_on_another_mesh_equals_saved(restore, folder, wanted) -> None:
  """Law 7: on other meshes of eight devices, and on one device."""
  for mesh in ((8, 1, 1), (1, 8, 1), (1, 1, 1)):
    abstract = program(mesh=mesh, options=EMA).abstract
    state = restore(folder, abstract)
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == jax.tree.map(lambda leaf: leaf.sharding, abstract)
    assert_same(state, wanted)


def restore_anywhere(folder, abstract):
  with Checkpointer(folder) as checkpoints:
    return checkpoints.restore(abstract)[0]


def restore_losing_a_shard(folder, abstract):
  """The broken twin: half of one array comes back as zeros."""
  state = restore_anywhere(folder, abstract)
  lost = {name: leaf.at[: leaf.shape[0] // 2].set(0.0) for name, leaf in state.params.items()}
  return dataclasses.replace(state, params=jax.device_put(lost, jax.tree.map(lambda x: x.sharding, abstract.params)))


def test_a_state_restored_on_another_mesh_or_one_device_equals_the_saved_one(saved):
  check_restored_on_another_mesh_equals_saved(restore_anywhere, *saved)
  assert_law_catches(check_restored_on_another_mesh_equals_saved, restore_losing_a_shard, *saved)


def test_a_model_is_restored_without_knowing_the_optimizer(saved):
  folder, state = saved
  model = restore_model(folder, jax.eval_shape(make_model, jax.random.key(0)))
  assert_same(plan().split(model), state.ema)
  assert_same(plan().split(restore_model(folder, model, part="parameters")), state.params)
  np.testing.assert_array_equal(model(make_batch(0)["tokens"]).shape, (16, 8, 32))


def test_a_checkpoint_has_the_data_position_and_what_else_it_was_given(saved):
  folder, _ = saved
  with Checkpointer(folder) as checkpoints:
    _, extra = checkpoints.restore(program(mesh=MIX, options=EMA).abstract, 2)
  assert extra == read_extra(folder, 2) == {"position": 2, "fingerprint": "abc"}


def test_training_continues_while_a_checkpoint_is_written_and_does_not_reach_into_it(tmp_path):
  chosen = program(options=EMA)
  state, _ = chosen.run(chosen.fresh(), range(1))
  wanted = host(state)
  with Checkpointer(tmp_path) as checkpoints:
    checkpoints.save(1, state, {})
    for number in range(1, 30):
      state, _ = chosen.step(state, make_batch(number))
    assert_same(checkpoints.restore(chosen.abstract)[0], wanted)


def test_the_last_the_best_and_every_nth_checkpoint_are_kept(tmp_path):
  state = program().fresh()
  losses = {1: 9.0, 2: 0.5, 3: None, 4: 8.0, 5: float("nan"), 6: 7.0, 7: 6.0}
  with Checkpointer(tmp_path, keep_last=2, keep_every_steps=4) as checkpoints:
    assert checkpoints.latest() is None
    for step, loss in losses.items():
      assert checkpoints.save(step, state, {}, loss=loss)
    assert not checkpoints.save(7, state, {}), "a step is saved once"
    checkpoints.wait()
    assert checkpoints.steps() == committed_steps(tmp_path) == [2, 4, 6, 7]
    assert checkpoints.latest() == 7
  assert best_step(tmp_path) == 2
  record = tmp_path / "2" / "extra" / "metadata"
  record.write_text(record.read_text().replace("0.5", "0.6"))
  with pytest.warns(LmxWarning, match=r"passed over checkpoint .*/2: extra/metadata is not what was saved"):
    assert best_step(tmp_path) == 7
  assert sorted(os.listdir(tmp_path)) == ["2", "4", "6", "7"]


def test_a_half_written_checkpoint_never_counts_as_complete(saved, tmp_path):
  folder, state = saved
  shutil.copytree(folder, tmp_path / "run")
  shutil.copytree(folder / "2", tmp_path / "run" / "3.orbax-checkpoint-tmp")
  shutil.rmtree(tmp_path / "run" / "3.orbax-checkpoint-tmp" / "training")
  (tmp_path / "run" / "deleting" / "1").mkdir(parents=True)
  assert committed_steps(tmp_path / "run") == [2]
  with Checkpointer(tmp_path / "run") as checkpoints:
    assert checkpoints.latest() == 2
    assert_same(checkpoints.restore(program(mesh=MIX, options=EMA).abstract)[0], state)
  assert sorted(os.listdir(tmp_path / "run")) == ["2"]


def test_a_run_that_starts_to_keep_an_average_starts_it_at_the_parameters(tmp_path):
  chosen = program()
  with Checkpointer(tmp_path) as checkpoints:
    checkpoints.save(1, chosen.fresh(), {})
    state, _ = checkpoints.restore(program(options=EMA).abstract)
  assert_same(state.ema, state.params)
  program(options=EMA).step(state, make_batch(0))  # Two copies: one may be donated without the other.


def test_a_checkpoint_of_another_optimizer_or_model_is_an_error_with_the_name(saved):
  folder, _ = saved
  with (
    Checkpointer(folder) as checkpoints,
    pytest.raises(LmxError, match=r"has no 'opt_state\.trace\..*Fix: .*config\.json"),
  ):
    checkpoints.restore(program("sgd", options=EMA).abstract)
  other = jax.eval_shape(make_model, jax.random.key(0))
  other.embedding = other.embedding.replace(jax.ShapeDtypeStruct((64, 16), np.float32))
  with pytest.raises(LmxError, match=r"embedding is \(\(32, 16\), 'float32'\) in the checkpoint and \(\(64, 16\)"):
    restore_model(folder, other)
  renamed = {"embeddings" if n == "embedding" else n: s for n, s in plan().shapes.items()}
  with pytest.raises(LmxError, match=r"has no 'embeddings'\. It has 'embedding'"):
    restore_model(folder, renamed)


def test_an_imported_model_is_no_run_to_resume(tmp_path):
  chosen = program()
  with Checkpointer(tmp_path / "checkpoints") as checkpoints:
    checkpoints.save_parameters(chosen.fresh().params, {})
    with pytest.raises(LmxError, match=r"contains parameters only \(imported\); no optimizer state to resume\. Fix: "):
      checkpoints.restore(chosen.abstract)


def test_a_missing_checkpoint_names_the_ones_there_are(saved, tmp_path):
  with pytest.raises(LmxError, match=r"got 5\. Allowed: 2"):
    find_checkpoint(saved[0], 5)
  with pytest.raises(LmxError, match="there is no complete checkpoint here"):
    find_checkpoint(tmp_path)


def test_a_checkpoint_of_a_newer_format_is_refused(saved, tmp_path):
  shutil.copytree(saved[0], tmp_path / "run")
  (tmp_path / "run" / "2" / DIGESTS).unlink()
  record = tmp_path / "run" / "2" / "extra" / "metadata"
  record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 99}))
  with pytest.raises(LmxError, match="checkpoint format 1 or older"):
    read_extra(tmp_path / "run", 2)


def test_a_run_starts_from_its_own_checkpoint_then_from_another_run_then_fresh(saved, tmp_path):
  folder, state = saved
  chosen = program(mesh=MIX, options=EMA)
  key = jax.random.key(0)

  def start(**sources):
    with Checkpointer(tmp_path) as checkpoints:
      found = initialize(checkpoints, chosen.abstract, plan(), optimizer(), make_model, key, **sources)
      if found.source != "resumed":
        checkpoints.save(1, dataclasses.replace(found.state, step=found.state.step + 1), {"position": 1})
    return found

  other = start(start_from=folder)
  assert (other.source, other.extra, int(other.state.step)) == ("started from", None, 0)
  assert_same(other.state.params, state.ema)
  resumed = start(start_from=folder)
  assert (resumed.source, resumed.extra, int(resumed.state.step)) == ("resumed", {"position": 1}, 1)
  shutil.rmtree(tmp_path)
  fresh = start()
  assert fresh.source == "fresh"
  assert_same(fresh.state, chosen.fresh())


def test_keeping_no_checkpoint_is_an_error(tmp_path):
  with pytest.raises(LmxError, match=r"config\.checkpoint\.keep_last: got 0"):
    Checkpointer(tmp_path, keep_last=0)


@pytest.mark.parametrize(
  ("error", "printed"),
  [
    (OSError(28, "No space left on device"), False),
    (ValueError('RESOURCE_EXHAUSTED: Error writing "step/.zarray": No space left on device'), False),
    (ValueError("a fault of lmx"), True),
  ],
)
def test_failed_writes_that_orbax_leaves_to_asyncio_are_not_printed_as_tracebacks(tmp_path, caplog, error, printed):
  Checkpointer(tmp_path / "checkpoints").close()
  loop = asyncio.new_event_loop()
  future = loop.create_future()
  future.set_exception(error)
  del future
  gc.collect()
  loop.close()
  assert ("never retrieved" in caplog.text) == printed
