"""How to talk to a meter is found out, and what it is; what is printed is what a site file takes."""

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result

from config.load import load_site
from config.model import BusEntry, SerialSettings
from drivers.line import Line
from drivers.profile import load_profile
from field.clock import wall_ms
from field.diagnosis.fitting import (
    FINALISTS,
    Answers,
    Fit,
    Place,
    all_places,
    best,
    candidates,
    contradictions,
    fit,
    judge,
    place_of,
    telling_places,
)
from field.diagnosis.probe import meters_csv, site_toml
from field.diagnosis.probing import Probed, Way, duration_s, model_s, probe, ways
from field.diagnosis.settings import usual
from field.main import main
from protocols.dlt645.codes import Edition
from protocols.modbus.frame import Frame, read_request
from simulators import virtual
from simulators.dlt645 import Dlt645Meter
from simulators.endpoints import ModbusTcpEndpoint, PtyEndpoint
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import QUIET, Faults
from simulators.wire import MemoryLine, Wire
from tests.beside import serving
from tests.field.test_cli_words import HAN, prose
from tests.peers import peer
from tests.processes import free_port
from tests.sick import S2400, S9600, START_MS, RefusingDlt645, dlt645, modbus
from tests.told import PEERS

PORT = "/memory/bus"


def probed(
    meters: Sequence[SimulatedMeter], address: str, tries: Sequence[Way] = (), faults: Faults = QUIET
) -> tuple[Probed | None, list[str]]:
    """What a probe in virtual time finds, and what it tried."""
    found, tried, _ = timed(meters, address, tries, faults)
    return found, tried


def timed(
    meters: Sequence[SimulatedMeter], address: str, tries: Sequence[Way] = (), faults: Faults = QUIET
) -> tuple[Probed | None, list[str], float]:
    """And how long it took, in seconds."""
    tried: list[str] = []

    async def run() -> tuple[Probed | None, float]:
        first = (tries or ways(PORT, address, (), ()))[0][1]
        wire = Wire(meters, serial=first, now_ms=virtual.now_ms, faults=faults, seed=3)

        async def open_line(entry: BusEntry) -> Line:
            return MemoryLine(wire)

        bus = BusEntry(name="bus", port=PORT, serial=first)
        found = await probe(
            bus, address, tries or ways(PORT, address, (), ()), open_line=open_line, progress=tried.append
        )
        return found, asyncio.get_running_loop().time()

    found, took_s = virtual.run(run(), start_ms=START_MS)
    return found, list(dict.fromkeys(text.partition("  ")[0] for text in tried)), took_s


@pytest.mark.parametrize("serial", [str(one) for one in usual("dlt645-2007")])
@pytest.mark.parametrize("edition", Edition)
def test_a_dlt645_meter_is_found_with_each_usual_setting(serial: str, edition: Edition) -> None:
    meter = Dlt645Meter("202411110002", Load(1, phases=1), edition=edition)
    set_so = SimulatedMeter(id="m", meter=meter, serial=SerialSettings.parse(serial), turnaround_ms=(450.0, 480.0))
    found, tried = probed([set_so], "202411110002")
    assert found is not None
    assert (found.protocol, str(found.serial)) == (edition.value, serial)
    assert found.profile == ("dlt645-1997" if edition is Edition.E1997 else "dlt645-2007-1p")
    assert tried[-1] == f"{edition.value} {serial}"
    if edition is Edition.E2007:
        assert found.identity["model"] == "SIM-3" and found.identity["number"] == "202411110002"


@pytest.mark.parametrize(("edition", "reads"), [(Edition.E2007, 0x11), (Edition.E1997, 0x01)])
def test_a_refusal_without_a_reason_does_not_tell_the_edition(edition: Edition, reads: int) -> None:
    editions: list[Way] = [("dlt645-2007", S2400), ("dlt645-1997", S2400)]
    for order in (editions, editions[::-1]):
        meter = dlt645("202411110002", kind=RefusingDlt645, knows=(reads,), edition=edition)
        found, _ = probed([meter], "202411110002", order)
        assert found is not None and found.protocol == edition.value


