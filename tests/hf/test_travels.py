# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Family, token ids and generation settings of an imported model are kept by every run that starts from it."""

import json
import re

import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import copy, write
from tiny_tasks import fine_tuned as start
from tiny_tasks import write_examples

import lmx
from lmx.cli.main import main
from lmx.errors import LmxError
from lmx.hf.generation import GenerationDefaults, read_generation

FILE = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [2, 7], "repetition_penalty": 1.1}


def test_a_fine_tuned_mistral_is_exported_as_one_with_every_stop_id(tmp_path, capsys):
  model = copy(GOLDEN / "mistral-language-8", tmp_path / "model", eos_token_id=[2, 7], sliding_window=None)
  write(model, "generation_config.json", FILE)
  assert main(["import", str(model), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  trained = start(tmp_path / "run", tmp_path, "sft.py")
  assert re.search(r"export +as mistral, MistralForCausalLM", capsys.readouterr().out)
  assert lmx.load(trained).generation.stops == (2, 7)
  assert main(["export", str(trained), f"--output={tmp_path / 'out'}"]) == 0
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert (config["model_type"], config["eos_token_id"]) == ("mistral", [2, 7])
  generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
  assert generation == FILE | {"eos_token_id": [2, 7]} | {key: generation[key] for key in generation.keys() - FILE}


def test_a_fine_tuned_roberta_is_exported_as_one(tmp_path):
  model = copy(GOLDEN / "roberta-masked-8", tmp_path / "model", pad=1)
  assert main(["import", str(model), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  lmx.to_hf(start(tmp_path / "run", tmp_path, "classify.py"), tmp_path / "out")
  config = json.loads((tmp_path / "out" / "config.json").read_text())
  assert (config["model_type"], config["architectures"]) == ("roberta", ["RobertaForSequenceClassification"])
  assert not (tmp_path / "out" / "modules.json").exists()


def test_generation_follows_the_file_unless_overridden(tmp_path, capsys):
  model = copy(GOLDEN / "llama-language-7", tmp_path / "model")
  write(model, "generation_config.json", {"do_sample": False, "eos_token_id": 2, "max_new_tokens": 5})
  run = lmx.from_hf(model)
  greedy = run.generate("w1 w2", temperature=0, max_new_tokens=5, plain=True)
  assert run.generate("w1 w2") == greedy == run.generate("w1 w2", seed=1)
  assert main(["import", str(model), f"--workdir={tmp_path / 'run'}"]) == 0
  capsys.readouterr()
  assert main(["generate", str(tmp_path / "run"), "--prompt", "w1 w2"]) == 0
  captured = capsys.readouterr()
  assert captured.out.strip().endswith(greedy[0].strip())
  assert "generation_config.json: temperature 0, max_new_tokens 5, stops at 2" in captured.err
  assert main(["generate", str(tmp_path / "run"), "--prompt", "w1 w2", "--plain", "--max-new-tokens=3"]) == 0
  assert "generation_config" not in capsys.readouterr().err


def test_suppressed_ids_are_never_generated(tmp_path):
  model = copy(GOLDEN / "llama-language-7", tmp_path / "model")
  write(model, "generation_config.json", {"do_sample": False})
  (first,) = lmx.from_hf(model).continuations(["w1 w2"], seed=0, max_new_tokens=3, temperature=0.0)[0]
  write(model, "generation_config.json", {"bad_words_ids": [[int(first.tokens[0])], [3, 4]]})
  run = lmx.from_hf(model)
  (other,) = run.continuations(["w1 w2"], seed=0, max_new_tokens=8, temperature=0.0)[0]
  assert first.tokens[0] not in other.tokens
  assert "not applied: bad_words_ids of several tokens" in run.generation.describe()


@pytest.mark.parametrize(
  ("values", "expected"),
  [
    ({}, {}),
    ({"eos_token_id": [1, 2], "bos_token_id": 3}, {"stops": (1, 2)}),
    ({"do_sample": True}, {"temperature": 1.0, "top_k": 50}),
    ({"do_sample": True, "temperature": 0.6, "top_k": 0, "top_p": 1.0}, {"temperature": 0.6}),
    ({"temperature": 0.6, "top_p": 0.9}, {"temperature": 0.0}),
    ({"repetition_penalty": 1.1, "min_length": 0}, {"not_applied": ("repetition_penalty 1.1",)}),
    ({"num_beams": 4, "forced_eos_token_id": 0, "renormalize_logits": True},
     {"beams": 4, "forced_end": True, "renormalize": True}),
  ],
)  # fmt: skip
def test_keys_of_the_file_become_arguments_as_transformers_means_them(tmp_path, values, expected):
  write(tmp_path, "generation_config.json", values)
  found = vars(read_generation(tmp_path))
  usual = vars(GenerationDefaults()) | {key: found[key] for key in ("length_penalty", "ranking")}
  assert found == usual | expected


@pytest.mark.parametrize(
  "values", [{"temperature": "hot"}, {"top_p": 1.5}, {"eos_token_id": [None]}, {"max_new_tokens": 0},
             {"do_sample": 1}, {"bad_words_ids": [3]}, {"early_stopping": "maybe"}],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_by_its_key(tmp_path, values):
  write(tmp_path, "generation_config.json", values)
  with pytest.raises(LmxError, match=rf"generation_config\.json: {next(iter(values))}: got"):
    read_generation(tmp_path)


@pytest.mark.parametrize(("config", "family", "changed"), [
  ("t5.py", "t5", {"tokenizer.extra_ids": 16, "model.logits_scale": 32**-0.5}),
  ("translation.py", "marian", {"model.embedding_scale": 32**0.5}),
])  # fmt: skip
def test_a_run_of_a_stock_encoder_decoder_is_exported_and_read_back(config, family, changed, tmp_path):
  """With sizes of a test, which these scales follow."""
  rows = write_examples(tmp_path / "rows") / "rows.jsonl"
  keys = {"data.sources": rows, "data.cache_dir": tmp_path / "cache", "data.heldout_fraction": 0.3, "data.length": 16}
  keys |= {"optimizer.warmup": "1 steps", "train.duration": "2 steps", "train.batch_size": 8}
  keys |= {"tokenizer.kind": "bytes", "compute.dtype": "float32", "compute.compilation_cache": ""}
  keys |= {"model.layers": 1, "model.width": 32, "model.heads": 2, "model.mlp_width": 32, "model.context": 48}
  keys |= {"evaluation.max_rows": 4, "evaluation.prompts": "()", "data.encoder_length": 16, **changed}
  given = [f"--config.{key}={value}" for key, value in keys.items()]
  assert main(["train", f"--config=configs/{config}", f"--workdir={tmp_path / 'run'}", *given]) == 0
  run = lmx.load(tmp_path / "run")
  assert lmx.to_hf(run, tmp_path / "out").family == family
  again = lmx.from_hf(tmp_path / "out")
  asked = {"seed": 0, "temperature": 0.0, "max_new_tokens": 5, "plain": True}
  (((mine,),), ((theirs,),)) = (one.continuations(["a b"], **asked) for one in (run, again))
  np.testing.assert_array_equal(mine.tokens, theirs.tokens)


def test_an_unknown_key_of_generation_config_is_reported(tmp_path):
  write(tmp_path, "generation_config.json", {"do_sample": True, "tempratur": 0.3, "use_cache": True, "max_time": 1})
  found = read_generation(tmp_path)
  assert found.temperature == 1.0
  assert found.not_applied == ("tempratur 0.3, which is not a known key",)
  write(tmp_path, "generation_config.json", {"token_healing": True, "eos_token_id": 2, "num_beams": 2})
  assert read_generation(tmp_path).not_applied == ("token_healing True",)
