"""The local socket that `meterwire status` asks: connect, read one JSON object, closed."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

ASKERS_MAX = 8
"""Connections served at once; a further one is closed without an answer."""
WRITE_S_MAX = 5.0
"""What an asker has to read its answer in."""
ANSWER_MAX = 4 * 1024 * 1024
"""The longest answer that `ask` reads: some hundred bytes a meter."""


class StatusSocket:
    """Serves what `snapshot` returns. The socket is open to the daemon's user and group."""

    def __init__(self, path: Path, snapshot: Callable[[], Mapping[str, object]]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._server: asyncio.Server | None = None
        self._askers = 0

    async def open(self) -> None:
        """Begin to listen. A socket that a killed daemon left behind is replaced. Raises OSError."""
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, self._path)
        self._path.chmod(0o660)

    async def close(self) -> None:
        """Stop listening, and take the socket away."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)
            self._server = None

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._askers += 1
        try:
            if self._askers <= ASKERS_MAX:
                writer.write(json.dumps(self._snapshot(), ensure_ascii=False).encode() + b"\n")
                async with asyncio.timeout(WRITE_S_MAX):
                    await writer.drain()
        except (OSError, TimeoutError) as error:
            log.info("status asker went away detail=%r", str(error))
        finally:
            self._askers -= 1
            writer.close()


async def ask(path: Path) -> dict[str, object]:
    """What the daemon behind the socket says. Raises OSError when there is none, ValueError for a strange answer."""
    reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_MAX)
    try:
        async with asyncio.timeout(WRITE_S_MAX):
            line = await reader.readline()
    finally:
        writer.close()
    if not line:  # it is ending, or has too many askers
        raise ConnectionResetError(f"{path}: closed without an answer")
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError(f"{path}: expected an object, got {type(answer).__name__}")  # noqa: TRY004
    return answer
