#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# transformers 5.23.0: AutoTokenizer rebuilds valid tokenizers and gives other ids than their files say.
#
# 1. A tokenizer.json in a folder of model_type qwen2 is read as Qwen2Tokenizer whatever tokenizer_config.json names: a
#    splitting on words, NFC and byte-level characters take the place of the file's own parts, without a word. The same
#    two files in a folder of model_type qwen3 give the file's ids.
# 2. A SentencePiece tokenizer.model with add_dummy_prefix (the trainer's default) in a folder that names no tokenizer
#    class loses the space before the first word.
#
# Output seen (transformers 5.23.0, tokenizers 0.23.3, sentencepiece 0.2.3, Python 3.11):
#   qwen2: file [2, 4], AutoTokenizer [2, 3] (Qwen2Tokenizer)
#   qwen3: file [2, 4], AutoTokenizer [2, 4] (TokenizersBackend)
#   llama, no class: sentencepiece ['_The', '_dog'], AutoTokenizer ['The', '_dog'] (_ is U+2581)
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q transformers==5.23.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder" <<'PYTHON'
import io
import json
import sys
from pathlib import Path


def qwen2(folder: Path) -> bool:
  """Whether the surprise is there: qwen2 gives other ids than qwen3 and the file."""
  import tokenizers
  import transformers

  pieces = tokenizers.Tokenizer(tokenizers.models.BPE({"</s>": 0, " ": 1, "a": 2, "b": 3, " b": 4}, [(" ", "b")]))
  pieces.add_special_tokens(["</s>"])
  expected = pieces.encode("a b").ids
  found = {}
  for family in ("qwen2", "qwen3"):
    (folder / family).mkdir()
    pieces.save(str(folder / family / "tokenizer.json"))
    (folder / family / "config.json").write_text(json.dumps({"model_type": family}))
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / family / "tokenizer_config.json").write_text(json.dumps(stated))
    reader = transformers.AutoTokenizer.from_pretrained(folder / family)
    found[family] = reader.encode("a b", add_special_tokens=False)
    print(f"{family}: file {expected}, AutoTokenizer {found[family]} ({type(reader).__name__})")
  return found["qwen2"] != expected == found["qwen3"]


def dummy_prefix(folder: Path) -> bool:
  """Whether the surprise is there: the first word's space is lost."""
  import sentencepiece
  import transformers

  model = io.BytesIO()
  lines = ["The dog and the fox saw the bird", "The bird saw the dog"] * 30
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, vocab_size=330, model_type="bpe", byte_fallback=True,
    hard_vocab_limit=False, minloglevel=2,
  )  # fmt: skip
  folder.mkdir()
  (folder / "tokenizer.model").write_bytes(model.getvalue())
  (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
  processor = sentencepiece.SentencePieceProcessor()
  processor.load_from_serialized_proto(model.getvalue())
  right = processor.encode("The dog")
  found = transformers.AutoTokenizer.from_pretrained(folder).encode("The dog", add_special_tokens=False)
  print("llama, no class: sentencepiece", processor.id_to_piece(right), "AutoTokenizer", processor.id_to_piece(found))
  return found != right


folder = Path(sys.argv[1])
there = [qwen2(folder), dummy_prefix(folder / "llama")]
print("as described" if all(there) else f"changed: {there}")
sys.exit(0 if all(there) else 1)
PYTHON
