# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reads the text of a compiled program: what it does how often, and what travels between devices.

Loops count as often as they run, whose number stands only as the constant in their condition. TPU programs carry
`estimated_cycles` for what XLA itself compiles, and none for kernels and collectives.
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
_GROUPED = re.compile(r"(ragged-dot(?!-metadata)|t?gmm)")  # Kernels' names: the compiler's own, and those in JAX.
_COPIES = ("copy-start", "dynamic-slice-start", "dynamic-update-slice-start")
_KERNEL = 'custom_call_target="tpu_custom_call"'
_SPARSE_CORE = 'async_execution_thread="sparsecore"'  # In a call-start: what it calls runs next to the TensorCore.
_HOST = "S(5)"  # In a layout: the host's memory.
_SLICES = "xla_megascale"  # In a send or a receive: between TPU slices. Within one, groups number its own devices only.
_RENDEZVOUS = re.compile(r'_xla_host_transfer_rendezvous="([^"]+)"')
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One operation: its name, the text of its result's shape, its opcode, and what follows the bracket."""

  name: str
  shape: str
  opcode: str
  rest: str

  def attribute(self, name: str) -> str | None:
    """The name of a computation that it calls."""
    found = re.search(rf"\b{name}=%?([\w.\-]+)", self.rest)
    return found.group(1) if found else None

  @property
  def operands(self) -> list[str]:
    return re.findall(r"%([\w.\-]+)", self.rest.partition("), ")[0])

  @property
  def cycles(self) -> int | None:
    found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
    return int(found.group(1)) if found else None


def array_bytes(shape: str, *, memory: bool = False) -> float:
  """Bytes of all arrays in a shape's text; `memory`: only those in the main memory, not in a TPU's vector memory."""
  return sum(
    _BYTES.get(dtype, 1) * math.prod(int(size) for size in sizes.split(",") if size)
    for dtype, sizes, layout in _ARRAY.findall(shape)
    if not (memory and "S(1)" in layout)
  )


@dataclasses.dataclass(frozen=True)
class Collective:
  """What travels between devices, alike instructions together.

  Attributes:
    kind: of `COLLECTIVES`.
    axes: of the mesh, that it goes along.
    bytes: of the whole array at one device (gathered, or before it is scattered), once.
    count: times in a step.
    overlapped: whether something else is computed meanwhile.
  """

  kind: str
  axes: tuple[str, ...]
  bytes: float
  count: int
  overlapped: bool


