# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The processes of one run: how they find each other, wait for each other, and end together.

Nothing here is a compiled collective, since those hang or abort when processes would compile different programs: all
goes through the key-value store of jax's coordination service, which runs in process 0. Whether a process is alive is
known from the heartbeats that jax sends from C++, which neither a long compilation nor a held interpreter lock delays.
"""

import contextlib
import itertools
import json
import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
from jax._src import distributed

from lmx.errors import LmxError, LostProcessError, message
from lmx.exits import DONE, LOST_PROCESS, before_leaving, code_of, end, leave, safe
from lmx.parallel.coordination import answers, calling_when_lost, check_port

AUTO = "auto"  # As a coordinator: the cluster says who belongs to the run (TPU pods, Slurm, Open MPI, Kubernetes).
BARRIER_SECONDS = 600  # The slowest process may come so much later than the first.
T = TypeVar("T")
_HOUR = 3_600_000  # Milliseconds that one question to the store waits before it is asked again.
_FIX = "Fix: look at its own output, then start all of them again with the same command."
_STOPPED = "lmx/stopped"  # {"process", "code", "text"} of the first process that ended otherwise than well.
_calls = itertools.count()  # Processes call the functions below in the same order, so this numbers a meeting.
_STATUS = re.compile(r"(CANCELLED|UNKNOWN|DEADLINE_EXCEEDED|ABORTED|INTERNAL|UNAVAILABLE|FAILED_PRECONDITION)\b")
_LOST = re.compile(r"(?i)gloo|nccl|connection|peer|heartbeat|coordination|unavailable|deadline|barrier|unhealthy")


# ---------------------------------------------------------------- beginning and end


def start_processes(
  coordinator: str | None, count: int | None, index: int | None, *, start_seconds: int = 60, lost_seconds: int = 60
) -> None:
  """Joins this process with the others of a run. Nothing may have touched jax's devices yet.

  Without arguments the run is this one process. CPUs talk to each other through Gloo, over TCP. From here on, a process
  that is lost ends this one by `lmx.exits.leave`, whatever its main thread is doing.

  Args:
    coordinator: host:port of process 0, free there and reachable from all; or "auto".
    count: processes in all.
    index: of this one, from 0.
    start_seconds: in which all of them must have come.
    lost_seconds: without a heartbeat after which a process counts as lost.

  Raises:
    LostProcessError: not all of them came.
    LmxError: only some of the arguments are given, or they don't fit each other.
  """
  if coordinator is None and count is None and index is None:
    return
  if coordinator != AUTO:
    _check_flags(coordinator, count, index)
  elif count is not None or index is not None:
    raise LmxError("--coordinator=auto: the cluster knows. Fix: leave out --process-count and --process-index.")
  jax.config.update("jax_enable_recoverability", True)  # A lost process is for `_watch` to report, by its number.
  jax.config.update("jax_enable_preemption_service", False)  # It would take SIGTERM from `lmx.parallel.signals`.
  who: dict[str, Any] = (
    {} if coordinator == AUTO else {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
  )
  try:
    with calling_when_lost(_coordinator_is_lost):
      jax.distributed.initialize(**who, initialization_timeout=start_seconds,
                                 heartbeat_timeout_seconds=lost_seconds)  # fmt: skip
  except (RuntimeError, jax.errors.JaxRuntimeError) as error:
    raise LostProcessError(_why_not_all_came(start_seconds, str(error))) from error
  if jax.process_count() > 1:
    _take_place()
    before_leaving(_tell_the_others)
    for work in (lambda: _watch(lost_seconds), _hear_who_stopped):
      threading.Thread(target=work, daemon=True).start()


def _check_flags(coordinator: str | None, count: int | None, index: int | None) -> None:
  if coordinator is None or count is None or index is None:
    given = {"--coordinator": coordinator, "--process-count": count, "--process-index": index}
    missing = [flag for flag, value in given.items() if value is None]
    raise LmxError(
      "A run of several processes needs --coordinator, --process-count and --process-index; missing: "
      f"{', '.join(missing)}. Fix: --coordinator=HOST:PORT --process-count=2 --process-index=0 (and 1 on the other)"
    )
  _, colon, port = coordinator.rpartition(":")
  if not colon or not port.isdigit():
    raise LmxError(message("--coordinator", got=coordinator, allowed="host:port of process 0, or auto"))
  if count < 1:
    raise LmxError(message("--process-count", got=count, allowed="at least 1"))
  if not 0 <= index < count:
    raise LmxError(message("--process-index", got=index, allowed=f"0 to {count - 1}, as --process-count is {count}"))
  if index == 0:
    check_port(coordinator, int(port))


def _take_place() -> None:
  """Two processes with one index would take turns in each other's name, which jax lets them."""
  key = f"lmx/here/{jax.process_index()}"
  try:
    _store().key_value_set(key, f"process {os.getpid()} on {socket.gethostname()}")
  except jax.errors.JaxRuntimeError as error:
    raise LostProcessError(
      f"--process-index={jax.process_index()} is that of {_when_set(key)} in this run already, or that one was lost. "
      "Fix: give each process its own index; or start all of them again with the same command."
    ) from error


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
  """Ends all processes of a run with the exit code of the first that fails; where none does, leaves in good order.

  Whoever fails says why, and ends at once: an orderly end would wait for processes that wait for this one.
  """
  try:
    yield
  except BaseException as error:
    if jax.process_count() == 1 or isinstance(error, SystemExit):
      raise
    if not isinstance(error, LmxError | KeyboardInterrupt):
      traceback.print_exception(error)
    leave(code_of(error), f"error: {error}" if isinstance(error, LmxError) else f"error: {type(error).__name__}")
  if jax.process_count() > 1:
    _say_goodbye()


