"""The wire-fault suite: whatever a wire or a meter does, never a wrong value, and every answer that can be found is."""

import asyncio
import contextlib
import termios
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings, UplinkEntry
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.meter import Meter
from drivers.plan import plan
from drivers.port import open_line
from drivers.profile import load_profile
from field.clock import wall_ms
from protocols.capture import Quality, Value
from protocols.dlt645.frame import Frame, parse
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan
from simulators.noise import Faults
from simulators.site import RealSite
from tests.desk import START_MS, Desk, serve
from tests.faults.campaign import Family, trial
from tests.faults.carriers import FarEnd, Near, in_memory, over_pty, over_tcp
from tests.faults.rows import ADDRESS, ROWS, TRUE, TURNAROUND_S, Heard, Row
from tests.script import Said, ScriptedLine, meter
from tests.standstill import watched

PROTOCOLS: tuple[ProtocolName, ...] = ("dlt645-2007", "modbus-rtu", "modbus-ascii", "modbus-tcp")
SERIAL_PROTOCOLS = PROTOCOLS[:3]
PIECES_S = 0.03
"""A machine that stands still for longer may put more between the pieces of an answer than belongs to one."""
Carrier = Callable[[FarEnd, Callable[[], int]], Awaitable[Near]]


def cases(protocols: tuple[ProtocolName, ...]) -> list[tuple[ProtocolName, Row]]:
    return [(protocol, row) for row in ROWS for protocol in protocols if protocol not in row.without]


def judge(far: FarEnd, near: Near) -> None:
    """Every value is right and there in the end, and none cost a question more than it had to."""
    told = f"{far.protocol}: {far.row.name}: asked {far.asked}"
    assert [item for item, _ in near.read], told
    for item, outcome in near.read:
        (value,) = outcome.values or (None,)
        assert value is not None, told
        assert value.plain == TRUE[item], (told, item, value)
    asked_again = len(far.asked) - len(near.read)
    assert (asked_again == 0) is far.row.at_once, told


@pytest.mark.parametrize(("protocol", "row"), cases(PROTOCOLS), ids=lambda case: getattr(case, "name", case))
def test_what_comes_in_place_of_an_answer_is_never_a_wrong_value(protocol: ProtocolName, row: Row) -> None:
    far = FarEnd(protocol, row)
    near = virtual.run(in_memory(far, virtual.now_ms), start_ms=START_MS)
    judge(far, near)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("carrier", "protocols"), [(over_pty, SERIAL_PROTOCOLS), (over_tcp, PROTOCOLS)], ids=["pty", "tcp"]
)
async def test_so_it_is_in_real_time_over_a_pty_and_over_tcp(
    carrier: Carrier, protocols: tuple[ProtocolName, ...]
) -> None:
    async def one(protocol: ProtocolName, row: Row) -> None:
        far = FarEnd(protocol, row)
        near = await carrier(far, lambda: START_MS)
        if row.at_once and len(far.asked) > len(near.read) and machine.longest_s > PIECES_S:
            late.append((protocol, row))
            return
        judge(far, near)
        assert near.bus.port.parity != "enforced"

    late: list[tuple[ProtocolName, Row]] = []
    with watched() as machine:
        async with asyncio.TaskGroup() as group:
            for protocol, row in cases(protocols):
                group.create_task(one(protocol, row), name=f"{protocol} {row.name}")
        again, machine.longest_s = late.copy(), 0.0
        late.clear()
        for protocol, row in again:  # on a machine that stood still: each by itself, once it does not
            await one(protocol, row)
    assert not late, f"the machine stands still for {machine.longest_s:.2f} s at a time"


@pytest.mark.parametrize("payload", ["0012", "001234", "000000123400", ""])
def test_a_dlt645_reply_of_another_length_is_an_answer_that_says_nothing(payload: str) -> None:
    data = bytes.fromhex("00010000")[::-1] + bytes.fromhex(payload)[::-1]
    whole = Frame(address=ADDRESS, control=0x91, data=data).encode()
    desk = Desk(ScriptedLine(lambda _, n: [(TURNAROUND_S, whole)]))

    async def script() -> None:
        desk.energy(meter(), name="a")

    serve(desk, script)
    (value,) = desk.outcome("a").values or ()
    assert value.plain is None and value.quality in (Quality.INVALID, Quality.UNAVAILABLE)


