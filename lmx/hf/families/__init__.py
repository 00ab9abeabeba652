# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of families: model_type of a config.json -> the family.

A run is exported as the first family of this table that can express it exactly.
"""

from lmx.hf.families.bert import BERT, ROBERTA
from lmx.hf.families.gemma import GEMMA2, GEMMA3
from lmx.hf.families.gpt2 import GPT2
from lmx.hf.families.llama import LLAMA, MISTRAL
from lmx.hf.families.mamba2 import MAMBA2
from lmx.hf.families.marian import MARIAN
from lmx.hf.families.modernbert import MODERNBERT
from lmx.hf.families.olmo2 import OLMO2
from lmx.hf.families.qwen import MIXTRAL, QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE
from lmx.hf.families.t5 import T5
from lmx.hf.family import Family

_ROWS = (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3, OLMO2, MIXTRAL, QWEN2_MOE, QWEN3_MOE, MAMBA2, BERT,
         ROBERTA, MODERNBERT, T5, MARIAN)  # fmt: skip
FAMILIES: dict[str, Family] = {family.name: family for family in _ROWS}
