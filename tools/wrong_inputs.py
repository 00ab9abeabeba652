# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Makes forty-five mistakes that people make, and prints the message that each one gets, as a Markdown table.

Command:  python tools/wrong_inputs.py
"""

import contextlib
import gzip
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from lmx.cli.main import main

DATA = "data count --config.tokenizer.kind=bytes --config.data.cache_dir=cache --config.data.sources="
TRAIN = (
  "train --config.model.layers=1 --config.model.width=16 --config.model.heads=2 --config.data.length=16 "
  "--config.tokenizer.kind=bytes --config.data.cache_dir=cache --config.train.duration=2steps "
  "--config.data.heldout_split=tail --config.evaluation.sample_tokens=4 "
)

SMALL = (
  "--config.model.layers=1 --config.model.width=16 --config.model.heads=2 --config.data.length=16 "
  "--config.tokenizer.kind=bytes --config.data.cache_dir=cache --config.train.duration=2steps "
  "--config.data.heldout_split=tail --workdir=runs/new "
)
CLASSIFY = f"train --config=configs/classify.py {SMALL}--config.data.sources="

# What went wrong -> the command line after `lmx`.
MISTAKES = {
  "a command that does not exist": "trian",
  "a flag that does not exist": "train --workdri=runs/x",
  "a config file that is not there": "train --config=configs/gtp2.py",
  "a size that the config lacks": "train --config=configs/gpt2.py:tiny",
  "a key that does not exist": "train --config.model.layerz=3",
  "a key without its section": "train --config.peak_lr=3e-4",
  "a word for a number": "train --config.train.batch_size=big",
  "a fraction for a whole number": "train --config.model.layers=2.5",
  "an unknown choice": "train --config.model.norm=rmsnrom",
  "heads that don't divide the width": "train --config.model.heads=7",
  "key-value heads that don't divide the heads": "train --config.model.kv_heads=5",
  "a batch that micro-batches don't divide": "train --config.train.micro_batches=3",
  "a batch that the mesh doesn't divide": "train --config.mesh.fsdp=5",
  "a mesh larger than the devices": "train --config.mesh.data=4",
  "a row longer than the context": "train --config.data.length=4096",
  "a duration without a unit": "train --config.train.duration=1000",
  "a duration in a wrong unit": "train --config.optimizer.warmup=2weeks",
  "a kernel that this machine lacks": "train --config.compute.attention=cudnn",
  "a decay rule for no parameter": """train --config.optimizer.decay_rules='(("layers.attn.*", 0.0), (".*", 1.0))'""",
  "three mistakes at once": "config check --config.model.heads=7 --config.seed=-1 --config.data.packing=pack",
  "text that is not there": DATA + "novels/*.txt",
  "text that is not UTF-8": DATA + "latin1.txt",
  "a gzip file cut short": DATA + "cut.jsonl.gz",
  "broken JSON": DATA + "broken.jsonl",
  "a column that is not there": DATA + "rows.jsonl",
  "a source with nothing in it": DATA + "empty.txt",
  "a line of 60 MB": DATA + "long.jsonl",
  "a tokenizer file that is none": "tokenizer show --path=rows.jsonl",
  "a prompt for a run that does not exist": "generate runs/nothing --prompt=x",
  "a folder that is no run": TRAIN + "--config.data.sources=fine.txt --workdir=cluttered",
  "another config in an old run": TRAIN + "--config.data.sources=fine.txt --workdir=old --config.seed=1",
  "a checkpoint that is not there": "generate old --step=7",
  "a label that is not among the labels": CLASSIFY + "labels.tsv --config.objective.labels=good,bad",
  "an empty column": CLASSIFY + "gap.tsv",
  "a table with one label": CLASSIFY + "one_label.tsv",
  "a word where a number belongs": CLASSIFY.replace("classify", "regress") + "labels.tsv",
  "a target longer than the context": CLASSIFY.replace("classify", "translation")
  + "pairs.tsv --config.model.context=16 --config.data.encoder_length=16 --config.optimizer.warmup=10%",
  "a chat without an assistant's turn": CLASSIFY.replace("classify", "sft") + "chats.jsonl",
  "an answer that does not stand in its context": CLASSIFY.replace("classify", "span") + "questions.jsonl",
  "an objective that the family cannot learn": "train --config.objective.name=masked",
  "an option that the objective does not read": "train --config.objective.mask_rate=0.3",
  "a checkpoint of another family": CLASSIFY + "good.tsv --config.checkpoint.start_from=old",
  "a tokenizer with more ids than the table": "train --config.tokenizer.kind=bytes --config.model.vocab_size=100",
  "pickled weights": "import pickled --workdir=runs/imported",
  "an export without a family": "export old --output=exported --family=bert",
}


def make_files() -> None:
  """The files that the mistakes are made with, in the working directory."""
  Path("latin1.txt").write_bytes("first line\nna\u00efve\n".encode("latin-1"))
  Path("cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "hello"}\n' * 10_000)[:100])
  Path("broken.jsonl").write_text('{"text": "fine"}\n{"text": "no end}\n')
  Path("rows.jsonl").write_text('{"body": "hello"}\n')
  Path("empty.txt").write_text("")
  Path("long.jsonl").write_text('{"text": "' + "x" * 60_000_000 + '"}\n')
  Path("fine.txt").write_text("All happy families are alike. " * 200)
  Path("labels.tsv").write_text("text\tlabel\na fine film\tgood\na dull film\tbda\n")
  Path("gap.tsv").write_text("text\tlabel\na fine film\tgood\n\tbad\n")
  Path("one_label.tsv").write_text("text\tlabel\na fine film\tgood\na good one\tgood\n")
  Path("good.tsv").write_text("text\tlabel\n" + "a fine film\tgood\na dull film\tbad\n" * 40)
  Path("pairs.tsv").write_text("source\ttarget\nguten Tag\tgood day\nja\tyes, without any doubt at all\n")
  Path("chats.jsonl").write_text('{"messages": [{"role": "user", "content": "Hello?"}]}\n')
  Path("questions.jsonl").write_text(
    '{"question": "Who?", "context": "It was Anna.", "answer": "Bert", "answer_start": 7}\n'
  )
  Path("pickled").mkdir()
  Path("pickled/config.json").write_text('{"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1}')
  Path("pickled/pytorch_model.bin").write_bytes(b"\x80\x04")
  Path("cluttered").mkdir()
  Path("cluttered/notes.txt").write_text("mine")


def message_of(command: str) -> str:
  """The message of `lmx <command>` about its mistake."""
  out = io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    code = main(shlex.split(command))
  output = out.getvalue()
  if code != 2 and "config check" not in command:
    raise SystemExit(f"lmx {command}: exit code {code}, no mistake was found:\n{output}")
  return output[output.find("error: ") :].removeprefix("error: ").strip() if "error: " in output else output.strip()


def table(say: Callable[[str], None]) -> None:
  say("| what is wrong | message |\n|---|---|")
  for what, command in MISTAKES.items():
    text = re.sub(r"\n\s*", "<br>", message_of(command)).replace("|", "\\|").replace(os.getcwd() + "/", "")
    say(f"| {what} | {text} |")


if __name__ == "__main__":
  with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    make_files()
    message_of_old_run = shlex.split(TRAIN + "--config.data.sources=fine.txt --workdir=old")
    with contextlib.redirect_stdout(io.StringIO()):
      main(message_of_old_run)
    table(lambda line: print(line, file=sys.__stdout__, flush=True))
    os.chdir("/")
