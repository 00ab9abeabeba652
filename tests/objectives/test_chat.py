# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Chats: rendered as `transformers` renders them, with loss on the assistant's tokens and on nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from laws import assert_law_catches
from objectives.making import make_objective

from lmx.data.cache.encoding import BadExampleError
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.chat_samples import answer_spans
from lmx.objectives.chat_template import ChatTemplate, chatml, find_template

# Templates and chats, and what transformers' render_jinja_template makes of them.
REFERENCE = json.loads((Path(__file__).parent / "chat_templates.json").read_text())
TEMPLATES, CHATS, CASES = (REFERENCE[name] for name in ("templates", "chats", "cases"))
TOKENIZER = ByteTokenizer()
CHATML = chatml(TOKENIZER)
QUESTION = [{"role": "user", "content": "hi"}]
SHORT = [*QUESTION, {"role": "assistant", "content": "yo"}]


def encoder(template: str | None = None, tmp_path: Path | None = None, length: int = 512):
  path = None
  if template is not None:
    path = tmp_path / "template.jinja"
    path.write_text(template)
  setting = ObjectiveContext(TOKENIZER, length, length, "transformer")
  return make_objective("chat", setting, z_loss=0.0, chat_template=path and str(path)).encoder


def scored_text(fields) -> str:
  """The targets as text, special tokens included."""
  return "".join(TOKENIZER.piece(int(token)) for token in fields["targets"][fields["loss_weights"] > 0])


# ---------------------------------------------------------------- rendering


@pytest.mark.parametrize("case", CASES, ids=[f"{case['template']}-{case['chat']}" for case in CASES])
def test_a_chat_is_rendered_as_transformers_does(case):
  template = ChatTemplate(TEMPLATES[case["template"]], TOKENIZER)
  messages = CHATS[case["chat"]]
  assert template.render(messages).text == case["text"]
  assert template.render(messages, ask=True).text == case["asking"]


def answers_of(template: ChatTemplate, messages, tools=None) -> list[str]:
  """The text of each of the assistant's turns, as the template writes the chat up to it."""
  found = []
  for index, one in enumerate(messages):
    if one["role"] == "assistant":
      rendered = template.render(messages[: index + 1], tools)
      spans = answer_spans(template, messages[: index + 1], tools, rendered)
      found.append("".join(rendered.text[begin:end] for begin, end in spans))
  return found


def check_answers(template: ChatTemplate, messages, expected: list[str]) -> None:
  assert answers_of(template, messages) == expected


@pytest.mark.parametrize(
  ("name", "number", "expected"),
  [
    *[(case["template"], case["chat"], case["answers"]) for case in CASES if "answers" in case],
    ("chatml", 1, ["4<|im_end|>\n", "6\n<|im_end|>\n"]),
    ("llama3", 1, ["4<|eot_id|>", "6<|eot_id|>"]),
    ("llama3", 2, ['"ok"<|eot_id|>', "bye<|eot_id|>"]),
  ],
)
def test_the_answers_are_found(name, number, expected):
  check_answers(ChatTemplate(TEMPLATES[name], TOKENIZER), CHATS[number], expected)


def test_answers_that_start_with_their_header_are_noticed(monkeypatch):
  render = ChatTemplate.render
  monkeypatch.setattr(ChatTemplate, "render", lambda self, messages, tools=None, ask=False: render(self, messages))
  template = ChatTemplate(TEMPLATES["llama3"], TOKENIZER)
  assert_law_catches(check_answers, template, CHATS[1], ["4<|eot_id|>", "6<|eot_id|>"])


def test_spaces_after_the_token_that_ends_an_answer_are_not_part_of_it():
  source = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token + '\n' }}{% endfor %}"
  source += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
  check_answers(ChatTemplate(source, TOKENIZER), SHORT, ["yo</s>"])


def test_marks_and_prompts_find_the_same_answers():
  plain = CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")
  for messages in CHATS:
    marked, found = (ChatTemplate(source, TOKENIZER) for source in (CHATML, plain))
    assert marked.render(messages).text == found.render(messages).text
    assert answers_of(marked, messages) == answers_of(found, messages)


def test_the_built_in_template_ends_turns_as_the_tokenizer_ends_documents():
  text = find_template(TOKENIZER, None).render(SHORT, ask=True).text
  assert text == "<s><|im_start|>user\nhi</s>\n<|im_start|>assistant\nyo</s>\n<|im_start|>assistant\n"


def test_the_tokenizers_own_template_comes_before_the_built_in_one(monkeypatch, tmp_path):
  monkeypatch.setattr(ByteTokenizer, "chat_template", "{{ messages[0].content }}")
  assert find_template(TOKENIZER, None).render(QUESTION).text == "hi"
  other = tmp_path / "other.jinja"
  other.write_text("{{ messages[0].role }}")
  assert find_template(TOKENIZER, str(other)).render(QUESTION).text == "user"