# ---------------------------------------------------------------- meetings


def is_first_process() -> bool:
  """Whether this is process 0, which alone prints and writes what isn't a checkpoint."""
  return jax.process_index() == 0


def first_process_first(work: Callable[[], T]) -> T:
  """Does `work` in process 0 and then in the others, which find in the cache what it has made.

  The others wait as long as process 0 lives: it may be tokenizing for hours.

  Raises:
    LmxError: what `work` raised; in the other processes, that process 0 failed, so that none waits for it.
  """
  if jax.process_count() == 1:
    return work()
  key = f"lmx/first/{next(_calls)}"
  if not is_first_process():
    if _when_set(key) != "done":
      raise LmxError("Process 0 stopped; its own message says why.")
    return work()
  try:
    done = work()
  except LmxError:
    _store().key_value_set(key, "failed")
    raise
  _store().key_value_set(key, "done")
  return done


def wait_for_all(place: str, seconds: int = BARRIER_SECONDS) -> None:
  """Returns when every process has come to `place`.

  Raises:
    LostProcessError: after `seconds`, with those that have not come.
  """
  if jax.process_count() == 1:
    return
  try:
    _store().wait_at_barrier(f"lmx: {place} ({next(_calls)})", seconds * 1000)
  except jax.errors.JaxRuntimeError as error:
    raise LostProcessError(f"not every process came to {place!r} within {seconds} s. {str(error)[:600]}") from error


def send(place: str, value: str | None) -> str:
  """Process 0's `value`, in all processes; the others pass None."""
  key = f"lmx/send/{place}/{next(_calls)}"
  if value is not None:
    _store().key_value_set(key, value)
  return _when_set(key)


def gather(place: str, value: str) -> list[str]:
  """Every process's `value`, in the order of the processes."""
  if jax.process_count() == 1:
    return [value]
  key = f"lmx/gather/{place}/{next(_calls)}"
  _store().key_value_set(f"{key}/{jax.process_index()}", value)
  return [_when_set(f"{key}/{index}") for index in range(jax.process_count())]


class StopTogether:
  """One step at which all processes of a run stop, once any of them was asked to; of one process, its own.

  A process may be a step ahead of another and wait for it on the devices, so its main thread can't be asked. A thread
  of each process says how far its main thread may be already, while that begins nothing new, and all stop at the
  furthest of these steps.
  """

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._begun = 0  # Updates done when the step that was begun last ends.
    self._end: int | None = None
    self._key = ""
    if jax.process_count() > 1:
      self._key = f"lmx/stop/{next(_calls)}"
      threading.Thread(target=self._agree, daemon=True).start()

  def request(self) -> None:
    """Asks all processes to stop. May be called from any thread, more than once."""
    if self._key:
      with contextlib.suppress(RuntimeError, ValueError):  # Another process has asked.
        _store().key_value_set(self._key, "stop")
    else:
      self._end = 0

  def reached(self, step: int) -> bool:
    """Whether to stop after `step` updates; if not, the next step may be begun."""
    with self._lock:
      if self._end is not None and step >= self._end:
        return True
      self._begun = step + 1
      return False

  def _agree(self) -> None:
    with contextlib.suppress(RuntimeError, ValueError):  # The run has ended, well or not.
      _when_set(self._key)
      with self._lock:
        _store().key_value_set(f"{self._key}/{jax.process_index()}", str(self._begun))
        others = range(jax.process_count())
        self._end = max(int(_when_set(f"{self._key}/{index}")) for index in others)


# ---------------------------------------------------------------- losing one


