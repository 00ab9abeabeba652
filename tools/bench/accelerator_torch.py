# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""torch's side of the accelerator benchmark: GPT2LMHeadModel as its users train it on one GPU. Imports no lmx.

bfloat16 autocast over float32 weights, flash attention through scaled-dot-product attention, fused AdamW, clipping,
`torch.compile`. Reads and answers JSON lines as tools/bench/accelerator_lmx.py does:
`{"layers": 24, "width": 2048, "heads": 16, "context": 2048, "vocabulary": 50304, "rows": 16, "compiled": true,
"windows": 3, "steps": 10}`.
"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
import transformers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_model(setting: Mapping[str, Any]) -> torch.nn.Module:
  config = transformers.GPT2Config(
    vocab_size=setting["vocabulary"], n_positions=setting["context"], n_embd=setting["width"],
    n_layer=setting["layers"], n_head=setting["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    activation_function="gelu_pytorch_tanh", attn_implementation="sdpa", bos_token_id=0, eos_token_id=0,
    use_cache=False,
  )  # fmt: skip
  model = transformers.GPT2LMHeadModel(config).to(DEVICE).train()
  if setting["checkpointing"]:  # What torch calls rematerialisation.
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
  return model


def measure(setting: Mapping[str, Any]) -> dict[str, Any]:
  """Trains for some windows of steps; seconds, losses, bytes and parameters."""
  torch.manual_seed(0)
  torch.set_float32_matmul_precision("high")
  model = make_model(setting)
  optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
  tokens = torch.randint(setting["vocabulary"], (setting["rows"], setting["context"] + 1), device=DEVICE)

  def loss_of(tokens: torch.Tensor) -> torch.Tensor:
    with torch.autocast(DEVICE, torch.bfloat16):
      logits = model(input_ids=tokens[:, :-1]).logits
      return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

  if setting["compiled"]:
    loss_of = torch.compile(loss_of)

  def step() -> torch.Tensor:
    loss = loss_of(tokens)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()

  start = time.perf_counter()
  losses = [float(step())]
  first = time.perf_counter() - start
  loss = step()
  seconds = []
  for _ in range(setting["windows"]):
    float(loss)
    start = time.perf_counter()
    for _ in range(setting["steps"]):
      loss = step()
    losses.append(float(loss))
    seconds.append((time.perf_counter() - start) / setting["steps"])
  return {
    "seconds": seconds,
    "first_step_seconds": first,
    "losses": losses,
    "bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0,
    "parameters": sum(p.numel() for p in model.parameters()),
    "tokens": setting["rows"] * setting["context"],
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
  }


def main() -> None:
  for line in sys.stdin:
    try:
      answer = measure(json.loads(line))
    except torch.cuda.OutOfMemoryError as error:  # The next setting may fit.
      answer = {"error": str(error)[:2000]}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
