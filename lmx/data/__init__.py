# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Data: sources, tokenizers, the cache of tokens and examples, packing, and the input pipeline.

Start reading at `corpus`.
"""