@contextlib.contextmanager
def noticing_lost_processes() -> Iterator[None]:
  """Turns the error of a collective whose other end has gone into one that says so.

  Raises:
    LostProcessError: another process has ended or does not answer.
  """
  try:
    yield
  except Exception as error:
    text = str(error)
    if jax.process_count() == 1 or isinstance(error, LmxError) or not (_STATUS.match(text) and _LOST.search(text)):
      raise
    raise LostProcessError(
      f"another of the {jax.process_count()} processes has ended, or does not answer: {text[:200]}. {safe()} {_FIX}"
    ) from error


def _watch(lost_seconds: int) -> None:
  """Ends this process when another one has had no heartbeat for so long, or came back as another process."""
  everyone = list(range(jax.process_count()))
  known: dict[int, int] = {}
  while not _over.is_set():
    time.sleep(1)
    try:
      alive = _store().get_live_nodes(everyone)  # Returns when all that are alive have asked.
    except (RuntimeError, ValueError, AttributeError):
      continue  # Process 0 is lost, which jax reports in its own way; or this one is leaving.
    gone = [index for index in everyone if alive.get(index) != known.get(index, alive.get(index, -1))]
    known = known or alive
    if gone and not _over.is_set():
      leave(LOST_PROCESS, f"error: {_who_is_lost(gone, lost_seconds)} {safe()} {_FIX}")


def _who_is_lost(gone: list[int], lost_seconds: int) -> str:
  if jax.process_index() in gone:
    return f"this process gave no sign of life for {lost_seconds} s, and the others ended."
  names = f"process{'es' if len(gone) > 1 else ''} {', '.join(map(str, gone))} of {jax.process_count()}"
  return f"{names} ended or gave no sign of life for {lost_seconds} s."


def _coordinator_is_lost(*status: Any) -> None:
  """What jax calls when process 0 does not answer any more."""
  if _over.is_set():
    os._exit(DONE)  # Process 0 has left before this one had finished leaving.
  before_leaving(None)  # There is nothing left to tell the others by.
  leave(LOST_PROCESS, f"error: process 0 of {distributed.global_state.num_processes}, through which the others find "
                      f"each other, ended or does not answer. {safe()} {_FIX}")  # fmt: skip


_over = threading.Event()  # The run has ended well, and processes may leave.


def _why_not_all_came(seconds: int, error: str) -> str:
  """Which process is missing, as far as this one can know."""
  state = distributed.global_state
  said = f" ({error[:200]})" if "bad_cast" not in error else ""
  needs = ("Each process needs the same --coordinator and --process-count and its own --process-index, and to be "
           "started within config.processes.start_seconds.")  # fmt: skip
  if state.process_id == 0 or answers(state.coordinator_address or ""):
    return f"not all {state.num_processes or ''} processes of the run came within {seconds} s{said}. {needs}"
  return f"process 0 could not be reached at {state.coordinator_address} within {seconds} s{said}. {needs}"


# ---------------------------------------------------------------- ending together


def _hear_who_stopped() -> None:
  """Ends this process as soon as another says that it has stopped, with the same exit code."""
  with contextlib.suppress(RuntimeError, ValueError):
    told = json.loads(_when_set(_STOPPED))
    if told["process"] != jax.process_index():
      said = told["text"].removeprefix("error: ")
      leave(told["code"], f"error: process {told['process']} stopped: {said}")


def _tell_the_others(code: int, text: str) -> None:
  with contextlib.suppress(RuntimeError, ValueError):  # Another process was first.
    told = {"process": jax.process_index(), "code": code, "text": text}
    _store().key_value_set(_STOPPED, json.dumps(told))
  if is_first_process():
    time.sleep(1)  # The store ends with this process; the others are to read it before.


def _say_goodbye() -> None:
  """Leaves a run that has ended well: all together, and process 0, which holds the store, last."""
  _over.set()
  wait_for_all("the end of the run")
  if is_first_process():
    for index in range(1, jax.process_count()):
      _when_set(f"lmx/goodbye/{index}")
    time.sleep(1)  # Each of them ends now, and isn't to see the store end before.
  else:
    _store().key_value_set(f"lmx/goodbye/{jax.process_index()}", "")
  end(DONE)  # Without jax.distributed.shutdown: threads that listen to the store may crash in a client that is gone.


def _store() -> Any:
  return distributed.global_state.client


def _when_set(key: str) -> str:
  """The value of a key, once a process has set it; waits as long as the processes live."""
  while True:
    try:
      return _store().blocking_key_value_get(key, _HOUR)
    except jax.errors.JaxRuntimeError as error:
      if "DEADLINE_EXCEEDED" not in str(error):
        raise
