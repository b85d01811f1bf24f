"""What the tests of DL/T 645 share: the recorded frames, and a way to hold a dialogue with a function for a meter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocols.capture import Value
from protocols.dialogue import Answer, Ask, Dialogue, Garbled, Reply, Silence
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import Deframer, Frame

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "dlt645.json").read_text(encoding="utf-8")
)
WHOLE = [vector for vector in VECTORS if vector["valid"]]
BROKEN = [vector for vector in VECTORS if not vector["valid"]]


def label(vector: dict[str, Any]) -> str:
    """The name of a vector in the test's output."""
    return str(vector["id"])


def edition_in(vector: dict[str, Any]) -> Edition:
    return Edition(f"dlt645-{vector['standard']}")


def drain(deframer: Deframer) -> list[Frame]:
    """What still stands behind open candidates when the line has fallen quiet."""
    frames: list[Frame] = []
    while deframer.pending:
        frames += deframer.expire()
    return frames


def hear(ask: Ask[Frame], came: bytes) -> Answer[Frame]:
    """What the owner of the wire makes of the bytes that came: the first frame that the question accepts."""
    deframer = Deframer()
    for frame in deframer.feed(came) + drain(deframer):
        if ask.accepts(frame):
            return Reply(frame=frame, sent_at=0, ended_at=0)
    return Garbled(came) if came else Silence()


def converse(dialogue: Dialogue[Frame], meter: Callable[[bytes], bytes]) -> tuple[list[Value], list[Ask[Frame]]]:
    """Run a dialogue against a function from request bytes to reply bytes; its values, and all that was asked."""
    asks: list[Ask[Frame]] = []
    try:
        asks.append(next(dialogue))
        while True:
            asks.append(dialogue.send(hear(asks[-1], meter(asks[-1].data))))
    except StopIteration as stop:
        values: list[Value] = stop.value
        return values, asks
