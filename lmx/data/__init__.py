# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""From text and tables to batches: sources, tokenizers, the cache of tokens and examples, packing, and the pipeline.

`corpus` is the front door.
"""
