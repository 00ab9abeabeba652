# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Token shards of nanoGPT, llm.c and NumPy are the documents that their tokenizer would have made of the text."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lmx.data.corpus import (
  DataRequirements,
  DataSpec,
  epoch_stats,
  make_loader,
  make_tokenizer,
  prepare_corpus,
  validation_text,
)
from lmx.data.document import BadDocuments
from lmx.data.sources import token_files
from lmx.data.sources.sources import join_sources, open_source
from lmx.data.spec import ReadOptions
from lmx.data.tokenizers.tokenizer import ByteTokenizer, TokenizerSpec
from lmx.errors import LmxError

BYTES = ByteTokenizer()
DOCUMENTS = [f"document {i}: " + "words \u00e9\n" * (i % 5 + 1) for i in range(60)]


def shard(documents: list[str], *, bos: bool = False, eos: bool = True) -> np.ndarray:
  parts = [np.concatenate([[256] * bos, BYTES.encode(text), [257] * eos]) for text in documents]
  return np.concatenate(parts)


def llm_c(path: Path, ids: np.ndarray, magic: int = 20240520, version: int = 1, dtype: str = "<u2") -> None:
  header = np.zeros(256, "<i4")
  header[:3] = magic, version, len(ids)
  path.write_bytes(header.tobytes() + ids.astype(dtype).tobytes())


WRITERS = {
  "nanogpt.bin": lambda path, ids: path.write_bytes(ids.astype("<u2").tobytes()),
  "llm_c.bin": llm_c,
  "llama3.bin": lambda path, ids: llm_c(path, ids, 20240801, 7, "<u4"),
  "a.npy": lambda path, ids: np.save(path, ids.astype(np.int64)),
  "b.npy": lambda path, ids: np.save(path, ids.astype(np.uint16)),
}


@pytest.fixture
def spec(tmp_path) -> DataSpec:
  return DataSpec(sources=("?",), cache_dir=str(tmp_path / "cache"), heldout_fraction=0.3, length=32)


def prepared(spec: DataSpec, path: object):
  return prepare_corpus(dataclasses.replace(spec, sources=(str(path),)), BYTES)


def decoded(store) -> list[str]:
  return [BYTES.decode(store.extended(i, 0, int(n) + 2)) for i, n in enumerate(store.lengths())]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("bos", "eos"), [(False, True), (True, False), (True, True)])
def test_a_shard_is_the_corpus_that_its_text_would_be(tmp_path, spec, name, bos, eos, monkeypatch):
  monkeypatch.setattr(token_files, "_SCANNED", 50)  # Documents cross from one look to the next.
  WRITERS[name](tmp_path / name, shard(DOCUMENTS, bos=bos, eos=eos))
  rows = tmp_path / "rows.txt"
  rows.write_text("<end>".join(DOCUMENTS))
  ids, text = prepared(spec, tmp_path / name), prepared(dataclasses.replace(spec, separator="<end>"), rows)
  for one, other in zip((*ids.train, *ids.validation), (*text.train, *text.validation), strict=True):
    assert decoded(one) == decoded(other)
    assert (one.tokens, one.text_bytes) == (other.tokens, other.text_bytes)
  assert validation_text(ids) == validation_text(text)
  needs = DataRequirements(lambda ids, rng: {"tokens": ids[:-1], "targets": ids[1:]}, lookahead=1)
  assert epoch_stats(ids, needs, batch_size=4) == epoch_stats(text, needs, batch_size=4)
  batches = [next(make_loader(corpus, needs, batch_size=4, seed=0)) for corpus in (ids, text)]
  np.testing.assert_array_equal(batches[0]["tokens"], batches[1]["tokens"])
  assert prepared(spec, tmp_path / name).notes[0].reused


def test_shards_of_a_folder_are_one_corpus_in_order(tmp_path, spec):
  folder = tmp_path / "shards"
  folder.mkdir()
  for index in range(3):
    llm_c(folder / f"train_{index:06d}.bin", shard(DOCUMENTS[index * 20 : index * 20 + 20]))
  whole = dataclasses.replace(spec, heldout_fraction=0.0)
  assert decoded(prepared(whole, folder).train[0]) == DOCUMENTS
  joined = join_sources([str(folder / "train_000001.bin"), str(folder / "train_000000.bin")], ReadOptions())
  assert next(where for _, where in joined.ids(BYTES, BadDocuments())) == f"{folder}/train_000001.bin[0]"
  (folder / "notes.txt").write_text("text")
  with pytest.raises(LmxError, match=r"holds token shards \(train_000000\.bin\) and other files"):
    prepared(whole, folder)
  with pytest.raises(LmxError, match=r"holds token ids, and .*notes\.txt"):
    join_sources([str(folder / "notes.txt"), str(folder / "train_000000.bin")], ReadOptions())