@dataclasses.dataclass(frozen=True)
class LinkEvent:
  """Something sets out over a link that is not one to a neighbour, or the device waits for its arrival.

  Attributes:
    journey: its number, the same at both moments.
    begins: which of the two moments this is.
    bytes: of what travels; of a collective, of the whole array at one device.
    link: "to host", "from host" (copies to and from the host's memory) or "slices" (the network between TPU slices).
    kind: "copy", or which collective.
    matmul_cycles, other_cycles: of what the device has computed since the event before; the compiler's own estimates.
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
  """What one device does in one run of a program.

  Attributes:
    matmul_cycles, other_cycles: the compiler's own estimates, of fusions with a matmul in them and of all others.
    other_bytes: that those others read from and write to the main memory.
    kernels: name of a hand-written kernel -> times it runs.
    grouped_flops: of those of them that are products of rows in groups, if all rows that there is room for were there.
    collectives: the largest first.
    loops: trip count of each loop.
    links: copies from and to the host's memory, and collectives between slices, in the order of the program, loops
      written out.
  """

  matmul_cycles: int
  other_cycles: int
  other_bytes: float
  kernels: Mapping[str, int]
  collectives: Sequence[Collective]
  loops: Sequence[int]
  links: Sequence[LinkEvent] = ()
  grouped_flops: float = 0.0


class Module:
  """The computations of a program's text."""

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
    """Every instruction once, in no order that means anything."""
    return itertools.chain.from_iterable(self._computations.values())

  @functools.cached_property
  def named(self) -> Mapping[str, Instruction]:
    """Every instruction by its name, of which a program has each once."""
    return {one.name: one for one in self.everything()}

  def trips(self, condition: str) -> int:
    """How often a loop runs: the one integer constant that its condition compares with."""
    found = [int(i.rest.partition(")")[0]) for i in self.within(condition)
             if i.opcode == "constant" and re.match(r"[su]32\[\]", i.shape)]  # fmt: skip
    return max(found, default=1)

  def within(self, computation: str) -> Iterator[Instruction]:
    """Its instructions, and those of what it calls."""
    for one in self[computation]:
      yield one
      for name in ("calls", "to_apply"):
        if (called := one.attribute(name)) is not None:
          yield from self.within(called)

  @functools.cache  # noqa: B019 - a module lives as long as it is read
  def _order(self, computation: str) -> Mapping[str, int]:
    """Name -> place in the computation's schedule."""
    return {one.name: place for place, one in enumerate(self[computation])}

  def hides(self, start: Instruction, computation: str) -> bool:
    """Whether the device computes anything between an asynchronous instruction's start and the wait for its end."""
    order, body = self._order(computation), self[computation]
    names = {start.name}
    for place in range(order[start.name] + 1, len(body)):
      one = body[place]
      if names.isdisjoint(one.operands):
        continue
      names.add(one.name)
      if one.opcode.endswith("-done"):
        return any(self.computes(between) for between in body[order[start.name] + 1 : place])
    return True  # It is waited for elsewhere: in the next turn of a loop.

  def computes(self, one: Instruction) -> bool:
    """Whether the TensorCore is busy with it: with a fusion, a kernel, or a loop."""
    return one.cycles is not None or one.opcode in ("while", "call") or _KERNEL in one.rest

  @functools.cache  # noqa: B019
  def has_matmul(self, one: Instruction) -> bool:
    """Whether a fusion has a matmul in it."""
    called = one.attribute("calls")
    return called is not None and any(inner.opcode in _MATMULS for inner in self.within(called))

  def executed(self, computation: str | None = None, times: int = 1) -> Iterator[tuple[Instruction, str, int]]:
    """Every instruction that runs, with the computation it stands in and how often it runs. Fusions count as one."""
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
    """Every instruction that runs, each time that it runs, in the order of the program."""
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
  traffic = grouped = 0.0
  kernels: dict[str, int] = collections.Counter()
  sizes: dict[tuple[str, str], float] = {}
  found: dict[tuple[str, tuple[str, ...], float, bool], int] = collections.Counter()
  loops = []
  seen: set[tuple[str, str]] = set()
  for one, where, times in module.executed():
    sizes[where, one.name] = array_bytes(one.shape, memory=True)
    if one.opcode == "while" and (condition := one.attribute("condition")):
      loops.append(module.trips(condition))
    if one.cycles is not None:
      if module.has_matmul(one):
        matmul += times * one.cycles
      else:
        other += times * one.cycles
        reads = sum(sizes.get((where, operand), 0.0) for operand in one.operands)
        traffic += times * (sizes[where, one.name] + reads)
    elif one.opcode == "custom-call" and _KERNEL in one.rest:
      kernels[re.sub(r"[.\d]+$", "", one.name)] += times
      grouped += times * _grouped_flops(module, one)
    for inner, overlapped in _collectives(module, one, where):
      channel = re.search(r"channel_id=(\d+)", inner.rest)
      key = (where, inner.name if inner is one or channel is None else channel.group(1))
      if key not in seen:  # An asynchronous one stands, by its channel, in every fusion that it runs along with.
        seen.add(key)
        kind = inner.opcode.removesuffix("-start")
        found[kind, group_axes(inner.rest, within), _moved(module, inner), overlapped] += times
  alike = [Collective(*key[:3], count, key[3]) for key, count in (found | _between_slices(links)).items()]
  ordered = sorted(alike, key=lambda one: -one.bytes * one.count)
  return Program(matmul, other, traffic, dict(kernels), ordered, loops, links, grouped)


