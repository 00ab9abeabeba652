# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Import from and export to Hugging Face. A family is one file in `families`: a table of settings and a table of names.

`importing.import_hf` reads a directory or a hub name onto a mesh; `exporting.export_hf` writes a directory that
`transformers` reads, and `adapter_export.export_adapter` one that PEFT reads. An import runs through `description`
(config.json to keys of config.model), `matching` (tensors to parameters), `views` (one tensor to one array) and
`weights` (the files; `adapter` for a base with an adapter).

Throughout this package `theirs` is the Hugging Face side (a tensor of the files, a key of config.json) and `ours` is
lmx's (a parameter, a key of config.model).
"""