def test_a_meter_that_refuses_everything_is_found_as_what_was_asked_first() -> None:
    found, tried = probed([dlt645("202411110002", kind=RefusingDlt645)], "202411110002")
    assert found is not None and found.protocol == "dlt645-2007"
    assert tried == ["dlt645-2007 2400-8E1", "dlt645-1997 2400-8E1"], "no other settings"


def test_a_slow_meter_is_not_taken_for_one_of_the_other_edition() -> None:
    for pace, spoken in ((480, "dlt645-2007"), (700, "dlt645-2007"), (950, "dlt645-2007"), (1200, None), (1700, None)):
        found, _ = probed([dlt645("202411110002", turnaround_ms=(pace, pace))], "202411110002")
        assert (found and found.protocol) == spoken, pace


def test_a_meter_of_three_phases_is_told_from_one_of_one() -> None:
    found, _ = probed([dlt645("202411110002")], "202411110002")
    assert found is not None and found.profile == "dlt645-2007-3p"


@pytest.mark.parametrize("serial", [str(one) for one in usual("modbus-rtu")])
def test_a_modbus_meter_is_found_with_each_usual_setting(serial: str) -> None:
    found, _ = probed([modbus(9, serial=SerialSettings.parse(serial))], "9")
    assert found is not None
    assert (found.protocol, str(found.serial), found.profile) == ("modbus-rtu", serial, "eastron-sdm630")
    assert found.turnaround_ms is not None and found.turnaround_ms >= 19


def test_nobody_is_found_within_what_was_said() -> None:
    for address in ("202411110002", "9"):
        tries = ways(PORT, address, (), ())
        assert probed([], address) == (None, [f"{protocol} {settings}" for protocol, settings in tries])
        assert duration_s(tries) < 60


def test_a_model_is_told_in_about_the_time_that_was_said() -> None:
    tries = ways(PORT, "7", ("modbus-rtu",), (S9600,))
    for pace_ms in (20.0, 50.0, 80.0):
        found, _, took_s = timed([modbus(7, turnaround_ms=(pace_ms, pace_ms))], "7", tries)
        assert found is not None and found.profile == "eastron-sdm630"
        assert 0.4 * model_s(tries) < took_s < 1.5 * (duration_s(tries) + model_s(tries))
    assert model_s(ways(PORT, "202411110002", (), ())) == 0, "DL/T 645 meters say what they are"


def test_noise_does_not_hide_a_meter() -> None:
    found, _ = probed([dlt645("202411110002")], "202411110002", faults=Faults(ber=5e-4))
    assert found is not None and str(found.serial) == "2400-8E1"


def test_another_meter_is_not_taken_for_it() -> None:
    assert probed([dlt645("202411110003"), modbus(8)], "202411110002")[0] is None
    assert probed([dlt645("202411110003"), modbus(8)], "9")[0] is None


MODELS = candidates("modbus-rtu")


def asked(meter: ModbusMeter, places: Sequence[Place]) -> dict[Place, bytes | None]:
    answers: dict[Place, bytes | None] = {}
    for place in places:
        data = meter.handle(read_request(1, *place), START_MS)
        assert data is not None
        answers[place] = None if data[1] & 0x80 else data[3:-2]
    return answers


def fitted(meter: ModbusMeter, identity: str = "") -> list[Fit]:
    answers: Answers = asked(meter, telling_places(MODELS))
    finalists = best(fit(one, answers, identity) for one in MODELS)[:FINALISTS]
    chosen = [load_profile(one.profile) for one in finalists]
    answers = {**answers, **asked(meter, [place for one in chosen for place in all_places(one)])}
    return best(fit(one, answers, identity) for one in chosen)


