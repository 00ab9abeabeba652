# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Hugging Face weights in and out: one file a family, each a map of names that works in both directions.

Empty so far. A family's import gives `training.start.begin` an `imported` function; its export reads `LoadedRun.model`.
"""
