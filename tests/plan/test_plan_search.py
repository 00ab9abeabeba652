# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Searches for machines that you don't have: the candidates, their order, and the cache of results."""

import dataclasses
import itertools
import math

import pytest

from lmx.cli.main import main
from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup
from lmx.parallel.mesh import check_slices
from lmx.plan import search as plan_search
from lmx.plan.compile_step import abstract_objective
from lmx.plan.count import count, layer_matrices, share_of
from lmx.plan.gpu import make_gpu_plan
from lmx.plan.search import REFINEMENTS, cached, candidates, meshes, refined, search
from lmx.training.state import local_bytes
from lmx.units import chip_of


@pytest.fixture
def one_axis(monkeypatch):
  """Fewer meshes, where it does not matter which."""
  monkeypatch.setattr(plan_search, "_MODEL_AXES", 1)


def big():
  return configs.load("configs/gpt3.py:1.3b", ["model.vocab_size=50304", "train.batch_size=128"])


def test_a_search_leaves_out_what_cannot_fit_and_prefers_what_computes_nothing_twice(one_axis):
  h100, small = chip_of("h100"), dataclasses.replace(chip_of("h100"), hbm_bytes=6e9)
  roomy, tight = candidates(big(), 8, h100), candidates(big(), 8, small)
  assert 0 < len(tight) < len(roomy)
  assert dict(roomy[0].overrides)["compute.remat"] == "none"
  plain = [dict(one.overrides) for one in tight if "compute.offload_optimizer" not in dict(one.overrides)]
  assert {one["compute.remat"] for one in plain} == {"full"}  # Moments on the host leave room for what matmuls give.
  assert all(one.bytes <= small.hbm_bytes for one in tight)
  assert not candidates(big(), 1, dataclasses.replace(small, hbm_bytes=1e9))


@pytest.mark.parametrize(("devices", "experts"), [(1, None), (6, 3), (16, 8)])
def test_every_mesh_of_the_searched_axes_is_tried_once(devices, experts):
  found = [tuple(mesh.values()) for mesh in meshes(devices, experts)]
  sizes = [n for n in range(1, devices + 1) if devices % n == 0]
  wanted = {
    (data, fsdp, tensor, sequence, expert, stage)
    for fsdp, tensor, sequence, expert, stage in itertools.product(sizes, repeat=5)
    for data in sizes
    if math.prod((data, fsdp, tensor, sequence, expert, stage)) == devices
    and max(tensor, sequence, stage) <= 8
    and (experts or 1) % expert == 0
    and sum(n > 1 for n in (tensor, sequence, expert, stage)) <= 2
  }
  assert len(set(found)) == len(found)
  assert set(found) == wanted
  assert list(next(meshes(devices, experts))) == ["data", "fsdp", "tensor", "sequence", "expert", "stage"]


def test_long_rows_are_split_over_devices_and_short_ones_are_not(one_axis):
  config, v5p = configs.load("configs/llama.py:8b", ["train.batch_size=4"]), chip_of("TPU v5p")
  config.data.length = config.model.context = 65536
  assert dict(candidates(config, 16, v5p)[0].overrides)["mesh.sequence"] > 1  # More devices than rows.
  config.data.length, config.train.batch_size = 4096, 64
  assert "mesh.sequence" not in dict(candidates(config, 16, v5p)[0].overrides)


def test_experts_are_shared_out_where_there_are_many(one_axis):
  config = configs.load("configs/mixtral.py", ["train.batch_size=128"])
  assert dict(candidates(config, 64, chip_of("TPU v5p"))[0].overrides)["mesh.expert"] > 1


def test_a_pipeline_is_tried_with_its_schedules_and_loses_less_time_with_more_micro_batches():
  config = big()
  found = candidates(config, 8, chip_of("TPU v5p"))

  def best(rounds, micro_batches):
    wanted = {"mesh.stage": 4, "compute.stage_micro_batches": micro_batches, "compute.stage_rounds": rounds}
    return next(one for one in found if wanted == {key: dict(one.overrides).get(key) for key in wanted})

  few, circular, many = best(None, 4), best(2, 4), best(None, 16)  # None: the config's own, which is one round.
  assert many.step.likely < circular.step.likely < few.step.likely
  assert dict(many.overrides)["train.micro_batches"] == 1
  chosen = many.apply(config)
  share = share_of(abstract_setup(chosen, 8, abstract_objective(chosen).loss)[0], chosen)
  assert (share.schedule.micro_batches, share.idle) == (16, 1 + 3 / 16)


