"""Every meter on a bus is found: by abbreviated addresses where several answer at once, by units on Modbus."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.line import Line
from field.clock import wall_ms
from field.diagnosis.progress import Progress
from field.diagnosis.scan import Roll, Way, scan, show, units_of
from field.diagnosis.scanning import Seen, duration_s, step_s
from field.diagnosis.search import CHILDREN, SURE, Came, Found, search
from field.main import main
from field.output import Output
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import ANY_METER
from simulators import virtual
from simulators.dlt645 import Dlt645Meter
from simulators.endpoints import ModbusTcpEndpoint, PtyEndpoint, TcpEndpoint
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.noise import QUIET, Faults
from simulators.wire import MemoryLine, Wire
from tests.beside import serving
from tests.field.test_cli_words import HAN, prose
from tests.peers import peer
from tests.processes import free_port
from tests.sick import S2400, S9600, START_MS, RefusingDlt645, dlt645, modbus
from tests.told import PEERS

BUS = BusEntry(name="bus", port="/memory/bus", serial=S2400)


def searched(answer: Callable[[str], Came], questions_max: int = 5000) -> tuple[Found, list[str]]:
    """What a search finds, and what it asked."""
    asked: list[str] = []
    going = search(answer(ANY_METER), questions_max=questions_max)
    try:
        mask = next(going)
        while True:
            asked.append(mask)
            mask = going.send(answer(mask))
    except StopIteration as end:
        found: Found = end.value
        return found, asked


def crowd(addresses: Sequence[str]) -> Callable[[str], Came]:
    """Meters that answer at once: one is understood, several are noise."""

    def answer(mask: str) -> Came:
        mine = [address for address in addresses if address.endswith(mask.lstrip("A"))]
        return Came((mine[0],)) if len(mine) == 1 else Came(garbled=bool(mine))

    return answer


ADDRESSES = st.lists(
    st.one_of(
        st.integers(0, 10**12 - 2), st.integers(0, 300), st.integers(0, 99).map(lambda n: n * 10**10 + 123456)
    ).map(lambda number: f"{number:012d}"),
    unique=True,
    max_size=12,
)


@settings(max_examples=60)
@given(ADDRESSES)
def test_every_meter_of_a_crowd_is_found(addresses: list[str]) -> None:
    found, asked = searched(crowd(addresses))
    assert found == Found(tuple(sorted(addresses)), ())
    assert set(Counter(asked).values()) <= {1, SURE - 1, SURE}, "again only where several spoke"
    assert bool(asked) == (len(addresses) > 1)


def test_neighbours_are_told_apart_in_one_step() -> None:
    addresses = [f"2024111100{n:02d}" for n in range(1, 33)]
    found, asked = searched(crowd(addresses))
    assert found.addresses == tuple(addresses)
    assert len(asked) == SURE - 1 + CHILDREN


def test_two_that_answer_one_after_the_other_do_not_hide_a_third() -> None:
    addresses = ["000000000001", "000000000002", "000000000103"]

    def answer(mask: str) -> Came:
        mine = tuple(address for address in addresses if address.endswith(mask.lstrip("A")))
        return Came(mine[:2])

    assert searched(answer)[0].addresses == tuple(addresses)


def test_two_that_answer_one_after_the_other_are_all_there_is_if_each_is_found_again() -> None:
    addresses = ["000000000001", "000000000002"]
    for knowing in (True, False):

        def answer(mask: str, knowing: bool = knowing) -> Came:
            known = mask.lstrip("A")
            return Came(tuple(address for address in addresses if address.endswith(known) and (knowing or not known)))

        assert searched(answer)[0] == Found(tuple(addresses), () if knowing else (ANY_METER,))


def test_two_meters_with_one_address_are_doubtful() -> None:
    found, _ = searched(crowd(["000000000007", "000000000007", "000000000008"]))
    assert found == Found(("000000000008",), ("000000000007",))


def test_meters_that_know_no_abbreviated_address_are_doubtful() -> None:
    found, asked = searched(lambda mask: Came(garbled=mask == ANY_METER))
    assert found == Found((), (ANY_METER,))
    assert len(asked) == SURE - 1 + 2 * CHILDREN, "the silent ones are asked twice before that is said"


def test_an_answer_that_noise_took_is_asked_for_again() -> None:
    crowded, lost = crowd(["000000000011", "000000000012"]), {"A" * 10 + "11", "A" * 10 + "12"}

    def answer(mask: str) -> Came:
        if mask in lost:
            lost.remove(mask)
            return Came()
        return crowded(mask)

    assert searched(answer)[0] == Found(("000000000011", "000000000012"), ())


def test_a_search_has_an_end() -> None:
    """Three more behind each: as many as a whole bus of meters, which would be asked for days."""
    found, asked = searched(lambda mask: Came(garbled=mask.lstrip("A")[:2] in ("", "11", "22", "33")), 350)
    assert 350 <= len(asked) < 350 + SURE * CHILDREN, "the step in hand is finished"
    assert len(found.doubtful) > 3


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5, 1.0])
def test_noise_that_comes_and_goes_is_no_crowd(share: float) -> None:
    rng = Random(3)

    def answer(mask: str) -> Came:
        mine = crowded(mask)
        return Came(mine.addresses, garbled=mine.garbled or rng.random() < share)

    for meters in ([], ["000000000001"], ["000000000001", "000000000002", "000000000103"]):
        crowded = crowd(meters)
        found, asked = searched(answer)
        assert len(asked) < 20 * CHILDREN, "it was 5,000 questions"
        assert set(found.addresses) == set(meters) if share < 0.5 else set(found.addresses) <= set(meters)
        assert len(found.doubtful) <= 3, "it was some hundred"


def scanned(
    meters: Sequence[SimulatedMeter], *ways: Way, units: Sequence[int] = range(1, 248), faults: Faults = QUIET,
    timeout_s: float | None = None, bus: BusEntry = BUS, chatter_s: float = 0,
) -> tuple[list[Seen], list[str], float]:  # fmt: skip
    """What a scan in virtual time finds, what is doubtful, and how long it took. chatter_s: how often somebody says a
    byte, all the time."""

    async def chatter(wire: Wire) -> None:
        while True:
            await asyncio.sleep(chatter_s)
            if wire.deliver is not None:
                wire.deliver(b"U")

    async def run() -> tuple[list[Seen], list[str], float]:
        wire = Wire(meters, serial=ways[0][1], now_ms=virtual.now_ms, faults=faults, seed=2)
        talking = asyncio.get_running_loop().create_task(chatter(wire)) if chatter_s else None

        async def open_line(entry: BusEntry) -> Line:
            wire.apply(entry.serial)
            return MemoryLine(wire)

        progress = Progress(Output(as_json=True, lang="en"))
        roll = Roll()
        await scan(bus, ways, units, roll, turnaround_s=timeout_s, open_line=open_line, progress=progress)
        if talking is not None:
            talking.cancel()
        return roll.meters, [address for _, _, address in roll.doubtful], asyncio.get_running_loop().time()

    return virtual.run(run(), start_ms=START_MS)


DLT645: Way = ("dlt645-2007", S2400)
EDITION_1997: Way = ("dlt645-1997", S2400)
RTU: Way = ("modbus-rtu", S9600)


def test_one_meter_is_found_within_what_was_said() -> None:
    seen, doubtful, took_s = scanned([dlt645("202411110001")], DLT645)
    assert [(one.protocol, one.address, doubtful) for one in seen] == [("dlt645-2007", "202411110001", [])]
    assert seen[0].turnaround_ms is not None and 40 <= seen[0].turnaround_ms <= 60
    assert took_s <= duration_s(BUS, *DLT645, (), None)[0]


@pytest.mark.parametrize("pace", [(40.0, 40.0), (20.0, 480.0)])
def test_a_crowd_on_a_wire_is_found(pace: tuple[float, float]) -> None:
    rng = Random(7)
    addresses = sorted({f"{rng.randrange(10**12 - 1):012d}" for _ in range(6)} | {"202411110001", "202411110002"})
    meters = [dlt645(address, seed=n, turnaround_ms=pace) for n, address in enumerate(addresses)]
    seen, doubtful, _ = scanned(meters, DLT645)
    assert (sorted(one.address for one in seen), doubtful) == (addresses, [])


def test_meters_of_both_editions_and_of_modbus_share_a_pair() -> None:
    old = SimulatedMeter(id="old", meter=Dlt645Meter("000000000097", Load(9), edition=Edition.E1997), serial=S2400)
    meters = [old, *(dlt645(f"00000000000{n}", seed=n, serial=S2400) for n in (1, 2)), modbus(5, serial=S9600)]
    seen, doubtful, _ = scanned(meters, DLT645, EDITION_1997, RTU)
    assert doubtful == []
    assert [(one.protocol, one.address, str(one.serial)) for one in seen] == [
        ("dlt645-2007", "000000000001", "2400-8E1"),
        ("dlt645-2007", "000000000002", "2400-8E1"),
        ("dlt645-1997", "000000000097", "2400-8E1"),
        ("modbus-rtu", "5", "9600-8N1"),
    ]


@pytest.mark.parametrize("pace", [480.0, 700.0, 1100.0, 1600.0, 1800.0, 2000.0])
@pytest.mark.parametrize("order", [(DLT645, EDITION_1997), (EDITION_1997, DLT645)])
def test_a_late_answer_is_not_taken_for_one_of_the_other_edition(pace: float, order: tuple[Way, Way]) -> None:
    seen, doubtful, took_s = scanned([dlt645("202411110001", turnaround_ms=(pace, pace))], *order)
    assert [(one.protocol, one.turnaround_ms is None) for one in seen] == [("dlt645-2007", pace > 500)]
    assert doubtful == [] and took_s < 10, "it was a search of 223 s"


@pytest.mark.parametrize("order", [(DLT645, EDITION_1997), (EDITION_1997, DLT645)])
@pytest.mark.parametrize(
    ("edition", "knows"),
    [(Edition.E1997, (0x01,)), (Edition.E2007, (0x11, 0x13)), (Edition.E2007, (0x11,)), (Edition.E2007, (0x13,))],
)
def test_a_refusal_without_a_reason_does_not_tell_the_edition(
    order: tuple[Way, Way], edition: Edition, knows: tuple[int, ...]
) -> None:
    meter = dlt645("202411110001", kind=RefusingDlt645, knows=knows, edition=edition)
    seen, doubtful, _ = scanned([meter], *order)
    assert ([(one.protocol, one.address) for one in seen], doubtful) == ([(edition.value, "202411110001")], [])


@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_both_editions_is_found(seed: int) -> None:
    rng = Random(seed)
    kinds: list[tuple[Edition, dict[str, Any]]] = [
        (Edition.E2007, {}), (Edition.E1997, {}), (Edition.E1997, {"kind": RefusingDlt645, "knows": (0x01,)}),
        (Edition.E2007, {"kind": RefusingDlt645, "knows": (0x11,)}),
    ]  # fmt: skip
    meters, told = [], {}
    for number in rng.sample(range(100), rng.randrange(2, 6)):
        address = f"{rng.choice(['2024111100', '0000000000'])}{number:02d}"
        (edition, options), pace = rng.choice(kinds), rng.choice([(20.0, 40.0), (300.0, 480.0)])
        meters.append(dlt645(address, seed=number, edition=edition, turnaround_ms=pace, **options))
        told[address] = edition.value
    ways = (DLT645, EDITION_1997)
    seen, doubtful, _ = scanned(meters, *(ways if seed % 2 else ways[::-1]))
    assert ({one.address: one.protocol for one in seen}, doubtful) == (told, [])


def test_a_meter_that_refuses_everything_is_there() -> None:
    seen, _, _ = scanned([dlt645("202411110001", kind=RefusingDlt645)], DLT645, EDITION_1997)
    assert [(one.protocol, one.sure) for one in seen] == [("dlt645-2007", False)]


@pytest.mark.parametrize("protocol", ["modbus-rtu", "modbus-ascii"])
def test_units_are_found_also_slow_ones_and_such_as_refuse(protocol: ProtocolName) -> None:
    paces = {1: 20.0, 17: 5.0, 18: 700.0, 40: 1500.0, 247: 1900.0}
    meters = [modbus(unit, seed=unit, turnaround_ms=(pace, pace)) for unit, pace in paces.items()]
    seen, doubtful, took_s = scanned(meters, (protocol, S9600))
    assert ([int(one.address) for one in seen], doubtful) == (list(paces), [])
    assert [one.turnaround_ms is None for one in seen] == [pace > 400 for pace in paces.values()]
    usual_s, most_s = duration_s(BUS, protocol, S9600, range(1, 248), None)
    assert usual_s <= took_s < min(most_s, 1.1 * usual_s)


NOISE = Faults(ber=2e-3, glitch=0.3, tail=0.3, babble=0.3, pause=0.5, pause_ms=40.0)


@pytest.mark.parametrize("protocol", ["modbus-rtu", "modbus-ascii"])
@pytest.mark.parametrize(("faults", "chatter_s"), [(QUIET, 0), (NOISE, 0), (QUIET, 0.02)])
def test_what_is_said_of_the_time_holds_for_a_full_bus_with_noise(
    protocol: ProtocolName, faults: Faults, chatter_s: float
) -> None:
    meters = [modbus(unit, seed=unit, turnaround_ms=(250.0, 290.0)) for unit in range(1, 33)]
    usual_s, most_s = duration_s(BUS, protocol, S9600, range(1, 33), None)
    *_, took_s = scanned(meters, (protocol, S9600), units=range(1, 33), faults=faults, chatter_s=chatter_s)
    assert usual_s < took_s < most_s
    assert took_s > 1.3 * usual_s, "or it would not matter"


@pytest.mark.parametrize(("faults", "chatter_s"), [(NOISE, 0), (QUIET, 0.02)])
def test_what_is_said_of_a_byte_holds_where_meters_cannot_be_told_apart(faults: Faults, chatter_s: float) -> None:
    """Two bytes, with this noise."""
    meters = [dlt645("000000000001"), dlt645("000000000002"), dlt645("000000000102")]
    _, most_s = step_s(BUS, *DLT645, None)
    *_, took_s = scanned(meters, DLT645, faults=faults, chatter_s=chatter_s)
    assert took_s < duration_s(BUS, *DLT645, (), None)[1] + 2 * most_s


def test_two_meters_with_one_unit_are_doubtful() -> None:
    for pace, found in ((22.0, ["4"]), (60.0, ["3", "4"])):
        meters = [modbus(3, turnaround_ms=(20.0, 20.0)), modbus(3, turnaround_ms=(pace, pace)), modbus(4)]
        seen, doubtful, _ = scanned(meters, RTU, units=range(1, 9))
        assert ([one.address for one in seen], doubtful) == (found, ["3"])


def test_nobody_is_found_where_nobody_is_however_noisy_the_questions() -> None:
    assert scanned([], DLT645, EDITION_1997, RTU)[:2] == ([], [])
    echo = scanned([], DLT645, EDITION_1997, RTU, units=range(1, 20), faults=Faults(echo=True))
    assert echo[:2] == ([], []), "an echo is no answer"


def test_a_scan_that_is_interrupted_tells_who_has_answered_by_then() -> None:
    roll = Roll()

    async def run() -> None:
        wire = Wire([modbus(3), modbus(200)], serial=S9600, now_ms=virtual.now_ms)

        async def open_line(entry: BusEntry) -> Line:
            return MemoryLine(wire)

        progress = Progress(Output(as_json=True, lang="en"))
        await asyncio.wait_for(scan(BUS, [RTU], range(1, 248), roll, open_line=open_line, progress=progress), 20)

    with pytest.raises(TimeoutError):
        virtual.run(run(), start_ms=START_MS)
    assert [one.address for one in roll.meters] == ["3"]


def test_units_are_told_from_what_is_none() -> None:
    assert units_of("1-3,9,2") == (1, 2, 3, 9)
    for wrong in ("", "a", "1-", "3-1", "256", "-1", "1;2"):
        with pytest.raises(ValueError):
            units_of(wrong)


FAST = SerialSettings.parse("115200-8N1")


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["scan", *arguments], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.real
def test_a_scan_over_a_tty_and_a_serial_server_tells_people_and_machines() -> None:
    meters = [dlt645("202411110001", turnaround_ms=(2, 3)), modbus(3, turnaround_ms=(2, 3))]
    wire = Wire(meters, serial=FAST, now_ms=wall_ms, match="none")
    options = ["--serial", str(FAST), "--range", "1-5", "--timeout", "0.05"]
    with serving(PtyEndpoint(wire)) as port:
        result = command("--port", port, *options, "--json")
    assert result.exit_code == 0, result.stdout
    assert '"address": "202411110001"' in result.stdout and '"protocol": "modbus-rtu"' in result.stdout
    other = Wire(meters, serial=FAST, now_ms=wall_ms, match="none")
    with serving(TcpEndpoint(other)) as port:
        chinese = command("--port", port, *options, "--lang", "zh")
    assert chinese.exit_code == 0
    assert "202411110001" in chinese.stdout and HAN.search(chinese.stderr) and not prose(chinese.output)


@pytest.mark.slow
@pytest.mark.real
def test_modbus_tcp_is_scanned_past_its_gateway() -> None:
    with serving(ModbusTcpEndpoint([modbus(2), modbus(4)], now_ms=wall_ms)) as port:
        result = command("--port", port, "--protocol", "modbus-tcp", "--range", "1-5", "--json")
    assert result.exit_code == 0
    assert [line.split('"address": ')[1][:3] for line in result.stdout.splitlines()] == ['"2"', '"4"']


@pytest.mark.slow
@pytest.mark.real
def test_independent_meters_are_found() -> None:
    tcp = ["--protocol", "modbus-tcp", "--range", "1-20", "--timeout", "0.1"]
    for name, options in (("dlt645-tcp", ["--protocol", "dlt645-2007"]), ("modbus-tcp", tcp)):
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        with peer(name, endpoint):
            result = command("--port", endpoint, *options, "--json")
        assert result.exit_code == 0, result.output
        for told in PEERS[name]:
            assert f'"address": "{told.address}"' in result.stdout


@pytest.mark.parametrize(("lang", "words"), [("en", "two meters answer to"), ("zh", "有两块表应答")])
def test_a_bus_that_is_never_quiet_is_told_once_and_not_for_each_address(
    lang: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, sentences in ((1, 1), (8, 8), (9, 1), (91, 1)):
        show(Output(as_json=False, lang=lang), Roll(doubtful=[(*RTU, str(unit)) for unit in range(1, count + 1)]))
        told = capsys.readouterr().err.splitlines()
        assert len(told) == sentences
        assert (words in told[0]) is (count <= 8) and ("91" in told[0]) is (count == 91)
        show(Output(as_json=True, lang=lang), Roll(doubtful=[(*RTU, str(unit)) for unit in range(1, count + 1)]))
        assert len(capsys.readouterr().out.splitlines()) == count, "machines are told all"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--port", "/dev/ttyNONE"], 3, "no such device"),
        (["--port", "/dev/x", "--range", "1-999"], 2, "1-32"),
        (["--port", "/dev/x", "--serial", "fast"], 2, "2400-8E1"),
        (["--port", "/dev/x", "--protocol", "modbus-tcp"], 2, "tcp://host:port"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], code: int, said: str) -> None:
    result = command(*arguments, "--lang", "en")
    assert (result.exit_code, said in result.stderr) == (code, True)
    assert not prose(command(*arguments, "--lang", "zh").stderr)
