# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The processes of one run: starting, barriers, exchange of values, detection of lost processes, ending together.

Nothing here uses compiled collectives, which hang or abort when processes compile different programs: everything goes
through the key-value store of jax's coordination service, which runs in process 0. Liveness comes from the heartbeats
that jax sends from C++, which neither a long compilation nor a held interpreter lock delays.
"""

import contextlib
import dataclasses
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

AUTO = "auto"  # As a coordinator: the cluster supplies the run's processes (TPU pods, Slurm, Open MPI, Kubernetes).
BARRIER_SECONDS = 600  # The slowest process may reach a barrier this much later than the first.
T = TypeVar("T")
_HOUR = 3_600_000  # Milliseconds that one request to the store waits before it is repeated.
_FIX = "Fix: look at its own output, then start all of them again with the same command."
_STOPPED = "lmx/stopped"  # {"process", "code", "text"} of the first process that failed.
_calls = itertools.count()  # All processes call the functions below in the same order, so this numbers the calls.
_STATUS = re.compile(r"(CANCELLED|UNKNOWN|DEADLINE_EXCEEDED|ABORTED|INTERNAL|UNAVAILABLE|FAILED_PRECONDITION)\b")
_LOST = re.compile(r"(?i)gloo|nccl|connection|peer|heartbeat|coordination|unavailable|deadline|barrier|unhealthy")


# ---------------------------------------------------------------- beginning and end


def start_processes(
  coordinator: str | None, count: int | None, index: int | None, *, start_seconds: int = 60, lost_seconds: int = 60
) -> None:
  """Joins this process with the others of a run. Must be called before anything uses jax's devices.

  Without arguments the run is this one process. CPUs communicate through Gloo, over TCP. Afterwards, a lost process
  ends this one by `lmx.exits.leave`, whatever its main thread is doing.

  Args:
    coordinator: host:port of process 0, a port that is free there and reachable from all; or "auto".
    count: number of processes.
    index: of this process, from 0.
    start_seconds: time limit for all processes to start.
    lost_seconds: a process counts as lost after this time without a heartbeat.

  Raises:
    LostProcessError: not all of them started.
    LmxError: only some of the arguments are given, or they don't fit each other.
  """
  if coordinator is None and count is None and index is None:
    return
  if coordinator != AUTO:
    _check_flags(coordinator, count, index)
  elif count is not None or index is not None:
    raise LmxError("--coordinator=auto: the cluster supplies both. Fix: leave out --process-count and --process-index.")
  jax.config.update("jax_enable_recoverability", True)  # `_watch` reports a lost process, by its index.
  jax.config.update("jax_enable_preemption_service", False)  # It would handle SIGTERM instead of `signals`.
  who: dict[str, Any] = (
    {} if coordinator == AUTO else {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
  )
  try:
    with calling_when_lost(_coordinator_is_lost):
      jax.distributed.initialize(**who, initialization_timeout=start_seconds,
                                 heartbeat_timeout_seconds=lost_seconds)  # fmt: skip
  except (RuntimeError, jax.errors.JaxRuntimeError) as error:
    raise LostProcessError(_why_not_all_started(start_seconds, str(error))) from error
  if jax.process_count() > 1:
    _claim_index()
    before_leaving(_inform_the_others)
    for work in (lambda: _watch(lost_seconds), _end_with_the_others):
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


def _claim_index() -> None:
  """Registers this process under its index, which jax would let two processes share.

  Raises:
    LostProcessError: another process has it.
  """
  key = f"lmx/here/{jax.process_index()}"
  try:
    _store().key_value_set(key, f"process {os.getpid()} on {socket.gethostname()}")
  except jax.errors.JaxRuntimeError as error:
    raise LostProcessError(
      f"--process-index={jax.process_index()} is already that of {_when_set(key)} in this run, or that one was lost. "
      "Fix: give each process its own index; or start all of them again with the same command."
    ) from error


@dataclasses.dataclass
class Ending:
  """The exit code of a run that ends without an error, the same in all of its processes."""

  code: int = DONE


@contextlib.contextmanager
def ending_together() -> Iterator["Ending"]:
  """Ends all processes of a run with the exit code of the first that fails; if none does, they end in order.

  A process that fails prints its error and ends at once: an orderly end would wait for processes that wait for it.
  """
  ending = Ending()
  try:
    yield ending
  except BaseException as error:
    if jax.process_count() == 1 or isinstance(error, SystemExit):
      raise
    if not isinstance(error, LmxError | KeyboardInterrupt):
      traceback.print_exception(error)
    leave(code_of(error), f"error: {error}" if isinstance(error, LmxError) else f"error: {type(error).__name__}")
  if jax.process_count() > 1:
    _say_goodbye(ending.code)


# ---------------------------------------------------------------- barriers and exchange


def is_first_process() -> bool:
  """Whether this is process 0, the only one that prints and that writes files other than checkpoints."""
  return jax.process_index() == 0


def first_process_first(work: Callable[[], T]) -> T:
  """Calls `work` in process 0 and then in the others, which find its results in the cache.

  The others wait as long as process 0 is alive: it may tokenize for hours.

  Raises:
    LmxError: raised by `work`; in the other processes, a message that process 0 failed.
  """
  if jax.process_count() == 1:
    return work()
  key = f"lmx/first/{next(_calls)}"
  if not is_first_process():
    if _when_set(key) != "done":
      raise LmxError("Process 0 stopped; see its message.")
    return work()
  try:
    done = work()
  except LmxError:
    _store().key_value_set(key, "failed")
    raise
  _store().key_value_set(key, "done")
  return done


def wait_for_all(name: str) -> None:
  """A barrier: returns when every process has called it.

  Args:
    name: of the barrier, for messages.

  Raises:
    LostProcessError: some process did not call it in time.
  """
  if jax.process_count() == 1:
    return
  try:
    _store().wait_at_barrier(f"lmx: {name} ({next(_calls)})", BARRIER_SECONDS * 1000)
  except jax.errors.JaxRuntimeError as error:
    raise LostProcessError(
      f"not every process reached {name!r} within {BARRIER_SECONDS} s. {str(error)[:600]}"
    ) from error


def broadcast(name: str, value: str | None) -> str:
  """Process 0's `value`, in all processes; the others pass None."""
  key = f"lmx/broadcast/{name}/{next(_calls)}"
  if value is not None:
    _store().key_value_set(key, value)
  return _when_set(key)


