"""What is heard on a line on which nobody is asked: each frame in words, and who said how much."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from statistics import median

from config.model import BusEntry
from drivers.line import OpenLine, PortLost
from drivers.port import open_line
from field.decode import dlt645, modbus
from field.diagnosis.overheard import PAUSE_S, Overhearing, Piece
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.dlt645.message import explain, find

_KNOWN: tuple[str, ...] = ("preamble", "start", "address", "length", "checksum", "end", "unit", "begin")
"""What of a frame is no news: it stands in the other columns, or is right."""
_SIDES, _SIDES_ZH = ("control: request, ", "control: response, "), ("控制码：主站请求，", "控制码：从站应答，")
DELAYS_MAX = 10_000
"""Delays that are remembered of each meter."""


def said(piece: Piece) -> tuple[str, str]:
    """A frame in English and Chinese, in a line; empty for what is none."""
    if piece.frame is None or piece.protocol is None:
        return "", ""
    known = _KNOWN
    if isinstance(piece.frame, Dlt645Frame):
        message = explain(piece.frame)
        rows = dlt645.annotate(find(piece.raw), message)
        known = (*_KNOWN, "identifier") if message.values else _KNOWN  # values say what they are
    else:
        rows = modbus.annotate(modbus.take_apart(piece.raw, piece.protocol))
    news = [(_bare(row.en, _SIDES), _bare(row.zh, _SIDES_ZH)) for row in rows if not row.en.startswith(known)]
    return "; ".join(en for en, _ in news), "；".join(zh for _, zh in news)


def _bare(text: str, sides: tuple[str, str]) -> str:
    """Without who says it: the direction stands in its own column."""
    return text.removeprefix(sides[0]).removeprefix(sides[1])


@dataclass(slots=True)
class Talk:
    """What was said by and to one address."""

    protocol: str
    address: str
    questions: int = 0
    answers: int = 0
    unanswered: int = 0
    """Questions before whose answer somebody else was asked."""
    delays_ms: list[float] = field(default_factory=list)

    @property
    def delay_ms(self) -> float | None:
        """The middle one of the times between question and answer."""
        return median(self.delays_ms) if self.delays_ms else None


class Summary:
    """Who said how much. Takes pieces in the order in which they came."""

    def __init__(self) -> None:
        self.talks: dict[tuple[str, str], Talk] = {}
        self.stray_bytes = 0
        self._open: tuple[Talk, float] | None = None

    def take(self, piece: Piece) -> None:
        """One more piece."""
        if piece.protocol is None or piece.address is None:
            self.stray_bytes += len(piece.raw)
            return
        key = (piece.protocol, piece.address)
        talk = self.talks.setdefault(key, Talk(*key))
        if piece.direction == "request":
            if self._open is not None:
                self._open[0].unanswered += 1
            talk.questions += 1
            self._open = (talk, piece.ended_at)
            return
        talk.answers += 1
        if self._open is not None and self._open[0] is talk and len(talk.delays_ms) < DELAYS_MAX:
            talk.delays_ms.append((piece.at - self._open[1]) * 1000)
        self._open = None


async def overheard(
    bus: BusEntry, *, for_s: float | None, open_line: OpenLine = open_line
) -> AsyncGenerator[Piece, None]:
    """What is said on a bus, as it comes, with loop times; nothing is ever written. for_s: None for ever.

    Raises PortLost (PortBusy)."""
    loop = asyncio.get_running_loop()
    line = await open_line(bus)
    came: asyncio.Queue[bytes | Exception] = asyncio.Queue()
    hearing, ends = Overhearing(), None if for_s is None else loop.time() + for_s
    line.attach(came.put_nowait, came.put_nowait)
    try:
        while ends is None or loop.time() < ends:
            wait_s = PAUSE_S if hearing.pending else None
            if ends is not None:
                wait_s = min(ends - loop.time(), wait_s or ends)
            try:
                async with asyncio.timeout(wait_s):
                    data = await came.get()
            except TimeoutError:
                for piece in hearing.quiet(loop.time()):
                    yield piece
                continue
            if isinstance(data, Exception):
                raise PortLost(str(data)) from data
            for piece in hearing.feed(loop.time(), data):
                yield piece
        for piece in hearing.close():
            yield piece
    finally:
        line.close()
