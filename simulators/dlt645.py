"""A DL/T 645 meter as a pure state machine: a request in, a reply or silence out.

Silent to: frames of meters, other addresses, broadcasts (99), functions that have no abnormal reply. Addressed by its
own address, by AA for its high bytes (abbreviated address), and by AA throughout. Source: DL/T 645-2007; 1997 from
implementations and live logs.
"""

from collections.abc import Mapping

from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import ANY_METER, BROADCAST, Frame, parse
from protocols.dlt645.items import members
from protocols.errors import Malformed
from simulators.answer import Answer, Holes
from simulators.dlt645_items import Written, write
from simulators.dlt645_records import records
from simulators.load import Load

FIRST_MAX, FOLLOW_MAX = 196, 195
"""Payload of the first frame of a long answer and of each that follows: 200 bytes of DATA with DI, and SEQ in the
latter (as a grid meter's firmware cuts them)."""

_OTHER, _ABSENT, _UNAUTHORISED = 0x01, 0x02, 0x04
"""Bits of ERR: other error (1997: illegal data), no such data, wrong password or not authorised."""
_READ, _FOLLOW, _ADDRESS, _FREEZE = 0x11, 0x12, 0x13, 0x16
_FREEZES_KEPT = 3
_WRITES = frozenset({0x14, 0x19, 0x1A, 0x1B, 0x1C, 0x04, 0x10})
"""Refused: nobody holds the key of a simulated meter."""
_SILENT = frozenset({0x08, 0x15, 0x1D, 0x0A})
"""Broadcast time, and the functions that say nothing when they fail."""


_IDENTITY = {
    "rated.voltage": "220V", "rated.current": "5A", "rated.current.max": "60A", "accuracy.active": "1.0",
    "accuracy.reactive": "2.0", "meter.model": "SIM-3", "meter.made": "2026-01", "meter.protocol": "DL/T645-2007",
    **{f"status.word_{word}": "0000" for word in range(1, 8)},
}  # fmt: skip


