# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Plans: what a batch will hold, what a machine that isn't here would need, and what is said when it has too little."""

import dataclasses
import importlib.util
import json
import shutil
import types
from pathlib import Path

import jax
import pytest

import lmx.nn.quantized
from lmx import config as configs
from lmx import plan_search
from lmx.build import imagine
from lmx.cli.main import main
from lmx.cli.plan import parse_tokens
from lmx.errors import LmxError
from lmx.hlo import Collective, LinkEvent
from lmx.objectives import OBJECTIVES
from lmx.plan import (
  batch_shapes,
  cheapest_fixes,
  describe_memory,
  imagined_objective,
  make_gpu_plan,
  out_of_memory,
)
from lmx.plan_search import cached, candidates, count, meshes, refined, search
from lmx.plan_time import collective_seconds, link_seconds
from lmx.topology import Topology, parse_topology
from lmx.training.state import local_bytes
from lmx.units import chip_of

TINY = ["model.layers=2", "model.width=32", "model.heads=2", "mesh.data=-1", "train.batch_size=8", "model.context=128"]
FAMILY = {"masked": "encoder", "classification": "encoder", "regression": "encoder", "span": "encoder",
          "tagging": "encoder", "contrastive": "encoder", "seq2seq": "encoder_decoder",
          "span_corruption": "encoder_decoder", "denoising": "encoder_decoder"}  # fmt: skip


def tiny(objective: str = "causal"):
  more = [f"objective.name={objective}", f"model.family={FAMILY.get(objective, 'transformer')}"]
  more += (
    ["tokenizer.extra_ids=100"] if objective in ("masked", "span_corruption", "denoising", "fill_in_middle") else []
  )
  more += ["data.packing=padded"] if OBJECTIVES[objective].packings[0] == "padded" else []
  return configs.load("configs/cpu.py", [*TINY, *more])


@pytest.mark.parametrize("objective", [name for name, row in OBJECTIVES.items() if row.reference != "teacher"])
def test_the_arrays_of_every_objective_are_known_without_data(objective):
  config = tiny(objective)
  network, _ = imagine(config, None, imagined_objective(config).loss)
  batch = batch_shapes(config, network)
  assert batch["tokens"].shape == (8, 128)

  def sums(params, batch):
    loss = network.task(params, params if network.reference else None, batch, None)
    return loss.sum, loss.weight

  loss, weight = jax.eval_shape(sums, network.abstract.params, batch)
  assert loss.shape == weight.shape == ()


