# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Identity of a run's data: a record saved in checkpoints, which a resumed run compares with its own."""

import json
from collections.abc import Sequence
from typing import Any

from lmx.data.cache.encoding import DataRequirements
from lmx.data.cache.stats import Origin, SourceStats
from lmx.data.corpus import Corpus
from lmx.data.digests import digest_of

FORMAT = 1
_MAX_FILES = 2000  # Files of a source that a checkpoint lists; of a source with more, it lists none.
_MAX_NAMED = 10  # Differences listed in a message.


def data_record(corpus: Corpus, requirements: DataRequirements, *, batch_size: int, seed: int) -> dict[str, Any]:
  """Everything that the batches of a run depend on, as JSON values.

  Paths and times of files aren't part of `digest`, because the same text in another folder yields the same batches.

  Args:
    corpus: of the run.
    requirements: of the objective.
    batch_size: rows over all processes.
    seed: of the order of the rows and of the objective's random choices.

  Returns:
    {"format", "digest": 32 digits, equal if all batches and the validation set are equal, "settings": {name: value},
    "sources": [{"name", "role": "training" | "validation", "files": [[path, bytes, digest], ...], "documents",
    "tokens", "bytes", "digest"}, ...]}.
  """
  spec = corpus.spec
  settings = {
    "tokenizer": f"{corpus.tokenizer.name}, fingerprint {corpus.tokenizer.fingerprint}",
    "objective": digest_of(
      requirements.lookahead,
      requirements.window_length,
      requirements.per_row,
      requirements.encoder and requirements.encoder.fingerprint,
    ),
    "seed": seed,
    "train.batch_size": batch_size,
    "data.length": spec.length,
    "data.encoder_length": spec.encoder_length,
    "data.packing": spec.packing,
    "data.pad_multiple": spec.pad_multiple,
    "data.weights": spec.weights,
  }
  parts = [("training", *one) for one in zip(corpus.train_stats, corpus.train_origins, strict=True)]
  parts += [("validation", *one) for one in zip(corpus.validation_stats, corpus.validation_origins, strict=True)]
  sources = [_source(role, stats, origin) for role, stats, origin in parts]
  digest = digest_of(settings, [(source["role"], source["digest"]) for source in sources])
  record = {"format": FORMAT, "digest": digest, "settings": settings, "sources": sources}
  return json.loads(json.dumps(record))  # As it will be read back: tuples become lists.


def _source(role: str, stats: SourceStats, origin: Origin) -> dict[str, Any]:
  return {
    "name": stats.name,
    "role": role,
    "files": origin.files if len(origin.files) <= _MAX_FILES else [],
    "documents": stats.documents,
    "tokens": stats.tokens,
    "bytes": stats.bytes,
    "digest": origin.digest,
  }


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
  """The differences between two records, a sentence each; [] if the digests are equal.

  Args:
    saved: the record of a checkpoint.
    now: the record of this run.
  """
  if saved["digest"] == now["digest"]:
    return []
  found = [
    f"{key} is {value}, and was {saved['settings'].get(key)}"
    for key, value in now["settings"].items()
    if saved["settings"].get(key) != value
  ]
  for role in ("training", "validation"):
    before, after = ([one for one in record["sources"] if one["role"] == role] for record in (saved, now))
    found += _source_differences(role, before, after)
  found = list(dict.fromkeys(found))  # A changed file is found twice, in the training and the validation part.
  more = len(found) - _MAX_NAMED
  return [*found[:_MAX_NAMED], *([f"{more:,} more"] if more > 0 else [])]


def _source_differences(role: str, before: Sequence[dict], after: Sequence[dict]) -> list[str]:
  if len(before) != len(after):
    names = [", ".join(one["name"] for one in some) or "none" for some in (after, before)]
    return [f"the {role} sources are {names[0]}, and were {names[1]}"]
  found = []
  for one, other in zip(before, after, strict=True):
    if one["digest"] != other["digest"]:
      found += _file_differences(one["files"], other["files"])
      found.append(
        f"the {role} text of {other['name']} has {other['tokens']:,} tokens in {other['documents']:,} documents "
        f"({other['bytes']:,} bytes), and had {one['tokens']:,} in {one['documents']:,} ({one['bytes']:,} bytes)"
      )
  return found


def _file_differences(before: Sequence[Sequence], after: Sequence[Sequence]) -> list[str]:
  """Files of a source that were added, removed, changed or reordered."""
  old, new = ({path: (size, digest) for path, size, digest in files} for files in (before, after))
  if not old or not new:
    return []
  found = [f"{path} ({size:,} bytes) was added" for path, (size, _) in new.items() if path not in old]
  found += [f"{path} ({size:,} bytes) was removed" for path, (size, _) in old.items() if path not in new]
  for path, (size, digest) in new.items():
    if path in old and old[path] != (size, digest):
      found.append(f"{path} changed ({size:,} bytes, {old[path][0]:,} before)")
  return found or (["its files are in another order"] if list(old) != list(new) else [])
