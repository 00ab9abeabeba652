# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Small models of every family with other tokenizers than they came with, for tests of the texts of exports."""

import dataclasses
import functools
import io
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece
import tokenizers
from flax import nnx
from golden_models import GOLDEN
from tokenizers import normalizers, pre_tokenizers, processors

from lmx.api.loaded_run import LoadedRun
from lmx.config.loading import from_values
from lmx.data.tokenizers.tokenizer import (
  ByteTokenizer,
  HuggingFaceTokenizer,
  SentencePieceTokenizer,
  Tokenizer,
  train_sentencepiece,
)
from lmx.data.tokenizers.tokenizer_classes import QWEN_WORDS
from lmx.hf.importing import import_hf
from lmx.models import MODELS
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.training.state import abstract_model

CORPUS = [
  "The quick brown fox jumps over a dog.\n    It was 1984, and 12345 of them were there;\n\n\tno one said why.\n",
  "def main(argv):\n  for i in range(10):\n    print(i, argv[i])  # so ----------\n  return {'key': [1, 2, 3]}\n",
  "caf\u00e9, na\u00efve, \u65e5\u672c\u8a9e and \U0001f389 are words, are they? Yes: they are! (Mostly.) ========\n",
] * 20
# Texts that tokenizers disagree about: spaces everywhere, bytes, marks, runs.
TEXTS = [
  "The dog jumps",
  " leading and trailing ",
  "two  spaces,   three\n\n\nlines\t\ttabs\r\n",
  "caf\u00e9 e\u0301 \ufb01 \u65e5\u672c\u8a9e \U0001f389 \u2581 x",
  "1234567890 -------- ======== a" + " " * 17 + "b",
  "\n",
  "<0x0A> written out, unseen: \u0416\u03c8\u2603 it's we'll CAN'T",
  CORPUS[0] + CORPUS[1],
]


def byte_pairs(*special: str, size: int = 500) -> tokenizers.Tokenizer:
  """GPT-2's kind of tokenizer."""
  tokenizer = tokenizers.ByteLevelBPETokenizer()
  tokenizer.train_from_iterator(CORPUS, vocab_size=size, special_tokens=list(special), show_progress=False)
  return tokenizer._tokenizer


def word_pieces() -> tokenizers.Tokenizer:
  """BERT's kind."""
  tokenizer = tokenizers.BertWordPieceTokenizer()
  tokenizer.train_from_iterator(CORPUS, vocab_size=300, show_progress=False)
  return tokenizer._tokenizer


@functools.cache
def tokenizer(kind: str) -> Tokenizer:
  """A tokenizer of some kind, by name."""
  if kind == "bytes":
    return ByteTokenizer()
  if kind.startswith("sentencepiece"):
    _, _, more = kind.partition("+")
    return train_sentencepiece(CORPUS, vocab_size=420, model_type="bpe").extended(int(more or 0))
  if kind == "t5":
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=87,
                                             model_type="unigram", minloglevel=2, hard_vocab_limit=False)  # fmt: skip
    return SentencePieceTokenizer(model.getvalue())
  if kind in ("char", "unigram"):
    return train_sentencepiece(CORPUS, vocab_size=340, model_type=kind)
  made, names = published(kind)
  return HuggingFaceTokenizer(made.to_str().encode(), json.dumps(names).encode(), where=kind)


def published(kind: str) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
  """A tokenizer as a family was published with it, and the names of its special tokens."""
  if kind == "word pieces":
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return word_pieces(), {**names, "unk_token": "[UNK]"}
  if kind == "roberta":
    made = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return made, {**names, "unk_token": "<unk>", "mask_token": "<mask>"}
  if kind == "modernbert":
    made = byte_pairs("[UNK]", "[CLS]", "[SEP]", "[PAD]")
    made.add_special_tokens([tokenizers.AddedToken("[MASK]", lstrip=True)])
    made.add_tokens([tokenizers.AddedToken(" " * count, normalized=True) for count in (4, 3, 2)])
    made.normalizer = normalizers.NFC()
    made.post_processor = processors.TemplateProcessing(
      single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return made, {**names, "unk_token": "[UNK]", "tokenizer_class": "PreTrainedTokenizerFast"}
  if kind == "llama":
    made = byte_pairs("<|begin|>", "<|end|>")
    begins = {"single": "<|begin|> $A", "pair": "<|begin|> $A <|begin|>:1 $B:1"}
    made.post_processor = processors.TemplateProcessing(**begins, special_tokens=[("<|begin|>", 0)])
    return made, {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
  if kind == "qwen":
    made = byte_pairs("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    made.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(tokenizers.Regex(QWEN_WORDS), "isolated")
    levels = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, levels])
    return made, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
  return byte_pairs("<|endoftext|>"), {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


def exported_run(name: str, reader: Tokenizer, **settings: Any) -> LoadedRun:
  """The golden model of this name with new random parameters for another tokenizer."""
  found = import_hf(GOLDEN / name, dtype="float32")
  spec = dataclasses.replace(found.spec, vocab_size=reader.vocab_size, context=max(found.spec.context, 64))
  make = lambda key: MODELS[found.description.model["family"]].build(spec, rngs=nnx.Rngs(key))  # noqa: E731
  plan = abstract_model(make)
  random = np.random.default_rng(0)
  model = {name: jnp.asarray(random.normal(0, 0.3, shape.shape), jnp.float32) for name, shape in plan.shapes.items()}
  for name in model:
    if not np.any(np.asarray(found.parameters[name])):  # What the family has no place for.
      model[name] = jnp.zeros_like(model[name])
  values = {**found.settings, "model.vocab_size": None, "model.context": spec.context, "data.length": 64, **settings}
  layout = Layout(make_mesh({}, jax.local_devices()[:1]))
  return LoadedRun(plan.join(model), reader, from_values(values), 1, layout, found.description.labels)