def test_a_file_without_ends_is_one_document(tmp_path, spec):
  ids = BYTES.encode("".join(DOCUMENTS))
  ids.astype("<u2").tofile(tmp_path / "a.bin")
  whole = dataclasses.replace(spec, heldout_fraction=0.0)
  assert decoded(prepared(whole, tmp_path / "a.bin").train[0]) == ["".join(DOCUMENTS)]
  limited = dataclasses.replace(whole, max_document_bytes=100)
  with pytest.raises(LmxError, match=r"a\.bin\[0\]: document too long \([\d,]+ ids without an end"):
    prepared(limited, tmp_path / "a.bin")


@pytest.mark.parametrize("name", WRITERS)
def test_an_id_that_the_tokenizer_lacks_is_refused(tmp_path, spec, name):
  def refused(bad: int) -> None:
    ids = shard(DOCUMENTS)
    ids[500] = bad
    WRITERS[name](tmp_path / name, ids)
    with pytest.raises(
      LmxError, match=rf"{name}\[500\]: got id {bad}, but bytes has ids 0 to 257.*config.tokenizer.path"
    ):
      prepared(spec, tmp_path / name)

  refused(258)
  with pytest.raises(pytest.fail.Exception):
    refused(100)
  if name == "a.npy":
    refused(-1)


BROKEN = {
  "odd.bin": (b"\x01\x00\x02", "3 bytes are not 16-bit ids"),
  "empty.bin": (b"", "0 bytes are not 16-bit ids"),
  "text.bin": (b"some text, even in length \n", "token ids or text"),
  "not.npy": (b"\x01\x00\x02\x00", "not a NumPy array"),
  "cut.npy": (b"\x93NUMPY\x01\x00", "a broken NumPy array"),
  "header.npy": (b"\x93NUMPY\x01\x00\x0a\x00{'descr': (\n", "a broken NumPy array"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_shard_is_named(tmp_path, spec, name):
  data, reason = BROKEN[name]
  (tmp_path / name).write_bytes(data)
  with pytest.raises(LmxError, match=rf"{name}: {reason}"):
    prepared(spec, tmp_path / name)


def test_a_shard_that_was_cut_or_is_of_another_kind_is_named(tmp_path, spec):
  path = tmp_path / "a.bin"
  llm_c(path, shard(DOCUMENTS))
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(LmxError, match=r"a\.bin: its header says [\d,]+ ids, and [\d,]+ follow it"):
    prepared(spec, path)
  for name, array in (("f.npy", np.ones(5)), ("two.npy", np.ones((2, 3), int)), ("o.npy", np.array("text"))):
    np.save(tmp_path / name, array)
    with pytest.raises(LmxError, match=rf"{name}: got .* of shape .*integers in one dimension"):
      prepared(spec, tmp_path / name)
  np.save(tmp_path / "whole.npy", shard(DOCUMENTS))
  (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-100])
  with pytest.raises(LmxError, match=r"cut\.npy: a broken NumPy array"):
    prepared(spec, tmp_path / "cut.npy")
  shard(DOCUMENTS).astype("<u2").tofile(path)
  with pytest.raises(LmxError, match=r"16-bit ids without a header, and the tokenizer has 128,256"):
    token_files.open_tokens(path, 128_256)


def test_what_is_asked_of_ids_beyond_their_tokenizer_is_refused(tmp_path, spec):
  path = tmp_path / "a.bin"
  path.write_bytes(b"some text, even in length \n")
  assert len(prepared(dataclasses.replace(spec, heldout_fraction=0.0), f"text:{path}").train) == 1
  path.write_bytes(shard(["ab"] * 30).astype("<u2").tobytes())
  assert decoded(prepared(dataclasses.replace(spec, heldout_fraction=0.0), f"tokens:{path}").train[0]) == ["ab"] * 30
  with pytest.raises(LmxError, match="holds token ids, which need the tokenizer that made them"):
    make_tokenizer(TokenizerSpec(), dataclasses.replace(spec, sources=(str(path),)))
  with pytest.raises(LmxError, match="holds token ids, but the objective reads the columns"):
    next(iter(open_source(str(path)).records(token_files.TEXT, BadDocuments())))
