# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows as people have them to chats: OpenAI's lines, ShareGPT, Alpaca; and preferences without a prompt."""

import json

import numpy as np
import pytest
from objectives.making import make_objective

from lmx.api.tasks import unanswered
from lmx.data.cache.encoding import BadExampleError
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.chat_rows import Chat, chat_of
from lmx.objectives.dpo import preferences_of

USER, YES, NO = (
  {"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "y"), ("assistant", "n"))
)
SYSTEM = {"role": "system", "content": "s"}
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
SETTING = ObjectiveContext(ByteTokenizer(), 256, 256, "transformer")


@pytest.mark.parametrize(
  ("row", "messages", "layout"),
  [
    ({"messages": [USER, YES]}, [USER, YES], ""),
    ({"prompt": "q", "completion": "y"}, [USER, YES], "prompt and completion"),
    ({"prompt": [SYSTEM, USER], "completion": [YES]}, [SYSTEM, USER, YES], "prompt and completion"),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "y"}]}, [USER, YES], "ShareGPT"),
    ({"conversations": json.dumps([USER, YES]), "system": "s"}, [SYSTEM, USER, YES], "ShareGPT"),
    ({"instruction": "q", "output": "y"}, [USER, YES], "Alpaca"),
    ({"instruction": "q", "input": "i", "output": "y", "system": "s"},
     [SYSTEM, {"role": "user", "content": "q\n\ni"}, YES], "Alpaca"),
    ({"messages": [USER, YES], "prompt": "q", "completion": "", "input": float("nan")}, [USER, YES], ""),
    ({"messages": [USER, YES], "prompt": "q", "completion": "y"}, [USER, YES], ""),
    ({"messages": [{**USER, "tool_calls": None}, {**YES, "weight": 1}]}, [USER, {**YES, "weight": 1}], ""),
  ],
)  # fmt: skip
def test_a_chat_is_recognized_by_its_columns(row, messages, layout):
  chat = chat_of(row)
  assert chat.messages == messages
  assert chat.layout.startswith(layout)
  assert bool(chat.layout) == bool(layout)


def test_what_rows_were_read_as_is_counted():
  encoder = make_objective("chat", SETTING, z_loss=0.0, chat_template=None).encoder
  one, other = encoder({"instruction": "q", "output": "y"}), encoder({"messages": [USER, YES]})
  assert one.notes == ("rows read as Alpaca (instruction, input, output)",)
  assert other.notes == ()
  np.testing.assert_array_equal(one.fields["tokens"], other.fields["tokens"])


@pytest.mark.parametrize(
  ("row", "reason"),
  [
    ({"messages": [USER, YES], "instruction": "q", "output": "n"},
     r"two different chats in a row \(in 'messages' and in 'instruction'; --config.data.columns.instruction=none"),
    ({"conversations": [USER, YES], "prompt": "q", "completion": "n"}, "in 'conversations' and in 'prompt'"),
    ({"instruction": "q", "output": " "}, "empty column 'output'"),
    ({"prompt": "q"}, "empty column 'completion'"),
    ({"system": "s"}, "no chat in the row .*filled here: system"),
    ({"conversations": [{"from": "humn", "value": "q"}]}, "unknown role"),
    ({"conversations": [{"from": "gpt"}]}, "message without role and content"),
    ({"conversations": [{"from": "function_call", "value": "weather()"}]}, "'function_call' is not JSON"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {}}]}]}, "without the name of a function"),
    ({"messages": [{**USER, "tool_calls": [TOOL]}, YES]}, "tool call of another than the assistant"),
    ({"messages": [USER, YES], "tools": "nonsense"}, "column 'tools' is not JSON"),
    ({"messages": [USER, YES], "tools": {"name": "x"}}, "column 'tools' is not a list of JSON schemas"),
    ({"messages": [USER, {"role": "assistant", "refusal": "no"}]}, "message without role and content"),
  ],
)  # fmt: skip
def test_a_row_that_is_no_chat_or_two_reports_why(row, reason):
  with pytest.raises(BadExampleError, match=reason):
    chat_of(row)