def test_a_follow_up_with_another_sequence_number_or_identifier_is_never_joined() -> None:
    def answer(question: bytes, n: int) -> Said:
        asked = parse(question.lstrip(b"\xfe"))
        if asked.function == 0x11:
            more = asked.data[:4] + bytes.fromhex("00001000")
            return [(TURNAROUND_S, Frame(address=ADDRESS, control=0xB1, data=more).encode())]
        wrong = [asked.data[:4] + b"\x99\x99" + b"\x02", b"\x01\x15\x00\x04" + b"\x99\x99" + asked.data[4:]]
        right = asked.data[:4] + b"\x00\x00\x20\x00" + asked.data[4:]
        frames = [Frame(address=ADDRESS, control=0x92, data=data).encode() for data in (*wrong, right)]
        return [(TURNAROUND_S, b"".join(frames))]

    desk = Desk(ScriptedLine(answer))

    async def script() -> None:
        desk.energy(meter(), "0001FF00", name="block")

    serve(desk, script)
    assert desk.plain("block") == ["1000.00", "2000.00"]


@pytest.mark.parametrize("more", [False, True])
def test_a_status_word_that_a_meter_reports_instead_of_a_part_is_no_part(more: bool) -> None:
    """Meters of the grid answer 12 with 04001501 when something has happened, once (a meter's firmware)."""

    def answer(question: bytes, n: int) -> Said:
        asked = parse(question.lstrip(b"\xfe"))
        if asked.function == 0x11:
            said = Frame(address=ADDRESS, control=0xB1, data=asked.data + bytes.fromhex("00001000"))
        elif n == 1:
            status = bytes.fromhex("04001501")[::-1] + bytes(12) + asked.data[4:]
            said = Frame(address=ADDRESS, control=0xB2 if more else 0x92, data=status)
        else:
            part = asked.data[:4] + bytes.fromhex("00002000") + asked.data[4:]
            said = Frame(address=ADDRESS, control=0x92, data=part)
        return [(TURNAROUND_S, said.encode())]

    desk = Desk(ScriptedLine(answer))

    async def script() -> None:
        desk.energy(meter(), "0001FF00", name="block")

    serve(desk, script)
    assert desk.plain("block") == ["1000.00", "2000.00"]


@pytest.mark.parametrize("late_ms", range(900, 1700, 50))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_reply_to_a_question_of_before_the_port_was_lost_answers_nothing_after(
    protocol: ProtocolName, late_ms: int
) -> None:
    """The serial server goes on with what it was asked, and whoever calls next hears the answer."""
    for seed in range(8):  # the port is opened again after 850 to 1250 ms, and listens for 300
        near = _torn(protocol, late_ms / 1000, seed)
        assert near.bus.port.counters.opened == 2
        assert len(near.read) == 4
        for item, outcome in near.read:
            assert [value.plain for value in outcome.values or ()] == [TRUE[item]], (seed, item)


def _torn(protocol: ProtocolName, late_s: float, seed: int) -> Near:
    """The port is lost with a question on its way, and something else is answered in its place so long after it."""
    asked: list[str] = []

    def answer(question: bytes, n: int) -> Said:
        heard = Heard(protocol, question)
        asked.append(heard.item)
        if len(asked) > 1:
            return [(TURNAROUND_S, heard.frame())]
        asyncio.get_running_loop().call_later(0.05, line.tear)
        asyncio.get_running_loop().call_later(late_s, line.say, heard.frame("other item"))
        return []

    line = ScriptedLine(answer)
    near = Near(protocol, "/memory/b1", line.open, virtual.now_ms, seed=seed)
    virtual.run(near.run(), start_ms=START_MS)
    return near


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_reply_to_a_cancelled_read_answers_nothing_else(protocol: ProtocolName) -> None:
    row = Row("slow", lambda heard: [(0.1, heard.frame())], False)
    far = FarEnd(protocol, row)
    near = Near(protocol, "/memory/b1", ScriptedLine(far.answer).open, virtual.now_ms)

    async def scenario() -> None:
        task = asyncio.ensure_future(near.run())
        while not far.asked:  # noqa: ASYNC110 - the far end tells nobody
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        await near.bus.run()

    virtual.run(scenario(), start_ms=START_MS)
    assert len(near.read) == 4 and len(far.asked) == 5
    judge(far, near)


