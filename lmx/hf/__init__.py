# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Hugging Face weights in and out. A family is one file in `families`: a table of settings and a table of names.

`importing.import_hf` reads a directory or a hub name onto a mesh; `exporting.export_hf` writes a directory that
`transformers` reads, and `adapter_export.export_adapter` one that PEFT reads. The way in: `description` (config.json to
keys of config.model), `matching` (tensors to parameters), `views` (one tensor to one array), `weights` (the files),
`adapter` (those of a base with an adapter).
"""