def gather(name: str, value: str) -> list[str]:
  """Every process's `value`, in the order of the processes."""
  if jax.process_count() == 1:
    return [value]
  key = f"lmx/gather/{name}/{next(_calls)}"
  _store().key_value_set(f"{key}/{jax.process_index()}", value)
  return [_when_set(f"{key}/{index}") for index in range(jax.process_count())]


class StopTogether:
  """Agreement on the step at which all processes of a run stop, after any of them was asked to.

  A process may be a step ahead of another and wait for it on the devices, so its main thread can't take part. Instead,
  a thread of each process publishes the step that its main thread has already begun and holds it there, and all stop at
  the largest of these steps.
  """

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._begun = 0  # Updates done at the end of the last step that was begun.
    self._end: int | None = None
    self._key = ""
    if jax.process_count() > 1:
      self._key = f"lmx/stop/{next(_calls)}"
      threading.Thread(target=self._agree, daemon=True).start()

  def request(self) -> None:
    """Asks all processes to stop. May be called from any thread and repeatedly."""
    if self._key:
      with contextlib.suppress(RuntimeError, ValueError):  # Another process asked first.
        _store().key_value_set(self._key, "stop")
    else:
      self._end = 0

  def reached(self, step: int) -> bool:
    """Whether to stop after `step` updates; if not, the caller begins the next step."""
    with self._lock:
      if self._end is not None and step >= self._end:
        return True
      self._begun = step + 1
      return False

  def _agree(self) -> None:
    with contextlib.suppress(RuntimeError, ValueError):  # The run has ended.
      _when_set(self._key)
      with self._lock:
        _store().key_value_set(f"{self._key}/{jax.process_index()}", str(self._begun))
        others = range(jax.process_count())
        self._end = max(int(_when_set(f"{self._key}/{index}")) for index in others)


# ---------------------------------------------------------------- lost processes


