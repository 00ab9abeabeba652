# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Training state: plain arrays under dotted names, and their shardings over a mesh.

A model is a Flax NNX module; the state holds its parameters as a flat dictionary {dotted name: array}. Plain
dictionaries pass through `jax.jit` some thirty times faster than modules, which are flattened in Python (0.27 ms for 20
parameters in 11 modules, three or four times per step), and the same names serve the optimizer's rules, the checkpoint
and the log. `AbstractModel` splits a module and joins it again; inside a compiled step that costs nothing.
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
HOST = "pinned_host"  # JAX's name for host memory that a device can read and write.


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractModel:
  """A model without its values: the one description from which init, shardings, rules and checkpoints derive.

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
    """The module with these parameters: {dotted name: array, tracer or sharding}."""
    return jax.tree.unflatten(self.structure, [parameters[name] for name in self.shapes])

  def shardings(self, layout: Layout) -> dict[str, NamedSharding]:
    """The sharding of each parameter."""
    return {name: layout.param_sharding(name, leaf.shape, self.axes[name]) for name, leaf in self.shapes.items()}

  def update_shardings(self, layout: Layout) -> dict[str, NamedSharding]:
    """The sharding of each parameter's gradient and of the optimizer's arrays for it."""
    return {name: layout.grad_sharding(name, leaf.shape, self.axes[name]) for name, leaf in self.shapes.items()}

  def template(self, layout: Layout) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape, dtype and sharding of each parameter."""
    shardings = self.shardings(layout)
    return {
      name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shardings[name]) for name, leaf in self.shapes.items()
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
  """The abstract model of a module whose leaves are arrays or ShapeDtypeStructs.

  Raises:
    ValueError: a leaf isn't floating-point (a counter, a random key), so it can't be trained.
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
  """The abstract model of the module that `make_model(key)` returns, without computing or allocating it."""
  return abstract_model_of(jax.eval_shape(make_model, jax.random.key(0)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """Everything that a run resumes from, except the data position.

  Attributes:
    step: updates done, skipped ones included, int32. It is also the number of batches drawn.
    params: parameters, float32.
    opt_state: the optimizer's.
    ema: an average of the parameters, with which the run is evaluated, or None.
    guard: counts and norms of `skipping`.
    plateau: the learning rate's factor under the schedule of that name; else None.
    reference: the frozen parameters of a second model that the objective compares with, or None. They are part of the
      state so that a run's folder is complete.
    carry: recurrent state from batch to batch (truncated BPTT), {name: (B, ...)}, or None.
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
  """The optional parts of a run's state, besides parameters and optimizer.

  Attributes:
    ema: whether it has an average of the parameters.
    plateau: whether it has a factor of the learning rate.
    reference: the abstract model of the frozen second model, or None.
    carry: {name: shape and dtype, (B, ...)} of a recurrent model's state, or None.
  """

  ema: bool = False
  plateau: bool = False
  reference: AbstractModel | None = None
  carry: Mapping[str, jax.ShapeDtypeStruct] | None = None


NO_PARTS = Parts()


def fresh_state(params: Arrays, optimizer: Optimizer, parts: Parts = NO_PARTS) -> TrainState:
  """The state before the first step, without the reference: the average equals the parameters, the carry is zero."""
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


def abstract_state(plan: AbstractModel, optimizer: Optimizer, layout: Layout, parts: Parts = NO_PARTS) -> TrainState:
  """The state as ShapeDtypeStructs with shardings: the template of init, step, checkpoint and memory plan.

  An optimizer's array has the sharding of the parameter with its name and shape, or of that one's update under ZeRO-1,
  in the host's memory if the layout offloads it. The carry is sharded as the batch is; other arrays are replicated.

  Args:
    plan: the model.
    optimizer: of the parameters.
    layout: mesh and tables of axes.
    parts: optional parts of the state.

  Raises:
    LmxError: the devices can't reach their host's memory, where the layout puts the optimizer there.
  """
  shapes = jax.eval_shape(lambda params: fresh_state(params, optimizer, parts), plan.shapes)
  stored, updated = plan.shardings(layout), plan.update_shardings(layout)
  if layout.offload_optimizer:
    _check_host_memory(layout)
    updated = {name: sharding.with_memory_kind(HOST) for name, sharding in updated.items()}

  def with_sharding(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    name = str(path[-1].key) if isinstance(path[-1], jax.tree_util.DictKey) else ""
    if name not in stored or plan.shapes[name].shape != leaf.shape:
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(layout.mesh))
    shardings = updated if getattr(path[0], "name", "") == "opt_state" else stored
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shardings[name])

  sharded = jax.tree_util.tree_map_with_path(with_sharding, dataclasses.replace(shapes, carry=None))
  reference = None if parts.reference is None else parts.reference.template(layout)
  rows = batch_sharding(layout.mesh)
  carry = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows), shapes.carry)
  return dataclasses.replace(sharded, reference=reference, carry=carry)


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
  """The tree with the arrays that the template has in the host's memory copied to the device. For use inside a step."""
  return _moved(tree, abstract, "device")


