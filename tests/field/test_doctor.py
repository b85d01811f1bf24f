"""A sick bus is never cleared, and a healthy one never blamed: each disease beside its control, in virtual time."""

import asyncio
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.line import Line
from drivers.profile import load_profile, profile_names
from field import diagnosis
from field.diagnosis.examination import Evidence, duration_s, examine
from field.diagnosis.findings import findings, standing
from field.diagnosis.questions import subject
from field.diagnosis.voices import voices
from protocols.capture import Value
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.modbus.frame import read_request
from protocols.quantity import by_name
from simulators import virtual
from simulators.answer import Answer
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import Faults
from simulators.wire import MemoryLine, Wire
from tests.sick import (
    S2400,
    S9600,
    START_MS,
    BehindDlt645,
    BehindModbus,
    RefusingDlt645,
    RefusingModbus,
    TurnDlt645,
    TurnModbus,
    Turns,
    Ward,
    checks,
    dlt645,
    modbus,
)


@dataclass(frozen=True, kw_only=True)
class Family:
    protocol: ProtocolName
    serial: SerialSettings
    build: Callable[..., SimulatedMeter]
    behind: type[Dlt645Meter | ModbusMeter]
    turn: Callable[..., Dlt645Meter | ModbusMeter]
    first: Any
    second: Any
    other_settings: SerialSettings

    def ward(self, *meters: SimulatedMeter, **options: Any) -> Ward:
        return Ward(meters, protocol=self.protocol, serial=self.serial, **options)

    @property
    def name(self) -> str:
        return str(self.first)


DLT645 = Family(
    protocol="dlt645-2007", serial=S2400, build=dlt645, behind=BehindDlt645, turn=TurnDlt645,
    first="000000000001", second="000000000002", other_settings=SerialSettings.parse("9600-8E1"),
)  # fmt: skip
RTU = Family(
    protocol="modbus-rtu", serial=S9600, build=modbus, behind=BehindModbus, turn=TurnModbus,
    first=1, second=2, other_settings=SerialSettings.parse("9600-8E1"),
)  # fmt: skip
ASCII = Family(
    protocol="modbus-ascii", serial=SerialSettings.parse("9600-7E1"), build=modbus, behind=BehindModbus,
    turn=TurnModbus, first=1, second=2, other_settings=SerialSettings.parse("9600-8N1"),
)  # fmt: skip
BOTH = pytest.mark.parametrize("family", [DLT645, RTU], ids=lambda family: family.protocol)


@BOTH
def test_a_healthy_bus_gives_no_finding(family: Family) -> None:
    meters = [family.build(family.first, seed=1), family.build(family.second, seed=2)]
    ward = family.ward(*meters)
    evidence = ward.examined()
    assert {one.severity for one in findings(evidence)} == {"ok"}
    assert {one.check for one in findings(evidence)} >= {"parity", "idle", "noise"}
    for one in evidence.subjects:
        how = standing(evidence, one)
        assert (how.asked, how.answered) == (16, 16)
        assert how.turnaround_ms is not None
        low, high = meters[0].turnaround_ms
        assert low - 1 <= how.turnaround_ms[0] <= how.turnaround_ms[1] <= how.turnaround_ms[2] <= high + 1


@pytest.mark.parametrize("family", [DLT645, RTU], ids=lambda family: family.protocol)
@pytest.mark.parametrize("seed", range(4))
def test_healthy_meters_of_every_pace_and_load_are_not_blamed(family: Family, seed: int) -> None:
    rng = Random(seed)
    pace = sorted(rng.uniform(0.0, 480.0) for _ in range(2))
    meters = [
        family.build(address, seed=rng.randrange(1000), turnaround_ms=(pace[0], pace[1]))
        for address in (family.first, family.second)
    ]
    ward = family.ward(*meters, pieces=rng.choice((0, 1, 3)), seed=seed)
    assert checks(ward.found()) == []


@pytest.mark.parametrize("profile", ["eastron-sdm120", "schneider-iem3155", "acrel-dtsd1352", "orno-we514"])
def test_a_healthy_meter_of_any_model_gives_no_finding(profile: str) -> None:
    model = load_profile(profile)
    meter = SimulatedMeter(id="m", meter=ModbusMeter(9, model, Load(3), holes="refuse"), turnaround_ms=(15.0, 20.0))
    assert checks(Ward([meter], protocol="modbus-rtu", serial=S9600, profile=profile).found()) == []


def test_a_meter_that_is_silent_to_what_it_lacks_is_not_blamed() -> None:
    class Shy(ModbusMeter):
        def answer(self, frame: ModbusFrame, now_ms: int) -> Answer | None:
            return super().answer(frame, now_ms) if frame.function == 4 else None

    ward = Ward([modbus(7, kind=Shy)], protocol="modbus-rtu", serial=S9600, profile="modbus-generic")
    assert checks(ward.found()) == []
    (mute,) = [one for one in findings(ward.examined()) if one.check == "mute"]
    assert mute.facts["items"] == "holding:0, holding:0:uint16:3"


