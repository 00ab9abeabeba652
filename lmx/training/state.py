# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What training changes: the state of a run, as plain arrays under dotted names, and how it lies on a mesh.

A model is a Flax NNX module; the state holds its parameters as a flat dictionary {dotted name: array}. Plain
dictionaries pass through `jax.jit` some thirty times faster than modules, which are flattened in Python (0.27 ms for 20
parameters in 11 modules, three or four times per step), and one name serves the optimizer's rules, the checkpoint and
the log. `AbstractModel` takes a module apart and puts it together again; inside a compiled step that costs nothing.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, NamedSharding

from lmx.errors import LmxError, message
from lmx.optim.optimizers import Optimizer
from lmx.parallel.mesh import batch_sharding, replicated
from lmx.parallel.sharding import Layout
from lmx.training.plateau import Plateau, new_plateau
from lmx.training.skipping import SkipState, new_skip_state
from lmx.trees import count, map_variables, named_leaves

Arrays = dict[str, jax.Array]
MakeModel = Callable[[jax.Array], Any]
HOST = "pinned_host"  # JAX's name for memory of the host that a device can read and write by itself.


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractModel:
  """A model without its numbers: the one description from which init, shardings, rules and checkpoints derive.

  Attributes:
    shapes: {dotted name: shape and dtype}, in the module's order.
    axes: {dotted name: logical axes, or None}.
    structure: the module's tree structure.
  """

  shapes: dict[str, jax.ShapeDtypeStruct]
  axes: dict[str, Sequence[str | None] | None]
  structure: Any

  def split(self, model: Any) -> Arrays:
    """The module's parameters by name."""
    return named_leaves(model)

  def join(self, parameters: Mapping[str, Any]) -> Any:
    """The module with these parameters; `parameters` may hold arrays, tracers or shardings."""
    return jax.tree.unflatten(self.structure, [parameters[name] for name in self.shapes])

  def shardings(self, layout: Layout) -> dict[str, NamedSharding]:
    """Where each parameter is stored."""
    return {name: layout.param_sharding(name, leaf.shape, self.axes[name]) for name, leaf in self.shapes.items()}

  def update_shardings(self, layout: Layout) -> dict[str, NamedSharding]:
    """Where each parameter's gradient and the optimizer's arrays for it lie."""
    return {name: layout.grad_sharding(name, leaf.shape, self.axes[name]) for name, leaf in self.shapes.items()}

  def template(self, layout: Layout) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape, dtype and place of each parameter."""
    places = self.shardings(layout)
    return {
      name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[name]) for name, leaf in self.shapes.items()
    }

  @property
  def dimensions(self) -> dict[str, tuple[int, ...]]:
    """{dotted name: shape}."""
    return {name: leaf.shape for name, leaf in self.shapes.items()}

  @property
  def parameters(self) -> int:
    """Number of parameters."""
    return count(self.shapes)


def abstract_model_of(model: Any) -> AbstractModel:
  """The blueprint of a module whose leaves are arrays or ShapeDtypeStructs.

  Raises:
    ValueError: a leaf that isn't floating-point (a counter, a random key): it could not be trained.
  """
  axes: dict[str, Sequence[str | None] | None] = {}

  def note(name: str, leaf: Any, leaf_axes: Sequence[str | None] | None) -> jax.ShapeDtypeStruct:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      raise ValueError(f"{name} is {leaf.dtype}; a model holds floating-point parameters only")
    axes[name] = leaf_axes
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

  noted = map_variables(note, model)
  return AbstractModel(named_leaves(noted), axes, jax.tree.structure(model))


def abstract_model(make_model: MakeModel) -> AbstractModel:
  """The blueprint of what `make_model(key)` returns, without computing or allocating it."""
  return abstract_model_of(jax.eval_shape(make_model, jax.random.key(0)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that a run continues from, beside the data position.

  Attributes:
    step: updates done, skipped ones included, int32. It is also the number of batches drawn.
    params: parameters, float32.
    opt_state: the optimizer's.
    ema: an average of the parameters, by which the run is evaluated, or None.
    guard: what skipping needs to remember.
    plateau: how far the learning rate has fallen, under the schedule of that name; else None.
    reference: the frozen parameters of a second model that the objective compares with, or None. They are part of the
      state so that a run's folder is complete.
    carry: what a recurrent model hands from batch to batch, {name: (B, ...)}, or None.
  """

  step: jax.Array
  params: Arrays
  opt_state: Any
  ema: Arrays | None
  guard: SkipState
  plateau: Plateau | None = None
  reference: Arrays | None = None
  carry: Arrays | None = None

  @property
  def evaluated(self) -> Arrays:
    """The parameters to evaluate, sample and export with: the average where there is one."""
    return self.params if self.ema is None else self.ema


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
  """What a run's state holds beside parameters and optimizer.

  Attributes:
    ema: an average of the parameters.
    plateau: the learning rate's fall after evaluations without progress.
    reference: the blueprint of the frozen second model, or None.
    carry: {name: shape and dtype, (B, ...)} of what a recurrent model hands on, or None.
  """

  ema: bool = False
  plateau: bool = False
  reference: AbstractModel | None = None
  carry: Mapping[str, jax.ShapeDtypeStruct] | None = None


PLAIN = Parts()


