# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every objective through the real loop: it trains, its metrics are exact, and its run is loaded and used."""

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_runs
import tiny_tasks
from laws import assert_law_catches
from objectives import rewriting

import lmx
from lmx.api.loaded_run import LoadedRun
from lmx.api.tasks import COLUMNS, for_each
from lmx.cli.main import main
from lmx.config.loading import load
from lmx.data.cache.encoding import BadExampleError
from lmx.errors import ConfigError, LmxError
from lmx.objectives.chat_template import chatml
from lmx.run import loop
from lmx.training.state import abstract_model_of

SHORT = {"train__duration": "3 steps", "evaluation__every": "3 steps", "checkpoint__every": "3 steps",
         "evaluation__prompts": "()", "model__dropout": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
  folder = tiny_runs.write_text(tmp_path_factory.mktemp("tasks") / "text")
  return tiny_tasks.write_examples(folder)


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
  """name -> (the loaded run, its last evaluation), each trained once."""
  folder, done = tmp_path_factory.mktemp("runs"), {}

  def train(name: str) -> tuple[LoadedRun, loop.HeldOut]:
    if name not in done:
      teacher = train("causal")[0].folder if name == "distillation" else None
      changes = {**tiny_tasks.changes(name, text, teacher), **SHORT}
      result = loop.train(tiny_runs.experiment(text, folder / name, **changes))
      assert result.heldout is not None
      done[name] = (lmx.load(folder / name), result.heldout)
    return done[name]

  return train


def check_exact(evaluate, logged, *, loss: bool) -> None:
  """An evaluation in other batches equals that of the training."""
  found = evaluate(3)
  assert not loss or found.loss == pytest.approx(logged.loss, rel=1e-4)
  assert found.targets == logged.targets
  for name, value in logged.metrics.items():
    if name != "batch_accuracy":
      assert found.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("name", tiny_tasks.TASKS)
def test_an_objective_trains_and_its_metrics_do_not_depend_on_the_batch(name, trained):
  run, logged = trained(name)
  assert math.isfinite(logged.loss)
  assert all(math.isfinite(value) for value in logged.metrics.values())
  check_exact(lambda size: run.evaluate(batch_size=size), logged, loss=name != "contrastive")


def test_the_check_of_exact_metrics_can_fail(trained):
  run, logged = trained("classification")
  assert_law_catches(check_exact, lambda size: run.evaluate(batch_size=size, max_rows=3), logged, loss=True)


def assert_alike(one, other) -> None:
  """The same keys, texts and labels; numbers may differ by what a batch of another size rounds otherwise."""
  if isinstance(other, dict):
    assert one.keys() == other.keys()
    for key in other:
      assert_alike(one[key], other[key])
  else:
    assert one == (pytest.approx(other, rel=1e-5) if isinstance(other, float) else other)


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "multi_label"])
def test_a_run_predicts_what_it_was_trained_for(name, trained, text, tmp_path):
  run, _ = trained(name)
  rows = [json.loads(line) for line in (text / "rows.jsonl").read_text().splitlines()[:5]]
  whole = run.predict(rows)
  assert len(whole) == 5
  if name != "contrastive":  # A row's answer is its own.
    assert_alike(run.predict(rows[2:3])[0], whole[2])
    assert_law_catches(assert_alike, whole[2], {**whole[2], "label": "another"})
  assert main(["predict", str(run.folder), str(text / "rows.jsonl"), f"--output={tmp_path / 'out.jsonl'}"]) == 0
  written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
  assert len(written) == 40
  assert written[0].keys() == whole[0].keys()


# For each kind: what makes a row unusable, and why.
BAD = {
  "classification": ({"text": ""}, "empty column 'text'"),
  "regression": ({"text": None}, "empty column 'text'"),
  "tagging": ({"tokens": []}, "empty column 'tokens'"),
  "span": ({"context": float("nan")}, "empty column 'context'"),
  "contrastive": ({"text": " "}, "empty column 'text'"),
  "seq2seq": ({"source": "x" * 99}, "too long"),
  "chat": ({"messages": [], "prompt": None}, "no chat in the row"),
}


@pytest.mark.parametrize("name", BAD)
def test_every_row_gets_its_line_and_a_bad_one_reports_why(name, trained, text, tmp_path, capsys):
  run, _ = trained(name)
  rows = [json.loads(line) for line in (text / "rows.jsonl").read_text().splitlines()[:4]]
  change, reason = BAD[name]
  lines = [*map(json.dumps, rows[:2]), json.dumps(rows[0] | change), "{broken", *map(json.dumps, rows[2:])]
  (tmp_path / "rows.jsonl").write_text("\n".join(lines))
  command = ["predict", str(run.folder), str(tmp_path / "rows.jsonl"), f"--output={tmp_path / 'out.jsonl'}"]
  assert main([*command, "--batch-rows=5"]) == 0
  written = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
  assert [sorted(one) == ["error"] for one in written] == [False, False, True, True, False, False]
  assert reason in written[2]["error"]
  assert "rows.jsonl:4: broken JSON" in written[3]["error"]
  for one, expected in zip([*written[:2], *written[4:]], run.predict(rows), strict=True):
    assert one.keys() == expected.keys()
  assert "2 rows could not be used" in capsys.readouterr().err


