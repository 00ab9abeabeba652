# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A key's default is in configs/base.py and nowhere else."""

import ast
from pathlib import Path

import pytest
from laws import assert_law_catches

from lmx.config.table import defaults, keys

ROOT = Path(__file__).resolve().parents[2] / "lmx"
# Records whose fields are keys -> (their file, the section).
RECORDS = {
  "StackSpec": ("models/spec.py", "model"),
  "TransformerSpec": ("models/spec.py", "model"),
  "EncoderSpec": ("models/spec.py", "model"),
  "EncoderDecoderSpec": ("models/spec.py", "model"),
  "LSTMSpec": ("models/lstm.py", "model"),
  "DataSpec": ("data/spec.py", "data"),
  "ReadOptions": ("data/document.py", "data"),
  "TokenizerSpec": ("data/tokenizers/tokenizer.py", "tokenizer"),
}


def second_defaults(record: str, section: str, source: str) -> list[str]:
  """Fields of a class that are keys and have a value of their own; None and _DERIVED stand for a derived one."""
  node = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and n.name == record)
  found = []
  for field in node.body:
    if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value is not None:
      is_key = any(f"{part}.{field.target.id}" in keys() for part in (section, "compute"))
      text = ast.unparse(field.value)
      if is_key and not text.startswith(("default(", "_DERIVED", "None", "dataclasses.field(default_factory")):
        found.append(f"{record}.{field.target.id} = {text}")
  return found


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_of_keys_takes_its_defaults_from_base_py(record):
  file, section = RECORDS[record]

  def law(source: str) -> None:
    assert second_defaults(record, section, source) == []

  source = (ROOT / file).read_text()
  law(source)
  name = next(name.rpartition(".")[2] for name in keys() if name.startswith(f"{section}."))
  assert_law_catches(law, f"class {record}:\n  {name}: int = 3\n")


def test_defaults_are_those_of_base_py():
  assert defaults("optimizer", ("b1", "eps")) == {"b1": 0.9, "eps": 1e-8}