def as_stored(tree: Any, abstract: Any) -> Any:
  """The tree with the arrays that the template has in the host's memory copied back to it."""
  return _moved(tree, abstract, HOST)


def _moved(tree: Any, abstract: Any, kind: str) -> Any:
  def move(x: jax.Array, like: Any) -> jax.Array:
    sharding = like.sharding
    return jax.device_put(x, sharding.with_memory_kind(kind)) if sharding.memory_kind == HOST else x

  return jax.tree.map(move, tree, abstract)


def local_bytes(tree: Any, *, host: bool = False) -> int:
  """Bytes of a template's arrays in one device's memory; `host`: one device's share of those in the host's memory."""
  leaves = [leaf for leaf in jax.tree.leaves(tree) if (leaf.sharding.memory_kind == HOST) is host]
  return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def shardings_of(abstract: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def parts_of(abstract: TrainState) -> Parts:
  """The optional parts of a template, for `fresh_state` to make a state like it."""
  carry: Any = abstract.carry  # Shapes, in a template.
  return Parts(abstract.ema is not None, abstract.plateau is not None, None, carry)


def init_state(
  make_model: MakeModel, key: jax.Array, plan: AbstractModel, optimizer: Optimizer, abstract: TrainState
) -> TrainState:
  """A new run's state, without a reference, computed sharded: no device ever holds more than its shard.

  The same key gives the same parameters on every mesh (jax's partitionable random numbers).

  Args:
    make_model: key -> module.
    key: random key.
    plan: the module's abstract model.
    optimizer: of the parameters.
    abstract: the state's template.
  """

  def init(key: jax.Array) -> TrainState:
    return fresh_state(plan.split(make_model(key)), optimizer, parts_of(abstract))

  shardings = shardings_of(dataclasses.replace(abstract, reference=None))
  return jax.jit(init, out_shardings=shardings, compiler_options=options_to_run_once(abstract.step.sharding))(key)


def init_parameters(
  make_model: MakeModel, key: jax.Array, plan: AbstractModel, template: Mapping[str, Any], names: Sequence[str]
) -> Arrays:
  """Some of a new run's parameters; the others are not computed.

  Args:
    make_model: key -> module.
    key: random key.
    plan: the module's abstract model.
    template: {name: shape, dtype and sharding}.
    names: of the parameters to compute.
  """

  def init(key: jax.Array) -> Arrays:
    every = plan.split(make_model(key))
    return {name: every[name] for name in names}

  shardings = {name: template[name].sharding for name in names}
  return jax.jit(init, out_shardings=shardings, compiler_options=options_to_run_once(shardings[names[0]]))(key)


def options_to_run_once(sharding: Any) -> dict[str, int]:
  """XLA's CPU backend takes seconds to optimize a dozen random draws that run once; one level less takes a third."""
  device: Any = next(iter(sharding.device_set))
  return {"xla_backend_optimization_level": 1} if device.platform == "cpu" else {}


def start_state(params: Arrays, optimizer: Optimizer, abstract: TrainState) -> TrainState:
  """A new run's state, without a reference, with given parameters (another run's, or imported ones)."""

  def start(params: Arrays) -> TrainState:
    return fresh_state(params, optimizer, parts_of(abstract))

  return jax.jit(start, out_shardings=shardings_of(dataclasses.replace(abstract, reference=None)))(params)
