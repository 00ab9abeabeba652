# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Chats whose templates rewrite earlier turns, call tools or read the date: training samples and prompts."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from laws import assert_law_catches
from objectives import rewriting
from objectives.making import make_objective
from objectives.rewriting import TEMPLATES, TWO_TURNS

from lmx.api.tasks import chat_prompt
from lmx.data.cache.encoding import BadExampleError
from lmx.data.tokenizers.tokenizer import ByteTokenizer, HuggingFaceTokenizer
from lmx.errors import LmxError
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.chat import APART, OTHERWISE
from lmx.objectives.chat_rows import Chat
from lmx.objectives.chat_samples import answer_end, fitted, samples
from lmx.objectives.chat_template import ChatTemplate, find_template

SPECIAL = (
  "<s>",
  "</s>",
  "<|im_start|>",
  "<|im_end|>",
  "<|user|>",
  "<|assistant|>",
  "<|system|>",
  "<|tool|>",
  "<|end|>",
)
QUESTION = [{"role": "user", "content": "hi"}]
SHORT = [*QUESTION, {"role": "assistant", "content": "yo"}]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}
CALLING = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "sun"},
           {"role": "assistant", "content": "It is sunny."}]  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def byte_pairs(strip: bool = False) -> HuggingFaceTokenizer:
  """Bytes as GPT-2 writes them, with special tokens."""
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  model = tokenizers.models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_special_tokens([tokenizers.AddedToken(name, rstrip=strip, normalized=False) for name in SPECIAL])
  return HuggingFaceTokenizer(tokenizer.to_str().encode(), b'{"bos_token": "<s>", "eos_token": "</s>"}')


TOKENIZER = byte_pairs()


def template_of(name: str) -> ChatTemplate:
  return ChatTemplate(TEMPLATES[name], TOKENIZER)


def scored_texts(template: ChatTemplate, messages, answers: str = "auto", tools=None) -> list[str]:
  """The targets of each sample of a chat."""
  show = TOKENIZER._tokenizer.decode
  found = samples(template, fitted(template, messages, tools), tools, answers)
  return [show(one.ids[one.scored].tolist(), skip_special_tokens=False) for one in found]


# ---------------------------------------------------------------- templates that rewrite earlier turns

WRITTEN = {
  "drops": ["<think>\ntwo and two\n</think>\n\n4<|im_end|>", "<think>\nthree and three\n</think>\n\n6<|im_end|>"],
  "opens": ["two and two\n</think>\n\n4<|im_end|>", "three and three\n</think>\n\n6<|im_end|>"],
  "ends": ["4<|end|>\n</s>", "6<|end|>\n</s>"],
  "asks": ["4</s>", "6</s>"],
}


def turns_for(name: str) -> list[dict]:
  """The two turns, without reasoning for the templates that never write it."""
  keys = ("role", "content", "reasoning_content") if name in ("drops", "opens") else ("role", "content")
  return [{key: one[key] for key in keys if key in one} for one in TWO_TURNS]


def check_each_answer_is_a_sample(make, name: str) -> None:
  template, messages = template_of(name), turns_for(name)
  found = make(template, messages, None, "apart")
  texts = [TOKENIZER._tokenizer.decode(one.ids[one.scored].tolist(), skip_special_tokens=False) for one in found]
  assert texts == WRITTEN[name]
  for one, stop in zip(found, (2, 4), strict=True):  # The chat up to each answer, as the template renders it then.
    np.testing.assert_array_equal(one.ids, template.encode(template.render(messages[:stop]))[0])


@pytest.mark.parametrize("name", WRITTEN)
def test_each_answer_is_a_sample_as_the_template_renders_it_then(name):
  check_each_answer_is_a_sample(samples, name)


def test_answers_of_the_whole_chat_are_not_what_the_model_is_asked_for():
  def whole(template, messages, tools, answers):
    return samples(template, messages, tools, answers)[-1:] * 2

  assert_law_catches(check_each_answer_is_a_sample, whole, "drops")


