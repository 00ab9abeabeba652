# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Imports a Hugging Face model: reads its parameters slice by slice from its files onto a mesh."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from lmx.data.tokenizers.tokenizer import Tokenizer, open_tokenizer
from lmx.errors import LmxError, message
from lmx.hf.adapter import AdaptedFiles, open_weights
from lmx.hf.description import Description, describe, make_spec
from lmx.hf.family import VOCABULARY, Bound
from lmx.hf.hub import model_directory
from lmx.hf.matching import Matching, check_sizes, match, really_tied
from lmx.hf.nonfinite import NonFinite
from lmx.hf.weights import WeightFiles
from lmx.models import MODELS
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.training.state import AbstractModel, abstract_model, init_parameters

_TOKENIZER_FILES = {
  "tokenizer.json": "huggingface",
  "source.spm": "marian",
  "tokenizer.model": "sentencepiece",
  "spiece.model": "sentencepiece",
  "vocab.txt": "huggingface",
  "vocab.json": "huggingface",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Imported:
  """An imported model.

  Attributes:
    directory: the folder it was read from.
    description: the contents of its config.json.
    settings: dotted keys of a config; all others are as in configs/base.py.
    spec: the model's.
    abstract: names, shapes and axes of its parameters.
    layout: the mesh and the shardings of the parameters.
    parameters: {dotted name: array}.
    tokenizer: None where the directory has none that lmx reads.
    fresh: names of parameters that the files lack, and that were initialized from the seed.
    left_out: names of tensors that were not used.
    bytes: size of the weight files.
    nonfinite: {name of a tensor: number of its elements that are NaN or infinite}.
  """

  directory: Path
  description: Description
  settings: dict[str, Any]
  spec: Any
  abstract: AbstractModel
  layout: Layout
  parameters: dict[str, jax.Array]
  tokenizer: Tokenizer | None
  fresh: tuple[str, ...]
  left_out: tuple[str, ...]
  bytes: int
  nonfinite: dict[str, int]

  @property
  def model(self) -> Any:
    """The Flax module with these parameters."""
    return self.abstract.join(self.parameters)


def import_hf(
  path_or_name: str | Path,
  *,
  mesh: jax.sharding.Mesh | None = None,
  head: str | None = None,
  labels: tuple[str, ...] = (),
  dtype: str | None = None,
  tokenizer: str | Path | None = None,
  as_stored: bool = False,
  seed: int = 0,
  nonfinite: str = "stop",
) -> Imported:
  """Reads a model: its config, its tokenizer, and its weights onto a mesh.

  Every parameter is made shard by shard through `jax.make_array_from_callback`: apart from the result, host memory
  holds one shard of one parameter at a time, never a complete file.

  Args:
    path_or_name: a directory with config.json and safetensors, or a name on the hub where there is a network. A
      directory with adapter_config.json is read with its adapter merged into its base's weights.
    mesh: None: the first device.
    head: a row of `HEADS` to use instead of the model's own; parameters that the files lack are initialized.
    labels: with `head`: the names of its classes.
    dtype: compute dtype; None: bfloat16 where all weights are stored so, else float32.
    tokenizer: the directory of a tokenizer to use instead of the model's own.
    as_stored: keep the files' dtype for the parameters; by default they are float32.
    seed: of the initialization of new parameters.
    nonfinite: what to do with NaN and infinite weights: stop (refuse the model) | keep (count them in the result).

  Raises:
    LmxError: no such model; pickled weights; weights that aren't finite, with nonfinite="stop"; a family or setting
      that lmx doesn't support; tensors that are missing, unknown or of the wrong shape; a tokenizer with more ids than
      the model's table has rows.
  """
  directory = model_directory(path_or_name)
  with open_weights(directory) as files:
    base = files.directory
    described = _describe(files, head, labels)
    check_sizes(described, files)
    description = really_tied(described, files)
    own = directory if has_tokenizer(directory) else base  # An adapter's folder may have a tokenizer.
    found = read_tokenizer(own if tokenizer is None else Path(tokenizer).expanduser(), description.vocab_size)
    return _import(files, description, found, mesh, dtype, as_stored, seed, nonfinite)


def _describe(files: WeightFiles, head: str | None, labels: tuple[str, ...]) -> Description:
  """The contents of config.json, with the head of an adapter's task where the base has another."""
  found = describe(files.directory, head, labels)
  heads = files.heads if isinstance(files, AdaptedFiles) and head is None else ()
  return found if not heads or found.head in heads else describe(files.directory, heads[0], labels)


def _import(
  files: WeightFiles,
  description: Description,
  tokenizer: Tokenizer | None,
  mesh: jax.sharding.Mesh | None,
  dtype: str | None,
  as_stored: bool,
  seed: int,
  nonfinite: str,
) -> Imported:
  """The rest of `import_hf`, with the files open."""
  found = NonFinite(nonfinite)
  layout = Layout(make_mesh({}, jax.local_devices()[:1]) if mesh is None else mesh)
  spec = make_spec(
    description.model,
    vocab_size=description.vocab_size,
    head=description.head,
    outputs=description.outputs,
    dtype=dtype or ("bfloat16" if files.kinds == {"BF16"} else "float32"),
  )
  build = MODELS[description.model["family"]].build
  make = lambda key: build(spec, rngs=nnx.Rngs(key))  # noqa: E731
  abstract = abstract_model(make)
  matching = match(description, abstract, files)
  fresh: dict[str, jax.Array] = {}
  if matching.fresh:
    fresh = init_parameters(make, jax.random.key(seed), abstract, abstract.template(layout), matching.fresh)
  parameters = fresh | load_tensors(files, matching, abstract, layout, as_stored=as_stored, found=found)
  found.raise_if_any(files)
  settings = description.settings() | {"compute.dtype": spec.dtype, "tokenizer.framing": "own"}
  return Imported(
    directory=files.directory,
    description=description,
    settings=settings,
    spec=spec,
    abstract=abstract,
    layout=layout,
    parameters={name: parameters[name] for name in abstract.shapes},
    tokenizer=tokenizer,
    fresh=tuple(fresh),
    left_out=matching.left_out,
    bytes=files.bytes,
    nonfinite=found.counts,
  )


def has_tokenizer(directory: Path) -> bool:
  """Whether a directory has the files of a tokenizer."""
  return any((directory / file).is_file() for file in _TOKENIZER_FILES)


def read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer | None:
  """The tokenizer of a model's directory; None where it has none.

  Raises:
    LmxError: it has more ids than `vocab_size`, the rows of the model's table.
  """
  found = next((file for file in _TOKENIZER_FILES if (directory / file).is_file()), None)
  if found is None:
    return None
  tokenizer = open_tokenizer(_TOKENIZER_FILES[found], str(directory / found), subject=str(directory / found))
  if tokenizer.vocab_size > vocab_size:
    allowed = f"at most {vocab_size}, the vocab_size of config.json: ids beyond it have no embedding"
    fix = "the tokenizer that belongs to this model"
    subject = f"{directory / found}: number of ids"
    raise LmxError(message(subject, got=tokenizer.vocab_size, allowed=allowed, fix=fix))
  return tokenizer


# ---------------------------------------------------------------- weights


def load_tensors(
  files: WeightFiles,
  matching: Matching,
  abstract: AbstractModel,
  layout: Layout,
  *,
  as_stored: bool = False,
  found: NonFinite | None = None,
) -> dict[str, jax.Array]:
  """Reads every parameter that the files have onto the mesh.

  Args:
    files: the weights.
    matching: of the same files.
    abstract: names, shapes and axes of the parameters.
    layout: the mesh.
    as_stored: keep the files' dtype; else float32.
    found: counts numbers that aren't finite.

  Returns:
    {dotted name: array}, without `matching.fresh`.
  """
  loaded: dict[str, jax.Array] = {}
  for name, bound in matching.bound.items():
    if name in matching.fresh:
      continue
    first = next((their_name for their_name, _ in bound.tensors()), None)
    dtype = files.dtype(matching.stored[first]) if as_stored and first is not None else np.dtype(np.float32)
    sharding = layout.param_sharding(name, bound.shape, abstract.axes[name])
    read = functools.partial(read_shard, bound, files, matching.stored, dtype=dtype, found=found)
    loaded[name] = jax.make_array_from_callback(bound.shape, sharding, read, dtype=dtype)
  return loaded


def read_shard(
  bound: Bound,
  files: WeightFiles,
  stored: Mapping[str, str],
  index: tuple[slice, ...],
  dtype: Any,
  found: NonFinite | None = None,
) -> np.ndarray:
  """Reads one rectangle of one parameter; padding rows of the vocabulary are zero.

  Args:
    bound: the parameter's rule.
    files: the weights.
    stored: name in the family's table -> name in the files.
    index: one slice per dimension of the parameter.
    dtype: of the result.
    found: counts numbers that aren't finite.
  """
  ranges = [part.indices(size)[:2] for part, size in zip(index, bound.shape, strict=True)]
  shard = np.zeros([stop - start for start, stop in ranges], dtype)
  if bound.rule.theirs is None:
    return shard
  # Each index into the stacked dimensions (layer, expert) is a separate tensor of theirs; `inner` is a rectangle of it.
  stacked, inner = ranges[: len(bound.leading)], ranges[len(bound.leading) :]
  view = bound.rule.view
  real = {  # The rectangle without padding rows, which their tensor lacks.
    letter: (start, min(stop, bound.sizes[letter]) if letter == VOCABULARY else stop)
    for letter, (start, stop) in zip(view.ours, inner, strict=True)
  }
  if any(stop <= start for start, stop in real.values()):
    return shard  # Only padding.
  filled = tuple(slice(0, stop - start) for start, stop in real.values())
  for position in itertools.product(*(range(start, stop) for start, stop in stacked)):
    at = tuple(number - start for number, (start, _) in zip(position, stacked, strict=True))
    if not bound.has(position):
      shard[at + filled] = bound.rule.unused
      continue
    name = stored[bound.rule.their_name(position)]
    read = functools.partial(files.read if found is None else found.counting(files.read), name)
    shard[at + filled] = view.read(read, real, bound.sizes, bound.start)
  return shard
