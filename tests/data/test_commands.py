# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx data` and `lmx tokenizer`, as they are typed."""

import json
import re

import pytest

from lmx.cli.main import main


@pytest.fixture
def flags(tmp_path) -> list[str]:
  """A config over a small file, with its cache in the test's folder."""
  path = tmp_path / "text.jsonl"
  rows = [{"body": f"document {i} has words \u00e9\n" * (1 + i % 3)} for i in range(80)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return [
    f"--config.data.sources={path}",
    "--config.data.columns.text=body",
    f"--config.data.cache_dir={tmp_path / 'cache'}",
    f"--config.data.tfds_dir={tmp_path / 'sets'}",
    "--config.tokenizer.vocab_size=300",
    "--config.data.heldout_fraction=0.2",
  ]


def lmx(capsys, *argv: str) -> str:
  capsys.readouterr()
  code = main(list(argv))
  captured = capsys.readouterr()
  assert code == 0, captured.err
  return captured.out


def lmx_error(capsys, *argv: str) -> str:
  assert main(list(argv)) == 2
  return capsys.readouterr().err


def test_data_prepare_fills_the_cache_and_reports_when_it_is_full(capsys, flags):
  first, second = (lmx(capsys, "data", "prepare", *flags) for _ in range(2))
  assert "prepared" in first
  assert "already cached" in second


def test_data_count_gives_documents_tokens_and_bytes_of_each_part(capsys, flags):
  out = lmx(capsys, "data", "count", *flags)
  parts = re.findall(r"(training|validation) +(\d+) +([\d,]+) +([\d,]+) +([\d.]+)", out)
  assert [part[0] for part in parts] == ["training", "validation"]
  assert sum(int(part[1]) for part in parts) == 80
  assert re.search(r"an epoch: \d+ rows of 128 \(packed, [\d.]+% filled\)", out)


def test_data_show_makes_segments_padding_and_targets_visible(capsys, flags):
  out = lmx(capsys, "data", "show", *flags, "--rows=2", "--table=3")
  assert re.search(r"batch 0: 16 rows of 128: tokens int32, targets int32, loss_weights float32", out)
  assert re.search(r"row 0: \d+ segments, \d+ targets in the loss, \d+ padding tokens", out)
  assert re.search(r"\[segment 2: tokens \d+-\d+, positions 0-\d+, (\d+) of \1 targets in the loss\]\n<s>document", out)
  assert re.search(r"index +segment +position +token +target +weight\s+0 +1 +0 +1 +'<s>'", out)
  assert "row 2" not in out
  held_out = lmx(capsys, "data", "show", *flags, "--heldout")
  assert "<s>document" in held_out
  error = lmx_error(capsys, "data", "show", *flags, "--heldout", "--batch=99")
  assert "--batch: got 99. Allowed: 0 to" in error
  assert "--rows: got" in lmx_error(capsys, "data", "show", *flags, "--rows=0")


@pytest.fixture
def pairs(tmp_path) -> list[str]:
  """Flags of a classifier and of a translator over one small table; the classifier finds its labels by itself."""
  rows = [f"{'good' if i % 2 else 'bad'} text number {i}\t{'yes' if i % 2 else 'no'}" for i in range(60)]
  (tmp_path / "pairs.tsv").write_text("sentence\tanswer\n" + "".join(row + "\n" for row in rows))
  sources = [f"--config.data.sources={tmp_path / 'pairs.tsv'}", f"--config.data.cache_dir={tmp_path / 'cache'}"]
  return [*sources, "--config.tokenizer.kind=bytes", "--config.data.length=16", "--config.data.heldout_fraction=0.2"]


def classifier(flags: list[str]) -> list[str]:
  chosen = ["--config.objective.name=classification", "--config.model.family=encoder", "--config.data.packing=padded"]
  columns = ["--config.data.columns.text=sentence", "--config.data.columns.label=answer"]
  return [*flags, *chosen, *columns]


def test_data_commands_show_and_count_examples_with_their_labels_and_cuts(capsys, pairs):
  flags = classifier(pairs)
  assert "prepared" in lmx(capsys, "data", "prepare", *flags)
  count = lmx(capsys, "data", "count", *flags)
  assert re.search(r"examples were truncated by [\d,]+ tokens in all", count)
  assert re.search(r"an epoch: \d+ rows of 16 \(padded, [\d.]+% filled\), \d+ tokens", count)
  out = lmx(capsys, "data", "show", *flags, "--rows=2", "--table=2")
  assert "labels: no, yes" in out
  assert re.search(r"row 0: 1 segment, 0 padding tokens\nlabels: [01] \((no|yes)\)\nweight in the loss: 1\n", out)
  assert re.search(r"\[segment 1: tokens 0-15, positions 0-15\]\n<s>(good|bad) text", out)
  assert re.search(r"index +segment +position +token +\n +0 +1 +0 +256 +'<s>'", out)
  error = lmx_error(capsys, "data", "count", *flags, "--config.data.columns.label=answr")
  assert "no column 'answr' (there are sentence, answer; try --config.data.columns.label=answer)" in error


def test_data_show_prints_the_inputs_of_the_encoder_and_of_the_decoder(capsys, pairs):
  chosen = ["--config.objective.name=seq2seq", "--config.model.family=encoder_decoder", "--config.data.packing=packed"]
  columns = ["--config.data.columns.source=sentence", "--config.data.columns.target=answer"]
  lengths = ["--config.data.encoder_length=64", "--config.model.context=64"]
  out = lmx(capsys, "data", "show", *pairs, *chosen, *columns, *lengths, "--rows=1")
  assert "encoder_tokens int32" in out
  assert re.search(r"row 0: [2-9] segments, \d+ targets in the loss", out)
  assert re.search(r"encoder_tokens:\n\[segment 1: .*\]\n.*(good|bad) text number", out)


def test_data_build_writes_a_set_that_the_next_command_reads(capsys, flags, tmp_path):
  out = lmx(capsys, "data", "build", *flags, "--name=mine", "--shards=1", str(tmp_path / "text.jsonl"))
  assert "train, 80 documents" in out
  assert "--config.data.sources=tfds:mine" in out
  count = lmx(capsys, "data", "count", *flags, "--config.data.sources=tfds:mine", "--config.data.columns.text=text")
  assert "tfds:mine" in count


def test_a_tokenizer_is_trained_shown_and_used(capsys, flags, tmp_path):
  folder = str(tmp_path / "mine")
  out = lmx(capsys, "tokenizer", "train", *flags, f"--output={folder}")
  assert re.search(r"reversible +yes, any text", out)
  assert f"lmx train --config.tokenizer.path={folder}" in out
  shown = lmx(capsys, "tokenizer", "show", f"--path={folder}", "--text=words \u00e9", "--pieces=3")
  assert "0 '<unk>'  1 '<s>'  2 '</s>'" in shown
  assert "for 8 bytes; the text decodes exactly" in shown
  lmx(capsys, "data", "count", *flags, f"--config.tokenizer.path={folder}")
  assert "--output: got" in lmx_error(capsys, "tokenizer", "train", *flags, f"--output={folder}")


def test_a_tokenizer_is_shown_by_any_of_its_names(capsys, tmp_path):
  assert "3 tokens for 3 bytes" in lmx(capsys, "tokenizer", "show", "--path=bytes", "--text=h\u00e9")
  error = lmx_error(capsys, "tokenizer", "show", f"--path={tmp_path / 'none'}")
  assert "--path: got" in error
  other = lmx_error(capsys, "tokenizer", "train", "--config.tokenizer.kind=bytes", f"--output={tmp_path / 'x'}")
  assert "config.tokenizer.kind: got 'bytes'" in other