def test_only_bad_rows_are_separated_from_a_batch():
  calls = []

  def double(rows):
    calls.append(len(rows))
    if None in rows:
      raise BadExampleError("nothing there")
    return [{"value": 2 * row} for row in rows]

  rows = [1, 2, None, 4, 5, 6, 7, 8]
  found = for_each(double, rows)
  assert found == [{"error": "nothing there"} if row is None else {"value": 2 * row} for row in rows]
  assert calls == [8, 4, 2, 2, 1, 1, 4]  # The good ones stay together.


@pytest.mark.parametrize("bad", ["", " ", "\ud800"])
def test_a_text_that_cannot_be_read_is_one_clear_error(bad, trained):
  run = trained("classification")[0]
  for call in (run.classify, lambda text: run.embed(["fine", text])):
    with pytest.raises(LmxError, match="column 'text'"):
      call(bad)
  assert run.embed([]).shape == (0, 16)


def test_a_session_of_chat_outlives_a_question_that_is_refused(trained, tmp_path, monkeypatch, capsys):
  """With a template that rewrites earlier turns; one question is too long for the model."""
  folder = Path(shutil.copytree(trained("chat")[0].folder, tmp_path / "run"))
  short = rewriting.ENDS.replace("'<|' + m.role + '|>\n'", "m.role[0]").replace("<|assistant|>\n", "a")
  (folder / "tokenizer" / "chat_template.jinja").write_text(short.replace("<|end|>\n", ";"))
  capsys.readouterr()
  monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n" + "c" * 99 + "\n\nd\n"))
  assert main(["chat", str(folder), "--max-new-tokens=1"]) == 0
  out, err = capsys.readouterr()
  assert len(out.splitlines()) == 3
  assert err.count("error: too long") == 1


def test_each_task_has_its_own_call(trained):
  labels = trained("classification")[0].classify(["abc is good", "abc is bad"])
  assert all(set(one) == {"good", "bad"} and sum(one.values()) == pytest.approx(1) for one in labels)
  assert isinstance(trained("regression")[0].regress("abc is good")[0], float)
  assert set(trained("tagging")[0].tag("abc is good")) <= {"B-X", "O"}
  answer = trained("span")[0].answer("who", "abc is good")
  assert answer.text in "abc is good"
  assert len(trained("seq2seq")[0].translate(["abc", "fed"], beams=2)) == 2
  assert isinstance(trained("chat")[0].chat("abc", max_new_tokens=4), str)
  vectors = trained("contrastive")[0].embed(["abc is good", "abc is bad"])
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_a_chat_template_is_kept_with_the_run(text, tmp_path):
  template = tmp_path / "template.jinja"
  template.write_text("{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}{% endfor %}"
                      "{% if add_generation_prompt %}a:{% endif %}")  # fmt: skip
  changes = {**tiny_tasks.changes("chat", text), **SHORT, "objective__chat_template": str(template)}
  loop.train(tiny_runs.experiment(text, tmp_path / "run", **changes))
  template.unlink()
  run = lmx.load(tmp_path / "run")
  assert run.tokenizer.chat_template.startswith("{% for m in messages %}{{ m.role[0] }}")
  assert isinstance(run.chat("abc", max_new_tokens=2), str)
  assert run.evaluate().targets > 0


def test_the_built_in_template_is_kept_with_the_run_and_exported(trained, tmp_path):
  run = trained("chat")[0]
  kept = (run.folder / "tokenizer" / "chat_template.jinja").read_text()
  assert kept == chatml(run.tokenizer)
  older = Path(shutil.copytree(run.folder, tmp_path / "older"))  # Runs of earlier versions have none.
  (older / "tokenizer" / "chat_template.jinja").unlink()
  for number, one in enumerate((run, lmx.load(older))):
    exported = lmx.to_hf(one, tmp_path / f"exported{number}")
    assert (exported.directory / "chat_template.jinja").read_text() == kept


def test_what_a_run_was_not_trained_for_is_reported(trained):
  with pytest.raises(LmxError, match=r"the run's objective: got 'causal'"):
    trained("causal")[0].predict([{"text": "x"}])
  with pytest.raises(LmxError, match="head"):
    trained("causal")[0].classify("x")


def test_labels_found_in_the_data_are_kept_with_the_run(trained):
  run, _ = trained("classification")
  assert run.labels == ("bad", "good")
  assert json.loads((run.folder / "labels.json").read_text()) == ["bad", "good"]


# ---------------------------------------------------------------- what a fine-tune starts from


def test_a_fine_tune_of_a_classifier_keeps_the_order_of_its_labels(trained):
  classifier, tagger = trained("classification")[0], trained("tagging")[0]
  assert load(f"configs/classify.py:{classifier.folder}").objective.labels == ("bad", "good")
  assert load(f"configs/tag.py:{tagger.folder}").objective.labels == tagger.labels
  assert load(f"configs/classify.py:{tagger.folder}").objective.labels == ()  # They stand for something else.
  assert load("configs/classify.py").objective.labels == ()


