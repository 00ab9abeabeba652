#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# transformers 5.23.0: save_pretrained of a tokenizer saves the truncation and padding of whatever text came last.
#
# Calling a fast tokenizer with truncation=True, max_length=8 sets them on the tokenizer inside, and save_pretrained writes
# them into tokenizer.json. transformers itself resets them with every call, so its user sees nothing; every program that
# opens the file with the tokenizers library cuts or pads all texts to 8 tokens from then on, without a word.
#
# Output seen (transformers 5.23.0, tokenizers 0.23.3, Python 3.11):
#   saved before any call: tokenizers 20 tokens, transformers 20 tokens
#   saved after a call with max_length=8: tokenizers 8 tokens, transformers 20 tokens
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import tokenizers
import transformers

TEXT = " ".join(f"w{n}" for n in range(20))


def lengths(folder: Path, **call: object) -> tuple[int, int]:
  """Tokens of a text by the saved file: of the tokenizers library, and of transformers."""
  words = {"<unk>": 0, "<pad>": 1, **{f"w{n}": n + 2 for n in range(20)}}
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>")
  if call:
    fast("w1 w2 w3", **call)
  fast.save_pretrained(folder)
  plain = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
  return len(plain.encode(TEXT).ids), len(transformers.AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"])


before = lengths(Path(sys.argv[1]) / "before")
after = lengths(Path(sys.argv[1]) / "after", truncation=True, max_length=8)
print("saved before any call: tokenizers {} tokens, transformers {} tokens".format(*before))
print("saved after a call with max_length=8: tokenizers {} tokens, transformers {} tokens".format(*after))
sys.exit(0 if (before, after) == ((20, 20), (8, 20)) else 1)
PYTHON
