# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reads the text of a compiled program (HLO): which operations run how often, and what devices send to each other.

The instructions of a loop's body count once per trip; the number of trips is in the text only as the constant in the
loop's condition. TPU programs carry `estimated_cycles` for fusions that XLA compiles, and none for kernels and
collectives.
"""

import collections
import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

COLLECTIVES = ("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "ragged-all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}
_BYTES |= {f"{kind}8": 1 for kind in "su"} | {f"{kind}32": 4 for kind in ("s", "u", "f")}
_ARRAY = re.compile(r"\b(\w+)\[([\d,]*)\](\{[^{}]*\})?")
_INSTRUCTION = re.compile(r"^  (?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(")
_MATMULS = ("convolution", "dot")
_GROUPED = re.compile(r"(ragged-dot(?!-metadata)|t?gmm)")  # Names of grouped matmuls: the compiler's, and JAX's.
_COPIES = ("copy-start", "dynamic-slice-start", "dynamic-update-slice-start")
_KERNEL = 'custom_call_target="tpu_custom_call"'
_SPARSE_CORE = (
  'async_execution_thread="sparsecore"'  # In a call-start: the called computation runs in parallel to the TensorCore.
)
_HOST = "S(5)"  # In a layout: the host's memory.
_SLICES = "xla_megascale"  # In a send or a receive: between TPU slices. Replica groups number one slice's devices.
_RENDEZVOUS = re.compile(r'_xla_host_transfer_rendezvous="([^"]+)"')
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One operation: its name, the text of its result's shape, its opcode, and the text after the opening bracket."""

  name: str
  shape: str
  opcode: str
  rest: str

  def attribute(self, name: str) -> str | None:
    """The computation that is called as `name` (calls, body, ...), or None."""
    found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
    return found.group(1) if found else None

  @property
  def operands(self) -> list[str]:
    return re.findall(r"%([\w.\-]+)", self.rest.partition("), ")[0])

  @property
  def cycles(self) -> int | None:
    found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
    return int(found.group(1)) if found else None


def array_bytes(shape: str) -> float:
  """Bytes of all arrays in a shape's text."""
  return sum(
    _BYTES.get(dtype, 1) * math.prod(int(size) for size in sizes.split(",") if size)
    for dtype, sizes, _ in _ARRAY.findall(shape)
  )


@dataclasses.dataclass(frozen=True)
class Collective:
  """Communication between devices; instructions that are alike are counted together.

  Attributes:
    kind: of `COLLECTIVES`.
    axes: mesh axes along which it communicates.
    bytes: of the complete array at one device (after a gather, before a scatter), of one instruction.
    count: how often it runs in a step.
    overlapped: whether the device computes something meanwhile.
  """

  kind: str
  axes: tuple[str, ...]
  bytes: float
  count: int
  overlapped: bool


@dataclasses.dataclass(frozen=True)
class LinkEvent:
  """The start of a transfer over a link that doesn't connect neighbours on the torus, or the wait for its end.

  Attributes:
    journey: the transfer's number, the same in both events.
    begins: whether this is the start.
    bytes: of the transfer; of a collective, of the complete array at one device.
    link: "to host", "from host" (copies to and from the host's memory) or "slices" (the network between TPU slices).
    kind: "copy", or which collective.
    matmul_cycles, other_cycles: the compiler's estimates for the computation since the previous event.
  """

  journey: int
  begins: bool
  bytes: float
  link: str
  kind: str
  matmul_cycles: int
  other_cycles: int


@dataclasses.dataclass(frozen=True)
class Program:
  """The work of one device in one run of a program.

  Attributes:
    matmul_cycles, other_cycles: the compiler's estimates for fusions with a matmul in them, and for all others.
    kernels: name of a hand-written kernel -> how often it runs.
    collectives: the largest first.
    links: copies from and to host memory, and collectives between slices, in the order of the program, loops unrolled.
    grouped_flops: of the kernels that are grouped matmuls (rows times the matrix of their group), with full buffers.
  """

  matmul_cycles: int
  other_cycles: int
  kernels: Mapping[str, int]
  collectives: Sequence[Collective]
  links: Sequence[LinkEvent] = ()
  grouped_flops: float = 0.0


