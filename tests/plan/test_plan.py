# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Plans: shapes of batches, the needs of hardware that isn't here, and the errors when it has too little."""

import dataclasses
import importlib.util
import json
import types

import jax
import pytest
from jax.experimental import topologies

from lmx.cli.arguments import token_count
from lmx.cli.main import main
from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup
from lmx.objectives import OBJECTIVES
from lmx.plan.compile_step import abstract_objective, batch_shapes, cheapest_fixes, describe_memory, out_of_memory
from lmx.plan.gpu import make_gpu_plan
from lmx.plan.hlo import Collective, LinkEvent
from lmx.plan.search import candidates
from lmx.plan.step_time import collective_seconds, link_seconds
from lmx.plan.topology import TPUS, Topology, parse_topology
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
  network, _ = abstract_setup(config, None, abstract_objective(config).loss)
  batch = batch_shapes(config, network)
  assert batch["tokens"].shape == (8, 128)

  def sums(params, batch):
    loss = network.task(params, params if network.reference else None, batch, None)
    return loss.sum, loss.weight

  loss, weight = jax.eval_shape(sums, network.abstract.params, batch)
  assert loss.shape == weight.shape == ()


def test_a_plan_for_gpus_has_what_is_stored_and_a_range_of_times(capsys):
  plan = make_gpu_plan(tiny(), "h200", 8)
  assert plan.memory.optimizer > plan.memory.parameters
  assert plan.memory.counted
  assert plan.memory.rest > plan.memory.parameters
  assert plan.step.low < plan.step.likely < plan.step.high
  (_, _, computing), (sent, _, waited) = plan.parts
  assert plan.mfu(computing.likely) == pytest.approx(0.47)
  assert sent == "communication that is not hidden"
  assert plan.step == computing + waited
  flags = [f"--config.{override}" for override in TINY]
  assert main(["plan", "--config=configs/cpu.py", *flags, "--topology=h200:8", "--tokens=1B", "--price=2"]) == 0
  text = capsys.readouterr().out
  for part in ("8 x H200 SXM", "roofline", "tokens/s", "device-hours", "at 2 per device-hour"):
    assert part in text
  assert main(["plan", "--config=configs/cpu.py", *flags, "--topology=h200:8", "--json"]) == 0
  assert json.loads(capsys.readouterr().out)["devices"] == 8


def test_the_roofline_of_quantized_products_is_lower_and_the_mfu_stays_that_of_bf16(with_qwix, capsys):
  plain, config = make_gpu_plan(tiny(), "h200", 8), tiny()
  config.compute.quantization = "int8"
  quantized = make_gpu_plan(config, "h200", 8)
  assert 0.5 * plain.roofline < quantized.roofline < plain.roofline
  spec = abstract_setup(config, 8)[0].spec
  saved = 6 * spec.quantized_parameters() * quantized.tokens / 8 * (1 / 989e12 - 1 / 1979e12)
  assert plain.roofline - quantized.roofline == pytest.approx(saved)
  assert quantized.mfu(1.0) == plain.mfu(1.0) == plain.roofline
  (_, _, before), (_, _, after) = plain.parts[0], quantized.parts[0]
  assert after.low < before.low
  assert after.high == before.high  # No gain is possible too: nothing was timed.
  assert (plain.peaks, quantized.peaks.count("8-bit")) == ("the bf16 peak", 1)
  flags = [f"--config.{override}" for override in [*TINY, "compute.quantization=int8"]]
  assert main(["plan", "--config=configs/cpu.py", *flags, "--topology=h200:8"]) == 0
  assert "from the full gain of int8 to none" in capsys.readouterr().out


def test_quantized_products_that_a_chip_has_no_units_for_are_refused(with_qwix):
  config = tiny()
  config.compute.quantization = "fp8"
  for refused in (lambda: make_gpu_plan(config, "a100", 8), lambda: candidates(config, 8, chip_of("TPU v5e"))):
    with pytest.raises(LmxError, match="multiplies fp8 no faster than bf16"):
      refused()


