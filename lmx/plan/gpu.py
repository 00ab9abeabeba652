# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Plans for GPUs: memory and time of a training step, counted from sizes, FLOPs and bytes; nothing is compiled."""

from ml_collections.config_dict import ConfigDict

from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup
from lmx.nn.layers.quantized import check_quantization
from lmx.plan.compile_step import DeviceMemory, Plan, abstract_objective, flops_of, peak_seconds, stored_bytes
from lmx.plan.count import HOST_GPUS, activation_bytes, links_of, more_work, sent_bytes, share_of, temporary_bytes
from lmx.plan.step_time import HOST_LINK, LINK_EFFICIENCY, Part, Range, total
from lmx.units import chip_of

_MFU = (0.55, 0.47, 0.35)  # lmx reached 0.54 and 0.43 on one H200 without recomputation (docs/performance.md).
_SOURCE = "FLOPs at lmx's MFU on one H200"


def make_gpu_plan(config: ConfigDict, kind: str, devices: int) -> Plan:
  """The plan of a config on GPUs: memory from sizes, time from FLOPs and bytes over NVLink or the hosts' network.

  Args:
    config: of the run.
    kind: of the GPU, as "h200".
    devices: how many.

  Raises:
    LmxError: lmx has no figures of such a GPU, or the config's sizes don't divide over the devices.
  """
  chip = chip_of(kind)
  if chip is None:
    raise LmxError(f"lmx has no memory size, bandwidth and peak of a GPU {kind!r}")
  check_quantization(config.compute.quantization, kind)
  network, _ = abstract_setup(config, devices, abstract_objective(config).loss)
  share = share_of(network, config)
  parameters, optimizer, batch, host = stored_bytes(network, config)
  rest = temporary_bytes(network, config, share)
  offloaded = activation_bytes(share, "dots") if config.compute.remat == "offload" else 0.0
  memory = DeviceMemory(parameters, optimizer, batch, rest, 0.0, chip.hbm_bytes, host + offloaded, counted=True)
  tokens, flops = config.train.batch_size * config.data.length, flops_of(network, config)
  roofline = peak_seconds(network, config, chip, tokens / devices)
  plain = tokens / devices * flops.causal / chip.bf16_flops  # Seconds at the bf16 peak.
  low, likely, high = _MFU
  more, source = more_work(config, share), _SOURCE
  busy = Range(more * roofline / low, more * (roofline + plain) / 2 / likely, more * plain / high)
  if more > 1.0:
    source += f", plus {100 * (more - 1):.0f} % for recomputation, idle stages and micro-batches"
  if roofline < plain:
    source += f", in bf16; the range is from the full gain of {config.compute.quantization} to none: no GPU was timed"
  parts: list[Part] = [("computing", source, busy)]
  hidden, waited = (sent / links_of(chip, devices) for sent in sent_bytes(network, config, share))
  if hidden + waited:
    least, _, most = ((hidden + waited) / share for share in LINK_EFFICIENCY)
    likely = waited / LINK_EFFICIENCY[1] + max(0.0, hidden / LINK_EFFICIENCY[1] - busy.likely)
    over = "NVLink" if devices <= HOST_GPUS else "the network between hosts"
    exposed = Range(max(0.0, least - busy.low), likely, most)
    parts.append(("communication that is not hidden", f"bytes, counted, over {over}", exposed))
  copied = host + offloaded * config.train.micro_batches
  if copied:
    ways = zip((1, 2, 2), LINK_EFFICIENCY, strict=True)  # Both directions at once, or one after the other.
    parts.append((HOST_LINK, "bytes over the host's link, none of it hidden",
                  Range(*(ways * copied / (share * chip.host_bandwidth) for ways, share in ways))))  # fmt: skip
  mesh = dict(network.layout.mesh.shape)
  return Plan(devices, chip, mesh, tokens, flops, roofline, memory, None, parts, total(parts))