class Module:
  """The text of a program, as computations (lists of instructions) by name."""

  def __init__(self, text: str):
    self.entry = ""
    self._computations: dict[str, list[Instruction]] = {}
    here: list[Instruction] = []
    for line in text.splitlines():
      if line[:1] not in (" ", "}", "") and line.rstrip().endswith("{") and (header := _HEADER.match(line)):
        here = self._computations.setdefault(header.group(2), [])
        self.entry = header.group(2) if header.group(1) else self.entry
      elif found := _INSTRUCTION.match(line):
        here.append(Instruction(*found.groups()))

  def __getitem__(self, name: str) -> list[Instruction]:
    return self._computations.get(name, [])

  def everything(self) -> Iterator[Instruction]:
    """Every instruction once, in no particular order."""
    return itertools.chain.from_iterable(self._computations.values())

  @functools.cached_property
  def named(self) -> Mapping[str, Instruction]:
    """Every instruction by its name; names are unique in a program."""
    return {one.name: one for one in self.everything()}

  def trips(self, condition: str) -> int:
    """The number of trips of a loop: the one integer constant in its condition."""
    found = [int(i.rest.partition(")")[0]) for i in self.within(condition)
             if i.opcode == "constant" and re.match(r"[su]32\[\]", i.shape)]  # fmt: skip
    return max(found, default=1)

  def within(self, computation: str) -> Iterator[Instruction]:
    """Its instructions, and those of the computations that it calls."""
    for one in self[computation]:
      yield one
      for name in ("calls", "to_apply"):
        if (called := one.attribute(name)) is not None:
          yield from self.within(called)

  @functools.cache  # noqa: B019 - a module lives as long as it is read
  def _order(self, computation: str) -> Mapping[str, int]:
    """Name -> position in the computation's schedule."""
    return {one.name: position for position, one in enumerate(self[computation])}

  def hides(self, start: Instruction, computation: str) -> bool:
    """Whether the device computes anything between an asynchronous instruction's start and the wait for its end."""
    order, body = self._order(computation), self[computation]
    names = {start.name}  # The instruction, its updates, and at last the one that waits for it.
    for position in range(order[start.name] + 1, len(body)):
      one = body[position]
      if names.isdisjoint(one.operands):
        continue
      names.add(one.name)
      if one.opcode.endswith("-done"):
        return any(self.computes(between) for between in body[order[start.name] + 1 : position])
    return True  # The wait is elsewhere: in the next trip of a loop.

  def computes(self, one: Instruction) -> bool:
    """Whether the TensorCore is busy with it: with a fusion, a kernel, or a loop."""
    return one.cycles is not None or one.opcode in ("while", "call") or _KERNEL in one.rest

  @functools.cache  # noqa: B019
  def has_matmul(self, one: Instruction) -> bool:
    """Whether a fusion has a matmul in it."""
    called = one.attribute("calls")
    return called is not None and any(inner.opcode in _MATMULS for inner in self.within(called))

  def executed(self, computation: str | None = None, times: int = 1) -> Iterator[tuple[Instruction, str, int]]:
    """Every instruction that runs, with its computation and how often it runs. A fusion is one instruction."""
    computation = computation or self.entry
    for one in self[computation]:
      yield one, computation, times
      if one.opcode == "while":
        condition, body = one.attribute("condition"), one.attribute("body")
        if condition and body:
          yield from self.executed(body, times * self.trips(condition))
      elif one.opcode == "call" and (called := one.attribute("to_apply")):
        yield from self.executed(called, times)
      elif one.opcode == "conditional" and (branch := one.attribute("true_computation")):
        yield from self.executed(branch, times)

  def in_order(self, computation: str | None = None) -> Iterator[Instruction]:
    """Every instruction that runs, once for each run, in the order of the program."""
    for one in self[computation or self.entry]:
      yield one
      condition, body, called = one.attribute("condition"), one.attribute("body"), one.attribute("to_apply")
      if one.opcode == "while" and condition and body:
        for _ in range(self.trips(condition)):
          yield from self.in_order(body)
      elif one.opcode == "call" and called:
        yield from self.in_order(called)


