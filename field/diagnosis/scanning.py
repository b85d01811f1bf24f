"""Asking a bus who is there: DL/T 645 by abbreviated addresses, Modbus by unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.meter import MARGIN_S, MARGIN_S_TCP, Meter
from drivers.plan import TRANSACTIONS
from drivers.profile import load_profile
from field.diagnosis.asking import Asker, Chunk, Heard
from field.diagnosis.hearing import Role, Taken, take_apart
from field.diagnosis.search import CHILDREN, SURE, Came, Found, search
from field.port import meter_of
from protocols.dialogue import Ask, Reply, Silence
from protocols.dlt645.codes import Edition, edition_of
from protocols.dlt645.edition import ANSWER_MAX, question, says_who, tells
from protocols.dlt645.frame import ANY_METER, BROADCAST, OVERHEAD
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.dlt645.v2007 import READ_ADDRESS
from protocols.errors import Malformed, Refused
from protocols.modbus.commands import OBJECTS, identify
from protocols.modbus.dialogue import speaks_for
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.modbus.frame import read_request

TURNAROUND_S = {"dlt645": 0.5, "modbus": 0.3}
"""How long an answer may take to begin. DL/T 645-2007: at most 500 ms. Modbus names none; a slower answer is heard
behind a later question, and says its unit."""
LAST_S = 2.0
"""How long is listened on for meters that are slower: behind the last unit, and where any meter was asked in vain."""
PREAMBLE = 4
QUESTIONS_MAX = 5000
"""Of one search by abbreviated addresses: fifty bytes that had to be tried."""
TAIL_S = 0.05
"""Quiet behind the last byte, after which nothing more belongs to it."""
TAIL_S_MAX = 0.2
"""How long is listened on for that, where a line does not fall quiet."""
QUIET_S_MAX = 0.5
"""How long a question waits for a line that does not fall quiet."""
_SIZES: Mapping[str, tuple[int, int]] = {
    "dlt645-2007": (PREAMBLE + OVERHEAD + 4, PREAMBLE + OVERHEAD + ANSWER_MAX),
    "dlt645-1997": (PREAMBLE + OVERHEAD + 2, PREAMBLE + OVERHEAD + ANSWER_MAX),
    "modbus-rtu": (8, 7),
    "modbus-ascii": (17, 15),
    "modbus-tcp": (12, 11),
}
"""Bytes of a question and of its answer."""
IDENTITY_MAX = 256
"""Bytes of an answer that says who made a meter: the longest of Modbus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A meter that answered. sure: whether it speaks this edition of DL/T 645, and not only refuses something unknown.
    identity: who made it, where it says so."""

    protocol: ProtocolName
    serial: SerialSettings
    address: str
    turnaround_ms: float | None
    sure: bool
    identity: str = ""


def meter_for(protocol: ProtocolName, settings: SerialSettings, bus: BusEntry, address: str) -> Meter:
    """A meter of which only protocol, settings and address are known."""
    entry = meter_of(bus, protocol, address, serial=settings)
    return Meter(entry, load_profile(entry.profile), bus)


class Scan:
    """The asking of one protocol with one setting of the line. turnaround_s: None for the usual one."""

    def __init__(
        self,
        asker: Asker,
        bus: BusEntry,
        protocol: ProtocolName,
        settings: SerialSettings,
        *,
        turnaround_s: float | None = None,
    ) -> None:
        self.protocol, self.settings = protocol, settings
        self.seen: dict[str, float | None] = {}
        """Addresses, in the order in which they were heard, and how soon they answered, in milliseconds."""
        self.sure: set[str] = set()
        """Those of them of whom an answer tells that they speak this protocol."""
        self.doubled: dict[str, None] = {}
        """Addresses of which two answers came after one question."""
        self._asker = asker
        self._edition = Edition(protocol) if protocol.startswith("dlt645") else None
        self._meter = meter_for(protocol, settings, bus, "1" if self._edition is None else "000000000000")
        self._wait_s = wait_s(bus, protocol, turnaround_s)

    async def ask(
        self, address: str, data: bytes, answer: int, enough: Callable[[Taken], bool] = lambda _: False
    ) -> Taken:
        """One question, and everything that comes while an answer of so many bytes may, or until there is enough. Who
        answers is noted."""
        meter = self._meter
        wait_s = self._wait_s + answer * meter.character_s

        def until(sent_at: float, chunks: Sequence[Chunk]) -> float:
            if not chunks:
                return sent_at + wait_s
            heard = Heard(sent=data, sent_at=sent_at, chunks=tuple(chunks), ended_at=chunks[-1].at)
            if enough(self._apart(heard)):
                return chunks[-1].at
            return min(max(sent_at + wait_s, chunks[-1].at + TAIL_S), sent_at + wait_s + TAIL_S_MAX)

        heard = await self._asker.ask(
            data, until, settings=self.settings, gap_s=meter.gap_s, character_s=meter.character_s,
            quiet_s_max=QUIET_S_MAX,
        )  # fmt: skip
        return self._taken(heard, address)

    async def listen(self, for_s: float) -> Taken:
        """Note who answers late."""
        return self._taken(await self._asker.listen(for_s), "")

    async def put(self, ask: Ask[Any]) -> Any:
        """One question of a dialogue: the frame that answers it, or None."""

        def right(taken: Taken) -> list[Any]:
            return [told.frame for told in taken.told if ask.accepts(told.frame)]

        taken = await self.ask("", ask.data, ask.reply_max, lambda taken: bool(right(taken)))
        return next(iter(right(taken)), None)

    def _apart(self, heard: Heard) -> Taken:
        meter = self._meter
        return take_apart(
            heard, meter.deframer(), self._role, inter_byte_s=meter.inter_byte_s, character_s=meter.character_s
        )

    def _role(self, frame: Dlt645Frame | ModbusFrame) -> Role:
        """Whether a meter says who it is. What speaks of the other edition answers an earlier scan, and late."""
        if isinstance(frame, Dlt645Frame):
            if not says_who(frame):
                return Role.FOREIGN
            return Role.ANSWER if edition_of(frame) is self._edition else Role.EARLIER
        return Role.FOREIGN if speaks_for(frame) else Role.ANSWER

    def _taken(self, heard: Heard, address: str) -> Taken:
        """address: whose answer is no late one."""
        taken = self._apart(heard)
        names = [_who(told.frame) for told in taken.answers]
        self.doubled |= dict.fromkeys(name for name in names if names.count(name) > 1)
        for told in taken.answers:
            who = _who(told.frame)
            asked = "A" in address or address in (who, BROADCAST)
            self.seen.setdefault(who, round(told.delay_s * 1000, 1) if asked else None)
            if not isinstance(told.frame, Dlt645Frame) or tells(told.frame, edition_of(told.frame)):
                self.sure.add(who)
        return taken


def wait_s(bus: BusEntry, protocol: ProtocolName, turnaround_s: float | None) -> float:
    """How long the first byte of an answer is waited for."""
    allowed_s = TURNAROUND_S[protocol.partition("-")[0]] if turnaround_s is None else turnaround_s
    return allowed_s + (MARGIN_S_TCP if bus.port.startswith("tcp://") else MARGIN_S)


def duration_s(
    bus: BusEntry, protocol: ProtocolName, settings: SerialSettings, units: Sequence[int], turnaround_s: float | None
) -> tuple[float, float]:
    """How long a scan takes, where nobody answers and at most: where all do, or there is noise, questions wait for the
    line, are listened to for longer, and are asked again. DL/T 645: until it is known whether there are several."""
    usual_s, most_s = _question_s(bus, protocol, settings, turnaround_s)
    if protocol.startswith("dlt645"):
        return 2 * (usual_s + LAST_S), 2 * (most_s + LAST_S)
    # Whoever answers is not asked again, but for its maker.
    longest = {"modbus-tcp": 0, "modbus-ascii": 2 * IDENTITY_MAX}.get(protocol, IDENTITY_MAX)
    again_s = most_s + longest * settings.character_s
    return len(units) * usual_s + LAST_S, len(units) * (most_s + again_s) + LAST_S


def step_s(
    bus: BusEntry, protocol: ProtocolName, settings: SerialSettings, turnaround_s: float | None
) -> tuple[float, float]:  # fmt: skip
    """How long one byte of the address takes by which DL/T 645 meters are told apart, and at most, about: where noise
    has them asked again, those that sound like several and those that are silent."""
    usual_s, most_s = _question_s(bus, protocol, settings, turnaround_s)
    return (CHILDREN + SURE) * usual_s, 3 * CHILDREN * most_s


def _question_s(
    bus: BusEntry, protocol: ProtocolName, settings: SerialSettings, turnaround_s: float | None
) -> tuple[float, float]:  # fmt: skip
    """How long one question takes that is not answered, and any at most."""
    characters = 0 if protocol == "modbus-tcp" else sum(_SIZES[protocol])
    usual_s = characters * settings.character_s + wait_s(bus, protocol, turnaround_s)
    return usual_s, QUIET_S_MAX + usual_s + TAIL_S_MAX


def _who(frame: Dlt645Frame | ModbusFrame) -> str:
    return frame.address if isinstance(frame, Dlt645Frame) else str(frame.unit)


async def scan_dlt645(scan: Scan, progress: Callable[[str], None]) -> Found:
    """Every meter of an edition: the only one by its answer to any address, several by abbreviated ones."""
    edition = Edition(scan.protocol)

    def came(taken: Taken) -> Came:
        return Came(tuple(_who(told.frame) for told in taken.answers), garbled=bool(taken.lead or taken.stray))

    async def put(frame: Dlt645Frame) -> Came:
        progress(frame.address)
        return came(await scan.ask(frame.address, frame.encode(PREAMBLE), _SIZES[scan.protocol][1]))

    async def asked(address: str) -> Came:
        return await put(question(edition, address))

    # The address is asked for with 13H, which some do not know. 1997 has nothing of the kind; a meter of it was seen
    # to take all nines for its own address.
    of_2007 = Dlt645Frame(address=ANY_METER, control=READ_ADDRESS)
    first = await put(of_2007 if edition is Edition.E2007 else question(edition, BROADCAST))
    if first.nothing:
        first = came(await scan.listen(LAST_S))
    if first.nothing or (edition is Edition.E2007 and not first.garbled and scan.sure.isdisjoint(first.addresses)):
        again = await asked(ANY_METER)
        if again.nothing:
            again = came(await scan.listen(LAST_S))
        first = first if again.nothing else again
    going = search(first, questions_max=QUESTIONS_MAX)
    try:
        mask = next(going)
        while True:
            mask = going.send(await asked(mask))
    except StopIteration as end:
        found: Found = end.value
    return Found(found.addresses, (*found.doubtful, *scan.doubled))


async def scan_modbus(scan: Scan, units: Sequence[int], progress: Callable[[str], None]) -> Found:
    """Each unit is asked for a register; that it refuses is an answer. Where only damage came it is asked again."""
    garbled = [unit for unit in units if await _garbled(scan, unit, progress)]
    garbled = [unit for unit in garbled if str(unit) not in scan.seen and await _garbled(scan, unit, progress)]
    await scan.listen(LAST_S)
    found = {str(unit) for unit in units} & scan.seen.keys()
    lacking = [str(unit) for unit in garbled if str(unit) not in scan.seen]
    return Found(tuple(sorted(found, key=int)), tuple(dict.fromkeys((*lacking, *scan.doubled))))


async def _garbled(scan: Scan, unit: int, progress: Callable[[str], None]) -> bool:
    progress(str(unit))
    transaction = next(TRANSACTIONS) if scan.protocol == "modbus-tcp" else None
    question = read_request(unit, 3, 0, 1, transaction=transaction, as_ascii=scan.protocol == "modbus-ascii")
    taken = await scan.ask(str(unit), question.encode(), _SIZES[scan.protocol][1])
    return taken.garbled


async def identity_of(scan: Scan, address: str) -> str:
    """Who made a Modbus meter, by function 43/14; empty where it does not say."""
    transactions = TRANSACTIONS if scan.protocol == "modbus-tcp" else None
    dialogue = identify(int(address), transactions=transactions, as_ascii=scan.protocol == "modbus-ascii")
    try:
        ask = next(dialogue)
        while True:
            frame = await scan.put(ask)
            ask = dialogue.send(Silence() if frame is None else Reply(frame=frame, sent_at=0, ended_at=0))
    except StopIteration as end:
        objects = end.value
    except (Refused, Malformed):
        return ""
    if not isinstance(objects, dict):
        return ""
    texts = [objects[n].decode("ascii", "replace").strip() for n in sorted(OBJECTS) if n in objects]
    return " ".join(text for text in texts if text)
