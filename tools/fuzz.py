# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Changes the files that people bring, at random, and checks that lmx reads them or says in one message what is wrong.

python tools/fuzz.py                      (10,000 changed files; prints what each kind came to, and every failure)
python tools/fuzz.py --count=500 --seed=3 --target=config

A failure is an exception that is no LmxError, or a reading that takes longer than --seconds. Each target is a row of
`TARGETS`: it writes a folder of good files, names the one that is changed, and reads it.
"""

import argparse
import collections
import dataclasses
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lmx.config import base_config
from lmx.data.corpus import DataSpec
from lmx.data.document import BadDocuments, Wanted
from lmx.data.sources import open_source
from lmx.data.tokenizer import open_tokenizer
from lmx.errors import LmxError
from lmx.hf.description import describe, make_spec
from lmx.hf.generation import read_generation
from lmx.hf.sentence import read_sentence_model

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "hf" / "golden"
Say = Callable[[str], None]
# Values that stand where others are expected.
ODD: tuple[Any, ...] = (
  None, True, False, 0, 1, -1, 2**31, 2**63, 1e308, -0.5, float("nan"), float("inf"), "", "x", "12", "\u0000", "\ud800",
  [], [1], [None], [[]], {}, {"a": 1}, {"": None}, "none", "default", "linear", 10**30,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Target:
  """A kind of file.

  Attributes:
    name: for people.
    write: makes a good folder; (folder, random) -> the file in it that is changed.
    read: reads the folder; raises LmxError for what it can't use.
  """

  name: str
  write: Callable[[Path, random.Random], Path]
  read: Callable[[Path], Any]


# ---------------------------------------------------------------- changes


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
  """The path of everything in a JSON value, itself included."""
  yield path
  items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
  for key, inner in items:
    yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
  """A JSON value with what is at a path changed."""
  if not path:
    return change(value)
  copy: Any = dict(value) if isinstance(value, dict) else list(value)
  copy[path[0]] = replaced(value[path[0]], path[1:], change)
  return copy


def without(value: Any, path: tuple[Any, ...]) -> Any:
  """A JSON value without what is at a path."""
  if not path:
    return {}

  def drop(inside: Any) -> Any:
    if isinstance(inside, dict):
      return {key: inner for key, inner in inside.items() if key != path[-1]}
    return [inner for number, inner in enumerate(inside) if number != path[-1]]

  return replaced(value, path[:-1], drop)


def changed_json(text: str, pick: random.Random) -> str:
  """A JSON text with one to three values replaced, left out, doubled or moved."""
  value = json.loads(text)
  for _ in range(pick.choice((1, 1, 1, 2, 3))):
    if not isinstance(value, dict | list):
      break
    path = pick.choice(list(places(value))[:5000])
    kind = pick.random()
    if kind < 0.7:
      odd = pick.choice(ODD)
      value = replaced(value, path, lambda _, odd=odd: odd)
    elif kind < 0.85:
      value = without(value, path)
    elif isinstance(value, dict):
      other = pick.choice(list(value)) if value else "x"
      value = {**value, pick.choice(("x", "rope_scaling", "layer_types", "head_dim", "text_config")): value.get(other)}
  return json.dumps(value)


def changed_bytes(data: bytes, pick: random.Random) -> bytes:
  """Bytes with some of them cut off, replaced, repeated or put in."""
  start = pick.randrange(len(data) + 1)
  stop = min(len(data), start + pick.choice((1, 1, 4, 100)))
  noise = bytes(pick.randrange(256) for _ in range(pick.choice((0, 1, 4))))
  return pick.choice((data[:start], data[:start] + noise + data[stop:], data[:stop] + data[start:]))


def change(file: Path, pick: random.Random) -> None:
  """Changes a file: nine in ten times its values, where it holds JSON, else its bytes."""
  data = file.read_bytes()
  if file.suffix == ".json" and pick.random() < 0.9:
    file.write_text(changed_json(data.decode(), pick), encoding="utf-8", errors="surrogatepass")
  elif file.suffix == ".jsonl" and pick.random() < 0.9:
    lines = data.decode().splitlines()
    number = pick.randrange(len(lines))
    lines[number] = changed_json(lines[number], pick)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
  else:
    file.write_bytes(changed_bytes(data, pick))


# ---------------------------------------------------------------- targets


def write_config(folder: Path, pick: random.Random) -> Path:
  source = pick.choice(sorted(GOLDEN.glob("*/config.json")))
  file = folder / "config.json"
  values = json.loads(source.read_text())
  if "hidden_act" in values and pick.random() < 0.5:
    values |= {"rope_theta": 1e4, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}  # fmt: skip
    values.pop("rope_parameters", None)
  file.write_text(json.dumps(values))
  return file


def read_config(folder: Path) -> Any:
  found = describe(folder)
  return make_spec(found.model, vocab_size=found.vocab_size, head=found.head, outputs=found.outputs)


def write_small(folder: Path, pick: random.Random) -> Path:
  """The small files beside a model."""
  files: dict[str, Any] = {
    "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                     {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
    "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
    "sentence_bert_config.json": {"max_seq_length": 24, "do_lower_case": False},
    "config_sentence_transformers.json": {"prompts": {"query": ""}, "default_prompt_name": None},
    "generation_config.json": {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2],
                               "bad_words_ids": [[3]], "num_beams": 2, "max_length": 20},
  }  # fmt: skip
  (folder / "1_Pooling").mkdir()
  for name, values in files.items():
    (folder / name).write_text(json.dumps(values))
  return folder / pick.choice(list(files))


def read_small(folder: Path) -> Any:
  return read_sentence_model(folder, 16), read_generation(folder)


def write_tokenizer(folder: Path, pick: random.Random) -> Path:
  pieces = {piece: n for n, piece in enumerate(("<pad>", "<s>", "</s>", "<unk>", *(f"w{n}" for n in range(20))))}
  special = [{"id": n, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for piece, n in list(pieces.items())[:3]]  # fmt: skip
  model = {"type": "WordLevel", "vocab": pieces, "unk_token": "<unk>"}
  whole = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
  whole |= {"version": "1.0", "added_tokens": special, "pre_tokenizer": {"type": "Whitespace"}, "model": model}
  (folder / "tokenizer.json").write_text(json.dumps(whole))
  names = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>"},
    "pad_token": "<pad>",
    "chat_template": "{{ messages }}",
  }
  (folder / "tokenizer_config.json").write_text(json.dumps(names))
  return folder / pick.choice(("tokenizer.json", "tokenizer_config.json"))


def read_tokenizer(folder: Path) -> Any:
  tokenizer = open_tokenizer("huggingface", str(folder))
  return tokenizer.decode(tokenizer.encode("w1 w2 \u20ac"))


def write_rows(folder: Path, pick: random.Random) -> Path:
  chat = [{"role": "user", "content": "w"}]
  rows = [{"text": f"w{n}", "label": n % 2, "messages": chat, "tags": ["a", None]} for n in range(4)]
  files = {
    "rows.jsonl": "\n".join(map(json.dumps, rows)),
    "rows.tsv": 'text\tlabel\nw1\t0\nw2\t"1"',
    "rows.csv": 'text,label\nw1,0\n"w,2",1',
  }
  name = pick.choice(list(files))
  (folder / name).write_text(files[name] + "\n")
  return folder / name


def read_rows(folder: Path) -> Any:
  wanted: Any = Wanted(("text",), ("label", "messages", "tags"))
  file = next(folder.glob("rows.*"))
  options = DataSpec(sources=(str(file),), columns=dict(base_config().data.columns)).read_options
  return [dict(record.values) for record in open_source(str(file), options).records(wanted, BadDocuments("error"))]


TARGETS = (
  Target("config", write_config, read_config),
  Target("small", write_small, read_small),
  Target("tokenizer", write_tokenizer, read_tokenizer),
  Target("rows", write_rows, read_rows),
)


# ---------------------------------------------------------------- the run


@dataclasses.dataclass(frozen=True)
class Failure:
  """A change that lmx took badly: how to make it again, and what came of it."""

  target: str
  seed: int
  file: str
  what: str


class SlowError(Exception):
  """A reading took too long."""


def _too_slow(number: int, frame: Any) -> None:
  raise SlowError


def attempt(target: Target, seed: int, seconds: float) -> tuple[str, Failure | None]:
  """Makes one change and reads it: ("read" or "refused" or "failed", the failure)."""
  pick = random.Random(f"{target.name} {seed}")
  folder = Path(tempfile.mkdtemp(prefix="lmx_fuzz_"))
  file = target.write(folder, pick)
  change(file, pick)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    target.read(folder)
    return "read", None
  except LmxError as error:
    short = len(str(error)) > 0
    return ("refused", None) if short else ("failed", Failure(target.name, seed, "", "an empty message"))
  except Exception:
    text = file.read_bytes()[:300].decode(errors="replace")
    return "failed", Failure(target.name, seed, text, traceback.format_exc(limit=-3))
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    shutil.rmtree(folder)


def fuzz(count: int, seed: int, names: tuple[str, ...] = (), seconds: float = 10.0, say: Say = lambda text: None
         ) -> tuple[Mapping[str, collections.Counter], list[Failure]]:  # fmt: skip
  """Makes that number of changes, to each target in turn.

  Args:
    count: of changes, in all.
    seed: the same seed makes the same changes.
    names: of targets; (): all.
    seconds: that a reading may take.
    say: receives a line for each failure.

  Returns:
    (target -> how many were read, refused, failed; the failures).
  """
  targets = [target for target in TARGETS if not names or target.name in names]
  before = signal.signal(signal.SIGALRM, _too_slow)
  counts: dict[str, collections.Counter] = {target.name: collections.Counter() for target in targets}
  failures = []
  for number in range(count):
    target = targets[number % len(targets)]
    what, failure = attempt(target, seed * 1_000_000 + number, seconds)
    counts[target.name][what] += 1
    if failure is not None:
      failures.append(failure)
      say(f"{failure.target}, seed {failure.seed}: {failure.file}\n{failure.what}")
  signal.signal(signal.SIGALRM, before)
  return counts, failures


def main() -> int:
  parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
  parser.add_argument("--count", type=int, default=10_000, help="changed files (default: 10,000)")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--target", action="append", choices=[target.name for target in TARGETS], default=[])
  parser.add_argument("--seconds", type=float, default=10.0, help="that reading a file may take (default: 10)")
  args = parser.parse_args()
  counts, failures = fuzz(args.count, args.seed, tuple(args.target), args.seconds, print)
  for name, found in counts.items():
    print(f"{name:10} {found['read']:6} read  {found['refused']:6} refused  {found['failed']:6} failed")
  return 1 if failures else 0


if __name__ == "__main__":
  sys.exit(main())