def test_calls_are_read_in_every_form():
  call = {"name": "weather", "arguments": {"city": "Ulm"}}
  wrapped = {"role": "assistant", "tool_calls": [{"type": "function", "function": call}]}
  result = {"role": "tool", "content": "sun"}
  expected = Chat([USER, wrapped, result, YES], [TOOL])
  new = {"messages": [USER, {**wrapped, "content": None}, result, YES], "tools": [TOOL]}
  old = {
    "messages": [USER, {"role": "assistant", "function_call": call}, {"role": "function", "content": "sun"}, YES],
    "functions": [FUNCTION],
  }
  shared = {
    "conversations": [
      {"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(call)},
      {"from": "observation", "value": "sun"}, {"from": "gpt", "value": "y"}],
    "tools": json.dumps([FUNCTION]),
  }  # fmt: skip
  assert chat_of(new) == chat_of(old) == expected
  assert (chat_of(shared).messages, chat_of(shared).tools) == (expected.messages, expected.tools)
  assert chat_of({"messages": [USER, YES], "tools": "[]"}).tools is None


def test_reasoning_has_the_names_that_transformers_gives_it():
  for name in ("reasoning_content", "thinking", "reasoning"):
    (one,) = chat_of({"messages": [{**YES, name: "r"}]}).messages
    assert (one["reasoning_content"], one["thinking"]) == ("r", "r")


def test_the_question_of_a_row_is_asked_without_its_answer():
  for row in ({"messages": [USER, YES]}, {"prompt": "q"}, {"instruction": "q"}, {"conversations": [USER]}):
    assert unanswered(row).messages == [USER]
  with pytest.raises(BadExampleError, match="no chat in the row"):
    unanswered({"output": "y"})


# ---------------------------------------------------------------- preferences


@pytest.mark.parametrize(
  ("row", "chosen", "rejected"),
  [
    ({"prompt": "q", "chosen": "y", "rejected": "n"}, [USER, YES], [USER, NO]),
    ({"prompt": [USER], "chosen": [YES], "rejected": [USER, NO]}, [USER, YES], [USER, NO]),
    ({"chosen": [USER, YES], "rejected": [USER, NO]}, [USER, YES], [USER, NO]),
    ({"prompt": None, "chosen": json.dumps([USER, YES]), "rejected": [USER, NO]}, [USER, YES], [USER, NO]),
    ({"chosen": [SYSTEM, USER, YES, USER, YES], "rejected": [SYSTEM, USER, YES, USER, NO]},
     [SYSTEM, USER, YES, USER, YES], [SYSTEM, USER, YES, USER, NO]),
  ],
)  # fmt: skip
def test_what_two_answers_start_with_alike_is_their_prompt(row, chosen, rejected):
  assert preferences_of(row) == (chosen, rejected)
  encoder = make_objective("dpo", SETTING, dpo_beta=0.1, chat_template=None).encoder
  fields = encoder(row).fields
  shared = len(fields["tokens"]) - 3  # "y", the end of the turn, and a newline are one answer's own.
  np.testing.assert_array_equal(fields["tokens"][:shared], fields["rejected_tokens"][:shared])
  assert fields["loss_weights"].sum() == fields["rejected_loss_weights"].sum() == 2


@pytest.mark.parametrize(
  ("row", "reason"),
  [
    ({"chosen": "y", "rejected": "n"}, r"preferences without a prompt .*lists of messages that begin alike"),
    ({"chosen": [USER, YES], "rejected": [USER, YES]}, "not two answers to one prompt .*they are the same chat"),
    ({"chosen": [USER, YES], "rejected": [YES]}, "not two answers to one prompt .*no message in common"),
    ({"prompt": "q", "chosen": [USER, YES], "rejected": " "}, "empty column 'rejected'"),
    ({"chosen": [USER, YES], "rejected": [USER, USER]}, "'rejected' does not end with an assistant turn"),
  ],
)
def test_preferences_that_are_none_report_why(row, reason):
  with pytest.raises(BadExampleError, match=reason):
    make_objective("dpo", SETTING, dpo_beta=0.1, chat_template=None).encoder(row)