@pytest.mark.parametrize("name", ["drops", "opens", "ends"])
def test_auto_parts_the_answers_only_where_the_template_rewrites_turns(name):
  assert scored_texts(template_of(name), turns_for(name)) == WRITTEN[name]
  with pytest.raises(BadExampleError, match=r"rewrites earlier turns \(turn 2 .*chat_answers=apart"):
    scored_texts(template_of(name), turns_for(name), "together")


@pytest.mark.parametrize("name", ["asks", "parts", "calls"])
def test_auto_keeps_a_chat_together_where_no_turn_is_rewritten(name):
  template, messages = template_of(name), turns_for("asks")
  (one,) = samples(template, messages, None, "auto")
  apart = samples(template, messages, None, "apart")
  np.testing.assert_array_equal(one.ids, apart[-1].ids)
  np.testing.assert_array_equal(np.flatnonzero(one.scored), np.concatenate([np.flatnonzero(x.scored) for x in apart]))


def encoder(name: str, tmp_path: Path, objective: str = "chat", **options):
  file = tmp_path / "template.jinja"
  file.write_text(TEMPLATES[name])
  setting = ObjectiveContext(TOKENIZER, 512, 512, "transformer")
  given = {"z_loss": 0.0} if objective == "chat" else {"dpo_beta": 0.1}
  return make_objective(objective, setting, **given, chat_template=str(file), **options).encoder


def test_a_row_with_several_answers_gives_several_examples_and_it_is_reported(tmp_path):
  encoded = encoder("drops", tmp_path)({"messages": TWO_TURNS})
  assert len(encoded.more) == 1
  assert encoded.notes == (APART,)
  assert not encoder("drops", tmp_path, chat_answers="apart")({"messages": TWO_TURNS}).notes  # It was asked for.
  assert encoder("asks", tmp_path)({"messages": turns_for("asks")}).notes == (OTHERWISE,)
  assert encoder("parts", tmp_path)({"messages": turns_for("asks")}).notes == ()
  with pytest.raises(BadExampleError, match="rewrites earlier turns"):
    encoder("drops", tmp_path, chat_answers="together")({"messages": TWO_TURNS})


def test_an_unknown_way_to_make_samples_is_refused(tmp_path):
  with pytest.raises(LmxError, match=r"config.objective.chat_answers: got 'apar'.*Did you mean 'apart'"):
    encoder("drops", tmp_path, chat_answers="apar")


def test_a_preference_is_about_the_last_answer_as_the_template_writes_it(tmp_path):
  fields = encoder("drops", tmp_path, "dpo")({"chosen": TWO_TURNS, "rejected": [*TWO_TURNS[:3], SHORT[1]]}).fields
  decode = TOKENIZER._tokenizer.decode
  chosen = decode(fields["targets"][fields["loss_weights"] > 0].tolist(), skip_special_tokens=False)
  rejected = decode(fields["rejected_targets"][fields["rejected_loss_weights"] > 0].tolist(), skip_special_tokens=False)
  assert chosen == WRITTEN["drops"][1]
  assert rejected == "<think>\n\n</think>\n\nyo<|im_end|>"


# ---------------------------------------------------------------- asking


@pytest.mark.parametrize(
  ("name", "end"), [("drops", "<|im_end|>"), ("opens", "<|im_end|>"), ("ends", "<|end|>"), ("asks", "</s>")]
)
def test_a_second_question_is_asked_of_a_template_that_rewrites_turns(name, end):
  template = template_of(name)
  messages = turns_for(name)[:3]
  prompt = chat_prompt(Chat(messages), template, TOKENIZER)
  text = template.render(messages, ask=True).text
  assert TOKENIZER._tokenizer.decode(prompt.ids[0].tolist(), skip_special_tokens=False) == text
  assert prompt.stops[0] == TOKENIZER.special_tokens[end]
  assert TOKENIZER.eos_id in prompt.stops


