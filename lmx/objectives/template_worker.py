# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The program that renders chat templates, in a separate process: a template is somebody else's program.

It imports nothing of lmx, reads one JSON request a line from its standard input and writes one JSON answer a line. Its
memory is bounded, and so is the processor time of a request: the kernel ends the process that takes more. It ends by
itself when its input does.
"""

import contextlib
import datetime
import functools
import json
import resource
import signal
import sys
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

# Characters that are none in Unicode: marks around an answer.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


class _Generation(jinja2.ext.Extension):
  """{% generation %} ... {% endgeneration %}: the assistant's part of a turn."""

  tags = {"generation"}  # noqa: RUF012 (jinja's own declaration)

  def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

  def _marked(self, caller: Any) -> str:
    return _OPEN + caller() + _CLOSE


def _raise_exception(text: str) -> None:
  raise jinja2.TemplateError(text)


def _to_json(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Bounded(jinja2.sandbox.ImmutableSandboxedEnvironment):
  """The sandbox, with limits on the results of operators."""

  intercepted_binops = frozenset(("*", "**"))

  def __init__(self, bits: int, characters: int):
    super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    self._bits, self._characters = bits, characters
    self.filters["tojson"] = _to_json
    self.globals["raise_exception"] = _raise_exception

  def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
      bits = left.bit_length() * max(0, right) if operator == "**" else left.bit_length() + right.bit_length()
      if bits > self._bits:
        raise jinja2.TemplateRuntimeError(f"a number of more than {self._bits} bits")
    for one, times in ((left, right), (right, left)):
      if isinstance(one, str | list | tuple) and isinstance(times, int) and len(one) * times > self._characters:
        raise jinja2.TemplateRuntimeError(f"a text or list repeated to more than {self._characters} characters")
    return super().call_binop(context, operator, left, right)


@functools.lru_cache(maxsize=16)
def _template(source: str, date: str, bits: int, characters: int) -> jinja2.Template:
  environment = _Bounded(bits, characters)
  environment.globals["strftime_now"] = datetime.datetime.strptime(date, "%Y-%m-%d").strftime
  return environment.from_string(source)


def _answer(request: dict[str, Any]) -> dict[str, str]:
  """{"text": ...}, or {"error": ...} where the template is none or refuses its input."""
  try:
    characters = request["characters"]
    template = _template(request["source"], request["date"], request["bits"], characters)
    if request["given"] is None:
      return {"text": ""}  # It compiles.
    parts, size = [], 0
    for part in template.generate(**request["given"]):
      size += len(part)
      if size > characters:
        return {"error": f"it writes more than {characters} characters"}
      parts.append(part)
    return {"text": "".join(parts)}
  except MemoryError:
    return {"error": "it takes too much memory"}
  except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
          ValueError) as error:  # fmt: skip
    return {"error": str(error)[:1000] or type(error).__name__}


def main(most_bytes: int) -> None:
  """Answers until there are no more requests."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; lmx decides what becomes of it.
  with contextlib.suppress(ValueError, OSError):  # A lower limit holds already, or the system has none.
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
  for line in sys.stdin:
    request = json.loads(line)
    signal.setitimer(signal.ITIMER_PROF, request["seconds"])  # Its signal ends a process that does not handle it.
    text = json.dumps(_answer(request))
    signal.setitimer(signal.ITIMER_PROF, 0)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
  main(int(sys.argv[1]))
