#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# ctranslate2 4.8.5: a GPT-2 with a layer_norm_epsilon other than 1e-5 is converted without it, and gives other logits.
#
# The converter's GPT2Loader never reads layer_norm_epsilon (those of BERT and Llama read theirs), so inference runs with
# ctranslate2's default of 1e-5. Nothing is reported. A small model with the default epsilon gives transformers' logits.
#
# Output seen (ctranslate2 4.8.5, transformers 5.23.0, torch 2.13.0 on CPU, Python 3.11):
#   layer_norm_epsilon 1e-05: largest difference of a logit 0.0000
#   layer_norm_epsilon 0.1: largest difference of a logit 1.8908
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q ctranslate2==4.8.5 transformers==5.23.0 torch==2.13.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import ctranslate2
import numpy as np
import tokenizers
import torch
import transformers
from ctranslate2.converters import TransformersConverter

WORDS = {"<unk>": 0, "</s>": 1, **{f"w{n}": n for n in range(2, 32)}}
IDS = [4, 7, 11, 15, 6]


def difference(epsilon: float, folder: Path) -> float:
  """The largest difference between the logits of transformers and of ctranslate2."""
  config = transformers.GPT2Config(
    vocab_size=32, n_embd=32, n_layer=2, n_head=2, n_positions=16, layer_norm_epsilon=epsilon, initializer_range=0.5,
    bos_token_id=1, eos_token_id=1,
  )  # fmt: skip
  torch.manual_seed(0)
  model = transformers.GPT2LMHeadModel(config).eval()
  model.save_pretrained(folder / "model")
  words = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="<unk>"))
  words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  names = {"unk_token": "<unk>", "bos_token": "</s>", "eos_token": "</s>"}
  transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder / "model")
  TransformersConverter(str(folder / "model")).convert(str(folder / "converted"))
  generator = ctranslate2.Generator(str(folder / "converted"), device="cpu", compute_type="float32")
  found = np.array(generator.forward_batch([[f"w{n}" for n in IDS]]))[0]
  with torch.no_grad():
    right = model(torch.tensor([IDS])).logits[0].numpy()
  return float(np.abs(found - right).max())


differences = {epsilon: difference(epsilon, Path(sys.argv[1]) / str(epsilon)) for epsilon in (1e-5, 0.1)}
for epsilon, largest in differences.items():
  print(f"layer_norm_epsilon {epsilon}: largest difference of a logit {largest:.4f}")
sys.exit(0 if differences[1e-5] < 1e-3 and differences[0.1] > 0.1 else 1)
PYTHON