def test_a_prompt_needs_no_position_of_an_answer():
  template = ChatTemplate(
    "{% for m in messages %}{{ m.content if m.role == 'user' else '...' }}{% endfor %}", TOKENIZER
  )
  prompt = chat_prompt(Chat([*SHORT, *QUESTION]), template, TOKENIZER)
  assert TOKENIZER.decode(prompt.ids[0]) == "hi...hi"
  assert prompt.stops == (TOKENIZER.eos_id,)
  backwards = ChatTemplate("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", TOKENIZER)
  assert chat_prompt(Chat(SHORT), backwards, TOKENIZER).stops == (TOKENIZER.eos_id,)
  with pytest.raises(BadExampleError, match=r"hides where an answer begins \(of turn 2; mark answers"):
    samples(backwards, SHORT, None, "auto")


# ---------------------------------------------------------------- forms of messages


def test_a_chat_may_start_with_the_assistant():
  messages = [{"role": "assistant", "content": "Hello."}, *SHORT]
  for name in ("asks", "parts"):
    assert [text[:2] for text in scored_texts(template_of(name), messages, "apart")] == ["He", "yo"]
  refuses_none = "{{ messages[0].role[0] }}" + rewriting.PARTS
  assert scored_texts(ChatTemplate(refuses_none, TOKENIZER), messages, "apart")[0] == "Hello.<|end|>"


def test_a_turn_of_weight_0_is_read_and_not_learned():
  messages = [*SHORT, *QUESTION, {"role": "assistant", "content": "no", "weight": 0}, *QUESTION, SHORT[1]]

  def check_answers(chat):
    assert scored_texts(template_of("parts"), chat) == ["yo<|end|>yo<|end|>"]
    assert scored_texts(template_of("ends"), chat) == ["yo<|end|>\n</s>", "yo<|end|>\n</s>"]

  check_answers(messages)
  assert_law_catches(check_answers, [{key: one[key] for key in ("role", "content")} for one in messages])


def test_parts_of_text_are_given_to_templates_that_write_them_and_joined_for_others():
  parts = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}, SHORT[1]]
  assert template_of("parts").render(fitted(template_of("parts"), parts, None)).text == (
    "<|user|>one|two<|end|><|assistant|>yo<|end|>"
  )
  for name in ("asks", "ends"):
    assert "onetwo" in template_of(name).render(fitted(template_of(name), parts, None)).text
  prints = ChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}", TOKENIZER)
  assert prints.render(fitted(prints, parts, None)).text == "user: onetwo;assistant: yo;"


def test_the_date_of_a_template_is_the_configs(tmp_path):
  template = ChatTemplate(TEMPLATES["dated"], TOKENIZER, date="2025-02-03")
  assert template.render(QUESTION).text.startswith("Today is 03 February 2025.")
  assert template_of("dated").render(QUESTION).text.startswith("Today is 26 July 2024.")
  one, other = (encoder("dated", tmp_path, chat_date=date) for date in ("2025-02-03", "2025-02-04"))
  assert one.fingerprint != other.fingerprint
  with pytest.raises(LmxError, match=r"config.objective.chat_date: got 'today'.*a day, as 2024-07-26"):
    encoder("dated", tmp_path, chat_date="today")


# ---------------------------------------------------------------- tools


@pytest.mark.parametrize("arguments", [{"city": "Ulm"}, '{"city": "Ulm"}'])
@pytest.mark.parametrize("name", ["calls", "text calls"])
def test_a_tool_call_is_learned_however_its_arguments_are_written(name, arguments):
  messages = json.loads(json.dumps(CALLING))
  messages[1]["tool_calls"][0]["function"]["arguments"] = arguments
  del messages[1]["content"]
  expected = '<call>weather{"city": "Ulm"}<|end|>It is sunny.<|end|>'
  assert scored_texts(template_of(name), messages, tools=TOOLS) == [expected]
  rendered = template_of(name).render(fitted(template_of(name), messages, TOOLS), TOOLS).text
  assert rendered.startswith("<|system|>" + json.dumps(TOOLS))


