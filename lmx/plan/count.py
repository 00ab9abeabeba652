# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Bytes of a device and seconds of a step, counted from sizes: good for ranking candidates, not as absolute figures."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections.config_dict import ConfigDict

from lmx.experiment.train_setup import TrainSetup
from lmx.nn.pipeline import Schedule
from lmx.parallel.mesh import BATCH_AXES
from lmx.parallel.sharding import MeshAxes
from lmx.plan.compile_step import peak_seconds, stored_bytes
from lmx.training.state import local_bytes
from lmx.units import Chip

_RECOMPUTED = {"none": 0.0, "dots": 0.03, "full": 1 / 3, "offload": 0.03}  # Of the forward and backward pass together.
# Share of the peak that a step's matmuls reach on GPUs; on TPUs, share of the compiler's rate for one large product.
# They are only for comparing candidates with each other.
_EFFICIENCY, _OF_LARGE_PRODUCTS = 0.75, 0.8
HOST_GPUS = 8  # GPUs of one host, connected by NVLink.
_PER_MICRO_BATCH = 0.01  # Share of time that each further micro-batch costs: gradients are summed, matmuls are smaller.


@dataclasses.dataclass(frozen=True)
class Share:
  """One device's share of a step.

  Attributes:
    tokens: of a micro-batch on the device.
    micro_batches: in a step.
    schedule: of a pipeline; without one: one stage, one round and one micro-batch.
    layers: N.
    width: D, of the residual stream.
    wide: columns of a layer's matrices on the device, all together, if each had D rows.
    parameters: elements that the device stores.
    gathered: elements that the device computes with, after gathers; layers of its stage only.
    kept: elements per token and layer that full rematerialization keeps, in addition to the layer's input.
  """

  tokens: float
  micro_batches: int
  schedule: Schedule
  layers: int
  width: int
  wide: float
  parameters: float
  gathered: float
  kept: float = 0.0

  @property
  def idle(self) -> float:
    """Turns of a pipeline over those in which a stage is busy."""
    return self.schedule.turns / (self.schedule.micro_batches * self.schedule.rounds)

  @property
  def uses(self) -> float:
    """How often weights are gathered in each pass of a step: once per micro-batch, or per turn of a pipeline."""
    return self.micro_batches * self.schedule.turns / self.schedule.rounds


def share_of(network: TrainSetup, config: ConfigDict) -> Share:
  """One device's share of a step of a network on the config's mesh."""
  spec, layout, compute = network.spec, network.layout, config.compute
  mesh, micro = layout.mesh.shape, config.train.micro_batches
  stages = mesh["stage"]
  schedule = Schedule(stages, compute.stage_rounds, compute.stage_micro_batches or stages) if stages > 1 else None
  devices = math.prod(mesh[axis] for axis in (*BATCH_AXES, "sequence"))
  gathered = {**layout.compute, "layers": layout.storage["layers"]}  # A stage gathers its own layers only.

  def elements(table: Mapping[str, MeshAxes]) -> float:
    leaves = ((leaf, network.plan.axes[name] or ()) for name, leaf in network.plan.shapes.items())
    return sum(leaf.size / math.prod(layout.parts(table[axis]) for axis in axes if axis) for leaf, axes in leaves)

  tokens = config.train.batch_size * config.data.length / (devices * micro)
  wide = layer_matrices(network) / (spec.layers * spec.width * mesh["tensor"])
  return Share(tokens, micro, schedule or Schedule(1, 1, 1), spec.layers, spec.width, wide,
               elements(layout.storage), elements(gathered), _kept(spec) / mesh["tensor"])  # fmt: skip


def layer_matrices(network: TrainSetup) -> float:
  """Elements of the layers' matrices that one token is multiplied with, counted from the abstract model."""
  spec, abstract = network.spec, network.plan
  total = 0.0
  for name, leaf in abstract.shapes.items():
    axes = abstract.axes[name] or ()
    if "layers" in axes and leaf.ndim > 2 and not name.endswith("bias"):  # Biases of heads have three dimensions, too.
      total += leaf.size * (spec.experts_per_token / spec.experts if "expert" in axes else 1.0)
  return total


def _kept(spec: Any) -> float:
  """Elements per token and layer of the activations that `compute.remat_keep` names."""
  names = getattr(spec, "remat_keep", ())
  if not names:
    return 0.0
  queries, keys = spec.heads * spec.head_width, spec.kv_heads * spec.head_width
  sizes = {"queries": queries, "keys": keys, "values": keys, "attention": queries, "up": spec.mlp_width,
           "gate": spec.mlp_width, "branch": 2 * spec.width}  # fmt: skip
  return float(sum(sizes[name] for name in names))


