# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of optimizers: optax's transformations behind one small interface.

Parameters, gradients and optimizer states are flat dictionaries from a parameter's dotted name to its array, so
rules, checkpoints and logs all speak of one parameter by one name. The learning rate is given at each update, and is a
function of the run's step: a skipped step doesn't shift the schedule.

Weight decay is decoupled (https://arxiv.org/abs/1711.05101): a parameter p loses lr * weight_decay * multiplier * p,
beside the optimizer's own step. All states are in the parameters' dtype (float32), but for first moments, which may be
kept in bfloat16.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lmx.errors import LmxError, choose, message
from lmx.optim.rules import Rules, decay_multipliers
from lmx.optim.schedules import Schedule

Arrays = dict[str, jax.Array]
Axes = Mapping[str, Sequence[str | None] | None]


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """Functions of flat dictionaries of arrays.

  Attributes:
    init: parameters -> state.
    update: (gradients, state, parameters, learning rate, apply) -> (what to add to the parameters, new state). Where
      the boolean `apply` is false, the new state is the old one, and what to add means nothing.
    schedule: step -> learning rate.
    average: (state, parameters) -> the parameters to evaluate with, for methods that train on other ones; else None.
    multipliers: each trained parameter's multiplier of the weight decay; the names are those that are trained.
    rates: each parameter's multiplier of the learning rate, 0 for those that are frozen.
  """

  init: Callable[[Arrays], Any]
  update: Callable[[Arrays, Any, Arrays, jax.Array, jax.Array], tuple[Arrays, Any]]
  schedule: Schedule
  average: Callable[[Any, Arrays], Arrays] | None = None
  multipliers: Mapping[str, float] = dataclasses.field(default_factory=dict)
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def trained(self, parameters: Arrays) -> Arrays:
    """The parameters that are trained, in their order; `update` and its state know only these."""
    return {name: value for name, value in parameters.items() if name in self.multipliers}


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """What a row may use; for each parameter `decays` has weight_decay * multiplier, `axes` its logical axes."""

  b1: float
  b2: float
  eps: float
  decays: Mapping[str, float]
  axes: Axes
  shapes: Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
  """An optimizer: how it is built, and the settings that it reads (the others mean nothing to it)."""

  build: Callable[[OptimizerConfig], tuple]
  reads: tuple[str, ...]


def where_tree(apply: jax.Array, new: Any, old: Any) -> Any:
  """The tree `new` where the boolean `apply` is true, else `old`."""
  return jax.tree.map(lambda n, o: jnp.where(apply, n, o), new, old)


def _add_decay(directions: Arrays, parameters: Arrays, decays: Mapping[str, float]) -> Arrays:
  return {k: d + decays[k] * parameters[k] if decays[k] else d for k, d in directions.items()}


def _stepping(
  transformation: Callable[[OptimizerConfig], optax.GradientTransformation],
) -> Callable[[OptimizerConfig], tuple]:
  """Makes a row's functions of an optax transformation that gives a direction of ascent."""

  def build(settings: OptimizerConfig) -> tuple:
    direction = transformation(settings)

    def update(gradients, state, parameters, lr, apply):
      directions, new = direction.update(gradients, state, parameters)
      directions = _add_decay(directions, parameters, settings.decays)
      return {k: -lr * d for k, d in directions.items()}, where_tree(apply, new, state)

    return direction.init, update, None

  return build


def _adam(s: OptimizerConfig) -> optax.GradientTransformation:
  """https://arxiv.org/abs/1412.6980, with bias correction."""
  return optax.scale_by_adam(b1=s.b1, b2=s.b2, eps=s.eps)


def _adamw(s: OptimizerConfig) -> tuple:
  """`_adam` written out, with the same state, so that a skipped step is left out before the moments are used.

  Left out afterwards, the moments would be computed twice, for the state and for the parameters, from old ones that
  the compiler first copies: two passes over memory of the parameters' size, 3 to 5 % of a small model's step.
  """

  def update(gradients, state, parameters, lr, apply):
    count = optax.safe_increment(state.count)
    mu = where_tree(apply, {k: s.b1 * state.mu[k] + (1 - s.b1) * g for k, g in gradients.items()}, state.mu)
    nu = where_tree(apply, {k: s.b2 * state.nu[k] + (1 - s.b2) * g * g for k, g in gradients.items()}, state.nu)
    first, second = (1 - b ** count.astype(jnp.float32) for b in (s.b1, s.b2))
    directions = {k: mu[k] / first / (jnp.sqrt(nu[k] / second) + s.eps) for k in gradients}
    directions = _add_decay(directions, parameters, s.decays)
    state = optax.ScaleByAdamState(jnp.where(apply, count, state.count), mu, nu)
    return {k: -lr * d for k, d in directions.items()}, state

  return _adam(s).init, update, None


def _momentum(s: OptimizerConfig, nesterov: bool = False) -> optax.GradientTransformation:
  """m = b1 * m + g, as in torch.optim.SGD without dampening; b1 = 0 is plain gradient descent without a state."""
  return optax.trace(decay=s.b1, nesterov=nesterov) if s.b1 else optax.identity()


def _adafactor(s: OptimizerConfig) -> optax.GradientTransformation:
  """Factored second moments (https://arxiv.org/abs/1804.04235) with momentum and an absolute learning rate.

  As in https://arxiv.org/abs/2106.04560, section 3.5: no scaling by the parameter's size, the second moment's decay is
  1 - n^-0.8 and at most b2, each parameter's update is clipped at a root mean square of 1, momentum b1 (0: none, which
  saves a copy of the parameters). A matrix is factored when both its sides are at least 128. eps is a gradient's size.
  """

  def decay_rate(step, exponent):
    return jnp.minimum(s.b2, 1.0 - (jnp.asarray(step, jnp.float32) + 1.0) ** -exponent)

  parts = [
    optax.scale_by_factored_rms(decay_rate=0.8, epsilon=s.eps**2, decay_rate_fn=decay_rate),
    optax.clip_by_block_rms(1.0),
  ]
  return optax.chain(*parts, *([optax.ema(s.b1, debias=False)] if s.b1 else []))


_WIDTH = ("embed", "expert_embed")


def muon_dimensions(axes: Sequence[str | None] | None) -> optax.contrib.MuonDimensionNumbers | None:
  """Which dimensions of a parameter are a matrix's input and output; None where it isn't a matrix in a block.

  The model's width is one side and the rest the other: (layers, embed, heads, head_width) is a stack of matrices from
  embed to heads * head_width. Embeddings, the output projection, biases and scales are left to Adam.
  """
  sides = [i for i, name in enumerate(axes or ()) if name not in ("layers", "expert")]
  if axes is None or len(sides) < 2 or {"vocab", "position", "router"} & set(axes):
    return None
  if axes[sides[0]] in _WIDTH:
    return optax.contrib.MuonDimensionNumbers(sides[:1], sides[1:])
  if axes[sides[-1]] in _WIDTH:
    return optax.contrib.MuonDimensionNumbers(sides[:-1], sides[-1:])
  return None


def _muon(s: OptimizerConfig) -> optax.GradientTransformation:
  """Orthogonalised momentum for matrices in blocks, Adam for the rest.

  https://kellerjordan.github.io/posts/muon, scaled by 0.2 * sqrt(max(fan in, fan out)) so that AdamW's learning rate
  and decay carry over (https://arxiv.org/abs/2502.16982, section 2.2). b1 is the momentum of both; published: 0.95.
  """
  dimensions = {name: muon_dimensions(axes) for name, axes in s.axes.items()}
  if not any(dimensions.values()):
    raise LmxError(message("config.optimizer.name", got="muon", allowed="adamw: this model has no matrix in a block"))
  scales = {}
  for name, sides in dimensions.items():
    if sides:
      shape = s.shapes[name]
      scales[name] = 0.2 * math.sqrt(max(math.prod(shape[i] for i in side) for side in sides))

  def rescale(directions, parameters=None):
    return {name: scales[name] * d if name in scales else d for name, d in directions.items()}

  numbers = {name: sides or optax.MaskedNode() for name, sides in dimensions.items()}
  matrices = optax.chain(
    optax.contrib.scale_by_muon(beta=s.b1, eps=s.eps, weight_dimension_numbers=lambda _: numbers),
    optax.stateless(rescale),
  )
  labels = {name: "muon" if sides else "adam" for name, sides in dimensions.items()}
  return optax.partition({"muon": matrices, "adam": _adam(s)}, labels)


def _schedule_free(s: OptimizerConfig) -> tuple:
  """Schedule-free AdamW (https://arxiv.org/abs/2405.15682): use the constant schedule, with warm-up.

  Gradients are taken at an interpolation (weight b1) of the iterates and their average; the average is evaluated.
  """
  if not s.b1:
    raise LmxError(message("config.optimizer.b1", got=s.b1, allowed="more than 0 for schedule_free"))
  direction = optax.scale_by_adam(b1=0.0, b2=s.b2, eps=s.eps)

  def method(lr):
    def step(gradients, state, parameters):
      directions, state = direction.update(gradients, state, parameters)
      return {k: -lr * d for k, d in _add_decay(directions, parameters, s.decays).items()}, state

    return optax.contrib.schedule_free(optax.GradientTransformation(direction.init, step), learning_rate=lr, b1=s.b1)

  def update(gradients, state, parameters, lr, apply):
    updates, new = method(lr).update(gradients, state, parameters)
    return updates, where_tree(apply, new, state)

  return method(0.0).init, update, optax.contrib.schedule_free_eval_params


_MOMENTS = ("b1", "b2", "eps", "weight_decay")
OPTIMIZERS: dict[str, OptimizerSpec] = {
  "adamw": OptimizerSpec(_adamw, _MOMENTS),
  "adam": OptimizerSpec(_adamw, ("b1", "b2", "eps")),
  # Adam with a look-ahead (Dozat 2016), https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ
  "nadamw": OptimizerSpec(
    _stepping(lambda s: optax.scale_by_adam(b1=s.b1, b2=s.b2, eps=s.eps, nesterov=True)), _MOMENTS
  ),
  # https://arxiv.org/abs/2411.02853, with its clipping.
  "adopt": OptimizerSpec(_stepping(lambda s: optax.contrib.scale_by_adopt(b1=s.b1, b2=s.b2, eps=s.eps)), _MOMENTS),
  "adafactor": OptimizerSpec(_stepping(_adafactor), _MOMENTS),
  "muon": OptimizerSpec(_stepping(_muon), _MOMENTS),
  "schedule_free": OptimizerSpec(_schedule_free, _MOMENTS),
  # The sign of a momentum (https://arxiv.org/abs/2302.06675): a third of AdamW's learning rate, three times its decay.
  "lion": OptimizerSpec(_stepping(lambda s: optax.scale_by_lion(b1=s.b1, b2=s.b2)), ("b1", "b2", "weight_decay")),
  "sgd": OptimizerSpec(_stepping(_momentum), ("b1", "weight_decay")),
  "nesterov": OptimizerSpec(_stepping(lambda s: _momentum(s, nesterov=True)), ("b1", "weight_decay")),
  # eps outside of the root, as in torch.optim.
  "rmsprop": OptimizerSpec(
    _stepping(lambda s: optax.scale_by_rms(decay=s.b2, eps=s.eps, eps_in_sqrt=False)), ("b2", "eps", "weight_decay")
  ),
  "adagrad": OptimizerSpec(
    _stepping(lambda s: optax.scale_by_rss(initial_accumulator_value=0.0, eps=s.eps)), ("eps", "weight_decay")
  ),
}


def make_optimizer(
  name: str,
  *,
  schedule: Schedule,
  b1: float,
  b2: float,
  eps: float,
  weight_decay: float,
  decay_rules: Rules,
  axes: Axes,
  shapes: Mapping[str, tuple[int, ...]],
  rates: Mapping[str, float] | None = None,
  momentum_dtype: str = "float32",
) -> Optimizer:
  """Builds a row of `OPTIMIZERS`.

  Args:
    name: the row.
    schedule: step -> learning rate.
    b1, b2, eps: first- and second-moment decay and the term that keeps denominators from zero; `OptimizerSpec.reads`
      says which of them the optimizer uses.
    weight_decay: decoupled decay per step, over the learning rate.
    decay_rules: (regular expression, multiplier) pairs over parameter names; see `rules.decay_multipliers`.
    axes, shapes: each parameter's logical axes and shape by its dotted name; the names are all parameters.
    rates: each parameter's multiplier of the learning rate (see `rules.rate_multipliers`); 0 freezes it; None: all 1.
    momentum_dtype: float32 | bfloat16, of first moments.

  Raises:
    LmxError: an unknown name, a rule that doesn't fit the parameters, or decay where the optimizer has none.
  """
  row = choose("config.optimizer.name", name, OPTIMIZERS)
  if weight_decay and "weight_decay" not in row.reads:
    raise LmxError(
      message(
        "config.optimizer.weight_decay", got=weight_decay, allowed=f"0 with {name}",
        fix=f"--config.optimizer.weight_decay=0, or --config.optimizer.name={name}w",
      )
    )  # fmt: skip
  rates = dict.fromkeys(axes, 1.0) if rates is None else dict(rates)
  trained = [key for key in axes if rates[key]]
  multipliers = decay_multipliers(decay_rules, axes)
  multipliers = {key: multipliers[key] for key in trained}
  decays = {key: weight_decay * multiplier for key, multiplier in multipliers.items()}
  settings = OptimizerConfig(b1, b2, eps, decays, {k: axes[k] for k in trained}, {k: shapes[k] for k in trained})
  init, update, average = row.build(settings)
  if choose("config.optimizer.momentum_dtype", momentum_dtype, MOMENTUM_DTYPES) != jnp.float32:
    init, update = _with_small_momentum(init, update, MOMENTUM_DTYPES[momentum_dtype])
  if any(rates[key] != 1.0 for key in trained):
    if average is not None:
      allowed = f"multipliers of 0 and 1: {name} keeps an average that another rate would break"
      raise LmxError(message("config.optimizer.lr_rules", got=sorted(set(rates.values())), allowed=allowed))
    update = _at_own_rates(update, rates)
  return Optimizer(init, update, schedule, average, multipliers, rates)


MOMENTUM_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_FIRST_MOMENTS = ("mu", "trace", "ema")  # Fields of optax's states.


def _with_small_momentum(init: Callable, update: Callable, dtype: Any) -> tuple[Callable, Callable]:
  """An optimizer whose first moments are kept in `dtype`; everything is computed in float32.

  Second moments stay in float32: with b2 = 0.999 they change by less than bfloat16 can tell apart.
  """

  def cast(state: Any, to: Any) -> Any:
    def one(path: tuple, leaf: jax.Array) -> jax.Array:
      first = any(getattr(key, "name", None) in _FIRST_MOMENTS for key in path)
      return leaf.astype(to) if first and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree_util.tree_map_with_path(one, state)

  def updated(gradients, state, parameters, lr, apply):
    steps, new = update(gradients, cast(state, jnp.float32), parameters, lr, apply)
    return steps, cast(new, dtype)

  return lambda parameters: cast(init(parameters), dtype), updated


def _at_own_rates(update: Callable, rates: Mapping[str, float]) -> Callable:
  """`update` with each parameter's step, decay included, times its multiplier."""

  def scaled(gradients, state, parameters, lr, apply):
    steps, state = update(gradients, state, parameters, lr, apply)
    return {key: rates[key] * step if rates[key] != 1.0 else step for key, step in steps.items()}, state

  return scaled
