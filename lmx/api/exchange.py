# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx.from_hf` and `lmx.to_hf`: Hugging Face models as models to use, and runs as Hugging Face models."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from lmx.api.loaded_run import LoadedRun, load
from lmx.config.loading import from_values
from lmx.errors import LmxError, message
from lmx.experiment.train_setup import lora_spec, model_maker
from lmx.hf.adapter_export import export_adapter
from lmx.hf.exporting import Exported, export_hf
from lmx.hf.importing import import_hf
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.training.state import abstract_model, abstract_model_of


def from_hf(path_or_name: str | os.PathLike, *, mesh: dict[str, int] | None = None, head: str | None = None,
            labels: Sequence[str] = (), nonfinite: str = "stop") -> LoadedRun:  # fmt: skip
  """A Hugging Face model, read from its safetensors straight onto the devices; nothing is written.

  Args:
    path_or_name: a folder with config.json and safetensors, or a name on the hub where there is a network.
    mesh: as in `load`.
    head: a row of `lmx.nn.heads.HEADS` to end the model in instead of its own ("embedding"); None: its own.
    labels: with `head`: the names of its classes.
    nonfinite: of weights with NaN or infinity: stop | keep.

  Raises:
    LmxError: see `lmx.hf.importing.import_hf`; or a model without a tokenizer that lmx reads.
  """
  layout = Layout(make_mesh({}, jax.local_devices()[:1]) if mesh is None else make_mesh(mesh))
  found = import_hf(Path(path_or_name) if Path(path_or_name).expanduser().is_dir() else str(path_or_name),
                    mesh=layout.mesh, head=head, labels=tuple(labels), nonfinite=nonfinite)  # fmt: skip
  if found.tokenizer is None:
    raise LmxError(message("tokenizer", got=f"none in {found.directory}", allowed="one that lmx reads",
                           fix="lmx import MODEL --tokenizer=FOLDER"))  # fmt: skip
  config = from_values(found.settings)
  plan = abstract_model(model_maker(config, found.spec))
  labels_found = found.description.labels
  return LoadedRun(plan.join(found.parameters), found.tokenizer, config, 0, layout, labels_found, None, found.directory)


def to_hf(run: LoadedRun | str | os.PathLike, directory: str | os.PathLike, *, adapter: bool = False,
          base: str | os.PathLike | None = None, **options: Any) -> Exported:  # fmt: skip
  """Writes a run, its adapters merged, as a folder that `transformers` reads; or the adapters alone, for PEFT.

  Args:
    run: a loaded run, or the folder of one.
    directory: new or empty.
    adapter: write a LoRA run's adapters, and what was trained next to them, as an adapter of PEFT.
    base: with `adapter`: the model it belongs to, a folder or hub name; None: the one that the run was imported from.
    **options: family, dtype, max_shard_size: see `lmx.hf.exporting.export_hf`; with `adapter`, dtype alone.

  Raises:
    LmxError: see there, and `lmx.hf.adapter_export.export_adapter`.
  """
  run = run if isinstance(run, LoadedRun) else load(run)
  if base is not None and not adapter:
    raise LmxError(message("base", got=str(base), allowed="nothing without adapter=True (--adapter)"))
  shared: dict[str, Any] = {
    "labels": run.labels,
    "tokenizer": run.tokenizer,
    "framing": run.setting.framing,
    "carried": run.carried,
    "length": run.config.data.length,
  }
  written = run if adapter else run.merged()
  arrays = abstract_model_of(written.model).split(written.model)
  spec, model = written.model.spec, dict(run.config.model)
  if adapter:
    lora: dict[str, Any] = {"lora": lora_spec(run.config), "train_also": run.config.lora.train_also}
    name = None if base is None else str(base)
    return export_adapter(arrays, spec, model, Path(directory), base=name, **lora, **shared, **options)
  multi_label = run.config.objective.multi_label
  return export_hf(arrays, spec, model, Path(directory), multi_label=multi_label, stops=run.stops, **shared, **options)
