# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Translates a config.json to a family, keys of config.model, a head and labels, and back."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmx.errors import ConfigError, LmxError, choose, message
from lmx.hf.carried import CONFIG_FILE
from lmx.hf.families import FAMILIES
from lmx.hf.family import Family
from lmx.hf.files import read_json
from lmx.hf.sentence import SentenceModel, read_sentence_model
from lmx.hf.settings import REQUIRED, HFConfig, Keys
from lmx.models import MODELS

_LENGTH = 1024  # config.data.length of an imported run, unless its context is shorter.
# Fields of a spec for training or execution, which don't change what a model computes.
_OF_TRAINING = frozenset({"dropout", "init", "init_std", "load_balance", "router_z", "mamba_chunk", "carry_state",
                          "dtype", "quantization", "attention", "layer_loop", "remat", "remat_keep",
                          "stage_rounds", "stage_micro_batches", "loss_chunks", "vocab_multiple"})  # fmt: skip
OBJECTIVES = {"language": "causal", "masked": "masked", "classification": "classification", "regression": "regression",
              "span": "span", "tagging": "tagging", "embedding": "contrastive"}  # fmt: skip
LABELLED = ("classification", "tagging")


@dataclasses.dataclass(frozen=True)
class Description:
  """The contents of a config.json, in lmx's terms.

  Attributes:
    family: a row of `FAMILIES`.
    model: keys of config.model.
    head: a row of `HEADS`.
    labels: names of the classes; () for heads without classes.
    multi_label: whether an example may have several labels.
    vocab_size: rows of the embedding table.
    unused: keys of the file that have no effect.
    other_head: whether the head was given by the caller, or differs from that of the file's class.
    sentence: the settings of sentence-transformers' files; None without them.
  """

  family: Family
  model: Keys
  head: str
  labels: tuple[str, ...]
  multi_label: bool
  vocab_size: int
  unused: tuple[str, ...]
  other_head: bool = False
  sentence: SentenceModel | None = None

  @property
  def outputs(self) -> int:
    """Number of scores of the head."""
    return max(1, len(self.labels))

  @property
  def objective(self) -> str:
    """The objective that trains such a model."""
    return "seq2seq" if self.model["family"] == "encoder_decoder" else OBJECTIVES[self.head]

  def settings(self) -> dict[str, Any]:
    """Dotted keys of a full config, for all that the file determines."""
    labels = {"objective.labels": self.labels, "objective.multi_label": self.multi_label} if self.labels else {}
    model = {f"model.{key}": value for key, value in self.model.items()}
    length = min(self.model["context"], _LENGTH)
    if self.sentence is not None and self.sentence.length is not None and self.head == "embedding":
      length = min(self.model["context"], self.sentence.length)
    data = {"data.length": length}
    return {**model, "model.vocab_size": self.vocab_size, "objective.name": self.objective, **labels, **data}


def describe(directory: Path, head: str | None = None, labels: Sequence[str] = ()) -> Description:
  """Reads a directory's config.json.

  Args:
    directory: of a Hugging Face model.
    head: a row of `HEADS` to use instead of the model's own; None: its own.
    labels: with `head`: the names of its classes.

  Raises:
    LmxError: a family, a class or a setting that lmx doesn't support.
  """
  values = read_json(directory / CONFIG_FILE)
  where = str(directory / CONFIG_FILE)
  if "vocab_size" not in values and "model_type" not in values:
    raise LmxError(f"{where}: has no model_type. Fix: give the directory of a Hugging Face model; a run of lmx is "
                   "loaded with lmx.load, and exported with lmx export.")  # fmt: skip
  named = HFConfig(values, where).take("model_type", REQUIRED, str, nullable=False)
  family = choose(f"{where}: model_type", named, FAMILIES)
  settings = HFConfig(values, where, family.aliases)
  settings.used.add("model_type")
  _check_whole(settings)
  model: Keys = {}
  for line in family.lines:
    line.read(settings, model)
  vocab_size = settings.take("vocab_size", REQUIRED, int, nullable=False)
  own, own_labels, multi = _head_of(family, settings)
  sentence = _sentence(directory, model["width"], head, own)
  chosen = head or ("embedding" if sentence is not None and own in _VOCABULARIES else own)
  choose(f"head of a {family.name} model", chosen, dict(family.heads))
  _check_needs(family, chosen, model, where)
  pooling = model.get("pooling") if sentence is None else sentence.pooling
  model |= {"pooling": pooling} | family.heads[chosen].ours
  if chosen != own:
    own_labels, multi = (), False
  if chosen in LABELLED and not (labels or own_labels):
    fix = "--labels=negative,positive"
    raise LmxError(message(f"labels of a {chosen} head", got=(), allowed="the names of the classes, in order", fix=fix))
  names = tuple(labels or own_labels) if chosen in LABELLED else ()
  unused = tuple(sorted(key for key in set(values) - settings.used if not _HARMLESS.fullmatch(key)))
  return Description(
    family, model, chosen, names, multi, vocab_size, unused, head is not None or chosen != own, sentence
  )