def test_a_meter_of_1997_is_examined_alike() -> None:
    for kind, expected in ((Dlt645Meter, []), (BehindDlt645, [("one_behind", "bad", "000000000001")])):
        meter = kind("000000000001", Load(4), edition=Edition.E1997)
        ward = Ward([SimulatedMeter(id="m", meter=meter)], protocol="dlt645-1997", profile="dlt645-1997", serial=S2400)
        assert checks(ward.found()) == expected


def test_one_voice_is_told_from_two() -> None:
    def heard(*told: str | int) -> bool | None:
        name = by_name("energy.active.import.total") if isinstance(told[0], int) else by_name("meter.number")
        values = [
            Value(quantity=name, number=Decimal(one)) if isinstance(one, int) else Value(quantity=name, text=one)
            for one in told
        ]
        found = voices([(n * 1.0, value) for n, value in enumerate(values)], power_kw_max=Decimal(100))
        return None if found is None else found.by_turns

    assert heard(5, 5, 5) is None and heard("a", "a") is None
    assert heard(5, 9, 5) is True and heard(9, 5, 9, 5) is True and heard("a", "b", "a") is True
    assert heard(5, 5, 900, 900) is False and heard(900, 900, 5) is False and heard("a", "b") is False


def test_an_unknown_modbus_meter_is_examined_by_what_it_refuses() -> None:
    meter = modbus(7)
    evidence = Ward([meter], protocol="modbus-rtu", serial=S9600, profile="modbus-generic").examined()
    assert [(one.check, one.severity) for one in findings(evidence) if one.meter] == [("unprofiled", "ok")]
    sick = Ward([modbus(7, kind=BehindModbus)], protocol="modbus-rtu", serial=S9600, profile="modbus-generic")
    assert checks(sick.found()) == [("one_behind", "bad", "7")]


@BOTH
@pytest.mark.parametrize(("delay_ms", "severity"), [(1400.0, "warn"), (3000.0, "bad"), (9000.0, "bad")])
def test_late_answers_are_told_from_those_that_could_answer_another_question(
    family: Family, delay_ms: float, severity: str
) -> None:
    late = family.ward(family.build(family.first, turnaround_ms=(delay_ms, delay_ms + 20)))
    (finding,) = late.found(questions=6)
    assert (finding.check, finding.severity, finding.meter) == ("late", severity, family.name)
    assert delay_ms <= int(str(finding.facts["latest_ms"])) <= delay_ms + 25
    assert f"{finding.facts['latest_ms']} ms" in finding.text("en")


@BOTH
@pytest.mark.parametrize("seed", [4, 5, 6])
def test_an_answer_that_is_late_once_in_a_while_is_found(family: Family, seed: int) -> None:
    ward = family.ward(family.build(family.first), faults=Faults(late=0.2, late_ms=(3000, 5000)), seed=seed)
    found = ward.found(questions=32)
    assert ward.wire is not None and ward.wire.counts["late"] > 0
    assert ("late", "bad", family.name) in checks(found)


@pytest.mark.parametrize("family", [DLT645, RTU, ASCII], ids=lambda family: family.protocol)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "with another"])
def test_a_meter_that_is_one_question_behind_is_found_and_only_that(family: Family, beside: bool) -> None:
    meters = [family.build(family.first, kind=family.behind)]
    if beside:
        meters.append(family.build(family.second, seed=2))
    assert checks(family.ward(*meters).found()) == [("one_behind", "bad", family.name)]


@BOTH
@pytest.mark.parametrize("seeds", [(1, 2), (3, 8), (11, 5)])
def test_two_meters_that_answer_by_turns_are_found(family: Family, seeds: tuple[int, int]) -> None:
    turns = Turns()
    meters = [
        family.build(family.first, seed=seed, kind=lambda *a, n=n, **o: family.turn(turns, n, *a, **o))
        for n, seed in enumerate(seeds)
    ]
    (finding,) = family.ward(*meters).found()
    assert (finding.check, finding.severity) == ("duplicate", "bad")
    assert finding.facts["seen"] == "by turns"


@BOTH
def test_two_meters_that_answer_at_once_are_found_beside_a_clean_one(family: Family) -> None:
    meters = [family.build(address, seed=n) for n, address in enumerate((family.first, family.first, family.second))]
    (finding,) = family.ward(*meters).found()
    assert (finding.check, finding.meter, finding.facts["seen"]) == ("duplicate", family.name, "collisions")
    (alone,) = family.ward(*meters).found([family.name])
    assert alone.check == "garbled" and "two meters with this address" in alone.text("en")