@pytest.mark.parametrize("holes", ["zero", "refuse"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_is_told_by_its_registers(model: Any, holes: Any) -> None:
    phases = 3 if "voltage.b" in model.items else 1
    first, *others = fitted(ModbusMeter(1, model, Load(5, phases=phases), holes=holes))
    assert first.sure
    mine = {name: place_of(one.register) for name, one in model.items.items() if one.register}
    alike = [first.profile, *(one.profile for one in others if one.rank == first.rank)]
    assert model.name in alike
    for name in alike:  # what cannot be told apart has the same registers
        theirs = load_profile(name).items
        assert {quantity: place_of(one.register) for quantity, one in theirs.items() if one.register} == mine


def test_the_maker_decides_between_models_with_the_same_registers() -> None:
    meter = ModbusMeter(1, load_profile("eastron-sdm220"), Load(5, phases=1))
    assert {one.profile for one in fitted(meter)[:3]} >= {"eastron-sdm120", "eastron-sdm220"}
    assert fitted(meter, "Eastron")[0].named and not fitted(meter, "Acme")[0].named


@pytest.mark.parametrize("seed", range(20))
def test_registers_of_something_else_fit_no_model(seed: int) -> None:
    rng = Random(seed)
    places = sorted({place for model in MODELS for place in all_places(model)})
    junk: Answers = {place: rng.randbytes(2 * place[2]) for place in places}
    counted: Answers = {
        (f, at, n): b"".join((at + seed + k).to_bytes(2, "big") for k in range(n)) for f, at, n in places
    }
    for answers in (junk, counted):
        assert [one.profile for one in best(fit(model, answers) for model in MODELS) if one.sure] == []


def test_empty_registers_fit_no_model() -> None:
    nothing: Answers = {place: bytes(2 * place[2]) for place in telling_places(MODELS)}
    assert not [one for one in best(fit(model, nothing) for model in MODELS) if one.sure]


def test_what_a_register_holds_is_judged_by_what_it_should() -> None:
    volts = load_profile("eastron-sdm630").items["voltage.a"].register
    assert volts is not None
    decode = volts.format.decoder()
    for hexed, verdict in (("43664000", "right"), ("00000000", "zero"), ("00000001", "wrong"), ("4b000000", "wrong")):
        assert judge("voltage.a", decode(bytes.fromhex(hexed))) == verdict
    for name, number, verdict in (
        ("frequency", "50.02", "right"), ("frequency", "500", "wrong"), ("power_factor.total", "-0.98", "right"),
        ("power_factor.total", "98", "wrong"), ("energy.active.import.total", "-1", "wrong"),
        ("voltage.ab", "400", "right"),
    ):  # fmt: skip
        assert judge(name, Decimal(number)) == verdict


def test_a_power_that_its_current_cannot_bring_is_a_contradiction() -> None:
    values = {"voltage.a": Decimal(230), "current.a": Decimal("0.5"), "power.active.a": Decimal("0.1")}
    assert contradictions(values) == []
    assert contradictions({**values, "power.active.a": Decimal("3.2")}) == ["power.active.a"]


def test_what_is_printed_is_what_a_site_file_takes(tmp_path: Path) -> None:
    site = (
        '[gateway]\nid = "gw-1"\n[uplink]\nurl = "mqtt://127.0.0.1:1"\n'
        '[[task]]\nname = "curve"\nevery = "15m"\nitems = ["voltage.a"]\n'
    )
    for meter, address in ((dlt645("202411110002"), "202411110002"), (modbus(9), "9")):
        found, _ = probed([meter], address)
        assert found is not None
        (tmp_path / "site.toml").write_text(site + site_toml("/dev/ttyS1", found) + "\n")
        assert f'port = "{Path.cwd()}/ttyUSB0"' in site_toml("ttyUSB0", found), "that file may lie anywhere"
        (tmp_path / "meters.csv").write_text(meters_csv(found) + "\n")
        loaded = load_site(tmp_path / "site.toml")
        (entry,) = loaded.meters
        assert (entry.address, entry.profile, entry.protocol) == (address, found.profile, found.protocol)
        assert loaded.buses[0].serial == entry.serial == found.serial


def test_what_is_tried_over_a_network_is_little() -> None:
    assert [one for one, _ in ways("tcp://h:502", "1", (), ())] == ["modbus-tcp", "modbus-rtu", "modbus-ascii"]
    assert [one for one, _ in ways("tcp://h:4001", "1", (), ())] == ["modbus-rtu", "modbus-tcp", "modbus-ascii"]
    assert [one for one, _ in ways("tcp://h:4001", "202411110002", (), ())] == ["dlt645-2007", "dlt645-1997"]
    only = ways("/dev/x", "1", ("modbus-rtu",), (SerialSettings.parse("4800-8O1"),))
    assert [(one, str(settings)) for one, settings in only] == [("modbus-rtu", "4800-8O1")]


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["probe", *arguments], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.real
def test_a_meter_on_a_tty_is_found_at_its_own_speed() -> None:
    meter = dlt645("202411110002", turnaround_ms=(2, 3), serial=SerialSettings.parse("9600-8E1"))
    wire = Wire([meter], serial=SerialSettings.parse("2400-8E1"), now_ms=wall_ms, match="baud")
    with serving(PtyEndpoint(wire)) as port:
        options = ["--port", port, "--meter", "202411110002", "--serial", "2400-8E1", "--serial", "9600-8E1"]
        result = command(*options, "--json")
        chinese = command(*options, "--lang", "zh")
    assert (result.exit_code, chinese.exit_code) == (0, 0)
    found = json.loads(result.stdout)
    assert (found["serial"], found["profile"]) == ("9600-8E1", "dlt645-2007-3p")
    assert "m-202411110002,bus1,202411110002,dlt645-2007-3p,dlt645-2007,9600-8E1" in chinese.stdout
    assert HAN.search(chinese.stdout) and not prose(chinese.stderr)


@pytest.mark.slow
@pytest.mark.real
def test_modbus_tcp_is_probed_by_its_registers() -> None:
    model = load_profile("schneider-iem3155")
    meter = SimulatedMeter(id="m", meter=ModbusMeter(3, model, Load(1)), turnaround_ms=(0.0, 1.0))
    with serving(ModbusTcpEndpoint([meter], now_ms=wall_ms)) as port:
        result = command("--port", port, "--meter", "3", "--protocol", "modbus-tcp", "--json")
        nobody = command("--port", port, "--meter", "4", "--protocol", "modbus-tcp", "--lang", "en")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["profile"] == "schneider-iem3155" and 'port = "tcp://' in found["site_toml"]
    assert nobody.exit_code == 3 and "answered in none" in nobody.stderr


@pytest.mark.slow
@pytest.mark.real
def test_an_independent_meter_is_found_and_no_model_is_made_up() -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with peer("dlt645-tcp", endpoint):
        result = command("--port", endpoint, "--meter", PEERS["dlt645-tcp"][0].address, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["protocol"] == "dlt645-2007"

    class Odd(ModbusMeter):
        def answer(self, frame: Frame, now_ms: int) -> Any:
            return self._exception(frame, 2)

    odd = SimulatedMeter(id="o", meter=Odd(3, load_profile("eastron-sdm630"), Load(1)), turnaround_ms=(0.0, 0.0))
    with serving(ModbusTcpEndpoint([odd], now_ms=wall_ms)) as port:
        unknown = command("--port", port, "--meter", "3", "--protocol", "modbus-tcp", "--lang", "en")
    assert unknown.exit_code == 1
    assert "modbus-generic" in unknown.stdout and "no model" in unknown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--port", "/dev/ttyNONE", "--meter", "1"], 3, "no such device"),
        (["--port", "/dev/x", "--meter", "248"], 2, "1 to 247"),
        (["--port", "/dev/x", "--meter", "1", "--serial", "fast"], 2, "2400-8E1"),
        (["--port", "/dev/x", "--meter", "1", "--protocol", "dlt645-2007"], 2, "12 digits"),
        (["--port", "/dev/x", "--meter", "1", "--protocol", "modbus-tcp"], 2, "tcp://host:port"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], code: int, said: str) -> None:
    result = command(*arguments, "--lang", "en")
    assert (result.exit_code, said in result.stderr) == (code, True)
    assert not prose(command(*arguments, "--lang", "zh").stderr)
