"""Finding out how to talk to one meter: the settings of the line, the protocol, and which model it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.line import OpenLine
from drivers.plan import TRANSACTIONS
from drivers.port import open_line
from field.diagnosis.asking import Asker
from field.diagnosis.fitting import FINALISTS, Fit, Place, all_places, best, candidates, fit, telling_places
from field.diagnosis.scanning import PREAMBLE, Scan, identity_of
from field.diagnosis.settings import usual
from protocols.capture import Value
from protocols.dialogue import Dialogue, Reply, Silence
from protocols.dlt645 import v1997, v2007
from protocols.dlt645.codes import Edition
from protocols.dlt645.edition import ANSWER_MAX, question
from protocols.dlt645.frame import OVERHEAD
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.dialogue import read_registers, refusal
from protocols.modbus.frame import read_request

TURNAROUND_S = 1.0
"""How long an answer may take to begin: what profiles take for Modbus, and twice what DL/T 645-2007 allows."""
SILENT_MAX = 5
"""Registers in a row that a meter may leave unanswered before no more are asked: some are silent to what they lack."""
TURNAROUND_USUAL_S, REGISTERS_USUAL = 0.05, 20
"""Of a Modbus meter: when its answer begins, and how many registers of a model are read that no other model has."""
ATTEMPTS = 2
_IDENTITY = {
    "dlt645-2007": (("number", "04000402"), ("model", "0400040B"), ("made", "0400040C"), ("standard", "0400040D"),
                    ("firmware", "04800001")),
    "dlt645-1997": (("number", "C032"),),
}  # fmt: skip
"""What a DL/T 645 meter says of itself."""

Way = tuple[ProtocolName, SerialSettings]
"""How is asked: a protocol, and the settings of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """How to talk to a meter. fits: the models that its registers fit, the better ones first; `alike` those that fit
    as well as the first. identity: what it says of itself, by what that is."""

    protocol: ProtocolName
    serial: SerialSettings
    address: str
    turnaround_ms: float | None
    profile: str
    identity: dict[str, str] = field(default_factory=dict)
    fits: tuple[Fit, ...] = ()

    @property
    def alike(self) -> tuple[str, ...]:
        """Other models with the same registers: only the label tells them apart."""
        return tuple(one.profile for one in self.fits[1:] if one.rank == self.fits[0].rank)


def ways(port: str, address: str, protocols: Sequence[ProtocolName], serials: Sequence[SerialSettings]) -> list[Way]:
    """What to try, the likely first. Over TCP the serial server has the settings, and one try of each is enough."""
    tcp = port.startswith("tcp://")
    if not protocols:
        of_modbus: tuple[ProtocolName, ...] = ("modbus-rtu", "modbus-ascii")
        if tcp:
            first: tuple[ProtocolName, ...] = ("modbus-tcp", "modbus-rtu")
            of_modbus = (*(first if port.endswith(":502") else reversed(first)), "modbus-ascii")
        protocols = ("dlt645-2007", "dlt645-1997") if len(address) == 12 else of_modbus
    if tcp:
        return [(one, (serials or usual(one) or usual("modbus-rtu"))[0]) for one in protocols]
    if all(one.startswith("dlt645") for one in protocols):  # both editions with each setting
        return [(one, settings) for settings in serials or usual("dlt645-2007") for one in protocols]
    return [(one, settings) for one in protocols for settings in serials or usual(one)]


def duration_s(tries: Sequence[Way]) -> float:
    """How long it takes to find out that nobody is there, about."""
    return sum(40 * settings.character_s + TURNAROUND_S for _, settings in tries)


def model_s(tries: Sequence[Way]) -> float:
    """How long it takes to tell the model of a Modbus meter that answers at a usual pace, about; 0 for DL/T 645."""
    protocol, settings = tries[0]
    if protocol.startswith("dlt645"):
        return 0.0
    registers = len(telling_places(candidates(protocol))) + FINALISTS * REGISTERS_USUAL
    return registers * (17 * settings.character_s + TURNAROUND_USUAL_S)


async def probe(
    bus: BusEntry,
    address: str,
    tries: Sequence[Way],
    *,
    open_line: OpenLine = open_line,
    progress: Callable[[str], None] = lambda text: None,
) -> Probed | None:
    """The first way by which the meter answers, and what it is; None when it answers in none. A meter of DL/T 645 that
    refuses what it is asked may be one of the other edition, which is tried before that is believed. Raises
    PortLost."""
    asker = await Asker.open(replace(bus, serial=tries[0][1]), open_line)
    chosen: Scan | None = None
    try:
        for protocol, settings in tries:
            if chosen is not None and (address in chosen.sure or settings != chosen.settings):
                break
            progress(f"{protocol} {settings}")
            scan = Scan(asker, bus, protocol, settings, turnaround_s=TURNAROUND_S)
            if await _answers(scan, address) and (chosen is None or address in scan.sure):
                chosen = scan
        if chosen is None:
            return None
        of_645 = chosen.protocol.startswith("dlt645")
        return await (_dlt645(chosen, address) if of_645 else _modbus(chosen, address, progress))
    finally:
        asker.close()