@BOTH
def test_two_meters_of_different_pace_are_found_by_their_two_answers(family: Family) -> None:
    slow = family.build(family.first, seed=2, turnaround_ms=(300.0, 310.0))
    (finding,) = family.ward(family.build(family.first, seed=1), slow).found()
    assert (finding.check, finding.facts["seen"]) == ("duplicate", "two answers")


ON_THE_WIRE = {
    "echo": (Faults(echo=True), {("echo", "warn")}),
    "glitch": (Faults(glitch=0.5), {("glitch", "warn")}),
    "tail": (Faults(tail=0.5), {("stray", "warn")}),
    "twice": (Faults(twice=1.0), {("twice", "warn")}),
    "foreign": (Faults(foreign=0.5), {("foreign", "warn")}),
    "silent": (Faults(silent=0.3), {("lost", "bad")}),
}


@BOTH
@pytest.mark.parametrize("disease", ON_THE_WIRE)
def test_what_the_wire_does_is_found(family: Family, disease: str) -> None:
    faults, expected = ON_THE_WIRE[disease]
    ward = family.ward(family.build(family.first), faults=faults, seed=1)
    assert {(one.check, one.severity) for one in ward.found()} == expected


@BOTH
@pytest.mark.parametrize("rate", [3e-4, 1e-3])
def test_noise_is_found_and_its_rate_is_about_right(family: Family, rate: float) -> None:
    meters = [family.build(family.first), family.build(family.second, seed=2)]
    found = family.ward(*meters, faults=Faults(ber=rate), seed=3).found(questions=100)
    (noise,) = [one for one in found if one.check == "noise"]
    assert rate / 3 < float(str(noise.facts["bit_error_rate"])) < rate * 3
    assert not [one for one in found if one.check in ("duplicate", "one_behind", "jump", "late")]


@BOTH
def test_somebody_who_speaks_unasked_is_found(family: Family) -> None:
    def babble(wire: Wire) -> None:
        for n in range(4):
            wire.say(b"\x13\x55\xaa\x00", after_s=0.6 * n)

    def master(wire: Wire) -> None:
        question = (
            Dlt645Frame(address="000000000077", control=0x11, data=bytes(4)).encode()
            if family is DLT645
            else read_request(77, 3, 0, 2).encode()
        )
        wire.say(question, after_s=1.0)

    assert checks(family.ward(family.build(family.first)).found(beside=babble)) == [("babble", "bad", None)]
    (other,) = family.ward(family.build(family.first)).found(beside=master)
    assert other.check == "other_master"
    assert str(other.facts["addresses"]).endswith("77")


@BOTH
def test_a_meter_that_is_set_otherwise_is_found_with_its_settings(family: Family) -> None:
    ward = family.ward(family.build(family.first, serial=family.other_settings))
    (finding,) = ward.found()
    assert finding.facts["answers_at"] == str(family.other_settings)
    (absent,) = family.ward(family.build(family.first, turnaround_ms=(1, 1))).found([str(family.second)])
    assert absent.check == "silent"


def test_a_meter_of_1997_that_is_asked_as_one_of_2007_is_found_with_its_edition() -> None:
    meter = SimulatedMeter(id="m", meter=Dlt645Meter("000000000001", Load(4), edition=Edition.E1997))
    ward = Ward([meter], protocol="dlt645-2007", serial=S2400)
    (finding,) = ward.found()
    assert (finding.check, finding.severity, finding.facts["answers"]) == ("edition", "bad", "dlt645-1997")
    (absent,) = ward.found(["000000000009"])
    assert absent.check == "silent"


@pytest.mark.parametrize(
    ("edition", "knows", "asked_as", "told"),
    [
        (Edition.E1997, [0x01], "dlt645-2007", ["edition"]),
        (Edition.E2007, [0x11], "dlt645-1997", ["edition"]),
        (Edition.E1997, [0x01], "dlt645-1997", []),
        (Edition.E2007, [0x11], "dlt645-2007", []),
        (Edition.E2007, [], "dlt645-2007", ["refused"]),
    ],
)
def test_a_meter_that_refuses_everything_is_not_cleared(
    edition: Edition, knows: list[int], asked_as: ProtocolName, told: list[str]
) -> None:
    meter = dlt645("000000000001", kind=RefusingDlt645, knows=knows, edition=edition)
    other = dlt645("000000000002", seed=2, edition=Edition(asked_as))
    ward = Ward([meter, other], protocol=asked_as, profile="dlt645-1997" if "1997" in asked_as else "", serial=S2400)
    found = ward.found()
    assert [(one.check, one.severity, one.meter) for one in found] == [(check, "bad", "000000000001") for check in told]
    assert all(one.facts.get("answers", edition.value) in (edition.value, 16) for one in found)