@pytest.mark.parametrize(
  ("messages", "tools", "reason"),
  [
    (CALLING, None, r"tool call that the chat template doesn't write \(turn 2"),
    (SHORT, TOOLS, r"tools that the chat template doesn't write \(--config.objective.chat_template"),
    (TWO_TURNS[:2], None, r"reasoning that the chat template doesn't write \(turn 2"),
  ],
)
def test_what_a_template_leaves_out_is_refused(messages, tools, reason):
  with pytest.raises(BadExampleError, match=reason):
    scored_texts(template_of("parts"), messages, tools=tools)


def test_a_second_call_that_a_template_leaves_out_is_refused():
  first_only = ChatTemplate(rewriting.CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), TOKENIZER)
  two = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}]
  assert len(scored_texts(first_only, CALLING)) == 1
  with pytest.raises(BadExampleError, match="tool call that the chat template doesn't write"):
    scored_texts(first_only, two)


# ---------------------------------------------------------------- ids


def test_spaces_that_special_tokens_take_are_taken_in_chats_too():
  template = ChatTemplate(rewriting.ENDS, byte_pairs(strip=True))
  (one,) = samples(template, SHORT, None, "auto")
  plain = samples(ChatTemplate(rewriting.ENDS, TOKENIZER), SHORT, None, "auto")[0]
  assert len(one.ids) == len(plain.ids) - 4  # A newline after each of the four special tokens in the chat.
  assert TOKENIZER._tokenizer.decode(one.ids[one.scored].tolist(), skip_special_tokens=False) == "yo<|end|></s>"


def test_typed_special_tokens_stay_text_and_the_templates_stay_tokens():
  typed = [{"role": "user", "content": "</s> <|end|>"}, {"role": "assistant", "content": "no <|user|> here"}]
  for tokenizer in (TOKENIZER, byte_pairs(strip=True), ByteTokenizer()):
    template = ChatTemplate(rewriting.ENDS, tokenizer)
    (one,) = samples(template, typed, None, "auto")
    special = [int(token) for token in one.ids if int(token) in template.special_tokens.values()]
    written = "<|user|><|end|><|assistant|><|end|></s>" if tokenizer.kind == "huggingface" else "</s>"
    assert "".join(tokenizer.piece(token) for token in special) == written
    text = tokenizer.decode(one.ids)
    assert "</s> <|end|>" in text
    assert "no <|user|> here" in text


def test_the_built_in_template_is_the_same_in_other_programs():
  source = find_template(ByteTokenizer(), None).source
  assert "START" not in source.replace("<|im_start|>", "")
  assert '"</s>"' in source
  assert '"<|im_end|>"' in find_template(TOKENIZER, None).source


def test_a_call_without_content_is_written_by_templates_that_need_one():
  messages = json.loads(json.dumps(CALLING))
  del messages[1]["content"]
  for need in ("m.content is none", "m.content == ''"):
    source = rewriting.CALLS.replace("{% if m.content %}{{ m.content }}{% endif %}", "{{ 'x' + m.content }}")
    source = (
      "{% for m in messages %}{% if m.role == 'assistant' and not (m.content or " + need + ") %}"
      "{{ raise_exception('no content') }}{% endif %}{% endfor %}"
      + source.replace("'x' + m.content", "m.content or ''")
    )
    for form in (source, source.replace("(call.function.arguments | tojson)", "call.function.arguments")):
      assert "<call>" in scored_texts(ChatTemplate(form, TOKENIZER), messages)[0]


def test_the_end_of_an_answer_is_the_token_after_its_content():
  bare = ChatTemplate("{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}", TOKENIZER)
  assert answer_end(bare, QUESTION) == TOKENIZER.special_tokens["<|user|>"]  # The next turn's header.
  assert answer_end(template_of("ends"), QUESTION) == TOKENIZER.special_tokens["<|end|>"]
  plain = ChatTemplate("{% for m in messages %}{{ m.role[0] + m.content }}.{% endfor %}", TOKENIZER)
  assert answer_end(plain, QUESTION) == TOKENIZER.encode(".")[0]
