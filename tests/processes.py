"""Server processes for tests: started on a free loopback port, waited for, killed by their own id."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

START_S_MAX = 30.0


def free_port() -> int:
    """A loopback TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
