"""Server processes for tests: started on a free loopback port, waited for, killed by their own id."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

START_S_MAX = 30.0
PORT_MIN, PORTS_TRIED = 10_000, 100


def free_port() -> int:
    """A loopback TCP port that nobody listens on at this moment.

    Below those that the kernel gives to outgoing connections: one of these takes the port of a server that is down for
    a moment, and keeps it from coming back (1 of 15 runs of a cluster, on a busy machine).
    """
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    for port in SystemRandom().sample(range(PORT_MIN, max(outgoing, 2 * PORT_MIN)), PORTS_TRIED):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port below {outgoing}")


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server is ready. Raises RuntimeError with its log if it ended or took too long."""
    deadline = time.monotonic() + START_S_MAX
    while not ready():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            what = f"ended with {process.returncode}" if ended else f"not ready after {START_S_MAX:.0f} s"
            if not ended:
                process.kill()
                process.wait()
            raise RuntimeError(f"{process.args!r:.200}: {what}\n{said}")
        time.sleep(0.01)  # a server has no event to wait on before it listens
