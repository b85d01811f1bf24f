"""Something that a command talks to, on a loop in a thread of its own, as in another process."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.status import StatusSocket
from simulators.endpoints import Endpoint

CALL_S_MAX = 10


@contextmanager
def beside(start: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], Coroutine[Any, Any, None]]) -> Generator[
    None, None, None
]:  # fmt: skip
    """It runs from `start` to `stop`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="beside", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(CALL_S_MAX)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(stop(), loop).result(CALL_S_MAX)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CALL_S_MAX)
        loop.close()


@contextmanager
def serving(endpoint: Endpoint) -> Generator[str, None, None]:
    """A simulated bus, and where it is reached."""
    with beside(endpoint.start, endpoint.stop):
        yield endpoint.endpoint


@contextmanager
def telling(socket: Path, said: Mapping[str, object]) -> Generator[None, None, None]:
    """A gateway that says this of itself."""
    status = StatusSocket(socket, lambda: said)
    with beside(status.open, status.close):
        yield