def count(network: TrainSetup, config: ConfigDict, chip: Chip) -> tuple[float, float]:
  """(bytes of a device, seconds of a step).

  Args:
    network: on the config's mesh, with the optimizer's state on the devices.
    config: of a candidate: its micro-batches, rematerialization and where the optimizer's state is kept count.
    chip: the kind of the devices.
  """
  share, mesh = share_of(network, config), network.layout.mesh
  parameters, others, batch, _ = stored_bytes(network, config)
  host = local_bytes(network.abstract.opt_state) if config.compute.offload_optimizer else 0
  bytes_ = parameters + others - host + batch + temporary_bytes(network, config, share)
  tokens = config.train.batch_size * config.data.length / mesh.size
  seconds = (
    peak_seconds(network, config, chip, tokens)
    * more_work(config, share)
    / (_OF_LARGE_PRODUCTS * chip.matmul_efficiency or _EFFICIENCY)
  )
  hidden, waited = sent_bytes(network, config, share)
  links = links_of(chip, mesh.size)
  between = 2 * (mesh.shape["slice"] - 1) / mesh.shape["slice"] * 2 * share.parameters / chip.slice_bandwidth
  seconds = max(seconds, between, hidden / links) + waited / links
  updated = 2 * (parameters + others) / _updaters(network, config)  # Read and written.
  return bytes_, seconds + updated / chip.hbm_bandwidth + 2 * host / chip.host_bandwidth


def links_of(chip: Chip, devices: int) -> float:
  """Bytes per second from one device to many: over two links of a torus, NVLink within a host, or a network."""
  within = chip.switch_bandwidth if devices <= HOST_GPUS else chip.slice_bandwidth
  return 2 * chip.link_bandwidth or within


def _updaters(network: TrainSetup, config: ConfigDict) -> int:
  """Number of replicas that the optimizer's work is split over (ZeRO-1)."""
  return network.layout.mesh.shape["data"] if config.compute.zero1 else 1


def more_work(config: ConfigDict, share: Share) -> float:
  """Factor on the time of the model's own FLOPs: recomputation, idle stages, and micro-batches."""
  again = 1 + _RECOMPUTED[config.compute.remat]
  return again * share.idle * (1 + _PER_MICRO_BATCH * (share.micro_batches - 1))


def temporary_bytes(network: TrainSetup, config: ConfigDict, share: Share) -> float:
  """Bytes of activations, and of the logits or the gradients, whichever are more: they are not alive together."""
  gradients = 4 * share.parameters
  summed = gradients / _updaters(network, config) if share.micro_batches > 1 else 0.0
  tensor = network.layout.mesh.shape["tensor"]
  logits = 6 * share.tokens * network.spec.vocab_rows / tensor / config.compute.loss_chunks
  return summed + max(gradients, logits) + activation_bytes(share, config.compute.remat)


def sent_bytes(network: TrainSetup, config: ConfigDict, share: Share) -> tuple[float, float]:
  """(bytes of communication that can overlap with computation, bytes of exposed communication)."""
  updated = 4 * share.parameters if _updaters(network, config) > 1 else 0.0  # Each replica's part of new parameters.
  return _weights_sent(network, share, config.compute.remat), updated + _activations_sent(network, config, share)


def activation_bytes(share: Share, remat: str) -> float:
  """Bytes of the activations that all layers keep for the backward pass, and of those of one layer at work."""
  width, wide = share.width, share.wide
  # Elements per token and layer, between two programs' measurements on an H200 and their size compiled for TPU v5e:
  # tools/bench/results/accelerator.md.
  per_layer = {
    "full": width + share.kept,
    "offload": width,
    "dots": 2 * width + 0.9 * wide,
    "none": 2 * width + 1.4 * wide,
  }
  once = per_layer["none"]
  stages, rounds, micro = dataclasses.astuple(share.schedule)
  if stages == 1:
    return 2 * share.tokens * (per_layer[remat] * share.layers + once)
  at_work = share.tokens * stages / micro  # A stage sees the rows of all stages, one part of them in each turn.
  own = share.layers / (stages * rounds)
  # With full rematerialization a turn keeps its input only; all of its layers are then recomputed at once.
  kept = per_layer["full"] if remat == "full" else own * per_layer[remat]
  room = 3 * share.tokens * stages * share.width  # Buffers of rows that wait for the first stage.
  return 2 * (at_work * (share.schedule.turns * kept + (own if remat == "full" else 1) * once) + room)


def _weights_sent(network: TrainSetup, share: Share, remat: str) -> float:
  """Bytes of gathered weights and of reduced gradients; both overlap with the layers' computation."""
  gathered = 2 * (share.gathered - share.parameters) * (3 if remat != "none" else 2) * share.uses
  shards = math.prod(network.layout.mesh.shape[axis] for axis in BATCH_AXES if axis not in ("slice", "stage"))
  return gathered + (2 * 2 * share.gathered * share.uses if shards > 1 else 0.0)


def _activations_sent(network: TrainSetup, config: ConfigDict, share: Share) -> float:
  """Bytes of activations that layers wait for, along the axes tensor, sequence and expert."""
  spec, mesh = network.spec, network.layout.mesh.shape
  passes = 2 if config.compute.remat == "none" else 3
  own = 2 * share.tokens * share.width * share.layers * share.micro_batches * share.idle  # All layers' inputs.
  summed = 4 * own if mesh["tensor"] > 1 else 0.0
  heads, few = getattr(spec, "heads", 1), getattr(spec, "kv_heads", 1)
  traded = passes * own * (1 + few / heads) if mesh["sequence"] > 1 else 0.0  # Half of queries, keys, values, results.
  choices = config.model.experts_per_token if mesh["expert"] > 1 else 0
  return summed + traded + passes * own * choices  # Half of the bytes to the experts and back.