_VOCABULARIES = ("language", "masked")  # Heads that sentence-transformers drops: it reads the backbone only.
# Objects that describe a further model, or another storage of the weights.
_PARTS = ("text_config", "decoder", "encoder", "generator", "text_encoder", "vision_config", "audio_config",
          "quantization_config", "per_layer_config")  # fmt: skip


def _check_whole(settings: HFConfig) -> None:
  """Checks that the file describes a single model with unquantized weights."""
  for key in _PARTS:
    if isinstance(settings.values.get(key), dict) and settings.values[key]:
      raise settings.refuse(key, settings.values[key], "the config.json of a text-only model with unquantized weights")
  start, pad = (settings.values.get(key) for key in ("decoder_start_token_id", "pad_token_id"))
  if start is not None and pad is not None and start != pad:
    raise settings.refuse("decoder_start_token_id", start, f"{pad}, the pad_token_id: lmx's decoders start with it")


def _sentence(directory: Path, width: int, head: str | None, own: str) -> SentenceModel | None:
  """The settings of sentence-transformers' files, for a model that is used for embeddings.

  It is one if `head` (that of the caller) says so, or if there is none and the model's own head is for embeddings or is
  one that sentence-transformers drops.
  """
  if head not in (None, "embedding") or (head is None and own not in (*_VOCABULARIES, "embedding")):
    return None
  return read_sentence_model(directory, width)


def _check_needs(family: Family, head: str, model: Keys, where: str) -> None:
  for key, needed in family.heads[head].needs.items():
    if model[key] != needed:
      subject = f"{where}: config.model.{key} of a {family.name} model with a {head} head"
      raise LmxError(message(subject, got=model[key], allowed=[needed]))


# Keys that don't change a trained model's outputs, or that repeat other keys.
_HARMLESS = re.compile(
  r"architectures|transformers_version|torch_dtype|dtype|use_cache|_name_or_path|id2label|label2id|problem_type|num_labels|"
  r"(.*_)?(bos|eos|pad|sep|cls|mask|unk|start)_token_id|init.*|gradient_checkpointing|task_specific_params|_.*|summary_.*|"
  r"finetuning_task|output_.*|is_(encoder_)?decoder|classifier_dropout|.*layerdrop|residual_in_fp32|time_step_.*|"
  r"rescale_prenorm_residual|reorder_and_upcast_attn|activation_dropout|max_window_layers|decoder_vocab_size|"
  r"(max|min)_length|num_beams|bad_words_ids|tokenizer_class|.*cache.*"
)


def _head_of(family: Family, settings: HFConfig) -> tuple[str, tuple[str, ...], bool]:
  """(head, labels, whether examples may have several) of the class in `architectures`."""
  given = settings.take("architectures", None, list)
  names = {name: head for head, row in reversed(list(family.heads.items())) for name in row.architectures}
  if not given:
    return next(iter(family.heads)), (), False
  if not isinstance(given[0], str) or given[0] not in names:
    raise settings.refuse("architectures", given[0], list(names))
  head, ordered = names[given[0]], _labels_of(settings)
  problem = settings.take("problem_type", None, str)
  if head in ("classification", "regression"):
    head = "regression" if problem == "regression" or (problem is None and len(ordered) == 1) else "classification"
    if head == "regression" and len(ordered) > 1:
      raise settings.refuse("id2label", ordered, "one value for a regression")
  return head, ordered if head in LABELLED else (), problem == "multi_label_classification"


def _labels_of(settings: HFConfig) -> tuple[str, ...]:
  """The names of the classes, in the order of their numbers."""
  count = settings.take("num_labels", None, int)
  labels = settings.take("id2label", None, dict)
  if labels is None:
    count = 2 if count is None else count
    if not 1 <= count <= _MOST_LABELS:
      raise settings.refuse("num_labels", count, f"1 to {_MOST_LABELS}")
    return tuple(f"LABEL_{n}" for n in range(count))
  wanted = {str(number) for number in range(len(labels))}
  if set(labels) != wanted or not all(isinstance(label, str | int | float) for label in labels.values()):
    raise settings.refuse("id2label", labels, "a name for each number from 0 on")
  if count is not None and count != len(labels):
    raise settings.refuse("num_labels", count, f"{len(labels)}, the number of names in id2label")
  return tuple(str(labels[str(number)]) for number in range(len(labels)))