def fresh_state(params: Arrays, optimizer: Optimizer, parts: Parts = PLAIN) -> TrainState:
  """The state before the first step, but for the reference, which comes from elsewhere.

  The average of the parameters starts at the parameters, what is carried at zero.
  """
  keep_average = parts.ema or optimizer.average is not None
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=optimizer.init(optimizer.trained(params)),
    ema=jax.tree.map(jnp.copy, params) if keep_average else None,
    guard=new_skip_state(),
    plateau=new_plateau() if parts.plateau else None,
    carry=None if parts.carry is None else {k: jnp.zeros(x.shape, x.dtype) for k, x in parts.carry.items()},
  )


def abstract_state(plan: AbstractModel, optimizer: Optimizer, layout: Layout, parts: Parts = PLAIN) -> TrainState:
  """The state as ShapeDtypeStructs with shardings: the template of init, step, checkpoint and memory plan.

  An optimizer's array lies as the parameter whose name and shape it has, or as its update under ZeRO-1, in the host's
  memory if the layout says so; what is carried lies as the batch does; anything else is copied to every device.

  Raises:
    LmxError: the devices can't reach their host's memory, where the layout puts the optimizer there.
  """
  shapes = jax.eval_shape(lambda params: fresh_state(params, optimizer, parts), plan.shapes)
  stored, updated = plan.shardings(layout), plan.update_shardings(layout)
  if layout.offload_optimizer:
    _check_host_memory(layout)
    updated = {name: place.with_memory_kind(HOST) for name, place in updated.items()}

  def place(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    name = str(path[-1].key) if isinstance(path[-1], jax.tree_util.DictKey) else ""
    if name not in stored or plan.shapes[name].shape != leaf.shape:
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(layout.mesh))
    places = updated if getattr(path[0], "name", "") == "opt_state" else stored
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=places[name])

  placed = jax.tree_util.tree_map_with_path(place, dataclasses.replace(shapes, carry=None))
  reference = None if parts.reference is None else parts.reference.template(layout)
  rows = batch_sharding(layout.mesh)
  carry = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows), shapes.carry)
  return dataclasses.replace(placed, reference=reference, carry=carry)


def _check_host_memory(layout: Layout) -> None:
  if isinstance(layout.mesh, AbstractMesh):
    return
  device = layout.mesh.devices.flat[0]
  kinds = [memory.kind for memory in device.addressable_memories()]
  if HOST not in kinds:
    got = f"True on {device.device_kind}, whose memories are {', '.join(kinds)}"
    raise LmxError(message("config.compute.offload_optimizer", got=got, allowed=f"False on devices without {HOST}",
                           fix="--config.compute.offload_optimizer=False"))  # fmt: skip


def on_device(tree: Any, abstract: Any) -> Any:
  """The arrays of a template that lie in the host's memory, copied to the device: one copy each, inside a step."""
  return _moved(tree, abstract, "device")


def as_stored(tree: Any, abstract: Any) -> Any:
  """The arrays of a template that lie in the host's memory, copied back to it."""
  return _moved(tree, abstract, HOST)


def _moved(tree: Any, abstract: Any, kind: str) -> Any:
  def move(x: jax.Array, like: Any) -> jax.Array:
    place = like.sharding
    return jax.device_put(x, place.with_memory_kind(kind)) if place.memory_kind == HOST else x

  return jax.tree.map(move, tree, abstract)


def local_bytes(tree: Any, *, host: bool = False) -> int:
  """Bytes of a template's arrays in the memory of one device; `host`: in the host's memory, one device's share."""
  leaves = [leaf for leaf in jax.tree.leaves(tree) if (leaf.sharding.memory_kind == HOST) is host]
  return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def shardings_of(abstract: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def parts_of(abstract: TrainState) -> Parts:
  """What `fresh_state` needs to know to make a state like the template."""
  carry: Any = abstract.carry  # Shapes, in a template.
  return Parts(abstract.ema is not None, abstract.plateau is not None, None, carry)


def init_state(
  make_model: MakeModel, key: jax.Array, plan: AbstractModel, optimizer: Optimizer, abstract: TrainState
) -> TrainState:
  """A new run's state, computed where it will lie: no device ever holds more than its part. It has no reference.

  The same key gives the same parameters on every mesh (jax's partitionable random numbers).
  """

  def init(key: jax.Array) -> TrainState:
    return fresh_state(plan.split(make_model(key)), optimizer, parts_of(abstract))

  shardings = shardings_of(dataclasses.replace(abstract, reference=None))
  return jax.jit(init, out_shardings=shardings, compiler_options=_options_to_run_once(abstract.step.sharding))(key)


def init_parameters(
  make_model: MakeModel, key: jax.Array, plan: AbstractModel, template: Mapping[str, Any], names: Sequence[str]
) -> Arrays:
  """Those of the parameters of a new run; the others are not computed. `template` says where they lie."""

  def init(key: jax.Array) -> Arrays:
    every = plan.split(make_model(key))
    return {name: every[name] for name in names}

  places = {name: template[name].sharding for name in names}
  return jax.jit(init, out_shardings=places, compiler_options=_options_to_run_once(places[names[0]]))(key)


def _options_to_run_once(sharding: Any) -> dict[str, int]:
  """XLA's CPU backend takes seconds to optimize a dozen random draws that run once; one level less takes a third."""
  device: Any = next(iter(sharding.device_set))
  return {"xla_backend_optimization_level": 1} if device.platform == "cpu" else {}


def start_state(params: Arrays, optimizer: Optimizer, abstract: TrainState) -> TrainState:
  """A new run's state around given parameters (another run's, or imported ones). It has no reference."""

  def start(params: Arrays) -> TrainState:
    return fresh_state(params, optimizer, parts_of(abstract))

  return jax.jit(start, out_shardings=shardings_of(dataclasses.replace(abstract, reference=None)))(params)
