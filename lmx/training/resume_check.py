# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Whether a resumed run draws the batches that an uninterrupted one would have drawn."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from lmx.data.batches.pipeline import Loader, combine_fingerprints
from lmx.data.identity import differences
from lmx.errors import LmxError
from lmx.training.metrics import MetricsWriter


def fingerprint(loader: Loader) -> str:
  """The fingerprint of the last global batch, the same for any number of processes.

  A part of the batch that several processes load counts once.
  """
  mine = loader.fingerprints()
  if jax.process_count() == 1:
    return combine_fingerprints(list(mine.values()))
  table = np.zeros((loader.parts, 3), np.uint32)  # (loaded here, high half, low half): jax has no 64-bit integers.
  for part, text in mine.items():
    table[part] = 1, int(text[:8], 16), int(text[8:], 16)
  gathered = multihost_utils.process_allgather(table)
  first = np.argmax(gathered[:, :, 0], axis=0)  # A process that has the part.
  halves = gathered[first, np.arange(loader.parts), 1:]
  return combine_fingerprints([f"{high:08x}{low:08x}" for high, low in halves.tolist()])


def check_data(loader: Loader, step: int, saved: str, *, accept_other: bool) -> str:
  """Draws the last batch before `step` again, and compares its fingerprint with the saved one.

  Args:
    loader: at any position; afterwards, `step` is the next batch.
    step: updates done.
    saved: the fingerprint in the checkpoint.
    accept_other: whether another batch is accepted.

  Returns:
    A sentence on the result.

  Raises:
    LmxError: it is another batch, and that is not accepted.
  """
  loader.seek(step - 1)
  next(loader)
  found = fingerprint(loader)
  if found == saved:
    return f"the data continues where it stopped (batch {step - 1:,} has fingerprint {found}, as saved)"
  if accept_other:
    return f"the data is not what it was (batch {step - 1:,} has fingerprint {found}, saved was {saved}); accepted"
  raise LmxError(
    f"The data is not what this run was trained on: batch {step - 1:,} has fingerprint {found}, and {saved} was saved "
    "with the checkpoint. Fix: put the text and the data config back, or --accept-changes to resume with this data."
  )


NO_DIGEST = "; this checkpoint is older and has no digest of the data, so only that batch was compared"


def check_sources(now: Mapping[str, Any], saved: Mapping[str, Any] | None, *, accept_other: bool) -> str:
  """Compares the record of the data (files, sizes, digests) with the one in the checkpoint.

  Args:
    now: `data_record` of this run.
    saved: that of the checkpoint; None: an older lmx wrote it, without one.
    accept_other: whether a difference is accepted.

  Returns:
    What to append to the sentence of `check_data`.

  Raises:
    LmxError: the data differs, and that is not accepted; each difference is named.
  """
  if saved is None:
    return NO_DIGEST
  found = differences(dict(saved), dict(now))
  if not found:
    return f"; all sources as saved (digest {now['digest'][:16]})"
  if accept_other:
    return f"; other data accepted: {'; '.join(found)}"
  raise LmxError(
    f"The data is not what this run was trained on: {'; '.join(found)}. Fix: put the data back as it was, or "
    "--accept-changes to resume with this data."
  )


def check_records(writer: MetricsWriter, saved: Mapping[str, Any], step: int) -> str:
  """The warning about a metrics.jsonl that differs from the one at the last checkpoint; "" if it doesn't.

  It is a warning and no error: the training that follows is the same, and what is lost can't be recovered.

  Args:
    writer: after the records of later steps were dropped.
    saved: the checkpoint's `extra`.
    step: of the checkpoint.
  """
  expected = saved.get("records", 0)
  if writer.records < expected:
    have = f"metrics.jsonl has {writer.records:,} of the {expected:,} records up to step {step:,}"
    return f"warning: {have}: it was cut off or edited, and the others are lost"
  digest = saved.get("records_digest")  # None: an older lmx wrote the checkpoint.
  if digest is not None and writer.digest_of(expected) != digest:
    have = f"the {expected:,} records up to step {step:,} are not what was written"
    return f"warning: metrics.jsonl was edited or damaged: {have}"
  return ""