def read_program(text: str, mesh: Mapping[str, int]) -> Program:
  """Reads a program compiled for the devices of a mesh.

  Args:
    text: `compiled.as_text()`.
    mesh: its axes with their sizes, in order.
  """
  module = Module(text)
  links = list(_link_events(module)) if _HOST in text or _SLICES in text else []
  within = {**mesh, "slice": 1} if _SLICES in text else mesh
  matmul = other = 0
  grouped = 0.0
  kernels: dict[str, int] = collections.Counter()
  found: dict[tuple[str, tuple[str, ...], float, bool], int] = collections.Counter()
  seen: set[tuple[str, str]] = set()
  for one, where, times in module.executed():
    if one.cycles is not None:
      if module.has_matmul(one):
        matmul += times * one.cycles
      else:
        other += times * one.cycles
    elif one.opcode == "custom-call" and _KERNEL in one.rest:
      kernels[re.sub(r"[.\d]+$", "", one.name)] += times
      grouped += times * _grouped_flops(module, one)
    for inner, overlapped in _collectives(module, one, where):
      channel = re.search(r"channel_id=(\d+)", inner.rest)
      key = (where, inner.name if inner is one or channel is None else channel.group(1))
      if key not in seen:  # An asynchronous one is in every fusion that it overlaps with, under the same channel.
        seen.add(key)
        kind = inner.opcode.removesuffix("-start")
        found[kind, group_axes(inner.rest, within), _sent_bytes(module, inner), overlapped] += times
  alike = [Collective(*key[:3], count, key[3]) for key, count in (found | _between_slices(links)).items()]
  ordered = sorted(alike, key=lambda one: -one.bytes * one.count)
  return Program(matmul, other, dict(kernels), ordered, links, grouped)


def _link_events(module: Module) -> Iterator[LinkEvent]:
  """Transfers to and from the host, and between slices, with the cycles between their events."""
  running: dict[str, tuple[int, float, str, str]] = {}  # By the name of the instruction that the `-done` waits for.
  receives = {found.group(1): one for one in module.everything()
              if one.opcode == "recv" and (found := _RENDEZVOUS.search(one.rest))}  # fmt: skip
  matmul = other = journeys = 0
  for one in module.in_order():
    began = _departure(one, receives)
    ended = one.operands[0] if one.opcode.endswith("-done") and one.operands else ""
    if began is not None:
      journeys += 1
      running[began[0]] = (journeys, *began[1:])
      yield LinkEvent(journeys, True, *began[1:], matmul, other)
    elif ended in running:
      journey, size, link, kind = running.pop(ended)
      yield LinkEvent(journey, False, size, link, kind, matmul, other)
    else:
      cycles, is_matmul = one.cycles or 0, module.has_matmul(one)
      matmul, other = matmul + cycles * is_matmul, other + cycles * (not is_matmul)
      continue
    matmul = other = 0


def _departure(one: Instruction, receives: Mapping[str, Instruction]) -> tuple[str, float, str, str] | None:
  """(name that its `-done` waits for, bytes, link, kind) of the start of a transfer; None: the instruction is none."""
  if one.opcode in _COPIES and _HOST in one.shape:
    arrays = [(array_bytes(found.group(0)), _HOST in found.group(0)) for found in _ARRAY.finditer(one.shape)]
    size, out = arrays[0]  # (destination, source, ...)
    if one.opcode != "copy-start":  # A slice of an array that stays.
      size, out = max(size for size, host in arrays if not host), one.opcode == "dynamic-update-slice-start"
    return one.name, size, "to host" if out else "from host", "copy"
  rendezvous, transfer = _RENDEZVOUS.search(one.rest), _TRANSFER.search(one.rest)
  if one.opcode == "send" and rendezvous and transfer:
    receive = receives[rendezvous.group(1)]
    size = max(array_bytes(found.group(0)) for x in (one, receive) for found in _ARRAY.finditer(x.shape))
    return receive.name, size, "slices", transfer.group(1).lower().replace("_", "-")
  return None


def _between_slices(links: Sequence[LinkEvent]) -> dict[tuple[str, tuple[str, ...], float, bool], int]:
  """(kind, axes, bytes, whether the device computes meanwhile) -> count, of collectives between slices."""
  cycles, began = 0, {}
  found: dict[tuple[str, tuple[str, ...], float, bool], int] = collections.Counter()
  for one in links:
    cycles += one.matmul_cycles + one.other_cycles
    if one.begins:
      began[one.journey] = cycles
    elif one.link == "slices":
      found[one.kind, ("slice",), one.bytes, cycles > began[one.journey]] += 1
  return found