async def _answers(scan: Scan, address: str) -> bool:
    """Whether the meter answers anything, a refusal included; asked again where only damage came."""
    for _ in range(ATTEMPTS):
        if scan.protocol.startswith("dlt645"):
            frame = question(Edition(scan.protocol), address)
            taken = await scan.ask(address, frame.encode(PREAMBLE), PREAMBLE + OVERHEAD + ANSWER_MAX)
        else:
            transaction = next(TRANSACTIONS) if scan.protocol == "modbus-tcp" else None
            as_ascii = scan.protocol == "modbus-ascii"
            request = read_request(int(address), 3, 0, 1, transaction=transaction, as_ascii=as_ascii)
            taken = await scan.ask(address, request.encode(), 17)
        if address in scan.seen or not taken.garbled:
            break
    return address in scan.seen


async def _run(scan: Scan, dialogue: Dialogue[Dlt645Frame]) -> list[Value]:
    """The values of a dialogue; damage and silence are asked again."""
    try:
        ask = next(dialogue)
        while True:
            frame = None
            for _ in range(ATTEMPTS):
                frame = frame or await scan.put(ask)
            ask = dialogue.send(Silence() if frame is None else Reply(frame=frame, sent_at=0, ended_at=0))
    except StopIteration as end:
        values: list[Value] = end.value
        return values


async def _dlt645(scan: Scan, address: str) -> Probed:
    """What a DL/T 645 meter says of itself, and whether it has three phases."""
    read = v2007.read if scan.protocol == "dlt645-2007" else v1997.read
    identity: dict[str, str] = {}
    for name, di in _IDENTITY[scan.protocol]:
        values = await _run(scan, read(address, (di,), preamble=PREAMBLE))
        if values and values[0].text and values[0].text.strip("\0 "):
            identity[name] = values[0].text.strip("\0 ")
    profile = "dlt645-1997"
    if scan.protocol == "dlt645-2007":
        (volts, *_) = await _run(scan, v2007.read(address, ("02010200",), preamble=PREAMBLE))
        profile = "dlt645-2007-3p" if volts.number is not None else "dlt645-2007-1p"
    return Probed(protocol=scan.protocol, serial=scan.settings, address=address, profile=profile,
                  turnaround_ms=scan.seen[address], identity=identity)  # fmt: skip


async def _modbus(scan: Scan, address: str, progress: Callable[[str], None]) -> Probed:
    """Who made a Modbus meter, where it says so, and which models its registers fit."""
    identity = await identity_of(scan, address)
    models = candidates(scan.protocol)
    answers: dict[Place, bytes | None] = {}
    await _gather(scan, int(address), telling_places(models), answers, progress)
    finalists = best(fit(one, answers, identity) for one in models)[:FINALISTS]
    chosen = [one for one in models if one.name in {final.profile for final in finalists if final.grid}]
    for one in chosen:
        await _gather(scan, int(address), all_places(one), answers, progress)
    fits = [found for found in best(fit(one, answers, identity) for one in chosen) if found.sure]
    return Probed(protocol=scan.protocol, serial=scan.settings, address=address, turnaround_ms=scan.seen[address],
                  profile=fits[0].profile if fits else "modbus-generic", fits=tuple(fits),
                  identity={"device": identity} if identity else {})  # fmt: skip


async def _gather(
    scan: Scan, unit: int, places: Sequence[Place], answers: dict[Place, bytes | None], progress: Callable[[str], None]
) -> None:
    """Read what is not known yet. A meter that is silent to one register after the other is asked no more."""
    silent = 0
    for n, place in enumerate(places):
        if place in answers or silent >= SILENT_MAX:
            continue
        progress(f"{scan.protocol} {scan.settings}  {n}/{len(places)}")
        transaction = next(TRANSACTIONS) if scan.protocol == "modbus-tcp" else None
        frame = await scan.put(next(read_registers(unit, *place, transaction=transaction)))
        silent = silent + 1 if frame is None else 0
        if frame is not None:
            answers[place] = None if refusal(frame) is not None else frame.data[1:]
