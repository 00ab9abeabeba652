# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""From text to batches: sources, tokenizers, the token cache, packing, and the pipeline. `corpus` is the front door."""
