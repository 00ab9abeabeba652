# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Small chat templates that write a turn otherwise when more follows, or ask for an answer in other words.

Each does in a few lines what published ones do: Qwen3 and Nemotron drop earlier reasoning, Qwen3.5 opens it in the
request, Phi-3.5 ends the whole chat, DeepSeek asks for reasoning that it never writes.
"""

_TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
_THOUGHT = "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}"
_ASSISTANT = "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
_LAST = (
  "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
  "{% endif %}{% endfor %}"
)
_END = "{{ m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"

DROPS = (  # Reasoning is written after the last question only, and an empty one with the last turn.
  _LAST + "{% for m in messages %}{% if m.role != 'assistant' %}" + _TURN + _ASSISTANT
  + "{% if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}" + _THOUGHT + "{% endif %}" + _END
  + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)  # fmt: skip
OPENS = DROPS.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")  # The request opens it.
ENDS = (  # The chat as a whole ends with eos, unless an answer is asked for.
  "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ASKS = (  # What an answer follows isn't what stands before it in the end; reasoning is cut off.
  "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
  "{{ '<|assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% else %}{{ '<|user|>' + m.content }}{% endif %}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
CALLS = (  # Tools, calls and their results, as JSON.
  "{% if tools %}{{ '<|system|>' + (tools | tojson) + '<|end|>' }}{% endif %}"
  "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.content %}{{ m.content }}{% endif %}"
  "{% for call in m.tool_calls or [] %}{{ '<call>' + call.function.name + (call.function.arguments | tojson) }}"
  "{% endfor %}{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TEXT_CALLS = CALLS.replace("(call.function.arguments | tojson)", "call.function.arguments")  # Arguments are text.
PARTS = (  # Contents are texts, or lists of parts between which it writes a bar.
  "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.content is string %}{{ m.content }}{% else %}"
  "{% for part in m.content %}{{ part.text }}{{ '|' if not loop.last }}{% endfor %}{% endif %}{{ '<|end|>' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
DATED = (
  "{% if strftime_now is defined %}{{ 'Today is ' + strftime_now('%d %B %Y') + '.<|end|>' }}{% endif %}"
  "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
)
TEMPLATES = {"drops": DROPS, "opens": OPENS, "ends": ENDS, "asks": ASKS, "calls": CALLS, "text calls": TEXT_CALLS,
             "parts": PARTS, "dated": DATED}  # fmt: skip
TWO_TURNS = [
  {"role": "user", "content": "2+2?"},
  {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
  {"role": "user", "content": "and 3+3?"},
  {"role": "assistant", "content": "6", "reasoning_content": "three and three"},
]
