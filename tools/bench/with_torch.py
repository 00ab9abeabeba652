# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The torch contestants: Hugging Face's GPT2LMHeadModel as its users train it. Imports neither jax nor lmx.

On CPUs from given parameters, eager, in float32; on one GPU with bfloat16 autocast over float32 weights, flash
attention through scaled-dot-product attention, and `torch.compile`. Fused AdamW and clipping in both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from tools.bench.shapes import NORM_EPS, SHAPES, UPDATE, Arrays, Batches, Shape, Turns, curve, read

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make(setting: Mapping[str, Any]) -> "Torch | Accelerator":
  """The contestant of a setting with `contestant`, `shape` and `folder`; or with a model's sizes, see `Accelerator`."""
  if "shape" not in setting:
    return Accelerator(setting)
  activation = "gelu_new" if setting["contestant"] == "torch" else "gelu_pytorch_tanh"
  return Torch(SHAPES[setting["shape"]], *read(Path(setting["folder"])), activation)


def state_of(parameters: Arrays, shape: Shape) -> dict[str, torch.Tensor]:
  """lmx's stacked arrays under Hugging Face's names; the padding rows of the vocabulary are left out."""
  d = shape.width
  state = {
    "transformer.wte.weight": parameters["token_embedding.embedding"][: shape.vocabulary],
    "transformer.wpe.weight": parameters["position_embedding.embedding"],
    "transformer.ln_f.weight": parameters["final_norm.scale"],
    "transformer.ln_f.bias": parameters["final_norm.bias"],
  }
  for i in range(shape.layers):
    here = {name.removeprefix("layers."): value[i] for name, value in parameters.items() if name.startswith("layers.")}
    qkv = [f"attention.{name}" for name in ("query", "key", "value")]
    layer = {
      "attn.c_attn.weight": np.concatenate([here[f"{name}.kernel"].reshape(d, d) for name in qkv], axis=1),
      "attn.c_attn.bias": np.concatenate([here[f"{name}.bias"].reshape(d) for name in qkv]),
      "attn.c_proj.weight": here["attention.out.kernel"].reshape(d, d),
      "attn.c_proj.bias": here["attention.out.bias"],
      "mlp.c_fc.weight": here["mlp.up.kernel"],
      "mlp.c_fc.bias": here["mlp.up.bias"],
      "mlp.c_proj.weight": here["mlp.down.kernel"],
      "mlp.c_proj.bias": here["mlp.down.bias"],
    }
    for ours, theirs in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
      layer |= {f"{theirs}.weight": here[f"{ours}.scale"], f"{theirs}.bias": here[f"{ours}.bias"]}
    state |= {f"transformer.h.{i}.{name}": value for name, value in layer.items()}
  state["lm_head.weight"] = state["transformer.wte.weight"]
  return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


class Torch:
  """GPT2LMHeadModel with its scaled-dot-product attention, and AdamW (fused, as transformers' Trainer has it).

  Args:
    activation: "gelu_new" is what GPT2Config says, and runs as eight operations; "gelu_pytorch_tanh" is the same
      function as one operation.
  """

  def __init__(self, shape: Shape, parameters: Arrays, batches: Batches, activation: str):
    config = transformers.GPT2Config(
      vocab_size=shape.vocabulary, n_positions=shape.context, n_embd=shape.width, n_layer=shape.layers,
      n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, layer_norm_epsilon=NORM_EPS,
      activation_function=activation, attn_implementation="sdpa", bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    self._model = transformers.GPT2LMHeadModel(config).train()
    self._model.load_state_dict(state_of(parameters, shape))
    matrices = [p for p in self._model.parameters() if p.dim() >= 2]
    vectors = [p for p in self._model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": UPDATE.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    self._optimizer = torch.optim.AdamW(
      groups, lr=UPDATE.learning_rate, betas=(UPDATE.b1, UPDATE.b2), eps=UPDATE.eps, fused=True
    )
    self._tokens = torch.from_numpy(batches["tokens"]).long()
    self._targets = torch.from_numpy(batches["targets"]).long()
    self._losses: list[torch.Tensor] = []

  def play(self, turns: Turns) -> None:
    while True:
      self.run(turns.next())

  def run(self, steps: int) -> None:
    for _ in range(steps):
      tokens, targets = self._tokens[len(self._losses)], self._targets[len(self._losses)]
      logits = self._model(input_ids=tokens, use_cache=False).logits
      loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
      loss.backward()
      torch.nn.utils.clip_grad_norm_(self._model.parameters(), UPDATE.clip_norm)
      self._optimizer.step()
      self._optimizer.zero_grad(set_to_none=True)
      self._losses.append(loss.detach())

  def results(self) -> dict[str, Any]:
    return curve([float(loss) for loss in self._losses])


class Accelerator:
  """GPT2LMHeadModel on one accelerator, over one batch of random tokens.

  Args:
    setting: `layers`, `width`, `heads`, `context`, `vocabulary`, `rows`; `compiled`: by torch.compile; `checkpointing`:
      whether activations are computed again.
  """

  def __init__(self, setting: Mapping[str, Any]):
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    self._model = accelerator_model(setting)
    self._optimizer = torch.optim.AdamW(
      self._model.parameters(), lr=2e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    shape = (setting["rows"], setting["context"] + 1)
    self._batch = torch.randint(setting["vocabulary"], shape, device=DEVICE)
    self._loss = torch.compile(self._forward) if setting["compiled"] else self._forward
    self._losses: list[torch.Tensor] = []

  def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
    with torch.autocast(DEVICE, torch.bfloat16):
      logits = self._model(input_ids=tokens[:, :-1]).logits
      return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

  def play(self, turns: Turns) -> None:
    while True:
      self.run(turns.next())

  def run(self, steps: int) -> None:
    for _ in range(steps):
      loss = self._loss(self._batch)
      loss.backward()
      torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
      self._optimizer.step()
      self._optimizer.zero_grad(set_to_none=True)
      self._losses.append(loss.detach())
    float(self._losses[-1])  # Waits for the device.

  def results(self) -> dict[str, Any]:
    """The losses, the most bytes allocated, parameters and tokens of a batch."""
    return curve([float(loss) for loss in self._losses]) | {
      "bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0,
      "parameters": sum(p.numel() for p in self._model.parameters()),
      "tokens": self._batch.shape[0] * (self._batch.shape[1] - 1),
    }


def accelerator_model(setting: Mapping[str, Any]) -> torch.nn.Module:
  config = transformers.GPT2Config(
    vocab_size=setting["vocabulary"], n_positions=setting["context"], n_embd=setting["width"],
    n_layer=setting["layers"], n_head=setting["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    activation_function="gelu_pytorch_tanh", attn_implementation="sdpa", bos_token_id=0, eos_token_id=0,
    use_cache=False,
  )  # fmt: skip
  model = transformers.GPT2LMHeadModel(config).to(DEVICE).train()
  if setting["checkpointing"]:  # Rematerialization.
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
  return model
