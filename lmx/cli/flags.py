# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The commands and their flags, with argparse alone.

Each function adds the flags of one command to a parser; its docstring is the description that `--help` prints. The
command itself is the `run` function of a module of this room, which is imported after the flags have been parsed.
"""

import argparse
import dataclasses
from collections.abc import Callable

from lmx import exits
from lmx.cli.arguments import (
  COUNT,
  INDEX,
  PROBABILITY,
  SEED,
  Number,
  add_config,
  add_run,
  add_sampling,
  token_count,
)
from lmx.cli.flags_launch import jobs, launch


def train(parser: argparse.ArgumentParser) -> None:
  """Train a model, or resume a run.

  A run is a folder; the same command again resumes it from its last checkpoint. Ctrl-C and SIGTERM save and stop; where
  there is nothing new to save (before the first step), and on the second signal, they stop at once.

  To train one run with several processes, on one machine or many, start the same command in each, with the same
  --coordinator and --process-count, its own --process-index, and a --workdir that all of them can read. Process 0
  prints. When one process fails, all of them end with its exit code; config.processes holds the timeouts.
  """
  add_config(parser)
  parser.add_argument("--workdir", metavar="FOLDER", help="folder of the run (default: runs/<config.name>)")
  parser.add_argument("--accept-changes", action="store_true", help="resume an existing run with a changed config "
                      "(a longer train.duration, for example)")  # fmt: skip
  parser.add_argument("--strict", action="store_true", help="refuse to resume when the newest checkpoint is damaged, "
                      "instead of resuming from an older one")  # fmt: skip
  parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0, or auto: detect the cluster "
                      "(TPU pods, Slurm)")  # fmt: skip
  parser.add_argument("--process-count", type=int, metavar="N", help="number of processes in the run")
  parser.add_argument("--process-index", type=int, metavar="I", help="index of this process, from 0")
  parser.epilog = f"{parser.epilog}\n\nExit codes:\n\n{exit_codes()}"


def sweep(parser: argparse.ArgumentParser) -> None:
  """Train a model once for each combination of some keys, or search for the best.

  lmx sweep --sweep.optimizer.peak_lr=1e-3,2e-3,4e-3 --sweep.model.layers=2,4      # all 6 combinations
  lmx sweep --sweep.model.layers+model.width=2:128,4:256                           # keys that change together
  lmx sweep --sweep.optimizer.peak_lr=log(1e-4,1e-2) --search=tpe --trials=20      # a search, by Optuna
  lmx sweep --sweep=experiments/mine/sweep.py                                      # the trials that sweep() returns
  lmx sweep show sweeps/cpu                                                        # the table and the page

  Every trial is a run in WORKDIR/trials. Started again, the same command resumes the sweep; several
  commands, on several machines that share the folder, divide the trials among them. sweep() in a Python file returns a
  list of {key: value}, or as sweep(trial) draws one from Optuna's trial.
  """
  add_config(parser)
  parser.add_argument("show", nargs="*", metavar="show FOLDER", help="show a sweep instead of running one")
  parser.add_argument("--axis", action="append", default=[], dest="axes", help=argparse.SUPPRESS)  # --sweep.KEY=VALUES
  parser.add_argument("--sweep", metavar="FILE.py", help="a file whose sweep() returns the trials (default: the config "
                      "file's)")  # fmt: skip
  parser.add_argument("--workdir", metavar="FOLDER", help="folder of the sweep (default: sweeps/<config.name>)")
  parser.add_argument("--search", choices=("random", "tpe", "asha"), help="draw trials instead of trying all "
                      "combinations")  # fmt: skip
  parser.add_argument("--trials", type=COUNT, metavar="N", help="number of trials of a search")
  parser.add_argument("--seed", type=SEED, default=0, metavar="N", help="seed of a search (default: 0)")
  parser.add_argument("--metric", default="heldout_loss", metavar="NAME", help="a number of metrics.jsonl (default: "
                      "heldout_loss)")  # fmt: skip
  parser.add_argument("--mode", choices=("min", "max"), default="min", help="which values are better (default: min)")
  parser.add_argument("--jobs", type=COUNT, metavar="N", help="trials at once (default: one for each GPU, or 1)")
  parser.add_argument("--vectorize", action="store_const", const="vectorize", dest="module", help="train trials that "
                      "differ in numbers only (learning rate, seed, ...) together, as one program")  # fmt: skip
  parser.add_argument("--retries", type=INDEX, default=1, metavar="N", help="how often a failed trial is started again "
                      "(default: 1)")  # fmt: skip
  parser.add_argument("--preemptions", type=INDEX, default=20, metavar="N", help="how often a killed or stopped trial "
                      "is resumed (default: 20)")  # fmt: skip
  parser.add_argument("--retry-failed", action="store_true", help="try failed trials again")
  parser.add_argument("--dry-run", action="store_true", help="print the commands of the trials, and start nothing")
  parser.add_argument("--sort", metavar="COLUMN", help="show: the column to sort by (default: the metric)")
  parser.add_argument("--csv", action="store_true", help="show: print the table as CSV")


def evaluate(parser: argparse.ArgumentParser) -> None:
  """Validation loss and bits per byte of a run, on its own validation text or on other text.

  lmx evaluate runs/cpu
  lmx evaluate runs/cpu --sources "mytext/*.txt" --json
  """
  add_run(parser)
  parser.add_argument("--sources", nargs="+", metavar="SOURCE", help="evaluate on all of this text instead")
  parser.add_argument("--max-rows", type=COUNT, metavar="N", help="evaluate on N rows, spread evenly over the text "
                      "(default: all of SOURCE, or config.evaluation.max_rows)")  # fmt: skip
  parser.add_argument("--json", action="store_true", help="print one JSON object, for scripts")


def generate(parser: argparse.ArgumentParser) -> None:
  """Generate text that continues a prompt.

  lmx generate runs/cpu --prompt "def main(" --temperature 0.8 --samples 3
  cat start.txt | lmx generate runs/cpu --prompt -
  """
  add_run(parser)
  parser.add_argument("--prompt", action="append", metavar="TEXT", help='text to continue; "-" reads it from standard '
                      "input; repeat the flag for several prompts (default: the start of a document)")  # fmt: skip
  parser.add_argument("--samples", type=COUNT, default=1, metavar="N", help="continuations per prompt (default: 1)")
  add_sampling(parser, "each text")
  parser.add_argument("--top-k", type=COUNT, metavar="K", help="sample from the K likeliest tokens")
  parser.add_argument("--top-p", type=PROBABILITY, metavar="P",
                      help="sample from the fewest tokens whose probabilities sum to at least P")  # fmt: skip
  parser.add_argument("--framing", choices=("own", "document"), help="special tokens around a prompt: those that the "
                      "tokenizer adds itself, or the start of a document (default: the run's "
                      "config.tokenizer.framing)")  # fmt: skip


def predict(parser: argparse.ArgumentParser) -> None:
  """Run a fine-tuned model over a file: labels, numbers, tags, answers, translations, chat turns, embeddings.

  Prints one JSON object per row, in the file's order, or writes them to --output; a row that can't be used gives
  {"error": reason}. The file needs the columns that the run was trained on, except for the one that is predicted.

    lmx predict runs/classify reviews.tsv --output=labels.jsonl
    lmx predict runs/translation test.tsv --beams=4
    echo '{"text": "a moving film"}' > one.jsonl && lmx predict runs/classify one.jsonl
  """
  add_run(parser)
  parser.add_argument("source", metavar="SOURCE", help="file, folder or glob, as in config.data.sources")
  parser.add_argument("--output", metavar="FILE", help="new file to write to (default: standard output)")
  parser.add_argument("--beams", type=COUNT, default=1, metavar="N",
                      help="beam width, for models that generate text (default: 1, greedy)")  # fmt: skip
  parser.add_argument("--batch-rows", type=COUNT, default=256, metavar="N", help="rows per batch (default: 256)")


def chat(parser: argparse.ArgumentParser) -> None:
  """Chat with a fine-tuned run: each line of input is a user message, and gets an answer.

  lmx chat runs/sft
  echo "Name three colours." | lmx chat runs/sft --temperature 0
  """
  add_run(parser)
  parser.add_argument("--system", metavar="TEXT", help="system message")
  add_sampling(parser, "each answer")


def import_hf(parser: argparse.ArgumentParser) -> None:
  """Import a Hugging Face model as a run, to use, evaluate or fine-tune.

  lmx import path/to/model --workdir=runs/minilm
  lmx import path/to/bert --workdir=runs/bert --head=classification --labels=negative,positive
  lmx import openai-community/gpt2 --workdir=runs/gpt2  # downloads from the hub
  """
  parser.add_argument("model", metavar="MODEL", help="folder with config.json and safetensors, or a name on the hub")
  parser.add_argument("--workdir", required=True, metavar="FOLDER", help="folder of the new run")
  parser.add_argument("--head", metavar="HEAD", help="use this output head instead of the model's own; parameters that "
                      "the files lack are initialized")  # fmt: skip
  parser.add_argument("--labels", default="", metavar="A,B,...", help="with --head: names of the classes")
  parser.add_argument("--tokenizer", metavar="FOLDER", help="folder of the tokenizer (default: the model's own)")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="compute dtype (default: that of the files)")
  parser.add_argument("--nonfinite", choices=("stop", "keep"), default="stop",
                      help="with NaN or infinite weights: refuse the model, or keep them (default: stop)")  # fmt: skip
  parser.add_argument("--mesh", default="", metavar="AXIS=N,...", help="shard the model over devices while reading it")


def export_hf(parser: argparse.ArgumentParser) -> None:
  """Export a run as a Hugging Face model: config.json, safetensors and tokenizer files that transformers reads.

  lmx export runs/classify --output=exported
  lmx export runs/small --output=exported --family=llama --dtype=bfloat16 --max-shard-size=2GB
  lmx export runs/sft --output=adapter --adapter  # a LoRA run's adapters, for PEFT
  """
  add_run(parser)
  parser.add_argument("--output", required=True, metavar="FOLDER", help="new or empty folder")
  parser.add_argument("--family", metavar="FAMILY", help="Hugging Face architecture to write (default: the one it was "
                      "imported from, else the first that fits)")  # fmt: skip
  parser.add_argument("--adapter", action="store_true", help="write only the adapters of a LoRA run, for PEFT")
  parser.add_argument("--base", metavar="MODEL", help="with --adapter: folder or hub name of the base model (default: "
                      "the model that was imported)")  # fmt: skip
  parser.add_argument("--dtype", default="float32", metavar="DTYPE", help="float32 (default), bfloat16 or float16")
  parser.add_argument("--max-shard-size", metavar="SIZE", help="maximum size of one file (default: 5GB)")


def tokenizer(parser: argparse.ArgumentParser) -> None:
  """Train a SentencePiece tokenizer on a config's text, or show how a tokenizer encodes a text.

  lmx tokenizer train --output=my_tokenizer --config.tokenizer.vocab_size=8192
  lmx tokenizer train --output=my_tokenizer --sources "corpus/*.txt"
  lmx tokenizer show --path=my_tokenizer --text "Some words."
  """
  commands = parser.add_subparsers(dest="action", required=True, metavar="train|show")
  training = commands.add_parser("train", help="train a SentencePiece tokenizer on the config's sources")
  training.set_defaults(module="tokenizer_train")
  add_config(training)
  training.add_argument("--output", required=True, metavar="FOLDER", help="new or empty folder for the tokenizer")
  training.add_argument("--sources", nargs="+", metavar="SOURCE", help="train on this text instead of the config's")
  show = commands.add_parser("show", help="describe a tokenizer, and tokenize a text with it")
  show.add_argument(
    "--path", required=True, help='folder of a tokenizer or a run, a .model, a tokenizer.json, or "bytes"'
  )
  show.add_argument("--text", help="text to tokenize")
  show.add_argument(
    "--pieces", type=INDEX, default=0, metavar="N", help="also list the first N tokens of the vocabulary"
  )


def data(parser: argparse.ArgumentParser) -> None:
  """Show batches as the model sees them, count tokens, fill the token cache, or write a TFDS data set.

  lmx data show --config=configs/cpu.py --rows=2
  lmx data count --config.data.sources="corpus/*.jsonl.gz"
  lmx data prepare --config=configs/gpt2.py:small
  lmx data build --name=my_corpus corpus/*.jsonl.gz
  """
  commands = parser.add_subparsers(dest="action", required=True, metavar="show|count|prepare|build")
  show = commands.add_parser("show", help="decode batches as the model sees them")
  add_config(show)
  show.add_argument("--rows", type=COUNT, default=4, metavar="N", help="rows to show (default: 4)")
  show.add_argument("--batch", type=INDEX, default=0, metavar="I", help="index of the batch, from 0 (default: 0)")
  show.add_argument("--heldout", action="store_true", help="show validation batches instead")
  show.add_argument("--table", type=INDEX, default=0, metavar="N", help="also list the first N positions of each row")
  add_config(commands.add_parser("count", help="count documents, tokens and bytes of each source"))
  add_config(commands.add_parser("prepare", help="train the tokenizer and fill the cache of tokens or examples"))
  build = commands.add_parser("build", help="write a TFDS data set (ArrayRecord) from files, on all cores")
  add_config(build)
  build.add_argument("sources", nargs="+", metavar="SOURCE", help="files, folders or globs, as in config.data.sources")
  build.add_argument("--name", required=True, help="name of the data set; --config.data.sources=tfds:NAME reads it")
  build.add_argument("--split", default="train", help="split to write (default: train)")
  build.add_argument("--version", default="1.0.0", help="version of the data set (default: 1.0.0)")
  build.add_argument("--shards", type=INDEX, default=0, metavar="N",
                     help="number of files, each written by a process (default: one per core)")  # fmt: skip


def config(parser: argparse.ArgumentParser) -> None:
  """Show a config and the meaning of its keys, compare two, check one, or explain how it is sharded over a mesh.

  lmx config show --config=configs/gpt2.py:small
  lmx config diff configs/cpu.py runs/cpu
  lmx config check --config=configs/gpt2.py:small --config.model.heads=6
  lmx config explain --config=configs/llama.py:1b --config.mesh.tensor=4 --devices=64
  """
  commands = parser.add_subparsers(dest="action", required=True, metavar="show|diff|check|explain")
  show = commands.add_parser("show", help="list every key, its value and its meaning")
  add_config(show)
  show.add_argument("--changed", action="store_true", help="only keys that differ from base.py")
  show.add_argument("--json", action="store_true", help="print the config.json of a run")
  compare = commands.add_parser("diff", help="list the keys that differ between two config files or runs")
  compare.add_argument("first", help="config file or folder of a run")
  compare.add_argument("second", help="config file or folder of a run")
  check = commands.add_parser("check", help="report everything that is wrong with a config")
  check.set_defaults(module="config_check")
  add_config(check, reports_problems=True)
  explain = commands.add_parser("explain", help="list the sharding and bytes per device of parameters and activations")
  explain.set_defaults(module="config_check")
  add_config(explain)
  explain.add_argument("--devices", type=COUNT, metavar="N", help="number of devices (default: those of this machine)")


def plan(parser: argparse.ArgumentParser) -> None:
  """Estimate memory, step time and cost of a config on hardware that you don't have.

    lmx plan --config=configs/gpt3.py:1.3b --topology=v5e:4x4
    lmx plan --config=configs/llama.py:8b --topology=v5p:4x4x4 --tokens="300B" --price=4.2
    lmx plan --config=configs/gpt3.py:1.3b --topology=2xv5e:4x4 --config.mesh.slice=2
    lmx plan --config=configs/gpt3.py:1.3b --topology=v5e:4x4 --search --write=configs/mine.py --plot=plan.png

  The step is compiled for TPU slices ahead of time, with the package libtpu: memory, collectives and matmuls are the
  compiler's own figures, the rest is added by calculation, and the output labels the source of each figure. GPUs
  (h100:8) are calculated only.

  --search tries meshes of all axes, micro-batches, pipeline schedules, rematerialization, chunked loss, ZeRO-1 and
  optimizer state in host memory; for the fastest candidates on TPUs, also more vector memory and fewer recomputed
  activations. Compiled candidates are cached for this version of lmx.
  """
  add_config(parser)
  parser.add_argument("--topology", required=True, help="TPU slice in chips (v5e:4x4, tpu7x:2x2x2), several slices "
                      "(2xv5e:16x16), or GPUs (h200:8)")  # fmt: skip
  parser.add_argument("--tokens", type=token_count, default="", metavar="N",
                      help='also estimate time and cost of training on N tokens, such as "300B"')  # fmt: skip
  parser.add_argument("--price", type=Number(float, "a price per device-hour, at least 0", low=0),
                      help="price per device-hour, in any currency")  # fmt: skip
  parser.add_argument("--search", action="store_true", help="search for the fastest setup that fits")
  parser.add_argument("--compile", type=COUNT, default=6, metavar="N",
                      help="with --search: compile the N most promising candidates (default: 6)")  # fmt: skip
  parser.add_argument("--write", metavar="FILE.py", help="with --search: write the best candidate as a config file")
  parser.add_argument("--plot", metavar="FILE.png", help="with --search: plot memory and time of all candidates")
  parser.add_argument("--json", action="store_true", help="print one line of JSON instead of text")


def plot(parser: argparse.ArgumentParser) -> None:
  """Plot the loss curves of one or several runs as a PNG.

  lmx plot runs/cpu
  lmx plot runs/* --x tokens --y loss --out compare.png
  """
  parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs")
  parser.add_argument(
    "--out", metavar="FILE.png", help="file to write (default: RUN/loss.png, or ./runs.png for several runs)"
  )
  parser.add_argument("--x", default="steps", metavar="X", help="steps, tokens or time (default: steps)")
  parser.add_argument("--y", default="bits_per_byte", metavar="Y",
                      help="bits_per_byte, loss or accuracy (default: bits_per_byte)")  # fmt: skip


def doctor(parser: argparse.ArgumentParser) -> None:
  """Diagnose the installation: versions, devices, kernels, caches, and optionally a config.

  The exit code is 0 if training would work and 1 otherwise. Nothing is changed, except that a temporary file is written
  to each cache folder and removed. With --verify, every file in config.data.cache_dir is also read and compared with
  its digest, which takes about half a second per GB.
  """
  add_config(parser, reports_problems=True)
  parser.add_argument("--verify", action="store_true", help="read every file of the data cache and check its digest")


def exit_codes() -> str:
  """The table of `lmx.exits` for a terminal."""
  rows = [line.strip("| ").split(" | ") for line in (exits.__doc__ or "").splitlines() if line.startswith("| ")]
  return "\n".join(f"  {codes:8} {meaning}" for codes, meaning in rows if codes[0].isdigit())


@dataclasses.dataclass(frozen=True)
class Command:
  """One command of `lmx`.

  Attributes:
    help: its line in `lmx --help`.
    flags: adds its flags to a parser; the docstring is its description.
    module: the module of this room whose `run(args)` runs it and returns the exit code; a sub-command may name another.
    needs_jax: False: it also works where the installed packages don't fit each other.
    saves_on_signals: Ctrl-C and SIGTERM are handled from the start, before jax is imported, as `args.stop`.
  """

  help: str
  flags: Callable[[argparse.ArgumentParser], None]
  module: str
  needs_jax: bool = True
  saves_on_signals: bool = False


COMMANDS = {
  "train": Command("train a model, or resume a run", train, "train", saves_on_signals=True),
  "sweep": Command("train one run for each combination of some keys, or search", sweep, "sweep", needs_jax=False),
  "launch": Command("run a command on Slurm, cloud TPUs or in the background", launch, "launch", needs_jax=False),
  "jobs": Command("states, logs and costs of launched jobs", jobs, "jobs", needs_jax=False),
  "evaluate": Command("validation loss and bits per byte of a run", evaluate, "evaluate"),
  "generate": Command("generate text with a run", generate, "generate"),
  "predict": Command("run a fine-tuned model over a file", predict, "predict"),
  "chat": Command("chat with a fine-tuned run", chat, "chat"),
  "import": Command("import a Hugging Face model as a run", import_hf, "import_hf"),
  "export": Command("export a run as a Hugging Face model", export_hf, "export_hf"),
  "tokenizer": Command("train a tokenizer; show how it tokenizes a text", tokenizer, "tokenizer"),
  "data": Command("show batches as the model sees them; count tokens", data, "data"),
  "config": Command("show, compare and check configs", config, "config", needs_jax=False),
  "plan": Command("estimate memory, step time and cost on hardware you don't have", plan, "plan"),
  "plot": Command("plot the loss curves of one or several runs", plot, "plot", needs_jax=False),
  "doctor": Command("diagnose the installation", doctor, "doctor", needs_jax=False),
}