NOISES: dict[str, Faults] = {
    **{f"bits turn over at {rate:g}": Faults(ber=rate) for rate in (1e-5, 1e-4, 1e-3, 1e-2)},
    "bursts after Gilbert and Elliott": Faults(fade=2e-3, fade_bytes=15, fade_ber=0.1),
    "bursts": Faults(burst=3e-3),
    "bytes are lost": Faults(loss=3e-3),
    "bytes come twice": Faults(repeat=3e-3),
    "bytes that nobody sent": Faults(insertion=3e-3),
    "00 and FF as the line turns round": Faults(glitch=1.0),
    "FE bytes, none or many": Faults(preamble=1.0),
    "the tail is missing": Faults(truncate=0.1),
    "late replies": Faults(late=0.2, late_ms=(20.0, 900.0)),
    "jitter": Faults(late=1.0, late_ms=(0.0, 100.0)),
    "an echo": Faults(echo=True),
    "replies in pieces": Faults(pause=1.0, pause_ms=15.0),
    "foreign frames": Faults(foreign=0.3),
    "other answers": Faults(other=0.3),
    "doubled answers": Faults(twice=0.5),
    "nonsense behind": Faults(tail=0.5),
    "a babbling meter": Faults(babble=0.3),
    "no answer": Faults(silent=0.2),
}
HARMLESS = {
    "00 and FF as the line turns round", "FE bytes, none or many", "an echo", "replies in pieces", "nonsense behind",
    "bits turn over at 1e-05",
}  # fmt: skip
"""What stands beside the answer and leaves it whole: nearly every question is answered the first time."""
UNTIMELY = {"late replies", "doubled answers"}
"""Whole answers come when nobody waits for them any more, or while their meter is left alone."""
CUT_MAX = 5
"""Reads that were cancelled, or whose line was torn, with an answer on its way: seldom, and once at the end."""


@pytest.mark.parametrize("family", ["dlt645", "modbus-rtu", "modbus-ascii"])
@pytest.mark.parametrize("noise", NOISES)
def test_no_model_of_noise_brings_a_wrong_value_and_every_whole_answer_is_found(noise: str, family: Family) -> None:
    verdict = trial(family, 3, 250, NOISES[noise])
    assert verdict.wrong_detectable == verdict.wrong_billing == verdict.defects == 0, verdict.examples
    assert verdict.wrong_probabilistic <= 1, verdict.examples
    whole = verdict.struck["whole"]
    assert verdict.taken >= (0.8 * whole if noise in UNTIMELY else whole - CUT_MAX), str(verdict)
    assert verdict.good > 0, str(verdict)
    if noise in HARMLESS:
        assert verdict.good > 250, str(verdict)
        assert verdict.taken >= 0.97 * verdict.struck["answers"], str(verdict)


