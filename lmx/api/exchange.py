# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx.from_hf` and `lmx.to_hf`: load Hugging Face models, and export runs as Hugging Face models."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from lmx.api.loaded_run import LoadedRun
from lmx.api.loading import load
from lmx.config.loading import from_values
from lmx.errors import LmxError, message
from lmx.experiment.train_setup import lora_spec, model_maker
from lmx.hf.adapter_export import export_adapter
from lmx.hf.carried import CONFIG_FILE
from lmx.hf.exporting import Exported, export_hf, new_folder
from lmx.hf.importing import import_hf
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.paths import any_path, in_bucket
from lmx.storage import writing_folder
from lmx.training.state import abstract_model, abstract_model_of


def from_hf(path_or_name: str | os.PathLike, *, mesh: dict[str, int] | None = None, head: str | None = None,
            labels: Sequence[str] = (), nonfinite: str = "stop") -> LoadedRun:  # fmt: skip
  """Loads a Hugging Face model from its safetensors onto the devices, without writing anything.

  Args:
    path_or_name: a folder with config.json and safetensors, or a name on the hub.
    mesh: number of devices along each axis, as in `lmx.load`; None: the first device.
    head: an output head of `lmx.nn.heads.HEADS` to use instead of the model's own ("embedding"); None: its own.
    labels: with `head`: the names of its classes.
    nonfinite: stop | keep: refuse or keep weights with NaN or infinity.

  Returns:
    The loaded model, ready to use; `step` is 0.

  Raises:
    LmxError: not a model that lmx can import (see `lmx.hf.importing.import_hf`), or a tokenizer that it can't read.

  Examples:
    >>> import lmx
    >>> bert = lmx.from_hf("path/to/bert")
    >>> bert.embed(["w1 w2", "w3"]).shape[0]
    2
  """
  layout = Layout(make_mesh({}, jax.local_devices()[:1]) if mesh is None else make_mesh(mesh))
  found = import_hf(Path(path_or_name) if Path(path_or_name).expanduser().is_dir() else str(path_or_name),
                    mesh=layout.mesh, head=head, labels=tuple(labels), nonfinite=nonfinite)  # fmt: skip
  if found.tokenizer is None:
    raise LmxError(message("tokenizer", got=f"none in {found.directory}", allowed="one that lmx can read",
                           fix="lmx import MODEL --tokenizer=FOLDER"))  # fmt: skip
  config = from_values(found.settings)
  plan = abstract_model(model_maker(config, found.spec))
  labels_found = found.description.labels
  return LoadedRun(plan.join(found.parameters), found.tokenizer, config, 0, layout, labels_found, None, found.directory)


def to_hf(run: LoadedRun | str | os.PathLike, directory: str | os.PathLike, *, adapter: bool = False,
          base: str | os.PathLike | None = None, **options: Any) -> Exported:  # fmt: skip
  """Exports a run, with its adapters merged, as a folder that `transformers` reads; or only the adapters, for PEFT.

  Args:
    run: a loaded run, or the folder of one.
    directory: a new or empty folder.
    adapter: write only a LoRA run's adapters, and the parameters trained with them, as a PEFT adapter.
    base: with `adapter`: the base model, a folder or hub name; None: the model that the run was imported from.
    **options: family, dtype, max_shard_size: see `lmx.hf.exporting.export_hf`; with `adapter`, only dtype.

  Returns:
    What was written: files, family, class of `transformers`, and whether the tokenizer could be exported.

  Raises:
    LmxError: no family fits the model, or the folder is not empty; see `lmx.hf.exporting.export_hf` and
      `lmx.hf.adapter_export.export_adapter`.

  Examples:
    >>> import lmx
    >>> exported = lmx.to_hf("runs/classify", "exported")
    >>> exported.architecture
    'BertForSequenceClassification'
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

    def export(folder: Path) -> Exported:
      return export_adapter(arrays, spec, model, folder, base=name, **lora, **shared, **options)

  else:
    multi_label = run.config.objective.multi_label

    def export(folder: Path) -> Exported:
      return export_hf(arrays, spec, model, folder, multi_label=multi_label, stops=run.stops, **shared, **options)

  target = any_path(directory, "output directory")
  if not in_bucket(target):
    return export(target)
  with writing_folder(new_folder(target), last=CONFIG_FILE) as folder:
    exported = export(folder)
  return dataclasses.replace(exported, directory=target)