def test_what_a_device_computes_with_leaves_out_other_stages_and_experts():
  config = configs.load("configs/mixtral.py", ["train.batch_size=8"])

  def share(**mesh):
    chosen = config.copy_and_resolve_references()
    chosen.mesh.update({"data": 1, "fsdp": 1, **mesh})
    network, _ = abstract_setup(chosen, 4, abstract_objective(chosen).loss)
    return share_of(network, chosen)

  copied, split, experts, staged = share(data=4), share(fsdp=4), share(expert=4), share(stage=4)
  assert copied.gathered == copied.parameters == split.gathered == pytest.approx(4 * split.parameters, rel=1e-3)
  assert experts.gathered < 0.5 * copied.gathered
  assert experts.parameters == pytest.approx(split.parameters, rel=1e-3)
  assert staged.gathered == staged.parameters < 0.5 * copied.gathered


def test_a_search_keeps_the_slices_that_the_machine_has(capsys):
  config, v5e = big(), chip_of("TPU v5e")
  config.mesh.slice = 2
  found = candidates(config, 8, v5e)
  assert {math.prod(v for k, v in one.overrides if k.startswith("mesh.")) for one in found} == {4}
  assert found[0].apply(config).mesh.slice == 2
  check_slices(2, 2)
  with pytest.raises(LmxError, match=r"2 TPU slices.*--config\.mesh\.slice=2"):
    check_slices(1, 2)
  config.mesh.slice = 3
  with pytest.raises(LmxError, match=r"config\.mesh\.slice: got 3"):
    candidates(config, 8, v5e)


def test_what_is_seldom_chosen_is_listed_where_it_differs_from_the_config():
  h100 = chip_of("h100")
  config = big()
  found = [dict(one.overrides) for one in candidates(config, 2, h100)]
  assert {one.get("compute.zero1") for one in found} == {None, True}
  assert {one.get("compute.offload_optimizer") for one in found} == {None, True}
  assert not any(one.get("compute.zero1") and one["mesh.data"] == 1 for one in found)
  config.compute.zero1 = True
  assert {dict(one.overrides).get("compute.zero1") for one in candidates(config, 2, h100)} == {None, False}


def test_a_count_includes_what_zero1_and_the_hosts_memory_save_and_cost():
  config, h100 = big(), chip_of("h100")
  config.mesh.data, config.mesh.fsdp, config.train.micro_batches = 8, 1, 1

  def counted(**compute):
    config.compute.update({"zero1": False, "offload_optimizer": False, **compute})
    network, _ = abstract_setup(config, 8, abstract_objective(config).loss)
    return count(network, config, h100), local_bytes(network.abstract.opt_state)

  (plain, fast), moments = counted()
  (split, _), part = counted(zero1=True)
  assert plain - split == moments - part > 0.85 * moments
  config.compute.offload_optimizer = False
  network, _ = abstract_setup(config, 8, abstract_objective(config).loss)
  config.compute.zero1, config.compute.offload_optimizer = True, True
  away, slow = count(network, config, h100)
  assert (split - away, slow > fast) == (part, True)


def test_a_search_forgets_what_another_lmx_found(tmp_path, monkeypatch):
  calls = []

  def found():
    return cached(tmp_path, big(), "h100:8", lambda: {"number": calls.append(0) or len(calls)})["number"]

  assert [found(), found()] == [1, 1]
  monkeypatch.setattr(plan_search, "revision", lambda: "another")
  assert [found(), found()] == [2, 2]
  monkeypatch.setattr(plan_search, "installed", lambda package: "2.0")
  assert found() == 3