class Dlt645Meter:
    """One meter. Pure: the time comes with each request; only a follow-up (12H) remembers the one before, and a freeze
    (16H, now) stays.

    identity: texts by name of the quantity; the address is always served. extra: payloads of identifiers that a
    simulated meter does not have by itself (high digit first), for trials. preamble: FE bytes before each reply.
    fill_absent: phases it lacks are FF in a block, or left out of it; a single one of them is refused either way.
    """

    def __init__(
        self, address: str, load: Load, *, edition: Edition = Edition.E2007, preamble: int = 4,
        fill_absent: bool = True, identity: Mapping[str, str] | None = None, extra: Mapping[str, bytes] | None = None,
        holes: Holes = "zero",
    ) -> None:  # fmt: skip
        if not (len(address) == 12 and address.isdecimal()):
            raise ValueError(f"expected 12 digits, got {address!r}")
        self.address, self.load, self.edition = address, load, edition
        self.preamble, self.fill_absent, self.holes = preamble, fill_absent, holes
        self.identity = {**_IDENTITY, "meter.number": address, **(identity or {}), "address": address}
        self.extra = dict(extra or {})
        self._long: Written | None = None
        """The answer that is being read in parts, and how it is called on the wire."""
        self._long_di = b""
        self._parts_sent = 0
        self._frozen: list[int] = []
        """When it was told to freeze, UTC ms."""

    def handle(self, data: bytes, now_ms: int) -> bytes | None:
        """The reply to one frame (a preamble may stand before it), or None for silence."""
        try:
            frame = parse(data.lstrip(b"\xfe"))
        except Malformed:
            return None
        answer = self.answer(frame, now_ms)
        return answer.data if answer else None

    def is_addressed(self, address: str) -> bool:
        """Whether it is this meter's address, with AA for as many of the high bytes as the asker liked."""
        known = address.lstrip("A")
        return len(known) % 2 == 0 and self.address.endswith(known)

    def answer(self, frame: Frame, now_ms: int) -> Answer | None:
        """The reply to one frame and what it says, or None for silence."""
        if frame.address == BROADCAST and frame.control == _FREEZE:
            self._freeze(frame.data, now_ms)
        if frame.from_meter or not (frame.address == self.address or self.is_addressed(frame.address)):
            return None
        long, self._long = self._long, None  # any other request ends a long answer
        function = frame.function
        if self.edition is Edition.E1997:
            function = {0x01: _READ, 0x02: _FOLLOW}.get(
                function, -1 if function in (_READ, _FOLLOW, _ADDRESS) else function
            )
        if function == _READ:
            return self._read(frame, now_ms)
        if function == _FOLLOW:
            return self._follow(frame, long)
        if function == _ADDRESS and frame.address == ANY_METER and not frame.data:
            return self._reply(frame, 0x80, bytes.fromhex(self.address)[::-1], {"address": self.address})
        if function == _FREEZE and self.edition is Edition.E2007 and frame.address == self.address:
            done = self._freeze(frame.data, now_ms)
            return self._reply(frame, 0x80, b"") if done else self._reply(frame, 0xC0, bytes((_OTHER,)))
        if function in _WRITES:
            return self._reply(frame, 0xC0, bytes((_UNAUTHORISED,)))
        if function in _SILENT or function < 0 or function == _ADDRESS or self.edition is Edition.E1997:
            return None
        return self._reply(frame, 0xC0, bytes((_OTHER,)))

    def _freeze(self, moment: bytes, now_ms: int) -> bool:
        """Only "now" is kept: hours, days and months are frozen anyway."""
        if len(moment) != 4 or self.edition is Edition.E1997:
            return False
        if moment == b"\x99" * 4:
            self._frozen = [*self._frozen, now_ms][-_FREEZES_KEPT:]
        return True

    def _reply(self, frame: Frame, bits: int, data: bytes, values: dict[str, str] | None = None) -> Answer:
        """A reply carries the real address, whatever wildcard it was asked by."""
        reply = Frame(address=self.address, control=frame.control | bits, data=data)
        return Answer(reply.encode(self.preamble), values or {})

    def _read(self, frame: Frame, now_ms: int) -> Answer | None:
        size = self.edition.di_length
        wire_di = frame.data[:size]
        di = wire_di[::-1].hex().upper()
        whole = self.holes == "zero" or not members(di, self.edition)
        written = self._written(di, frame.data[size:], now_ms) if whole else None
        if written is None and self.holes == "mute":
            return None
        if written is None:
            return self._reply(frame, 0xC0, bytes((_ABSENT,)))
        if len(written.payload) <= FIRST_MAX:
            return self._reply(frame, 0x80, wire_di + written.payload, written.values)
        self._long, self._long_di, self._parts_sent = written, wire_di, 1
        return self._reply(frame, 0xA0, wire_di + written.payload[:FIRST_MAX])

    def _written(self, di: str, asked: bytes, now_ms: int) -> Written | None:
        """asked: what the request says behind the identifier, of which only load records take anything."""
        if di in self.extra and not asked:
            return Written(self.extra[di], {})
        if len(di) != 2 * self.edition.di_length:
            return None
        if self.edition is Edition.E2007 and di[:2] in ("03", "05", "06"):
            return records(di, asked, self.load, now_ms, self._frozen)
        if asked:
            return None
        return write(di, self.load, now_ms, edition=self.edition, identity=self.identity, fill_absent=self.fill_absent)

    def _follow(self, frame: Frame, written: Written | None) -> Answer:
        """A further part of a long answer. 2007: DI + SEQ asked and answered, any part again; 1997: DI, in order."""
        size = self.edition.di_length
        wire_di, sequence = frame.data[:size], frame.data[size:]
        numbered = self.edition is Edition.E2007
        if written is None or wire_di != self._long_di or len(sequence) != numbered:
            return self._reply(frame, 0xC0, bytes((_ABSENT,)))
        number = sequence[0] if numbered else self._parts_sent
        start = FIRST_MAX + FOLLOW_MAX * (number - 1)
        if not FIRST_MAX <= start < len(written.payload):
            return self._reply(frame, 0xC0, bytes((_ABSENT,)))
        self._long, self._parts_sent = written, number + 1
        end = start + FOLLOW_MAX
        data = wire_di + written.payload[start:end] + sequence
        if end < len(written.payload):
            return self._reply(frame, 0xA0, data)
        return self._reply(frame, 0x80, data, written.values)
