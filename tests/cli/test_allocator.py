# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Memory that a step frees is there for the next one, without a page fault for each page."""

import os
import platform
import subprocess
import sys

import pytest
from laws import assert_law_catches

# A thread, as XLA has them, takes 48 MB and frees them, forty times; prints the page faults of the later ones.
STEPS = """
import resource, threading
from lmx.cli import allocator
if KEEP:
  assert allocator.keep_freed_memory() == EXPECTED
def step():
  b"x" * 48_000_000
def steps():
  for _ in range(5):
    step()
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
  for _ in range(40):
    step()
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
faults = []
thread = threading.Thread(target=steps)
thread.start()
thread.join()
print(faults[1] - faults[0])
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's malloc")


def page_faults(*, keep: bool, expected: bool = True, **environment: str) -> int:
  given = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
  program = STEPS.replace("KEEP", str(keep)).replace("EXPECTED", str(expected))
  done = subprocess.run([sys.executable, "-c", program], env=given | environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return int(done.stdout)


def check_kept(keep: bool) -> None:
  assert page_faults(keep=keep) < 40  # Less than one a step; without, one for each 4 kB of each step.


def test_freed_memory_is_kept_for_the_next_step():
  check_kept(True)


def test_the_test_of_freed_memory_notices_memory_that_was_given_back():
  assert_law_catches(check_kept, False)


def test_a_user_who_tells_malloc_what_to_do_is_obeyed():
  assert page_faults(keep=True, expected=False, MALLOC_MMAP_THRESHOLD_="1000000") > 40