def _link_events(module: Module) -> Iterator[LinkEvent]:
  running: dict[str, tuple[int, float, str, str]] = {}  # By the name of what begins it, or of the receive.
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
  """(what is waited for, bytes, link, kind) where something sets out to or from the host, or to another slice."""
  if one.opcode in _COPIES and _HOST in one.shape:
    arrays = [(array_bytes(found.group(0)), _HOST in found.group(0)) for found in _ARRAY.finditer(one.shape)]
    size, out = arrays[0]  # (where to, where from, ...)
    if one.opcode != "copy-start":  # A slice of what stays.
      size, out = max(size for size, host in arrays if not host), one.opcode == "dynamic-update-slice-start"
    return one.name, size, "to host" if out else "from host", "copy"
  rendezvous, transfer = _RENDEZVOUS.search(one.rest), _TRANSFER.search(one.rest)
  if one.opcode == "send" and rendezvous and transfer:
    receive = receives[rendezvous.group(1)]
    size = max(array_bytes(found.group(0)) for x in (one, receive) for found in _ARRAY.finditer(x.shape))
    return receive.name, size, "slices", transfer.group(1).lower().replace("_", "-")
  return None


def _between_slices(links: Sequence[LinkEvent]) -> dict[tuple[str, tuple[str, ...], float, bool], int]:
  """Collectives between slices, and how often: (kind, axes, bytes, whether something is computed meanwhile)."""
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
  """The collectives that an instruction is or contains, and whether the device computes meanwhile."""
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
  """Whether it sends anything between devices, at once or as the start of an asynchronous one."""
  return one.opcode.removesuffix("-start") in COLLECTIVES


def _moved(module: Module, one: Instruction) -> float:
  """Bytes of the whole array: what is gathered, what is reduced; of a ragged exchange, the smaller of both sides."""
  result = array_bytes(one.shape)
  if one.opcode.endswith("-start"):  # (operand, result)
    arrays = [array_bytes(part.group(0)) for part in _ARRAY.finditer(one.shape)]
    result = max(arrays, default=0.0)
  operands = [array_bytes(module.named[name].shape) for name in one.operands if name in module.named]
  if one.opcode.startswith("reduce-scatter"):
    return max(sum(operands), result)  # The result is a device's part.
  if one.opcode.startswith("ragged") and operands:
    return min(result, operands[0])  # A receiver has room for all that may come.
  return result


def _grouped_flops(module: Module, one: Instruction) -> float:
  """Of a kernel for rows (R, I) times matrices (E, I, O), or for the sums of x^T dy over rows of each; 0 of others."""
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
  places = [_coordinates(device, mesh) for device in group]
  return tuple(axis for number, axis in enumerate(mesh) if len({place[number] for place in places}) > 1)


def _coordinates(device: int, mesh: Mapping[str, int]) -> tuple[int, ...]:
  place = []
  for size in reversed(list(mesh.values())):
    device, here = divmod(device, size)
    place.append(here)
  return tuple(reversed(place))


def _first_group(text: str, devices: int) -> Sequence[int]:
  """The devices of the first group, in any of the forms that XLA writes them in."""
  if found := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", text):
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found.group(1))}
    along = re.findall(r"'([^']+)'", found.group(2))
    ranges = [range(size) if name in along else (0,) for name, size in sizes.items()]
    strides = [math.prod(list(sizes.values())[i + 1 :]) for i in range(len(sizes))]
    return [sum(i * stride for i, stride in zip(place, strides, strict=True)) for place in itertools.product(*ranges)]
  if found := re.search(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]+)\}", text):
    return [int(number) for number in found.group(1).split(",")]
  if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
    groups, size, dimensions, order = found.groups()
    shape = [int(number) for number in dimensions.split(",")]
    permutation = [int(number) for number in order.split(",")] if order else list(range(len(shape)))
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    places = itertools.product(*[range(shape[i]) for i in permutation])
    listed = [sum(i * strides[p] for i, p in zip(place, permutation, strict=True)) for place in places]
    return listed[: int(size)] if int(groups) else listed
  return range(devices)