def test_a_modbus_meter_of_another_model_is_told_to_refuse() -> None:
    other = modbus(1, kind=RefusingModbus)
    assert [one.check for one in RTU.ward(other).found()] == ["refused"]
    unknown = Ward([other], protocol="modbus-rtu", profile="modbus-generic", serial=S9600)
    assert unknown.found() == [], "that it refuses what it may lack is an answer"


@pytest.mark.parametrize("beside", [False, True])
def test_a_meter_that_answers_later_than_anybody_waits_is_not_told_to_be_set_otherwise(beside: bool) -> None:
    slow, quick = modbus(1, turnaround_ms=(12_000.0, 12_100.0)), modbus(2, seed=2)
    found = RTU.ward(slow, *([quick] if beside else [])).found(["1", *(["2"] if beside else [])])
    mine = [one for one in found if one.meter == "1"]
    assert [(one.check, one.severity) for one in mine] == [("late" if beside else "one_behind", "bad")]
    others = [one for one in found if one.meter == "2"]
    assert [(one.check, one.facts["addresses"]) for one in others] == ([("foreign", "1")] if beside else [])


@BOTH
def test_a_silent_meter_among_live_ones_is_told_from_a_dead_bus(family: Family) -> None:
    ward = family.ward(family.build(family.first))
    (finding,) = ward.found([family.name, str(family.second)])
    assert "others on this bus answer" in finding.text("en")
    (dead,) = family.ward(family.build(family.first)).found([str(family.second)])
    assert "nobody answers" in dead.text("en")


def test_who_interrupts_an_examination_sees_what_it_has_found_by_then() -> None:
    ward = DLT645.ward(dlt645(kind=BehindDlt645), dlt645("000000000002", seed=2))
    seen: list[Evidence] = []

    async def main() -> None:
        wire = Wire(ward._meters, serial=S2400, now_ms=virtual.now_ms)

        async def open_line(_: BusEntry) -> Line:
            return MemoryLine(wire)

        subjects = ward.subjects(["000000000001", "000000000002", "000000000003"])
        examining = examine(
            ward.bus, subjects, questions=1000, listen_s=3.0, open_line=open_line, interrupted=seen.append
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(examining, 300.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                examine(ward.bus, subjects, questions=16, listen_s=60.0, open_line=open_line, interrupted=seen.append),
                10.0,
            )

    virtual.run(main(), start_ms=START_MS)
    (evidence,) = seen
    assert ("one_behind", "bad", "000000000001") in checks(findings(evidence))
    assert all(standing(evidence, one).asked > 0 for one in evidence.subjects), "nobody is blamed who was not asked"


def test_parity_that_nobody_checks_is_worth_a_word() -> None:
    assert checks(DLT645.ward(dlt645(), check_parity=False).found()) == [("parity", "warn", None)]


def test_parity_is_told_of_every_setting_that_meters_were_asked_with() -> None:
    own = SerialSettings.parse("9600-8N1")
    ward = DLT645.ward(dlt645(), dlt645("000000000002", seed=2, serial=own), check_parity=False)
    first, second = ward.subjects()
    other = subject(replace(second.meter.entry, serial=own), ward.bus)
    found = [one for one in findings(ward.examined(among=[first, other])) if one.check == "parity"]
    assert [(one.words, one.facts["serial"]) for one in found] == [
        ("parity.unverified", "2400-8E1"), ("parity.none", "9600-8N1")
    ]  # fmt: skip


def test_an_examination_takes_no_longer_than_was_said() -> None:
    for meters in ([dlt645()], [dlt645(turnaround_ms=(12_000.0, 12_000.0))], []):
        ward = DLT645.ward(*meters)
        addresses = ["000000000001", "000000000002"]
        ward.examined(addresses)
        usual_s, most_s = duration_s(ward.subjects(addresses), questions=16, listen_s=3.0)
        assert usual_s < most_s
        assert ward.took_s <= most_s


def test_every_model_has_three_questions_that_cannot_be_taken_for_each_other() -> None:
    for name in profile_names():
        profile = load_profile(name)
        for protocol in profile.protocols:
            address = "000000000001" if profile.family == "dlt645" else "1"
            ward = Ward([], protocol=protocol, serial=S9600, profile=name)
            (one,) = ward.subjects([address])
            asks = [question.ask() for question in one.questions]
            assert len({ask.data for ask in asks}) == 3
            if profile.family == "modbus" and one.questions[0].steady:
                assert len({ask.reply_max for ask in asks}) == 3, name


def test_each_finding_is_said_in_both_languages() -> None:
    words = tomllib.loads((Path(diagnosis.__file__).parent / "findings.toml").read_text(encoding="utf-8"))
    for key, texts in words.items():
        assert set(texts) == {"en", "zh"}, key
        assert all(ord(c) < 128 for c in texts["en"]), key
        assert any("一" <= c <= "鿿" for c in texts["zh"]), key
