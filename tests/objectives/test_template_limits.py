# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Chat templates are rendered in a process with limits, which is reused, and never left behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lmx.data.cache.encoding import BadExampleError
from lmx.data.tokenizers.vocabulary import ByteTokenizer
from lmx.errors import LmxError
from lmx.objectives.chat_template import ChatTemplate
from lmx.objectives.template_process import PROCESS

MINUTES = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"


def render(source: str, content: str = "hi") -> str:
  return ChatTemplate(source, ByteTokenizer()).render([{"role": "user", "content": content}]).text


def test_a_template_that_takes_too_long_is_stopped_and_the_next_one_is_rendered(monkeypatch):
  monkeypatch.setenv("LMX_LIMIT_TEMPLATE_SECONDS", "1")
  with pytest.raises(LmxError, match=r"stopped after 1 s .* LMX_LIMIT_TEMPLATE_SECONDS=10"):
    render(MINUTES)
  assert render("{{ messages[0].content }}") == "hi"


@pytest.mark.parametrize(("source", "limit", "value", "reason"), [
  ("{{ 'ab' * 30 }}", "TEMPLATE_CHARACTERS", "50", "repeated to more than 50"),
  ("{% for a in range(60) %}x{% endfor %}", "TEMPLATE_CHARACTERS", "50", "writes more than 50"),
  ("{{ 2 ** 70 }}", "TEMPLATE_BITS", "64", "more than 64 bits"),
  ("{{ 4294967296 * 4294967296 * 4294967296 }}", "TEMPLATE_BITS", "64", "more than 64 bits"),
])  # fmt: skip
def test_what_a_template_writes_and_multiplies_is_bounded(monkeypatch, source, limit, value, reason):
  assert render(source)  # Within the limits of the default.
  monkeypatch.setenv(f"LMX_LIMIT_{limit}", value)
  with pytest.raises(BadExampleError, match=reason):
    render(source)


def test_one_process_renders_all_templates():
  render("{{ 1 }}")
  first = PROCESS._child.pid
  assert render("{{ messages[0].content }}", "\ud83d \u00e9 \U0001f389") == "\ud83d \u00e9 \U0001f389"
  assert PROCESS._child.pid == first


def test_threads_get_their_own_texts():
  wrong = []

  def work(number: int) -> None:
    template = ChatTemplate("{{ messages[0].content }}", ByteTokenizer())
    for n in range(50):
      text = f"{number} {n}"
      if template.render([{"role": "user", "content": text}]).text != text:
        wrong.append(text)

  threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not wrong


@pytest.fixture
def heard():
  """Ctrl-C reaches Python even if the tests run in the background of a shell, which has it ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_stops_the_wait_and_ends_the_process():
  render("{{ 1 }}")
  child = PROCESS._child.pid
  timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
  timer.start()
  begun = time.monotonic()
  with pytest.raises(KeyboardInterrupt):
    render(MINUTES)
  assert time.monotonic() - begun < 5
  with pytest.raises(ProcessLookupError):
    os.kill(child, 0)
  assert render("{{ messages[0].content }}") == "hi"


@pytest.mark.parametrize("how", ["", "os.kill(os.getpid(), 9)"])
def test_no_process_outlives_lmx(how):
  program = (
    "import os\nfrom lmx.objectives.template_process import PROCESS\nPROCESS.render('x', '2024-01-01', {})\n"
    f"print(PROCESS._child.pid, flush=True)\n{how}"
  )
  done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
  child, until = int(done.stdout), time.monotonic() + 10
  while time.monotonic() < until and _runs(child):
    time.sleep(0.05)
  assert not _runs(child)


def _runs(pid: int) -> bool:
  """Whether a process exists and hasn't ended (one that nobody waits for stays as a zombie)."""
  try:
    with open(f"/proc/{pid}/stat") as file:
      return file.read().rpartition(")")[2].split()[0] != "Z"
  except FileNotFoundError:
    return False
