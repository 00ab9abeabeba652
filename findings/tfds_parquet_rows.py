# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""tensorflow-datasets 4.9.10 leaves rows out of the Parquet files it writes.

A builder of 1,000 rows, prepared with file_format="parquet", has 1,000 rows by its dataset_info.json and 400 in its
file. Nothing is said when it is written or read. `_batched` in core/file_adapters.py calls itertools.islice(iterator,
i, i + n) with a growing i on an iterator, so the second batch passes over 100 rows, the third over 200, and so on.

Command: python findings/tfds_parquet_rows.py
Output seen (tensorflow-datasets 4.9.10, pyarrow 26.0.1, Python 3.11):
  90 rows: 90 counted, 90 in the file
  250 rows: 250 counted, 150 in the file
  1000 rows: 1000 counted, 400 in the file
Exit status: 0 while it is so, 1 when the numbers are others.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PACKAGES = ("tensorflow-datasets==4.9.10", "pyarrow==26.0.1")
EXPECTED = {90: 90, 250: 150, 1000: 400}
PROGRAM = """
import sys, tempfile
import tensorflow_datasets as tfds

class Rows(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")
  def _info(self):
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    return tfds.core.DatasetInfo(builder=self, features=features)
  def _split_generators(self, dl_manager):
    return {"train": ((i, {"text": str(i)}) for i in range(int(sys.argv[1])))}
  def _generate_examples(self):
    pass

folder = tempfile.mkdtemp()
Rows(data_dir=folder, file_format="parquet").download_and_prepare()
builder = tfds.builder("rows", data_dir=folder)
print(builder.info.splits["train"].num_examples, len(builder.as_data_source(split="train")))
"""


def main() -> int:
  with tempfile.TemporaryDirectory() as folder:
    venv.create(folder, with_pip=True)
    python = str(Path(folder) / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    found = {}
    for rows in EXPECTED:
      done = subprocess.run([python, "-c", PROGRAM, str(rows)], check=True, capture_output=True, text=True)
      counted, there = map(int, done.stdout.split()[-2:])
      print(f"{rows} rows: {counted} counted, {there} in the file")
      found[rows] = there
  return 0 if found == EXPECTED else 1


if __name__ == "__main__":
  sys.exit(main())
