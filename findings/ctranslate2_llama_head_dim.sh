#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# ctranslate2 4.8.5: a Llama whose head_dim is not hidden_size / num_attention_heads is converted without a word, wrongly.
#
# LlamaLoader doesn't pass head_dim on (GemmaLoader, MistralLoader and Qwen3Loader do), so attention is computed with
# hidden_size / num_attention_heads: the query of one head is cut into the queries of two. Nothing is reported.
#
# Output seen (ctranslate2 4.8.5, transformers 5.23.0, torch 2.13.0 on CPU, Python 3.11):
#   head_dim 16: largest difference of a logit 0.0000
#   head_dim 32: largest difference of a logit 0.1841
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


def difference(head_dim: int, folder: Path) -> float:
  """The largest difference between the logits of transformers and of ctranslate2."""
  config = transformers.LlamaConfig(
    vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=head_dim,
    intermediate_size=48, max_position_embeddings=16, initializer_range=0.5, bos_token_id=1, eos_token_id=1,
  )  # fmt: skip
  torch.manual_seed(0)
  model = transformers.LlamaForCausalLM(config).eval()
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


differences = {size: difference(size, Path(sys.argv[1]) / str(size)) for size in (16, 32)}  # 16 = 32 / 2 heads.
for size, largest in differences.items():
  print(f"head_dim {size}: largest difference of a logit {largest:.4f}")
sys.exit(0 if differences[16] < 1e-3 and differences[32] > 0.05 else 1)
PYTHON
