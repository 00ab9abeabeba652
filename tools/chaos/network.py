# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A network between two processes that is slow, cuts connections, or swallows what is sent.

Coordination (gRPC, which finds the processes and notices lost ones) goes through a proxy here. Data (Gloo, straight
from process to process) is reached by the case's own loopback device, in a network namespace: it can be switched off,
as a pulled cable would be.
"""

import contextlib
import fcntl
import random
import socket
import struct
import threading
import time

from tools.chaos.disturbance import Disturbance, end_of_the_rest
from tools.chaos.scene import Scene, draw_moment, free_port

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP of linux/sockios.h and linux/if.h.


def loopback(up: bool) -> None:
  """Switches this network namespace's loopback device on or off; while off, what is sent is lost."""
  with socket.socket() as any_socket:
    request = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh14x", b"lo", 0))
    flags = struct.unpack("16sh14x", request)[1]
    flags = flags | _UP if up else flags & ~_UP
    fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags))


class Proxy:
  """Passes TCP connections on to a port of this machine, until it is made to do worse.

  Attributes:
    port: where it listens.
    delay: seconds that everything is held back.
    swallows: whether what is sent is held back until this is False again.
  """

  def __init__(self, target: int):
    self._target = target
    self._listener = socket.create_server(("127.0.0.1", 0))
    self.port = int(self._listener.getsockname()[1])
    self.delay, self.swallows = 0.0, False
    self._sockets: list[socket.socket] = []
    threading.Thread(target=self._accept, daemon=True).start()

  def cut(self) -> None:
    """Ends every connection with a reset; new ones are taken."""
    while self._sockets:
      end = self._sockets.pop()
      with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
        end.close()

  def close(self) -> None:
    self._listener.close()
    self.cut()

  def _accept(self) -> None:
    with contextlib.suppress(OSError):
      while True:
        near, _ = self._listener.accept()
        try:
          far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:  # The target doesn't listen yet: refused, as it would be without a proxy.
          near.close()
          continue
        far.settimeout(None)
        self._sockets += [near, far]
        for source, sink in ((near, far), (far, near)):
          threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

  def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
      while data := source.recv(1 << 16):
        time.sleep(self.delay)
        while self.swallows:
          time.sleep(0.02)
        sink.sendall(data)
    for end in (source, sink):
      with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxied(scene: Scene):
  """A proxy between process 1 and the coordinator of the scene's next start."""
  scene.port = free_port()
  proxy = Proxy(scene.port)
  scene.coordinator = proxy.port
  try:
    yield proxy
  finally:
    scene.coordinator = 0
    proxy.close()


def slow(scene: Scene, pick: random.Random) -> None:
  """The coordinator answers late, from the start to the end."""
  with proxied(scene) as proxy:
    proxy.delay = pick.uniform(0.01, 0.5)
    end_of_the_rest(scene, scene.start(), f"the coordinator answers {proxy.delay:.2f} s late")


def cut(scene: Scene, pick: random.Random) -> None:
  """Connections to the coordinator are cut, once or several times."""
  with proxied(scene) as proxy:
    processes = scene.start()
    scene.wait_until(draw_moment(pick), processes[1])
    times = pick.randint(1, 4)
    for _ in range(times):
      proxy.cut()
      time.sleep(pick.uniform(0.0, 1.0))
    end_of_the_rest(scene, processes, f"cut off from the coordinator {times} times")


def swallow(scene: Scene, pick: random.Random) -> None:
  """Nothing reaches the coordinator for some seconds, or for good."""
  with proxied(scene) as proxy:
    processes = scene.start()
    scene.wait_until(draw_moment(pick), processes[1])
    proxy.swallows = True
    seconds = pick.choice((None, pick.uniform(0.5, 10.0)))
    if seconds is not None:
      time.sleep(seconds)
      proxy.swallows = False
    end_of_the_rest(scene, processes, f"coordinator out of reach {for_long(seconds)}")
    proxy.swallows = False


def unplug(scene: Scene, pick: random.Random) -> None:
  """The whole network between the processes is gone for some seconds, or for good."""
  processes = scene.start()
  scene.wait_until(draw_moment(pick), processes[1])
  loopback(False)
  seconds = pick.choice((None, pick.uniform(0.5, 10.0)))
  if seconds is not None:
    time.sleep(seconds)
    loopback(True)
  end_of_the_rest(scene, processes, f"no network {for_long(seconds)}")
  loopback(True)


def for_long(seconds: float | None) -> str:
  return "for good" if seconds is None else f"for {seconds:.1f} s"


NETWORK = (
  Disturbance("net-slow", "coordinator answers 0.01 to 0.5 s late (proxy)", slow, 2),
  Disturbance("net-cut", "connections to the coordinator cut, one to four times (proxy)", cut, 2, weight=2),
  Disturbance("net-swallow", "coordinator out of reach, for seconds or for good (proxy)", swallow, 2, weight=2),
  Disturbance("net-unplug", "loopback device switched off, for seconds or for good", unplug, 2, weight=2,
              namespace=True),
)  # fmt: skip