def test_what_is_computed_again_and_idle_stages_take_time_and_save_memory_on_gpus():
  def plan(**compute):
    config = tiny()
    config.compute.update(compute)
    return make_gpu_plan(config, "h100", 4)

  none, full = plan(), plan(remat="full")
  assert full.parts[0][2].likely == pytest.approx(4 / 3 * none.parts[0][2].likely)
  assert full.memory.rest < none.memory.rest
  config = tiny()
  config.mesh.data, config.mesh.stage = 2, 2
  staged = make_gpu_plan(config, "h100", 4)
  assert staged.parts[0][2].likely == pytest.approx(3 / 2 * none.parts[0][2].likely)  # Two micro-batches, three turns.
  assert "plus 50 % for recomputation, idle stages and micro-batches" in staged.parts[0][1]


def test_gpus_of_several_hosts_share_a_network():
  config = tiny()
  config.train.batch_size = 16
  one, many = ({what: (who, time) for what, who, time in make_gpu_plan(config, "h100", n).parts} for n in (8, 16))
  (near, fast), (far, slow) = one["communication that is not hidden"], many["communication that is not hidden"]
  assert "NVLink" in near
  assert "network" in far
  assert slow.high > 5 * fast.high  # 50 GB/s instead of 450.


def test_what_does_not_fit_is_reported_with_what_would(capsys):
  more = [*TINY, "train.batch_size=65536"]
  flags = [f"--config.{override}" for override in more]
  assert main(["plan", "--config=configs/cpu.py", *flags, "--topology=h100:1"]) == 0
  text = capsys.readouterr().out
  assert "does not fit. Fixes" in text
  assert "--config.compute.remat=dots" in text
  assert "mesh.fsdp" not in text  # There is one device.


def test_more_devices_hold_less_each():
  whole = make_gpu_plan(tiny(), "h100", 1).memory
  config = tiny()
  config.mesh.data, config.mesh.fsdp = 1, -1
  split = make_gpu_plan(config, "h100", 8).memory
  assert split.parameters < 0.2 * whole.parameters


@pytest.mark.parametrize("name", ["lstm", "t5", "bert", "dpo", "mixtral"])
def test_every_family_has_a_plan_and_a_search(name, capsys):
  command = ["plan", f"--config=configs/{name}.py", "--topology=h100:4", "--config.train.batch_size=16"]
  assert main(command) == 0
  assert "(counted)" in capsys.readouterr().out
  assert main([*command[:2], "--topology=h100:1", *command[3:], "--search", "--compile=1"]) == 0
  assert "combinations fit" in capsys.readouterr().out


@pytest.mark.parametrize(("topology", "fix"), [
  ("v6e:32x32", "--topology=v6e:16x16"),
  ("2xv5e:3x4", "--topology=2xv5e:4x4"),
  ("v5e:4x4x4", "--topology=v5e:8x8"),
  ("v5p:4x4", "--topology=v5p:2x2x4"),
  ("v5p:2x2x3", "--topology=v5p:2x2x4"),
  ("tpu7x:4x4x40", "--topology=tpu7x:8x8x8"),
])  # fmt: skip
def test_a_slice_that_no_one_sells_is_refused_with_the_nearest(topology, fix):
  with pytest.raises(LmxError, match=fix):
    parse_topology(topology)


@pytest.mark.parametrize("kind", TPUS)
def test_every_slice_that_is_suggested_can_be_had(kind):
  for shape in TPUS[kind].examples:
    assert parse_topology(f"{kind}:{shape}").shape == shape


@pytest.mark.parametrize("topology", ["v5e", "v9:4x4", "v5e:4", "h100:x", "h100:0", "", "0xv5e:4x4", "2xh100:8"])
def test_an_unknown_machine_is_refused_with_those_there_are(topology):
  with pytest.raises(LmxError, match="--topology"):
    parse_topology(topology)


@pytest.mark.parametrize(
  ("text", "topology", "devices"),
  [
    ("v5p:4x4x4", Topology("v5p", "4x4x4"), 64),
    ("2xv6e:16x16", Topology("v6e", "16x16", slices=2), 512),
    ("tpu7x:2x2x1", Topology("tpu7x", "2x2x1"), 8),  # Two devices on a chip.
    ("v5p:16x20x28", Topology("v5p", "16x20x28"), 8960),
    ("b200:16", Topology("b200", "16"), 16),
  ],
)
def test_known_machines_are_read(topology, text, devices):
  assert parse_topology(text) == topology
  assert topology.size == devices


