# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A sweep as one HTML page that needs nothing else: the table, and pictures of what its parameters do."""

import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmx.storage import write_atomically
from lmx.sweep.folder import SweepFolder, values_of
from lmx.sweep.results import Results, header, rows
from lmx.sweep.space import as_number
from lmx.sweep.trial import short_keys

_LOG_SPAN = 20.0  # From this ratio of the largest to the smallest value on, an axis is logarithmic.
_MANY = 12  # Curves that still get a name of their own.
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th { cursor: pointer; position: sticky; top: 0; background: #fff; }
tr.best td { font-weight: 600; background: #eef6ee; }
.wide { overflow-x: auto; } figure { margin: 1.5rem 0; } svg { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { body, th { background: #fff; } }
"""
_SORT = """
document.querySelectorAll('th').forEach((cell, column) => cell.addEventListener('click', () => {
  const body = document.querySelector('tbody'), up = cell.dataset.up !== '1';
  cell.dataset.up = up ? '1' : '';
  const key = row => row.cells[column].dataset.value;
  const compare = (a, b) => a === '' ? 1 : b === '' ? -1 :
    isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b))).forEach(row => body.append(row));
}));
"""


def write_page(folder: SweepFolder, results: Results) -> Path:
  """Writes sweep.html into the sweep's folder and returns its path."""
  definition = folder.definition()
  title = f"Sweep {html.escape(folder.path.name)}"
  best = results.best
  summary = f"{len(results.states)} trials: {results.counts()}."
  if best is not None:
    summary += f" Best: {best.trial.name}, {results.metric} {best.value:.5g} ({results.mode})."
  parts = [
    f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>",
    f"<h1>{title}</h1><p>{html.escape(summary)}</p>",
    f"<p><code>{html.escape(str(definition['same'].get('command', '')))}</code></p>",
    *(f"<figure>{picture}</figure>" for picture in pictures(folder, results)),
    f"<div class=wide>{_table(results)}</div><script>{_SORT}</script></html>",
  ]
  path = folder.path / "sweep.html"
  write_atomically(path, "\n".join(parts))
  return path


def _table(results: Results) -> str:
  short = short_keys(results.keys)
  head = "".join(f"<th>{html.escape(short.get(name, name))}</th>" for name in header(results))
  body = []
  for one, row in zip(results.states, rows(results), strict=True):
    cells = "".join(
      f'<td data-value="{html.escape(cell, quote=True)}">{html.escape(_shown(cell))}</td>' for cell in row
    )
    body.append(f"<tr{' class=best' if one is results.best else ''}>{cells}</tr>")
  return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _shown(cell: str) -> str:
  number = as_number(cell)
  return f"{number:.5g}" if number is not None and not cell.isdigit() else cell[:120]


# ---------------------------------------------------------------- pictures


def pictures(folder: SweepFolder, results: Results) -> list[str]:
  """SVG of the metric over each key, the metric's curves, all keys as parallel coordinates, and their importance."""
  curves = {one.trial.name: list(values_of(folder.run_dir(one.trial), results.metric)) for one in results.states}
  valued = [one for one in results.states if one.value is not None]
  drawn: list[str] = []
  if valued and results.keys:
    drawn.append(_svg(max(1, len(results.keys)), lambda axes: _over_keys(axes, results), "metric over each parameter"))
  if any(curves.values()):
    drawn.append(_svg(1, lambda axes: _curves(axes[0], curves, results.metric), "curves"))
  if len(valued) > 1 and len(results.keys) > 1:
    drawn.append(_svg(1, lambda axes: _parallel(axes[0], results), "parallel coordinates"))
  importance = importances(results)
  if importance:
    drawn.append(_svg(1, lambda axes: _bars(axes[0], importance), "importance of the parameters"))
  return drawn


def _svg(columns: int, draw: Callable[[Sequence[Any]], None], label: str) -> str:
  """A picture as SVG text; `draw` gets its axes."""
  from matplotlib.figure import Figure

  per_row = min(columns, 3)
  count = -(-columns // per_row)
  figure = Figure(figsize=(10 if columns > 1 else 8, 3.4 * count), layout="constrained")
  every = list(figure.subplots(count, per_row, squeeze=False).flat)
  for axes in every[columns:]:
    axes.set_visible(False)
  draw(every[:columns])
  out = io.StringIO()
  figure.savefig(out, format="svg", metadata={"Date": None})
  text = out.getvalue()
  return f'<div role=img aria-label="{html.escape(label)}">{text[text.index("<svg") :]}</div>'


def _places(texts: Sequence[str]) -> tuple[list[float], list[str] | None, bool]:
  """(positions on an axis, names of its ticks or None for numbers, whether it is logarithmic)."""
  numbers = [as_number(text) for text in texts]
  if all(number is not None for number in numbers):
    found = [number for number in numbers if number is not None]
    return found, None, min(found) > 0 and max(found) / min(found) >= _LOG_SPAN
  names = sorted(set(texts))
  return [float(names.index(text)) for text in texts], names, False


def _over_keys(every: Sequence[Any], results: Results) -> None:
  short = short_keys(results.keys)
  for axes, key in zip(every, results.keys, strict=True):
    points = [(one.trial.overrides[key], one.value) for one in results.states
              if one.value is not None and key in one.trial.overrides]  # fmt: skip
    if points:
      x, names, log = _places([text for text, _ in points])
      axes.plot(x, [value for _, value in points], "o", alpha=0.75)
      if names is not None:
        axes.set_xticks(range(len(names)), [name[:16] for name in names], rotation=30, ha="right")
      if log:
        axes.set_xscale("log")
    axes.set(xlabel=short[key], ylabel=results.metric)
    _plain(axes)


def _curves(axes: Any, curves: Mapping[str, Sequence[tuple[int, float]]], metric: str) -> None:
  for number, (name, points) in enumerate(curves.items()):
    if points:
      label = name if number < _MANY else None
      axes.plot(
        [step for step, _ in points], [value for _, value in points], "o-", markersize=3, linewidth=1, label=label
      )
  axes.set(xlabel="step", ylabel=metric)
  axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
  _plain(axes)


def _parallel(axes: Any, results: Results) -> None:
  """One vertical line for each key and one for the metric, each scaled to its own range; dark lines are the best."""
  states = [one for one in results.states if one.value is not None]
  short, columns = short_keys(results.keys), []
  for key in results.keys:
    places, _, log = _places([one.trial.overrides.get(key, "") for one in states])
    columns.append(_scaled([math.log(place) for place in places] if log else places))
  columns.append(_scaled([one.value or 0.0 for one in states]))
  for number in range(len(states))[::-1]:
    shade = number / max(1, len(states) - 1)
    axes.plot(
      range(len(columns)),
      [column[number] for column in columns],
      color=(0.1 + 0.7 * shade, 0.3 + 0.5 * shade, 0.6 + 0.3 * shade),
    )
  axes.set_xticks(range(len(columns)), [*(short[key] for key in results.keys), results.metric], rotation=20)
  axes.set_yticks([0, 1], ["lowest", "highest"])
  _plain(axes)


def _scaled(values: Sequence[float]) -> list[float]:
  low, high = min(values), max(values)
  return [0.5 if high == low else (value - low) / (high - low) for value in values]


def _bars(axes: Any, importance: Mapping[str, float]) -> None:
  names = list(importance)[::-1]
  axes.barh(names, [importance[name] for name in names])
  axes.set(xlabel="importance (PED-ANOVA), of 1 in all")
  _plain(axes)


def _plain(axes: Any) -> None:
  axes.grid(alpha=0.25)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)


def importances(results: Results) -> dict[str, float]:
  """Each key's share in what tells good trials from bad (Optuna's PED-ANOVA); {} without Optuna or with few trials."""
  states = [one for one in results.states if one.value is not None and set(one.trial.overrides) == set(results.keys)]
  try:
    import optuna
  except ImportError:
    return {}
  varied = [key for key in results.keys if len({one.trial.overrides[key] for one in states}) > 1]
  if len(states) < 4 or len(varied) < 2:
    return {}
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  study = optuna.create_study(direction="minimize" if results.mode == "min" else "maximize")
  numbers = {key: _places([one.trial.overrides[key] for one in states])[0] for key in varied}
  float_of = optuna.distributions.FloatDistribution
  spread: dict[str, optuna.distributions.BaseDistribution] = {
    key: float_of(min(values), max(values)) for key, values in numbers.items()
  }
  for index, one in enumerate(states):
    parameters = {key: numbers[key][index] for key in varied}
    study.add_trial(optuna.trial.create_trial(params=parameters, distributions=spread, value=one.value))
  found = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
  short = short_keys(varied)
  return {short[key]: value for key, value in found.items()}