def test_a_search_resumes_where_it_stopped_and_puts_what_does_not_run_last(tmp_path, one_axis):
  chosen, calls = candidates(big(), 8, chip_of("h100"))[:3], []

  def make(config):
    calls.append(config)
    if len(calls) == 3:
      raise KeyboardInterrupt
    if len(calls) == 1:
      raise LmxError("too little memory")
    return make_gpu_plan(config, "h100", 8)

  with pytest.raises(KeyboardInterrupt):
    search(big(), "h100:8", chosen, make, lambda one: None, str(tmp_path))
  reported = []
  best = search(big(), "h100:8", chosen, make, reported.append, str(tmp_path))
  assert len(calls) == 4  # The first two were kept, the one too large among them.
  assert [bool(one.problem) for one in reported] == [True, False, False]
  assert [bool(one.problem) for one in best] == [False, False, True]


def test_the_fastest_is_tried_with_more_vector_memory_and_keeping_more_where_the_config_leaves_it_open():
  config = big()
  config.compute.remat = "none"
  one = next(one for one in candidates(config, 2, chip_of("h100")) if one.apply(config).compute.remat == "full")
  tried = [set(more.overrides) - set(one.overrides) for more in refined(config, one)]
  keeps = [{("compute.remat_keep", names)} for names in (("attention",), ("queries", "keys", "values"))]
  assert tried == [{("compute.scoped_vmem", 64)}, *keeps]
  assert len(tried) == REFINEMENTS
  assert refined(config, one)[1].apply(config).compute.remat_keep == ("attention",)
  assert refined(config, dataclasses.replace(one, problem="too large")) == []
  config.compute.scoped_vmem = 64
  assert len(refined(config, one)) == REFINEMENTS - 1
  plain = dataclasses.replace(one, overrides=(("compute.remat", "none"),))
  assert refined(config, plain) == []


def test_what_full_rematerialization_keeps_is_counted():
  def rest(*names):
    config = big()
    config.compute.remat, config.compute.remat_keep = "full", names
    return make_gpu_plan(config, "h100", 8).memory.rest

  config = big()
  kept = 2 * config.train.batch_size * config.data.length / 8 * config.model.layers * config.model.width
  assert rest("queries") - rest() == pytest.approx(kept)
  assert rest("queries", "attention") - rest() == pytest.approx(2 * kept)


def test_the_winner_of_a_search_is_written_as_a_config_and_drawn(tmp_path, capsys, one_axis):
  file, picture = tmp_path / "mine.py", tmp_path / "plan.png"
  command = ["plan", "--config=configs/gpt3.py:1.3b", "--topology=h100:8", "--search"]
  assert main([*command, f"--write={file}", f"--plot={picture}"]) == 0
  assert "combinations fit" in capsys.readouterr().out
  written, base = configs.load(str(file)), configs.load("configs/gpt3.py:1.3b")
  assert written.compute.remat != base.compute.remat == "full"
  assert written.model == base.model
  assert picture.read_bytes()[:4] == b"\x89PNG"
  assert main([*command, f"--write={file}"]) == 2
  assert "exists" in capsys.readouterr().err
  assert main([*command[:-1], f"--plot={picture}"]) == 2
  assert main(["plan", "--config=configs/gpt3.py:13b", "--topology=h100:1", "--search"]) == 2
  assert "fits no mesh" in capsys.readouterr().err


def test_a_search_counts_quantized_products_as_faster(with_qwix, one_axis):
  config = big()
  plain = candidates(config, 8, chip_of("TPU v5e"))
  config.compute.quantization = "int8"
  quantized = candidates(config, 8, chip_of("TPU v5e"))
  assert quantized[0].step.likely < plain[0].step.likely


@pytest.mark.parametrize(
  ("overrides", "matrices"),
  [
    (("model.mlp_width=96",), 4 * 64 * 64 + 2 * 64 * 96),
    (
      ("model.mlp_width=96", "model.attention_bias=True"),
      4 * 64 * 64 + 2 * 64 * 96,
    ),  # Biases are no matrices.
    (
      ("model.experts=8", "model.experts_per_token=2", "model.expert_width=32", "model.mlp_bias=False"),
      4 * 64 * 64 + 2 * 2 * 64 * 32 + 64 * 8,  # Two of the experts, and the router.
    ),
  ],
)
def test_the_matrices_of_layers_are_those_that_a_token_is_multiplied_with(overrides, matrices):
  sizes = ("model.layers=3", "model.width=64", "model.heads=4")
  network, _ = abstract_setup(configs.load("configs/base.py", [*sizes, *overrides]), 1)
  assert layer_matrices(network) == 3 * matrices