def test_tokens_are_read_with_their_scale():
  assert [token_count(text) for text in ("", "12", "1.5B", "2t")] == [0.0, 12.0, 1.5e9, 2e12]
  with pytest.raises(LmxError, match="--tokens"):
    token_count("many")


def full_remat():
  config = tiny()
  config.compute.remat, config.compute.loss_chunks = "full", 8
  return config


def test_too_little_memory_becomes_a_sentence_with_three_fixes():
  config = tiny()
  text = out_of_memory("RESOURCE_EXHAUSTED: Ran out of memory. Used 21.30G of 15.75G hbm. Exceeded by 5.5G.", config, 8)
  assert "needs 21.30G of a device's 15.75G" in text
  assert text.count("--config.") >= 3
  assert "--config.train.micro_batches=8 " in out_of_memory("Used 64.1G of 15.75G hbm.", full_remat(), 8)
  assert "--config.train.micro_batches=2 " in out_of_memory("Used 16.0G of 15900M hbm.", full_remat(), 8)
  temporaries = (
    "Ran out of memory on HBM, the total memory required for HLO temporaries (15.76G) exceeds available HBM (15.75G)."
  )
  assert "needs 15.76G of a device's 15.75G" in out_of_memory(temporaries, config, 8)
  assert "does not compile" in out_of_memory("INTERNAL: something else", config, 8)
  config.compute.loss_chunks, config.compute.remat = 8, "full"
  config.mesh.data, config.mesh.fsdp = 1, 8
  assert cheapest_fixes(config, 8) == [
    "--config.train.micro_batches=2 (activations of 1/2 of the rows; the same batch)",
    "a topology with more devices",
  ]


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


def test_the_two_devices_of_a_chip_share_its_links_and_have_one_of_their_own():
  class Device:
    def __init__(self, x: int, core: int):
      self.coords, self.core_on_chip = (x, 0, 0), core

  chip = dataclasses.replace(chip_of("TPU7x"), link_bandwidth=1.0, chip_bandwidth=6.0)
  devices = [Device(x, core) for x in range(2) for core in range(2)]

  def seconds(axes, **sizes):
    layout = types.SimpleNamespace(mesh=types.SimpleNamespace(shape=sizes))
    return collective_seconds(Collective("all-gather", axes, 12.0, 1, True), chip, layout, devices)

  assert seconds(("fsdp",), fsdp=4) == pytest.approx(12 / 2 / 1 + 12 / 2 / 6)  # Half comes from the other chip.
  assert seconds(("tensor",), fsdp=2, tensor=2) == pytest.approx(12 / 2 / 6)  # Within a chip.
  assert seconds(("fsdp",), fsdp=2, tensor=2) == pytest.approx(12 / 2 / 0.5)  # Two groups share the link.


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


@pytest.mark.parametrize(
  ("error", "fix"),
  [
    ("Unable to find libtpu", "pip install 'lmx[tpu]'"),  # jax 0.10
    ("JAX TPU support not installed; cannot generate TPU topology.", "pip install 'lmx[tpu]'"),  # jax 0.12
    ("The TPU is already in use: /tmp/libtpu_lockfile", "in use by another process"),
    ("Unknown topology", "libtpu has no slice v5e:2x2"),
  ],
)
def test_errors_of_jax_about_a_topology_become_a_fix(error, fix, monkeypatch, capsys):
  def fail(**arguments):
    raise RuntimeError(error)

  monkeypatch.setattr(topologies, "get_topology_desc", fail)
  assert main(["plan", "--config=configs/cpu.py", "--topology=v5e:2x2"]) == 2
  assert fix in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_a_plan_for_tpus_without_their_compiler_names_the_package(capsys):
  assert main(["plan", "--config=configs/cpu.py", "--topology=v5e:2x2"]) == 2
  assert "pip install 'lmx[tpu]'" in capsys.readouterr().err


def test_a_plan_counts_the_tokens_of_an_encoder_with_longer_rows():
  config = configs.load("configs/t5.py", ["data.length=128", "data.encoder_length=512"])
  plan = make_gpu_plan(config, "h200", 8)
  spec = abstract_setup(config, 8)[0].spec
  assert plan.flops == spec.flops_per_token(128, 512)
  assert plan.flops.causal > 1.5 * spec.flops_per_token(128, 128).causal
  assert plan.mfu(1.0) == pytest.approx(plan.flops.causal * plan.tokens / 8 / 989e12, rel=1e-3)
