# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A Hugging Face model as parameters of ours, read slice by slice from its files straight onto a mesh."""

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
  """A model from elsewhere.

  Attributes:
    directory: where it was read from.
    description: what it is.
    settings: dotted keys of a config; the rest of it is as in configs/base.py.
    spec: the model's.
    plan: names, shapes and axes of its parameters.
    layout: the mesh they lie on.
    parameters: {dotted name: array}.
    tokenizer: None where the directory has none that lmx reads.
    fresh: names of parameters that the files didn't have, and that were drawn from the seed.
    left_out: names of tensors that nothing was made of.
    bytes: size of the files.
    nonfinite: {name of a tensor: numbers in it that are NaN or infinite}.
  """

  directory: Path
  description: Description
  settings: dict[str, Any]
  spec: Any
  plan: AbstractModel
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
    return self.plan.join(self.parameters)


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

  Every parameter is made shard by shard through `jax.make_array_from_callback`: host memory holds one shard of one
  parameter at a time beside the result, never a whole file.

  Args:
    path_or_name: a directory with config.json and safetensors, or a name on the hub where there is a network. A
      directory with adapter_config.json is read with its adapter merged into its base's weights.
    mesh: None: the first device.
    head: a row of `HEADS` to end the model in instead of its own; what the files lack of it is drawn from the seed.
    labels: with `head`: the names of its classes.
    tokenizer: the directory of another tokenizer than the model's own.
    dtype: what the model computes in; None: bfloat16 where the files hold that, else float32.
    as_stored: keep the files' dtype; by default parameters are float32, whatever the files hold.
    seed: of what is drawn.
    nonfinite: of weights with NaN or infinity: stop | keep (they are counted in the result).

  Raises:
    LmxError: no such model; weights that are pickled; weights that are not finite, unless they are to be kept; a family
      or setting that lmx lacks; tensors that are missing, have no place or have another shape; a tokenizer with more
      ids than the model's table.
  """
  directory = model_directory(path_or_name)
  with open_weights(directory) as files:
    base = files.directory
    described = _describe(files, head, labels)
    check_sizes(described, files)
    description = really_tied(described, files)
    own = directory if has_tokenizer(directory) else base  # An adapter may bring its own.
    reads = read_tokenizer(own if tokenizer is None else Path(tokenizer).expanduser(), description.vocab_size)
    return _import(files, description, reads, mesh, dtype, as_stored, seed, nonfinite)


def _describe(files: WeightFiles, head: str | None, labels: tuple[str, ...]) -> Description:
  """What the model is; an adapter for a task brings the head that its base lacks."""
  found = describe(files.directory, head, labels)
  wanted = files.heads if isinstance(files, AdaptedFiles) and head is None else ()
  return found if not wanted or found.head in wanted else describe(files.directory, wanted[0], labels)


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
  plan = abstract_model(make)
  matching = match(description, plan, files)
  fresh: dict[str, jax.Array] = {}
  if matching.fresh:
    fresh = init_parameters(make, jax.random.key(seed), plan, plan.template(layout), matching.fresh)
  parameters = fresh | load_tensors(files, matching, plan, layout, as_stored=as_stored, found=found)
  found.raise_if_any(files)
  settings = description.settings() | {"compute.dtype": spec.dtype, "tokenizer.framing": "own"}
  return Imported(
    directory=files.directory,
    description=description,
    settings=settings,
    spec=spec,
    plan=plan,
    layout=layout,
    parameters={name: parameters[name] for name in plan.shapes},
    tokenizer=tokenizer,
    fresh=tuple(fresh),
    left_out=matching.left_out,
    bytes=files.bytes,
    nonfinite=found.counts,
  )


def has_tokenizer(directory: Path) -> bool:
  """Whether a directory has a tokenizer's file."""
  return any((directory / file).is_file() for file in _TOKENIZER_FILES)


def read_tokenizer(directory: Path, vocab_size: int) -> Tokenizer | None:
  """The tokenizer of a model's directory, or None.

  Raises:
    LmxError: it has more ids than the model's table has rows.
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


# ---------------------------------------------------------------- numbers


def load_tensors(
  files: WeightFiles,
  matching: Matching,
  plan: AbstractModel,
  layout: Layout,
  *,
  as_stored: bool = False,
  found: NonFinite | None = None,
) -> dict[str, jax.Array]:
  """Every parameter that the files have, on the mesh: {dotted name: array}.

  Args:
    files: the weights.
    matching: of the same files.
    plan: names, shapes and axes of the parameters.
    layout: the mesh.
    as_stored: keep the files' dtype; else float32.
    found: counts what isn't finite.
  """
  loaded: dict[str, jax.Array] = {}
  for name, bound in matching.bound.items():
    if name in matching.fresh:
      continue
    first = next((their_name for their_name, _ in bound.tensors()), None)
    dtype = files.dtype(matching.stored[first]) if as_stored and first is not None else np.dtype(np.float32)
    sharding = layout.param_sharding(name, bound.shape, plan.axes[name])
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
  """One rectangle of one parameter: rows of padding are zero.

  Args:
    bound: the parameter's rule.
    files: the weights.
    stored: name in the family's table -> name in the files.
    index: a slice of each of our dimensions.
    dtype: of the result.
    found: counts what isn't finite.
  """
  ranges = [part.indices(size)[:2] for part, size in zip(index, bound.shape, strict=True)]
  shard = np.zeros([stop - start for start, stop in ranges], dtype)
  if bound.rule.theirs is None:
    return shard
  stacked, inner = ranges[: len(bound.leading)], ranges[len(bound.leading) :]
  view = bound.rule.view
  real = {
    letter: (start, min(stop, bound.sizes[letter]) if letter == VOCABULARY else stop)
    for letter, (start, stop) in zip(view.ours, inner, strict=True)
  }
  if any(stop <= start for start, stop in real.values()):
    return shard  # Nothing but padding.
  place = tuple(slice(0, stop - start) for start, stop in real.values())
  for position in itertools.product(*(range(start, stop) for start, stop in stacked)):
    at = tuple(number - start for number, (start, _) in zip(position, stacked, strict=True))
    if not bound.has(position):
      shard[at + place] = bound.rule.unused
      continue
    name = stored[bound.rule.their_name(position)]
    read = functools.partial(files.read if found is None else found.counting(files.read), name)
    shard[at + place] = view.read(read, real, bound.sizes, bound.start)
  return shard
