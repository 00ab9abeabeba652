# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reference values of `transformers`: saved tiny random models, their outputs, and gradients of the loss."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from tools.reference.cases import Case

Answers = dict[str, np.ndarray]
AFTER_EACH_SUM = ("bert", "roberta", "marian")  # Families whose norms leave no final one.


def write_model(case: Case, directory: Path) -> torch.nn.Module:
  """A random model, saved as `transformers` saves it; numbers are so large that every part of it counts."""
  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  config_class = transformers.CONFIG_MAPPING[case.family]
  given = {
    key: copy.deepcopy(value) for key, value in case.config.items() if key not in ("model_type", "architectures")
  }
  if "id2label" in given:
    given["id2label"] = {int(key): value for key, value in given["id2label"].items()}
  config = config_class(**given, attn_implementation="eager")
  torch.manual_seed(case.seed)
  model = getattr(transformers, case.architecture)(config).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      noise = torch.randn_like(parameter)
      if parameter.ndim == 1:
        parameter.add_(0.2 * noise)
      elif "embed_positions" not in name:
        parameter.copy_(noise / math.sqrt(parameter.shape[-1]))
  model.save_pretrained(directory)
  if case.family == "t5" and not case.config["tie_word_embeddings"]:
    _untie(directory)
    return load(case, directory)
  return model


def _untie(directory: Path) -> None:
  """Gives a T5 an output table of its own, as v1.1 has: transformers 5 reads such files, but makes no such models."""
  tensors = load_file(directory / "model.safetensors")
  tensors["lm_head.weight"] = torch.randn_like(tensors["shared.weight"]) / math.sqrt(tensors["shared.weight"].shape[-1])
  save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def load(case: Case, directory: Path) -> torch.nn.Module:
  """A model from its directory, as `transformers` reads it."""
  model = getattr(transformers, case.architecture).from_pretrained(directory, attn_implementation="eager").eval()
  model.config.pad_token_id = case.config["pad_token_id"]  # An export without a tokenizer lacks it.
  return model


def answers(model: torch.nn.Module, case: Case, batch: dict[str, np.ndarray]) -> Answers:
  """Outputs in lmx's names: logits or scores, the loss, and hidden states (see `_layers`)."""
  given = {name: torch.from_numpy(array).long() for name, array in batch.items() if array.dtype == np.int32}
  arguments = {"attention_mask": given["segment_ids"], "input_ids": given["tokens"]}
  if case.family == "mamba2":
    arguments.pop("attention_mask")
  if "token_types" in given:
    arguments["token_type_ids"] = given["token_types"]
  if "encoder_tokens" in given:
    arguments = {
      "input_ids": given["encoder_tokens"],
      "attention_mask": given["encoder_segment_ids"],
      "decoder_input_ids": given["tokens"],
    }
  output = model(**arguments, output_hidden_states=True)
  found: dict[str, torch.Tensor] = {}
  for name in ("hidden_states", "decoder_hidden_states", "encoder_hidden_states"):
    found |= _layers(case, "encoder_" if name.startswith("encoder") else "", getattr(output, name, None))
  if case.head == "span":
    found["scores"] = torch.stack([output.start_logits, output.end_logits], dim=-1)
  elif case.head == "embedding":
    found["scores"] = output.last_hidden_state[:, 0]
  elif case.head in ("language", "masked"):
    found["logits"] = output.logits
  else:
    found["scores"] = output.logits[..., 0] if case.head == "regression" else output.logits
  if "targets" in batch:
    found["loss"] = _loss(output.logits, batch)
  return {name: value.detach().numpy().astype(np.float32) for name, value in found.items()}


def _layers(case: Case, side: str, layers: tuple[torch.Tensor, ...] | None) -> dict[str, torch.Tensor]:
  """Hidden states by number: 0 is what entered the first block, n what block n gave; `final` is after a final norm.

  transformers gives the final norm's output in the place of the last block's; Mamba-2 leaves out the first instead.
  """
  named = list(layers or ())
  if not named or case.family in AFTER_EACH_SUM:
    return {f"{side}hidden.{number}": hidden for number, hidden in enumerate(named)}
  first = 1 if case.family == "mamba2" else 0
  found = {f"{side}hidden.{number}": hidden for number, hidden in enumerate(named[:-1], first)}
  return found if case.head == "masked" else found | {f"{side}final": named[-1]}  # Ours is after the head's transform.


def _loss(logits: torch.Tensor, batch: dict[str, np.ndarray]) -> torch.Tensor:
  """Mean cross-entropy over the weighted tokens."""
  targets, weights = torch.from_numpy(batch["targets"]).long(), torch.from_numpy(batch["loss_weights"])
  nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
  return (nll * weights).sum() / weights.sum()


def write_gradients(model: torch.nn.Module, case: Case, batch: dict[str, np.ndarray], file: Path) -> None:
  """The gradient of the loss with respect to every tensor, under the names of the weights."""
  model.zero_grad()
  trained = dict(model.named_parameters())
  if case.family == "marian":  # A buffer in transformers, which training leaves as it is; a parameter in lmx.
    trained["final_logits_bias"] = model.final_logits_bias.requires_grad_(True)
  arguments = {"input_ids": torch.from_numpy(batch["tokens"]).long()}
  arguments["attention_mask"] = torch.from_numpy(batch["segment_ids"])
  if "token_types" in batch:
    arguments["token_type_ids"] = torch.from_numpy(batch["token_types"]).long()
  if "encoder_tokens" in batch:
    arguments = {
      "input_ids": torch.from_numpy(batch["encoder_tokens"]).long(),
      "attention_mask": torch.from_numpy(batch["encoder_segment_ids"]),
      "decoder_input_ids": torch.from_numpy(batch["tokens"]).long(),
    }
  _loss(model(**arguments).logits, batch).backward()
  named = {}
  for name, parameter in trained.items():
    gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    named[name] = gradient.contiguous()
  save_file(named, file, metadata={"format": "pt"})


def note(case: Case, directory: Path) -> None:
  """Writes the case's options next to its model."""
  record = {"family": case.family, "head": case.head, "seed": case.seed, "transformers": transformers.__version__}
  (directory / "case.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