class Tty:
    """A serial device that keeps what it is set to, on top of a pty, which drops parity."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set: list[Any] = []
        self._get, self._put = termios.tcgetattr, termios.tcsetattr
        monkeypatch.setattr(termios, "tcgetattr", self._attributes)
        monkeypatch.setattr(termios, "tcsetattr", self._keep)

    def _attributes(self, fd: int) -> list[Any]:
        return [*self.set[-1][:6], self._get(fd)[6]] if self.set else self._get(fd)

    def _keep(self, fd: int, when: int, attributes: list[Any]) -> None:
        self.set.append(list(attributes))
        with contextlib.suppress(termios.error):  # some C libraries refuse parity on a pty
            self._put(fd, when, attributes)


@pytest.mark.parametrize(("serial", "odd"), [("2400-8E1", False), ("9600-8O1", True)])
async def test_the_kernel_is_told_to_check_parity_and_to_drop_what_fails(
    monkeypatch: pytest.MonkeyPatch, serial: str, odd: bool
) -> None:
    site = RealSite(SitePlan(buses=(BusPlan(name="b", meters=()),)), now_ms=wall_ms)
    async with site:
        device = Tty(monkeypatch)
        line = await open_line(BusEntry(name="b", port=site.ports["b"], serial=SerialSettings.parse(serial)))
        asked = device.set[-1]
        line.close()
        monkeypatch.undo()
    assert asked[0] & termios.INPCK and asked[0] & termios.IGNPAR and not asked[0] & termios.PARMRK
    assert asked[2] & termios.PARENB and bool(asked[2] & termios.PARODD) is odd
    assert line.parity == "enforced"


async def test_a_bus_on_a_pty_is_marked_unverified() -> None:
    async with RealSite(SitePlan(buses=(BusPlan(name="b", meters=()),)), now_ms=wall_ms) as site:
        line = await open_line(BusEntry(name="b", port=site.ports["b"], serial=SerialSettings.parse("2400-8E1")))
        assert line.parity == "unverified"
        line.close()


EVERYTHING = Faults(
    ber=1e-4, loss=3e-4, insertion=3e-4, repeat=3e-4, glitch=0.1, truncate=0.02, silent=0.02,
    late=0.02, late_ms=(20.0, 200.0), foreign=0.05, tail=0.05, twice=0.03, other=0.05, preamble=0.1, pause=0.1,
    pause_ms=10.0, babble=0.02,
)  # fmt: skip
"""But for bursts, of which the sum of a DL/T 645 frame lets one in some hundred pass where parity is not checked."""
ITEMS = (("energy.active.import.total",), ("voltage.a", "current.a"), ("power.active.total",))


@pytest.mark.slow
async def test_with_everything_at_once_in_real_time_every_good_value_was_served(tmp_path: Path) -> None:
    serial = SerialSettings.parse("115200-8N1")
    groups = (
        MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=3),
        MeterGroup(profile="eastron-sdm630", address="1", count=3),
    )
    described = SitePlan(
        buses=(
            BusPlan(name="pty", serial=serial, meters=groups, faults=EVERYTHING),
            BusPlan(name="tcp", kind="tcp", serial=serial, meters=groups, faults=EVERYTHING),
        )
    )
    good: list[tuple[str, Value]] = []
    async with RealSite(described, now_ms=wall_ms) as real:
        site = real.site(uplink=UplinkEntry(url="mqtt://127.0.0.1:1883"), tasks=[], gateway="g", directory=tmp_path)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for entry in site.buses:
                meters = [meter for meter in site.meters if meter.bus == entry.name]
                group.create_task(_read(entry, meters, good), name=entry.name)
    served: dict[tuple[str, str], set[str]] = {}
    for reply in real.log.entries:
        for name, text in reply.values.items():
            served.setdefault((reply.meter, name), set()).add(text)
    assert len(good) > 60
    for meter_id, value in good:
        assert value.plain in served[meter_id, value.quantity.name], (meter_id, value)


async def _read(entry: BusEntry, meters: Sequence[MeterEntry], good: list[tuple[str, Value]]) -> None:
    """Read every meter of a bus a few times."""
    bus = Bus(entry, now_ms=wall_ms)
    left = 4 * len(ITEMS) * len(meters)

    def took(meter_id: str, outcome: Outcome) -> None:
        nonlocal left
        left -= 1
        good.extend((meter_id, value) for value in outcome.values or () if value.quality is Quality.GOOD)
        if not left:
            bus.stop()

    profiles = {one.id: replace(load_profile(one.profile), late_max_ms=300, turnaround_ms_max=150) for one in meters}
    asked = [Meter(one, profiles[one.id], entry) for one in meters]
    for n in range(left // len(asked)):
        for one in asked:
            read = plan(one.profile, one.entry, ITEMS[n % len(ITEMS)], one.settings)
            bus.submit(Job(meter=one, dialogue=read.dialogue, lane=Lane.CURVE, deadline=float("inf"),
                           done=partial(took, one.id)))  # fmt: skip
    await bus.run()