def start(text: Path, run_dir: Path, name: str, origin: Path, **more):
  changes = {**tiny_tasks.changes(name, text), **SHORT, "checkpoint__start_from": str(origin), **more}
  return tiny_runs.experiment(text, run_dir, **changes)


def test_a_new_head_starts_on_the_backbone_of_another_run(trained, text, tmp_path, capsys):
  origin = trained("masked")[0]
  x = start(text, tmp_path / "run", "classification", origin.folder, tokenizer__extra_ids=1,
            optimizer__lr_rules="(('head.*', 1.0), ('.*', 0.0))")  # fmt: skip
  loop.train(x)
  assert "new and untrained: head.out.bias, head.out.kernel" in capsys.readouterr().out.replace("\n", " ")
  tuned = lmx.load(tmp_path / "run")
  ours, theirs = (dict(run_arrays(run)) for run in (tuned, origin))
  for name, value in ours.items():
    if not name.startswith("head."):
      np.testing.assert_array_equal(value, theirs[name], err_msg=name)  # All but the head was frozen.


def test_a_run_of_another_shape_is_refused_with_the_parameter_named(trained, text, tmp_path):
  x = start(text, tmp_path / "run", "classification", trained("masked")[0].folder, model__width=32)
  with pytest.raises(LmxError, match=r"final_norm\.bias is \(\(16,\), 'float32'\) in the checkpoint and \(\(32,\)"):
    loop.train(x)


def test_adapters_alone_are_trained_and_merge_into_the_weights(trained, text, tmp_path):
  origin = trained("causal")[0]
  x = start(text, tmp_path / "run", "causal", origin.folder, lora__rank=2)
  assert {name.rpartition(".")[2] for name in x.network.optimizer.multipliers} == {"lora_a", "lora_b"}
  loop.train(x)
  tuned = lmx.load(tmp_path / "run")
  ours, theirs = dict(run_arrays(tuned)), dict(run_arrays(origin))
  np.testing.assert_array_equal(ours["layers.mlp.up.kernel"], theirs["layers.mlp.up.kernel"])
  assert np.any(ours["layers.mlp.up.lora_b"] != 0)
  merged = tuned.merged()
  assert set(run_arrays(merged)) == set(theirs)
  text_loss = tuned.loss("a batch of text").nats
  assert merged.loss("a batch of text").nats == pytest.approx(text_loss, rel=1e-5)
  assert origin.loss("a batch of text").nats != pytest.approx(text_loss, rel=1e-5)


def run_arrays(run: LoadedRun) -> dict[str, np.ndarray]:
  return {name: np.asarray(value) for name, value in abstract_model_of(run.model).split(run.model).items()}


# ---------------------------------------------------------------- bad examples


@pytest.mark.parametrize(
  ("name", "row", "expected"),
  [
    ("classification", {"text": "x", "label": "ugly"}, r"rows\.jsonl:41: .*'ugly'"),
    ("classification", {"text": "", "label": "good"}, r"rows\.jsonl:41: .*text"),
    ("regression", {"text": "x", "label": "many"}, r"numbers\.jsonl:41: .*'many'"),
    ("seq2seq", {"source": "x", "target": "y" * 99}, r"rows\.jsonl:41: target too long .*data\.length"),
    ("chat", {"messages": [{"role": "user", "content": "x"}]}, r"rows\.jsonl:41: chat without an assistant turn"),
    ("span", {"question": "q", "context": "c", "answer": "d"}, r"rows\.jsonl:41: answer not in the context"),
    ("tagging", {"tokens": ["a", "b"], "tags": ["O"]}, r"rows\.jsonl:41: words and tags differ"),
  ],
)
def test_a_bad_example_is_named_by_file_and_row(name, row, expected, text, tmp_path):
  tiny_tasks.write_examples(tmp_path)
  file = tmp_path / ("numbers.jsonl" if name == "regression" else "rows.jsonl")
  file.write_text(file.read_text() + "\n" + json.dumps(row))
  changes = {**tiny_tasks.changes(name, tmp_path), "data__cache_dir": str(tmp_path / "cache")}
  if name in ("classification", "tagging"):
    changes["objective__labels"] = "bad,good" if name == "classification" else "B-X,O"
  with pytest.raises(LmxError, match=expected) as caught:
    tiny_runs.experiment(text, tmp_path / "run", **changes)
  assert "Fix: " in str(caught.value)


def test_a_masked_model_without_a_mask_is_refused_with_how_to_add_one(text, tmp_path):
  changes = {**tiny_tasks.changes("masked", text), "tokenizer__extra_ids": 0}
  with pytest.raises((LmxError, ConfigError), match=r"--config\.tokenizer\.extra_ids=1"):
    tiny_runs.experiment(text, tmp_path / "run", **changes)