@contextlib.contextmanager
def noticing_lost_processes() -> Iterator[None]:
  """Turns the error of a collective that lost a peer into a `LostProcessError`.

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
  """Ends this process when another one has had no heartbeat for `lost_seconds`, or was restarted under its index."""
  everyone = list(range(jax.process_count()))
  known: dict[int, int] = {}
  while not _over.is_set():
    time.sleep(1)
    try:
      alive = _store().get_live_nodes(everyone)  # Returns when all live processes have called it.
    except (RuntimeError, ValueError, AttributeError):
      continue  # Process 0 is lost, which jax reports by `_coordinator_is_lost`; or this process is ending.
    gone = [index for index in everyone if alive.get(index) != known.get(index, alive.get(index, -1))]
    known = known or alive
    if gone and not _over.is_set():
      leave(LOST_PROCESS, f"error: {_who_is_lost(gone, lost_seconds)} {safe()} {_FIX}")


def _who_is_lost(gone: list[int], lost_seconds: int) -> str:
  if jax.process_index() in gone:
    return f"this process sent no heartbeat for {lost_seconds} s, and the others ended."
  names = f"process{'es' if len(gone) > 1 else ''} {', '.join(map(str, gone))} of {jax.process_count()}"
  return f"{names} ended or sent no heartbeat for {lost_seconds} s."


def _coordinator_is_lost(*status: Any) -> None:
  """Called by jax's client when process 0 does not answer."""
  if _over.is_set():
    os._exit(DONE)  # Process 0 ended just before this one did.
  before_leaving(None)  # The store is gone, and with it the way to inform the others.
  leave(LOST_PROCESS, f"error: process 0 of {distributed.global_state.num_processes}, the coordinator, "
                      f"ended or does not answer. {safe()} {_FIX}")  # fmt: skip


_over = threading.Event()  # The run has ended without an error, and processes may end.


def _why_not_all_started(seconds: int, error: str) -> str:
  """Which process is missing, as far as this one can tell."""
  state = distributed.global_state
  detail = f" ({error[:200]})" if "bad_cast" not in error else ""
  needs = ("Each process needs the same --coordinator and --process-count and its own --process-index, and to be "
           "started within config.processes.start_seconds.")  # fmt: skip
  if state.process_id == 0 or answers(state.coordinator_address or ""):
    return f"not all {state.num_processes or ''} processes of the run started within {seconds} s{detail}. {needs}"
  return f"process 0 could not be reached at {state.coordinator_address} within {seconds} s{detail}. {needs}"


# ---------------------------------------------------------------- ending together


def _end_with_the_others() -> None:
  """Ends this process, with the same exit code, as soon as another one has published that it failed."""
  with contextlib.suppress(RuntimeError, ValueError):
    failed = json.loads(_when_set(_STOPPED))
    if failed["process"] != jax.process_index():
      text = failed["text"].removeprefix("error: ")
      leave(failed["code"], f"error: process {failed['process']} stopped: {text}")


def _inform_the_others(code: int, text: str) -> None:
  with contextlib.suppress(RuntimeError, ValueError):  # Another process was first.
    failed = {"process": jax.process_index(), "code": code, "text": text}
    _store().key_value_set(_STOPPED, json.dumps(failed))
  if is_first_process():
    time.sleep(1)  # The store ends with this process; the others must read it first.


def _say_goodbye(code: int) -> None:
  """Ends a run without an error: all processes together, and process 0, which holds the store, last."""
  _over.set()
  wait_for_all("the end of the run")
  if is_first_process():
    for index in range(1, jax.process_count()):
      _when_set(f"lmx/goodbye/{index}")
    time.sleep(1)  # They end now, and must not see the store end first.
  else:
    _store().key_value_set(f"lmx/goodbye/{jax.process_index()}", "")
  end(code)  # Without jax.distributed.shutdown: threads that listen to the store may crash in a client that is gone.


def _store() -> Any:
  return distributed.global_state.client


def _when_set(key: str) -> str:
  """The value of a key, once a process has set it; waits as long as the store exists."""
  while True:
    try:
      return _store().blocking_key_value_get(key, _HOUR)
    except jax.errors.JaxRuntimeError as error:
      if "DEADLINE_EXCEEDED" not in str(error):
        raise