_MOST_LABELS = 100_000


def make_spec(model: Mapping[str, Any], *, vocab_size: int, head: str, outputs: int, **compute: Any) -> Any:
  """The spec of a model.

  Args:
    model: keys of config.model.
    vocab_size: rows of the embedding table.
    head: a row of `HEADS`.
    outputs: number of scores of the head.
    **compute: further fields of the spec: dtype, attention and the like.

  Raises:
    LmxError: a key that our family doesn't have, unless its value turns the feature off.
  """
  row = choose("config.model.family", model["family"], MODELS)
  fields = {field.name for field in dataclasses.fields(row.spec)}
  given = {**model, **compute, "vocab_size": vocab_size, "head": head, "outputs": outputs}
  for key in set(model) - fields - {"family"}:
    if model[key] not in (None, False, 0, "none"):
      raise LmxError(f"config.model.{key} = {model[key]!r}: lmx's {model['family']} has no such setting.")
  return row.make_spec(given)


def write_settings(family: Family, model: Mapping[str, Any], spec: Any) -> tuple[Keys, Any]:
  """The config.json of a model in a family, without labels and token ids.

  The written keys are read back and compared with the spec, so that nothing the family can't express gets lost.

  Args:
    family: the family to write the model as.
    model: keys of config.model and all fields of the spec, with derived sizes filled in.
    spec: of the model.

  Returns:
    (keys of config.json, the spec of the written model: it may have biases, and a table of token types, that this model
    lacks; see `_ZEROS`).

  Raises:
    LmxError: the family can't express this model; it names the keys.
  """
  if family.ours != model["family"]:
    raise LmxError(message(f"model.family of a {family.name} model", got=model["family"], allowed=[family.ours]))
  if spec.head not in family.heads:
    raise LmxError(message(f"head of a {family.name} model", got=spec.head, allowed=list(family.heads)))
  written: Keys = {}
  for line in family.lines:
    line.write(_with_zeros(model), written)
  understood: Keys = {}
  settings = HFConfig(written, f"a {family.name} model")
  for line in family.lines:
    line.read(settings, understood)
  _check_needs(family, spec.head, understood, settings.where)
  pooling = model["pooling"] if spec.head == "embedding" else understood.get("pooling", model["pooling"])
  understood |= {"pooling": pooling, **family.heads[spec.head].ours}
  again = make_spec(understood, vocab_size=spec.vocab_size, head=spec.head, outputs=spec.outputs)
  different = differences(spec, again)
  problems = [message(f"config.model.{field} of a {family.name} model", got=ours, allowed=[theirs],
                      fix=f"--config.model.{field}={theirs}")
              for field, ours, theirs in different if (field, ours, theirs) not in _ZEROS]  # fmt: skip
  if problems:
    raise ConfigError(problems)
  return written, dataclasses.replace(spec, **{field: theirs for field, _, theirs in different})


# (key, value here, value in the family) of parts that this model may lack: filled with zeros, they change no output.
_ZEROS = (("attention_bias", False, True), ("attention_out_bias", False, True), ("mlp_bias", False, True),
          ("norm_bias", False, True), ("output_bias", False, True), ("transform_bias", False, True),
          ("token_types", 0, 2))  # fmt: skip


def _with_zeros(model: Mapping[str, Any]) -> Mapping[str, Any]:
  """The keys of a model, with the table of token types that BERT's class always has."""
  return {**model, "token_types": 2} if model.get("token_types") == 0 else model


def differences(spec: Any, again: Any) -> list[tuple[str, Any, Any]]:
  """(field, value in `spec`, value in `again`) of the fields that make two models compute different outputs."""
  found = []
  for field in dataclasses.fields(spec):
    ours, theirs = (getattr(one, field.name) for one in (spec, again))
    if field.name not in _OF_TRAINING and ours != theirs and not _not_read(field.name, spec):
      found.append((field.name, ours, theirs))
  return found


def _not_read(field: str, spec: Any) -> bool:
  """Whether a setting has no effect on this model, given its other settings."""
  scored = spec.head in ("classification", "regression", "span", "tagging")
  conditions = {
    ("rope_theta", "rope_scaling", "rope_factor", "rope_original_context", "rope_local_theta"): spec.position
    != "rotary",
    ("relative_buckets", "relative_distance"): spec.position != "relative",
    ("pooling",): spec.head not in ("classification", "regression", "embedding"),
    ("pooler", "head_bias"): spec.head not in ("classification", "regression"),
    ("head_transform",): not scored,
    ("transform_bias",): spec.head != "masked" and not (scored and spec.head_transform),
    ("context",): spec.unlimited,
  }
  return any(field in fields and unread for fields, unread in conditions.items())