def test_a_plan_for_gpus_says_what_is_stored_and_a_range_of_times(capsys):
  plan = make_gpu_plan(tiny(), "h200", 8)
  assert plan.memory.optimizer > plan.memory.parameters
  assert plan.memory.rest is None
  assert plan.step.low < plan.step.likely < plan.step.high
  assert plan.mfu(plan.step.likely) == pytest.approx(0.47)
  flags = [f"--config.{override}" for override in TINY]
  assert main(["plan", "--config=configs/cpu.py", *flags, "--topology=h200:8", "--tokens=1B", "--price=2"]) == 0
  text = capsys.readouterr().out
  for part in ("8 x H200 SXM", "roofline", "tokens/s", "device-hours", "at 2 an hour"):
    assert part in text
  assert main(["plan", "--config=configs/cpu.py", *flags, "--topology=h200:8", "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["devices"] == 8


@pytest.fixture
def with_qwix(monkeypatch):
  """As if it was installed: plans of GPUs don't call it."""
  monkeypatch.setattr(lmx.nn.quantized.importlib.util, "find_spec", lambda name: object())


def test_the_roofline_of_quantized_products_is_lower_and_the_mfu_stays_that_of_bf16(with_qwix, capsys):
  plain, config = make_gpu_plan(tiny(), "h200", 8), tiny()
  config.compute.quantization = "int8"
  quantized = make_gpu_plan(config, "h200", 8)
  assert 0.5 * plain.roofline < quantized.roofline < plain.roofline
  spec = imagine(config, 8)[0].spec
  saved = 6 * spec.quantized_parameters() * quantized.tokens / 8 * (1 / 989e12 - 1 / 1979e12)
  assert plain.roofline - quantized.roofline == pytest.approx(saved)
  assert quantized.mfu(1.0) == plain.mfu(1.0) == plain.roofline
  assert quantized.step.low < plain.step.low
  assert quantized.step.high == plain.step.high  # No gain is possible too: nothing was timed.
  assert (plain.peaks, quantized.peaks.count("8-bit")) == ("the bf16 peak", 1)
  flags = [f"--config.{override}" for override in [*TINY, "compute.quantization=int8"]]
  assert main(["plan", "--config=configs/cpu.py", *flags, "--topology=h200:8"]) == 0
  assert "from all the gain of int8 to none" in capsys.readouterr().out


def test_a_search_counts_quantized_products_as_faster(with_qwix):
  config = tiny()
  plain = candidates(config, 8, chip_of("TPU v5e"))
  config.compute.quantization = "int8"
  quantized = candidates(config, 8, chip_of("TPU v5e"))
  assert quantized[0].step.likely < plain[0].step.likely


def test_quantized_products_that_a_chip_has_no_units_for_are_refused(with_qwix):
  config = tiny()
  config.compute.quantization = "fp8"
  for refused in (lambda: make_gpu_plan(config, "a100", 8), lambda: candidates(config, 8, chip_of("TPU v5e"))):
    with pytest.raises(LmxError, match="have units for fp8"):
      refused()


def test_more_devices_hold_less_each():
  whole = make_gpu_plan(tiny(), "h100", 1).memory
  config = tiny()
  config.mesh.data, config.mesh.fsdp = 1, -1
  split = make_gpu_plan(config, "h100", 8).memory
  assert split.parameters < 0.2 * whole.parameters


@pytest.mark.parametrize("topology", ["v5e", "v9:4x4", "v5e:4", "h100:x", "h100:0", "", "0xv5e:4x4", "2xh100:8"])
def test_an_unknown_machine_is_refused_with_those_there_are(topology):
  with pytest.raises(LmxError, match="--topology"):
    parse_topology(topology)


@pytest.mark.parametrize(
  ("text", "topology", "devices"),
  [
    ("v5p:4x4x4", Topology("v5p", "4x4x4"), 64),
    ("2xv6e:16x16", Topology("v6e", "16x16", slices=2), 512),
    ("b200:16", Topology("b200", "16"), 16),
  ],
)
def test_known_machines_are_read(topology, text, devices):
  assert parse_topology(text) == topology
  assert topology.size == devices


def test_tokens_are_read_with_their_scale():
  assert [parse_tokens(text) for text in ("", "12", "1.5B", "2t")] == [0.0, 12.0, 1.5e9, 2e12]
  with pytest.raises(LmxError, match="--tokens"):
    parse_tokens("many")


def test_too_little_memory_becomes_a_sentence_with_three_fixes():
  config = tiny()
  text = out_of_memory("RESOURCE_EXHAUSTED: Ran out of memory. Used 21.30G of 15.75G hbm. Exceeded by 5.5G.", config)
  assert "needs 21.30G of a device's 15.75G" in text
  assert text.count("--config.") >= 3
  assert "does not compile" in out_of_memory("INTERNAL: something else", config)
  config.compute.loss_chunks, config.compute.remat = 8, "full"
  config.mesh.data, config.mesh.fsdp = 1, 8
  assert cheapest_fixes(config) == [
    "--config.train.micro_batches=2 (half the activations; the same batch)",
    "a topology with more devices",
  ]


def big():
  return configs.load("configs/gpt3.py:1.3b", ["model.vocab_size=50304", "train.batch_size=128"])


def test_a_search_leaves_out_what_cannot_fit_and_prefers_what_computes_nothing_twice():
  h100, small = chip_of("h100"), dataclasses.replace(chip_of("h100"), hbm_bytes=8e9)
  roomy, tight = candidates(big(), 8, h100), candidates(big(), 8, small)
  assert 0 < len(tight) < len(roomy)
  assert dict(roomy[0].overrides)["compute.remat"] == "none"
  plain = [dict(one.overrides) for one in tight if "compute.offload_optimizer" not in dict(one.overrides)]
  assert {one["compute.remat"] for one in plain} == {"full"}  # Moments on the host leave room for what matmuls give.
  assert all(one.bytes <= 1.1 * small.hbm_bytes for one in tight)
  assert not candidates(big(), 1, dataclasses.replace(small, hbm_bytes=1e9))


@pytest.mark.parametrize("devices", [1, 6, 16])
def test_every_mesh_of_the_searched_axes_is_tried_once(devices):
  found = [tuple(mesh.items()) for mesh in meshes(devices)]
  assert len(set(found)) == len(found)
  sizes = range(1, devices + 1)
  wanted = {(d, f, t) for d in sizes for f in sizes for t in sizes if d * f * t == devices and t <= 8}
  assert {tuple(size for _, size in mesh) for mesh in found} == wanted
  assert {tuple(axis for axis, _ in mesh) for mesh in found} == {("data", "fsdp", "tensor")}


def test_an_axis_that_is_not_searched_is_left_at_one(monkeypatch):
  monkeypatch.setattr(plan_search, "_AXES", {"fsdp": 2})
  config = big()
  config.mesh.data, config.mesh.tensor = 1, 2
  found = [dict(one.overrides) for one in candidates(config, 4, chip_of("h100"))]
  assert {(one["mesh.data"], one["mesh.fsdp"]) for one in found} == {(4, 1), (2, 2)}


def test_what_is_seldom_chosen_is_said_where_it_differs_from_the_config():
  h100 = chip_of("h100")
  config = big()
  found = [dict(one.overrides) for one in candidates(config, 2, h100)]
  assert {one.get("compute.zero1") for one in found} == {None, True}
  assert {one.get("compute.offload_optimizer") for one in found} == {None, True}
  assert not any(one.get("compute.zero1") and one["mesh.data"] == 1 for one in found)
  config.compute.zero1 = True
  assert {dict(one.overrides).get("compute.zero1") for one in candidates(config, 2, h100)} == {None, False}


def test_a_count_knows_what_zero1_and_the_hosts_memory_save_and_cost():
  config, h100 = big(), chip_of("h100")
  config.mesh.data, config.mesh.fsdp, config.train.micro_batches = 8, 1, 1

  def counted(**compute):
    config.compute.update({"zero1": False, "offload_optimizer": False, **compute})
    network, _ = imagine(config, 8, imagined_objective(config).loss)
    return count(network, config, h100), local_bytes(network.abstract.opt_state)

  (plain, fast), moments = counted()
  (split, _), part = counted(zero1=True)
  assert plain - split == moments - part > 0.85 * moments
  config.compute.offload_optimizer = False
  network, _ = imagine(config, 8, imagined_objective(config).loss)
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


def test_the_revision_of_lmx_changes_with_any_of_its_sources(tmp_path, monkeypatch):
  before = plan_search.revision()
  shutil.copytree(Path(plan_search.__file__).parent, tmp_path / "lmx", ignore=shutil.ignore_patterns("__pycache__"))
  monkeypatch.setattr(plan_search, "__file__", str(tmp_path / "lmx" / "plan_search.py"))
  revision = plan_search.revision.__wrapped__
  assert revision() == before
  changed = tmp_path / "lmx" / "nn" / "norm.py"
  changed.write_text(changed.read_text(encoding="utf-8") + "\n", encoding="utf-8")
  assert revision() != before


def test_a_search_goes_on_where_it_was_and_puts_what_does_not_run_last(tmp_path):
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
  told = []
  best = search(big(), "h100:8", chosen, make, told.append, str(tmp_path))
  assert len(calls) == 4  # The first two were kept, the one too large among them.
  assert [bool(one.problem) for one in told] == [True, False, False]
  assert [bool(one.problem) for one in best] == [False, False, True]


def test_the_fastest_is_tried_with_more_vector_memory_where_the_config_leaves_it_open():
  config, one = big(), candidates(big(), 2, chip_of("h100"))[0]
  (more,) = refined(config, one)
  assert more.apply(config).compute.scoped_vmem == 32
  assert set(more.overrides) - set(one.overrides) == {("compute.scoped_vmem", 32)}
  assert refined(config, dataclasses.replace(one, problem="too large")) == []
  config.compute.scoped_vmem = 64
  assert refined(config, one) == []


def test_the_winner_of_a_search_is_written_as_a_config_and_drawn(tmp_path, capsys):
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
  assert "fits on no mesh" in capsys.readouterr().err


def test_communication_takes_as_long_as_its_links_allow():
  class Device:
    def __init__(self, x: int, y: int):
      self.coords = (x, y, 0)

  layout = types.SimpleNamespace(mesh=types.SimpleNamespace(shape={"data": 4, "fsdp": 4}))
  devices = [Device(x, y) for x in range(4) for y in range(4)]
  v5e = chip_of("TPU v5e")
  gather = Collective("all-gather", ("fsdp",), 45e9, 1, True)
  along_a_line = collective_seconds(gather, v5e, layout, devices)
  assert along_a_line == pytest.approx(0.75)  # Three quarters of 45 GB over one link of 45 GB/s.
  both = collective_seconds(Collective("all-reduce", ("data", "fsdp"), 45e9, 1, True), v5e, layout, devices)
  assert both == pytest.approx(2 * 15 / 16 / 2)  # Twice as much over two lines.
  assert collective_seconds(Collective("all-reduce", (), 45e9, 1, True), v5e, layout, devices) == 0


def test_a_device_waits_for_its_links_for_what_computing_does_not_hide():
  chip = dataclasses.replace(chip_of("TPU v5e"), clock=1.0, host_bandwidth=1.0, slice_bandwidth=0.5)

  def waited(*events, share=1.0, slices=1):
    found = link_seconds([LinkEvent(*one) for one in events], chip, share, slices)
    return {link: seconds for link, seconds in found.items() if seconds}

  def both(journey, link, kind="copy", matmul=0, other=0):
    return (journey, True, 10.0, link, kind, 0, 0), (journey, False, 10.0, link, kind, matmul, other)

  come, came = both(1, "from host")
  assert waited(come, came) == {"from host": 10}
  assert waited(*both(1, "from host", matmul=4)) == {"from host": pytest.approx(10 - 4 * 1.05)}
  assert waited(*both(1, "from host", other=6)) == {"from host": pytest.approx(10 - 6 / 3)}
  assert waited(*both(1, "from host", matmul=400)) == {}
  go, went = both(2, "to host")
  assert waited(come, go, came, went) == {"from host": 10}  # Each way has the link for itself.
  also, there = both(2, "from host")
  assert waited(come, also, came, there) == {"from host": 20}
  assert waited(come, came, share=0.5) == {"from host": 20}
  assert waited(*both(1, "slices", "all-reduce"), slices=4) == {"slices": pytest.approx(2 * 3 / 4 * 10 / 0.5)}
  assert waited(*both(1, "slices", "all-gather"), slices=4) == {"slices": pytest.approx(3 / 4 * 10 / 0.5)}


def test_moments_in_the_hosts_memory_free_the_devices_and_take_time():
  config = tiny()
  config.optimizer.name = "adamw"
  here = make_gpu_plan(config, "h100", 8)
  config.compute.offload_optimizer = True
  there = make_gpu_plan(config, "h100", 8)
  moments = 2 * here.memory.parameters
  assert (here.memory.host, there.memory.host) == (0, moments)
  assert here.memory.total - there.memory.total == moments
  waited = dict((what, one) for what, _, one in there.parts)["waiting for the host's memory"]
  assert (waited.low, there.step.low) == (moments / 64e9, pytest.approx(here.step.low + moments / 64e9))
  assert "in the host's memory" in describe_memory(there.memory)
  assert "in the host's memory" not in describe_memory(here.memory)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_a_plan_for_tpus_without_their_compiler_names_the_package(capsys):
  assert main(["plan", "--config=configs/cpu.py", "--topology=v5e:2x2"]) == 2
  assert "libtpu" in capsys.readouterr().err
