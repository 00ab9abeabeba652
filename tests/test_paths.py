# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Which paths work, and the one error of those that don't, before data is read and a program is compiled."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import buckets
import pytest

from lmx import paths
from lmx.errors import LmxError, StorageError
from lmx.paths import any_path, local_path, scheme_of


@pytest.mark.parametrize("name", ["runs/a", "/tmp/a", "~/a", "tfds:name", "jsonl:/data/x.jsonl", "a:b"])
def test_paths_without_a_scheme_are_local(name):
  assert any_path(name) == Path(name).expanduser()
  assert local_path(name, "--output") == Path(name).expanduser()


@pytest.mark.parametrize(
  ("name", "fix"),
  [
    ("s3://bucket/run", "gs://bucket/run"),
    ("az://c/run", "gs://c/run"),
    ("hdfs://host/run", "gs://host/run"),
    ("file:///tmp/run", "Fix: /tmp/run"),
    ("gs:/bucket/run", "gs://bucket/run"),
    ("gs://", "gs://BUCKET/FOLDER"),
  ],
)
def test_other_schemes_are_refused_with_what_to_type(name, fix):
  with pytest.raises(LmxError, match="--workdir: got") as found:
    any_path(name, "--workdir")
  assert fix in str(found.value)
  assert scheme_of(name)


def test_the_command_refuses_a_scheme_before_it_reads_data(tmp_path):
  environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
  command = [sys.executable, "-m", "lmx", "train", "--workdir=s3://bucket/run"]
  result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
  assert result.returncode == 2
  assert result.stderr.startswith("error: --workdir: got 's3://bucket/run'. Allowed: ")
  assert result.stderr.count("\n") == 1
  assert not [*tmp_path.iterdir()]  # Neither a folder "s3:" nor a cache.


def test_what_must_be_local_says_so():
  with pytest.raises(LmxError, match=r"--workdir: got 'gs://b/x'\. Allowed: a path on this machine: its journal"):
    local_path("gs://b/x", "--workdir", "its journal is locked by the operating system")


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(LmxError, match=r"needs the package gcsfs. Fix: pip install 'lmx\[gcs\]'"):
    any_path("gs://bucket/run")


def test_a_bucket_that_does_not_exist_is_named(bucket_server):
  with pytest.raises(LmxError, match=r"a bucket that exists; no-such-bucket doesn't. .*buckets create gs://no-such-b"):
    any_path("gs://no-such-bucket/run", "--workdir")


@pytest.mark.parametrize(
  ("status", "text"), [(403, "no permission for lmx-tests"), (401, "no valid credentials for lmx-tests")]
)
def test_no_permission_and_no_credentials_are_told_apart(bucket_server, bucket, monkeypatch, status, text):
  monkeypatch.setattr(paths, "_reachable", set())
  with bucket_server.fault(status), pytest.raises(LmxError, match=text) as found:
    any_path(bucket, "--workdir")
  assert "Fix: " in str(found.value)
  assert not isinstance(found.value, StorageError)


def test_a_bucket_that_does_not_answer_is_an_error_of_storage(bucket_server, bucket, monkeypatch):
  monkeypatch.setattr(paths, "_reachable", set())
  monkeypatch.setattr(paths, "_SECONDS_TO_ANSWER", 1.0)
  with bucket_server.fault(503), pytest.raises(StorageError, match="the bucket doesn't answer"):
    any_path(bucket, "--workdir")


def test_a_path_in_a_bucket_has_the_methods_of_pathlib(bucket):
  folder = any_path(bucket)
  assert (str(folder), str(paths.absolute(folder))) == (bucket, bucket)
  (folder / "a" / "b.txt").write_text("é\n", encoding="utf-8")
  assert (folder / "a").is_dir()
  assert (folder / "a" / "b.txt").read_text(encoding="utf-8") == "é\n"
  assert (paths.local_copy(folder / "a") / "b.txt").read_text(encoding="utf-8") == "é\n"
  assert paths.local_copy(folder / "a" / "b.txt").read_text(encoding="utf-8") == "é\n"
  paths.move_folder(folder / "a", folder / "c")
  assert not (folder / "a").exists()
  assert [str(path) for path in (folder / "c").iterdir()] == [f"{bucket}/c/b.txt"]
  paths.remove_folder(folder / "c")
  paths.remove_folder(folder / "c")
  assert not (folder / "c").exists()


def test_a_folder_is_uploaded_with_its_last_file_last(bucket_server, bucket, tmp_path, monkeypatch):
  for name in ("a.json", "b.txt", "sub/b.txt"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(name)
  target = any_path(bucket)
  uploads = iter([None, None, 400])
  answer = lambda method, path: next(uploads) if "/upload/" in path else None  # noqa: E731
  monkeypatch.setattr(bucket_server.proxy, "answer", answer)
  with pytest.raises(Exception, match="fault"):
    paths.upload_folder(tmp_path, target, last="a.json")
  assert not (target / "a.json").exists()
  assert (target / "sub" / "b.txt").read_text() == "sub/b.txt"
  monkeypatch.undo()
  paths.upload_folder(tmp_path, target, last="a.json")
  assert (target / "a.json").exists()


def test_an_object_is_written_only_if_nobody_else_has(bucket):
  file = any_path(bucket) / "lock"
  first = paths.write_if_unchanged(file, "a", 0)
  assert paths.generation_of(file) == first > 0
  with pytest.raises(FileExistsError):
    paths.write_if_unchanged(file, "b", 0)
  second = paths.write_if_unchanged(file, "b", first)
  with pytest.raises(FileExistsError):
    paths.write_if_unchanged(file, "c", first)
  assert file.read_text() == "b"
  paths.delete_if_unchanged(file, second)
  assert paths.age_of(file) == (0, "")
  assert buckets.NAME in bucket