def _collectives(module: Module, one: Instruction, where: str) -> Iterator[tuple[Instruction, bool]]:
  """The collectives that an instruction is or contains, and whether the device computes meanwhile.

  A collective has five forms in the text: plain, marked as overlapped (`async_collective_name`), a call to the
  SparseCores, inside of the fusion that it overlaps with, and wrapped into `async-start`.
  """
  called = one.attribute("calls")
  if one.opcode in COLLECTIVES:
    yield one, "async_collective_name" in one.rest
  elif is_collective(one):
    yield one, module.hides(one, where)
  elif one.opcode == "call-start" and _SPARSE_CORE in one.rest:
    hidden = module.hides(one, where)
    yield from ((inner, hidden) for inner in module.within(one.attribute("to_apply") or "") if is_collective(inner))
  elif called is not None and one.opcode == "fusion":
    yield from ((inner, True) for inner in module[called] if is_collective(inner))
  elif called is not None and one.opcode == "async-start":
    hidden = module.hides(one, where)
    yield from ((inner, hidden) for inner in module[called] if is_collective(inner))


def is_collective(one: Instruction) -> bool:
  """Whether an instruction communicates between devices, synchronously or as the start of an asynchronous one."""
  return one.opcode.removesuffix("-start") in COLLECTIVES


def _sent_bytes(module: Module, one: Instruction) -> float:
  """Bytes of the complete array: gathered, or to be reduced; of a ragged exchange, those of its smaller side."""
  result = array_bytes(one.shape)
  if one.opcode.endswith("-start"):  # (operand, result)
    arrays = [array_bytes(part.group(0)) for part in _ARRAY.finditer(one.shape)]
    result = max(arrays, default=0.0)
  operands = [array_bytes(module.named[name].shape) for name in one.operands if name in module.named]
  if one.opcode.startswith("reduce-scatter"):
    return max(sum(operands), result)  # The result is a device's shard.
  if one.opcode.startswith("ragged") and operands:
    return min(result, operands[0])  # A receiver's buffer has room for the most it may get.
  return result


def _grouped_flops(module: Module, one: Instruction) -> float:
  """FLOPs of a grouped matmul, (R, I) by (E, I, O), or of its weight gradient, x^T dy per group; 0 of other kernels."""
  if not _GROUPED.match(one.name):
    return 0.0
  last = [module.named[name].shape for name in one.operands[-1:] if name in module.named]
  result, operand = ([int(size) for size in found.group(2).split(",") if size] if found else []
                     for found in map(_ARRAY.search, (one.shape, *last)))  # fmt: skip
  rows, matrices = (result, operand) if len(result) == 2 else (operand, result)
  return 2.0 * rows[0] * matrices[1] * matrices[2] if (len(rows), len(matrices)) == (2, 3) else 0.0


def group_axes(text: str, mesh: Mapping[str, int]) -> tuple[str, ...]:
  """The mesh axes along which the devices of a collective's groups differ."""
  group = _first_group(text, math.prod(mesh.values()))
  positions = [_coordinates(device, mesh) for device in group]
  return tuple(axis for number, axis in enumerate(mesh) if len({position[number] for position in positions}) > 1)


def _coordinates(device: int, mesh: Mapping[str, int]) -> tuple[int, ...]:
  coordinates = []
  for size in reversed(list(mesh.values())):
    device, here = divmod(device, size)
    coordinates.append(here)
  return tuple(reversed(coordinates))


def _first_group(text: str, devices: int) -> Sequence[int]:
  """The devices of the first group, in any of XLA's forms."""
  # replica_groups=mesh['x'=2,'y'=4] {'x'}: a mesh of 2 x 4 devices, groups along x.
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", text):
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found.group(1))}
    along = re.findall(r"'([^']+)'", found.group(2))
    ranges = [range(size) if name in along else (0,) for name, size in sizes.items()]
    strides = [math.prod(list(sizes.values())[i + 1 :]) for i in range(len(sizes))]
    return [sum(i * stride for i, stride in zip(at, strides, strict=True)) for at in itertools.product(*ranges)]
  # replica_groups={{0,1},{2,3}} or source_target_pairs={{0,1},{1,0}}: listed.
  if found := re.search(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]+)\}", text):
    return [int(number) for number in found.group(1).split(",")]
  # replica_groups=[4,2]<=[2,2,2]T(1,2,0): 4 groups of 2; iota over 2 x 2 x 2, transposed, then cut into rows.
  if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
    groups, size, dimensions, order = found.groups()
    shape = [int(number) for number in dimensions.split(",")]
    permutation = [int(number) for number in order.split(",")] if order else list(range(len(shape)))
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    positions = itertools.product(*[range(shape[i]) for i in permutation])
    listed = [sum(i * strides[p] for i, p in zip(at, permutation, strict=True)) for at in positions]
    return listed[: int(size)] if int(groups) else listed
  return range(devices)
