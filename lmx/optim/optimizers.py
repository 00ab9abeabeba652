# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of optimizers: optax's transformations behind one small interface.

Parameters, gradients and optimizer states are flat dictionaries from a parameter's dotted name to its array, so
rules, checkpoints and logs all speak of one parameter by one name. The learning rate is given at each update, and is a
function of the run's step: a skipped step doesn't shift the schedule.

Weight decay is decoupled (https://arxiv.org/abs/1711.05101): a parameter p loses lr * weight_decay * multiplier * p,
in addition to the optimizer's own step. All states are in the parameters' dtype (float32), but for first moments, which
may be kept in bfloat16.

Hyperparameters are numbers, or arrays () of a traced program in which they vary. An array is never compared with 0 to
decide what is computed: whoever passes one says with it that the number is not 0.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lmx.config.table import check_values, keys_taken
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
    """The parameters that are trained, in their order; `update` and its state have only these."""
    return {name: value for name, value in parameters.items() if name in self.multipliers}


@dataclasses.dataclass(frozen=True)
class TrainedParameters:
  """The parameters that an optimizer trains, by name.

  Attributes:
    decays: weight decay of each, multipliers applied, over the learning rate.
    axes: logical axes of each.
    shapes: of each.
  """

  decays: Mapping[str, float]
  axes: Axes
  shapes: Mapping[str, tuple[int, ...]]


class Method(NamedTuple):
  """An optimizer that makes its own steps: init, update and average of `Optimizer`."""

  init: Callable[[Arrays], Any]
  update: Callable[[Arrays, Any, Arrays, jax.Array, jax.Array], tuple[Arrays, Any]]
  average: Callable[[Any, Arrays], Arrays] | None = None


@dataclasses.dataclass(frozen=True)
class OptimizerSpec:
  """One row of `OPTIMIZERS`.

  Attributes:
    make: (parameters, *, hyperparameters) -> an optax transformation from gradients to a direction of ascent, which is
      scaled by the learning rate and joined by the weight decay; or a `Method`. Its keyword-only parameters are the
      keys of config.optimizer that it reads.
    decay: whether it has a weight decay.
  """

  make: Callable[..., optax.GradientTransformation | Method]
  decay: bool = True

  @property
  def hyperparameters(self) -> tuple[str, ...]:
    """The keys of config.optimizer that `make` takes."""
    return keys_taken(self.make)


def where_tree(apply: jax.Array, new: Any, old: Any) -> Any:
  """The tree `new` where the boolean `apply` is true, else `old`."""
  return jax.tree.map(lambda n, o: jnp.where(apply, n, o), new, old)


def is_zero(value: Any) -> bool:
  """Whether a hyperparameter is the number 0, so that what it scales is left out; an array is not."""
  return isinstance(value, int | float) and value == 0


def _add_decay(directions: Arrays, parameters: Arrays, decays: Mapping[str, float]) -> Arrays:
  return {k: d if is_zero(decays[k]) else d + decays[k] * parameters[k] for k, d in directions.items()}


def _stepping(direction: optax.GradientTransformation, decays: Mapping[str, float]) -> Method:
  """The method of an optax transformation that gives a direction of ascent."""

  def update(gradients, state, parameters, lr, apply):
    directions, new = direction.update(gradients, state, parameters)
    directions = _add_decay(directions, parameters, decays)
    return {k: -lr * d for k, d in directions.items()}, where_tree(apply, new, state)

  return Method(direction.init, update)


def _adamw(parameters: TrainedParameters, *, b1: float, b2: float, eps: float) -> Method:
  """Adam (https://arxiv.org/abs/1412.6980) with bias correction: `optax.scale_by_adam` written out, with its state.

  Ours, so that a skipped step is left out before the moments are used.

  Left out afterwards, the moments would be computed twice, for the state and for the parameters, from old ones that
  the compiler first copies: two passes over memory of the parameters' size, 3 to 5 % of a small model's step.
  """

  def update(gradients, state, values, lr, apply):
    count = optax.safe_increment(state.count)
    mu = where_tree(apply, {k: b1 * state.mu[k] + (1 - b1) * g for k, g in gradients.items()}, state.mu)
    nu = where_tree(apply, {k: b2 * state.nu[k] + (1 - b2) * g * g for k, g in gradients.items()}, state.nu)
    first, second = (1 - b ** count.astype(jnp.float32) for b in (b1, b2))
    directions = {k: mu[k] / first / (jnp.sqrt(nu[k] / second) + eps) for k in gradients}
    directions = _add_decay(directions, values, parameters.decays)
    state = optax.ScaleByAdamState(jnp.where(apply, count, state.count), mu, nu)
    return {k: -lr * d for k, d in directions.items()}, state

  return Method(optax.scale_by_adam(b1=b1, b2=b2, eps=eps).init, update)


def _nadamw(parameters: TrainedParameters, *, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
  """Adam with a look-ahead (Dozat 2016), https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ."""
  return optax.scale_by_adam(b1=b1, b2=b2, eps=eps, nesterov=True)


def _adopt(parameters: TrainedParameters, *, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
  """https://arxiv.org/abs/2411.02853, with its clipping."""
  return optax.contrib.scale_by_adopt(b1=b1, b2=b2, eps=eps)


def _lion(parameters: TrainedParameters, *, b1: float, b2: float) -> optax.GradientTransformation:
  """The sign of a momentum (https://arxiv.org/abs/2302.06675): a third of AdamW's rate, three times its decay."""
  return optax.scale_by_lion(b1=b1, b2=b2)


def _sgd(parameters: TrainedParameters, *, b1: float) -> optax.GradientTransformation:
  """m = b1 * m + g, as in torch.optim.SGD without dampening; b1 = 0 is plain gradient descent without a state."""
  return optax.identity() if is_zero(b1) else optax.trace(decay=b1)


def _nesterov(parameters: TrainedParameters, *, b1: float) -> optax.GradientTransformation:
  """As `_sgd`, with Nesterov's look-ahead."""
  return optax.identity() if is_zero(b1) else optax.trace(decay=b1, nesterov=True)


def _rmsprop(parameters: TrainedParameters, *, b2: float, eps: float) -> optax.GradientTransformation:
  """eps outside of the root, as in torch.optim."""
  return optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False)


def _adagrad(parameters: TrainedParameters, *, eps: float) -> optax.GradientTransformation:
  """https://jmlr.org/papers/v12/duchi11a.html, from sums of zero."""
  return optax.scale_by_rss(initial_accumulator_value=0.0, eps=eps)


def _adafactor(parameters: TrainedParameters, *, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
  """Factored second moments (https://arxiv.org/abs/1804.04235) with momentum and an absolute learning rate.

  As in https://arxiv.org/abs/2106.04560, section 3.5: no scaling by the parameter's size, the second moment's decay is
  1 - n^-0.8 and at most b2, each parameter's update is clipped at a root mean square of 1, momentum b1 (0: none, which
  saves a copy of the parameters). A matrix is factored when both its sides are at least 128. eps is a gradient's size.
  """

  def decay_rate(step, exponent):
    return jnp.minimum(b2, 1.0 - (jnp.asarray(step, jnp.float32) + 1.0) ** -exponent)

  parts = [
    optax.scale_by_factored_rms(decay_rate=0.8, epsilon=eps**2, decay_rate_fn=decay_rate),
    optax.clip_by_block_rms(1.0),
  ]
  return optax.chain(*parts, *([] if is_zero(b1) else [optax.ema(b1, debias=False)]))


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


def _muon(parameters: TrainedParameters, *, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
  """Orthogonalized momentum for matrices in blocks, Adam for the rest.

  https://kellerjordan.github.io/posts/muon, scaled by 0.2 * sqrt(max(fan in, fan out)) so that AdamW's learning rate
  and decay carry over (https://arxiv.org/abs/2502.16982, section 2.2). b1 is the momentum of both; published: 0.95.
  """
  dimensions = {name: muon_dimensions(axes) for name, axes in parameters.axes.items()}
  if not any(dimensions.values()):
    raise LmxError(message("config.optimizer.name", got="muon", allowed="adamw: this model has no matrix in a block"))
  scales = {}
  for name, sides in dimensions.items():
    if sides:
      shape = parameters.shapes[name]
      scales[name] = 0.2 * math.sqrt(max(math.prod(shape[i] for i in side) for side in sides))

  def rescale(directions, values=None):
    return {name: scales[name] * d if name in scales else d for name, d in directions.items()}

  numbers = {name: sides or optax.MaskedNode() for name, sides in dimensions.items()}
  matrices = optax.chain(
    optax.contrib.scale_by_muon(beta=b1, eps=eps, weight_dimension_numbers=lambda _: numbers),
    optax.stateless(rescale),
  )
  labels = {name: "muon" if sides else "adam" for name, sides in dimensions.items()}
  return optax.partition({"muon": matrices, "adam": optax.scale_by_adam(b1=b1, b2=b2, eps=eps)}, labels)


def _schedule_free(parameters: TrainedParameters, *, b1: float, b2: float, eps: float) -> Method:
  """Schedule-free AdamW (https://arxiv.org/abs/2405.15682): use the constant schedule, with warm-up.

  Gradients are taken at an interpolation (weight b1) of the iterates and their average; the average is evaluated.
  """
  if is_zero(b1):
    raise LmxError(message("config.optimizer.b1", got=b1, allowed="more than 0 for schedule_free"))
  direction = optax.scale_by_adam(b1=0.0, b2=b2, eps=eps)

  def method(lr):
    def step(gradients, state, values):
      directions, state = direction.update(gradients, state, values)
      return {k: -lr * d for k, d in _add_decay(directions, values, parameters.decays).items()}, state

    return optax.contrib.schedule_free(optax.GradientTransformation(direction.init, step), learning_rate=lr, b1=b1)

  def update(gradients, state, values, lr, apply):
    updates, new = method(lr).update(gradients, state, values)
    return updates, where_tree(apply, new, state)

  return Method(method(0.0).init, update, optax.contrib.schedule_free_eval_params)


OPTIMIZERS: dict[str, OptimizerSpec] = {
  "adamw": OptimizerSpec(_adamw),
  "adam": OptimizerSpec(_adamw, decay=False),
  "nadamw": OptimizerSpec(_nadamw),
  "adopt": OptimizerSpec(_adopt),
  "adafactor": OptimizerSpec(_adafactor),
  "muon": OptimizerSpec(_muon),
  "schedule_free": OptimizerSpec(_schedule_free),
  "lion": OptimizerSpec(_lion),
  "sgd": OptimizerSpec(_sgd),
  "nesterov": OptimizerSpec(_nesterov),
  "rmsprop": OptimizerSpec(_rmsprop),
  "adagrad": OptimizerSpec(_adagrad),
}


def make_optimizer(
  name: str,
  *,
  schedule: Schedule,
  hyperparameters: Mapping[str, float],
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
    hyperparameters: at least those of the row, `OptimizerSpec.hyperparameters`; others are left unused. These and
      `weight_decay` may be arrays, as described at the top.
    weight_decay: decoupled decay per step, over the learning rate.
    decay_rules: (regular expression, multiplier) pairs over parameter names; see `rules.decay_multipliers`.
    axes, shapes: each parameter's logical axes and shape by its dotted name; the names are all parameters.
    rates: each parameter's multiplier of the learning rate (see `rules.rate_multipliers`); 0 freezes it; None: all 1.
    momentum_dtype: float32 | bfloat16, of first moments.

  Raises:
    LmxError: an unknown name, a value out of range, a rule that doesn't fit the parameters, or decay where the
      optimizer has none.
  """
  row = choose("config.optimizer.name", name, OPTIMIZERS)
  check_values("optimizer", {**hyperparameters, "weight_decay": weight_decay, "momentum_dtype": momentum_dtype})
  if not is_zero(weight_decay) and not row.decay:
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
  decays = {key: weight_decay * multiplier if multiplier else 0.0 for key, multiplier in multipliers.items()}
  parameters = TrainedParameters(decays, {k: axes[k] for k in trained}, {k: shapes[k] for k in trained})
  made = row.make(parameters, **{key: hyperparameters[key] for key in row.hyperparameters})
  init, update, average = made if isinstance(made, Method) else _stepping(made, decays)
  if momentum_dtype != "float32":
    init, update = _with_small_momentum(init, update, jnp.dtype(momentum_dtype))
  if any(rates[key] != 1.0 for key in trained):
    if average is not None:
      allowed = f"multipliers of 0 and 1: {name} keeps an average that another rate would break"
      raise LmxError(message("config.optimizer.lr_rules", got=sorted(set(rates.values())), allowed=allowed))
    update = _at_own_rates(update, rates)
  return Optimizer(init, update, schedule, average, multipliers, rates)


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
