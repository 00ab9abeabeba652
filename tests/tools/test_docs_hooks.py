# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The pages after MkDocs' hooks."""

import importlib
from pathlib import Path

import pytest

from lmx.config.loading import flatten, load


@pytest.fixture
def hooks(monkeypatch):
  monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2])
  return importlib.import_module("tools.docs_hooks")


def test_the_page_of_configs_has_every_key_with_its_default_and_meaning(hooks):
  page = hooks.on_page_markdown("before\n\n<!-- config keys -->\n")
  assert page.startswith("before")
  for key, value in flatten(load("configs/base.py")).items():
    assert f"| `{key}` | `{str(repr(value)).replace('|', chr(92) + '|')}` |" in page, key
  assert "(model.family); model.position = rotary | Rotary base" in page
  assert "| `model.window` | `None` | a whole number of at least 1, or None | transformer, encoder" in page
  assert "| `optimizer.eps` | `1e-08` | a number above 0 | adamw, adam," in page
  assert page.index("### model") < page.index("### optimizer") < page.index("### mesh")


def test_links_out_of_the_documentation_become_names(hooks):
  page = hooks.on_page_markdown("see [the benchmarks](../tools/bench/README.md) and [data](data.md)")
  assert page == "see the benchmarks (`tools/bench/README.md`) and [data](data.md)"


def test_the_page_of_fine_tuning_has_the_readmes_table_of_tasks(hooks):
  page = hooks.on_page_markdown("before\n\n<!-- tasks -->\n\nthe [table](../README.md#what-you-can-train) above")
  assert page.startswith("before\n\n| task | config | columns |\n|---|---|---|\n| causal language model |")
  assert page.endswith("| `embed.py` | text, text_b |\n\nthe table (`README.md`) above")
