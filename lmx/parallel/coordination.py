# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Hooks into jax's coordination service, for cases in which it would end the process from C++."""

import contextlib
import ctypes
import socket
from collections.abc import Callable, Iterator
from typing import Any

from jax._src import distributed

from lmx.errors import LmxError, message

_kept: list[Any] = []  # Callbacks that C++ may call until the process ends.


@contextlib.contextmanager
def calling_when_lost(callback: Callable[..., None]) -> Iterator[None]:
  """Makes jax's client call `callback` instead of aborting with a C++ stack when the coordination service is lost.

  jaxlib 0.10.2 and 0.12.0.1 have an argument for it, but can't convert its C++ status to a Python object: a C++ thread
  throws a std::bad_cast that nobody catches. So the C++ library's terminate handler calls `callback`, too.
  """
  module = distributed._jax
  make = module.get_distributed_runtime_client

  def make_with_callback(*args: Any, **options: Any) -> Any:
    return make(*args, **options, missed_heartbeat_callback=callback, shutdown_on_destruction=False)

  _call_on_bad_cast(callback)
  module.get_distributed_runtime_client = make_with_callback
  try:
    yield
  finally:
    module.get_distributed_runtime_client = make


def _call_on_bad_cast(callback: Callable[[], None]) -> None:
  """Calls `callback` before the process aborts for an uncaught std::bad_cast, where the C++ library is libstdc++."""
  try:
    library = ctypes.CDLL("libstdc++.so.6")
    set_handler, exception_type = library._ZSt13set_terminatePFvvE, library.__cxa_current_exception_type
  except (OSError, AttributeError):
    return  # Another C++ library: jax's own abort remains.
  handler_type = ctypes.CFUNCTYPE(None)
  exception_type.restype = set_handler.restype = ctypes.c_void_p

  def handle() -> None:
    info = exception_type()  # A std::type_info: its second word points to the name.
    name = _type_name(info) if info else b""
    if name == b"St8bad_cast":
      callback()
    ctypes.cast(before, handler_type)()

  _kept.append(handler_type(handle))
  before = set_handler(_kept[-1])


def _type_name(type_info: int) -> bytes:
  """The mangled name of a C++ type: the second word of its std::type_info points to it."""
  pointer = ctypes.c_void_p.from_address(type_info + ctypes.sizeof(ctypes.c_void_p)).value
  return ctypes.string_at(pointer) if pointer else b""


def check_port(coordinator: str, port: int) -> None:
  """Refuses a coordinator whose port is taken, for which jaxlib 0.10.2 ends in a segmentation fault.

  Raises:
    LmxError: the port is taken on this machine.
  """
  family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
  try:
    socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6).close()
  except OSError as error:
    raise LmxError(message("--coordinator", got=coordinator, allowed=f"a port that is free here ({error.strerror})",
                           fix="another port, in all processes, or end the other program")) from error  # fmt: skip


def answers(address: str) -> bool:
  """Whether anything listens at host:port."""
  host, _, port = address.rpartition(":")
  try:
    with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
      return True
  except (OSError, ValueError):
    return False
