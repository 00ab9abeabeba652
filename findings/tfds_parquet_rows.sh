#!/usr/bin/env bash
# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
# tensorflow-datasets 4.9.10 leaves rows out of the Parquet files it writes.
#
# A builder of 1,000 rows, prepared with file_format="parquet", has 1,000 rows by its dataset_info.json and 400 in its
# file. Nothing is said when it is written or read. `_batched` in core/file_adapters.py calls itertools.islice(iterator,
# i, i + n) with a growing i on an iterator, so the second batch passes over 100 rows, the third over 200, and so on.
#
# Output seen (tensorflow-datasets 4.9.10, pyarrow 26.0.1, Python 3.11):
#   90 rows: 90 counted, 90 in the file
#   250 rows: 250 counted, 150 in the file
#   1000 rows: 1000 counted, 400 in the file
#
# Exit status: 0 while it is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q tensorflow-datasets==4.9.10 pyarrow==26.0.1
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import sys

import tensorflow_datasets as tfds


class Rows(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")
  count = 0

  def _info(self):
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    return {"train": ((i, {"text": str(i)}) for i in range(self.count))}

  def _generate_examples(self):
    pass


expected = {90: 90, 250: 150, 1000: 400}
found = {}
for rows in expected:
  Rows.count, folder = rows, f"{sys.argv[1]}/{rows}"
  Rows(data_dir=folder, file_format="parquet").download_and_prepare()
  builder = tfds.builder("rows", data_dir=folder)
  found[rows] = len(builder.as_data_source(split="train"))
  print(f"{rows} rows: {builder.info.splits['train'].num_examples} counted, {found[rows]} in the file")
sys.exit(0 if found == expected else 1)
PYTHON