def test_a_special_token_that_somebody_wrote_is_plain_text():
  messages = [{"role": "user", "content": "</s><s> \ufdd1"}, {"role": "assistant", "content": "no </s> here"}]
  fields = encoder()({"messages": messages}).fields
  ids = np.append(fields["tokens"], fields["targets"][-1])
  assert (ids == TOKENIZER.eos_id).sum() == 2  # One for each turn.
  assert (ids == TOKENIZER.bos_id).sum() == 1
  assert scored_text(fields) == "no </s> here</s>"
  assert "</s><s> " in TOKENIZER.decode(ids)


# ---------------------------------------------------------------- examples


def check_only_answers_are_scored(encode) -> None:
  messages = CHATS[1]
  fields = encode({"messages": messages}).fields
  assert scored_text(fields) == "4</s>6\n</s>"
  np.testing.assert_array_equal(fields["tokens"][1:], fields["targets"][:-1])


def test_only_the_assistants_turns_and_their_ends_are_scored():
  check_only_answers_are_scored(encoder())


def test_scoring_the_questions_too_is_noticed(monkeypatch):
  monkeypatch.setattr("lmx.objectives.chat_samples.answer_spans", lambda *given: [(0, len(given[3].text))])
  assert_law_catches(check_only_answers_are_scored, encoder())


def test_a_prompt_and_a_completion_are_a_chat_of_two_turns():
  one, other, third = (
    encoder()(row).fields
    for row in (
      {"messages": SHORT},
      {"prompt": "hi", "completion": "yo"},
      {"messages": json.dumps(SHORT), "prompt": ""},
    )
  )
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(one[name], third[name])


def test_a_chat_that_is_too_long_loses_its_end_and_it_is_counted():
  whole = encoder()({"messages": CHATS[1]}).fields
  cut = encoder(length=100)({"messages": CHATS[1]})
  assert len(cut.fields["tokens"]) == 100
  assert cut.truncated == len(whole["tokens"]) - 100
  np.testing.assert_array_equal(cut.fields["targets"], whole["targets"][:100])


@pytest.mark.parametrize(
  ("row", "reason", "detail"),
  [
    ({"messages": QUESTION}, "chat without an assistant turn", "user"),
    ({"messages": []}, "no chat in the row", "'messages', 'conversations', .*filled here: none"),
    ({"messages": "nonsense"}, "column 'messages' is not JSON", "Expecting value"),
    ({"messages": {"a": 1}}, "column 'messages' is not a list", "got"),
    ({"messages": [*SHORT, {"role": "asistant", "content": "x"}]}, "unknown role", "did you mean 'assistant'"),
    ({"messages": [{"role": "user"}]}, "message without role and content", "got"),
    ({"messages": [{"role": "user", "content": None}]}, "message without role and content", "got"),
    ({"messages": [{"role": "assistant", "content": [1]}]}, "message whose content is not text", r"got \[1\]"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "content is not text", "it has image_url"),
    ({"messages": [*QUESTION, {"role": "assistant", "content": " "}]}, "empty answer", "turn 2"),
    ({"messages": [*QUESTION, {**SHORT[1], "weight": 0}]}, "chat without an assistant turn", "weight of 1"),
    ({"messages": [*QUESTION, {**SHORT[1], "weight": 0.5}]}, "weight of a message", "got 0.5"),
    ({"messages": [{**QUESTION[0], "weight": 1}, SHORT[1]]}, "weight of a message", "turn of the user"),
    ({"messages": [{"role": "user", "content": "\ud800"}, SHORT[1]]}, "not valid Unicode", "character 0"),
    ({"prompt": "hi", "completion": " "}, "empty column 'completion'", ""),
  ],
)
def test_a_chat_that_cannot_be_used_reports_why(row, reason, detail):
  with pytest.raises(BadExampleError, match=f"{reason}.*{detail}"):
    encoder()(row)


def test_a_chat_whose_answers_are_past_the_end_of_the_row_is_refused():
  with pytest.raises(BadExampleError, match=r"no answer within a row .*config.data.length=20"):
    encoder(length=20)({"messages": SHORT})


def test_a_template_that_refuses_a_chat_reports_why(tmp_path):
  row = {"messages": CHATS[1]}  # It has a system turn.
  with pytest.raises(BadExampleError, match=r"the chat template refuses this chat \(roles must alternate"):
    encoder(TEMPLATES["marked"], tmp_path)(row)


def test_a_template_that_is_none_is_refused_before_any_data_is_read(tmp_path):
  with pytest.raises(LmxError, match=r"template.jinja is not a Jinja template"):
    encoder("{% for %}", tmp_path)
  with pytest.raises(LmxError, match=r"config.objective.chat_template: got 'nowhere'"):
    make_objective("chat", ObjectiveContext(TOKENIZER, 8, 8, "transformer"), z_loss=0.0, chat_template="nowhere")


@pytest.mark.parametrize(
  "source", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ strftime_now.__self__.today() }}"]
)
def test_a_template_can_do_nothing_but_write(source, tmp_path):
  with pytest.raises(BadExampleError, match="refuses this chat"):
    encoder(source, tmp_path)({"messages": SHORT})


def test_a_cache_is_of_one_template(tmp_path):
  assert encoder().fingerprint != encoder(TEMPLATES["chatml"], tmp_path).fingerprint
