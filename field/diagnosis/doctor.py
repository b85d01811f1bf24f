"""`meterwire doctor`: what is wrong with a bus, in plain words."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from config.load import load_site
from config.mistake import ConfigError, Mistake
from config.model import BusEntry, ProtocolName
from drivers.line import PortLost
from drivers.profile import load_profile
from field import output
from field import port as ports
from field.config import site_option
from field.diagnosis.examination import Evidence, duration_s, examine
from field.diagnosis.findings import Finding, Standing, findings, standing
from field.diagnosis.progress import Progress
from field.diagnosis.questions import Subject, subject
from field.diagnosis.scan import UNITS, Roll, scan, ways
from field.output import Exit, Output

_SEVERITY = {"ok": ("ok  ", "正常"), "warn": ("WARN", "注意"), "bad": ("BAD ", "故障")}


def subjects_of_options(
    port: str, serial: str | None, protocol: ProtocolName | None, addresses: Sequence[str], profile: str | None
) -> tuple[BusEntry, list[Subject]]:
    """The bus and its meters as options name them, each by its address where no protocol is named. Raises
    ConfigError."""
    spoken = [protocol or ports.guessed([address], profile) for address in addresses]
    if len(set(spoken)) < 2:
        one = spoken[0] if spoken else protocol or ports.guessed([], profile)
        bus, meters = ports.chosen(port, serial, one, addresses, profile)
        return bus, [subject(meter, bus) for meter in meters]
    found = [
        (bus, ports.meter_of(bus, each, address, serial=bus.serial))
        for each, address in dict.fromkeys(zip(spoken, addresses, strict=True))
        for bus, _ in [ports.chosen(port, serial, each, [address], None)]
    ]
    return found[0][0], [subject(meter, bus) for bus, meter in found]


async def subjects_of_scan(
    bus: BusEntry, protocol: ProtocolName | None, serial: str | None, profile: str | None, progress: Progress
) -> list[Subject]:
    """Whoever a scan finds on the bus, those included that share an address. Raises PortLost."""
    chosen = ways(bus.port, [protocol] if protocol else [], [serial] if serial else [])
    roll = Roll()
    await scan(bus, chosen, range(UNITS[0], UNITS[1] + 1), roll, progress=progress)
    found = [(one.protocol, one.serial, one.address) for one in roll.meters]
    found += [one for one in roll.doubtful if "A" not in one[2]]
    speaks = load_profile(profile).protocols if profile else ()
    return [
        subject(ports.meter_of(bus, spoken, address, profile if spoken in speaks else None, settings), bus)
        for spoken, settings, address in dict.fromkeys(found)
    ]


def subjects_of_site(file: Path, name: str, chosen: Sequence[str]) -> tuple[BusEntry, list[Subject], Path]:
    """A bus of a site file with its meters, or those of them that are chosen by address or id; and the gateway's
    socket. Raises ConfigError."""
    site = load_site(file)
    bus = next((bus for bus in site.buses if bus.name == name), None)
    if bus is None:
        names = ", ".join(bus.name for bus in site.buses)
        raise ConfigError([Mistake("options", "--bus", f"one of {names}", name)])
    meters = [one for one in site.meters if one.bus == name]
    if chosen:
        known = {key for one in meters for key in (one.address, one.id)}
        wrong = [one for one in chosen if one not in known]
        if wrong:
            expected = f"meters of bus {name}, by id or address"
            raise ConfigError([Mistake("options", "--meter", expected, ", ".join(wrong))])
        meters = [one for one in meters if one.id in chosen or one.address in chosen]
    return bus, [subject(one, bus) for one in meters], site.socket


def show(out: Output, evidence: Evidence, found: Sequence[Finding], standings: Sequence[Standing]) -> None:
    """A table of the meters and the findings, or an object for each."""
    for how in standings:
        out.object(_standing_object(how))
    for one in found:
        out.object({
            "kind": "finding", "check": one.check, "severity": one.severity, "meter": one.meter, "text": one.text("en"),
            "facts": dict(one.facts),
        })  # fmt: skip
    if out.as_json:
        return
    counts = (("asked", "请求"), ("answered", "应答"), ("silent", "无应答"), ("damaged", "损坏"), ("wrong", "答非所问"))
    delay = ("turnaround ms, min/median/max", "应答延时 ms，最小/中位/最大")
    table = out.table(("meter", "电能表"), *counts, delay, right=(*(en for en, _ in counts), delay[0]))
    for how in standings:
        spread = how.turnaround_ms
        delays = " / ".join(f"{delay:.0f}" for delay in spread) if spread else "-"
        table.add_row(how.meter, *map(str, (how.asked, how.answered, how.silent, how.damaged, how.wrong)), delays)
    out.show(table)
    out.line("", "")
    for one in found:
        meter = out.say(f"meter {one.meter}: ", f"电能表 {one.meter}：") if one.meter else ""
        out.line(
            f"{_SEVERITY[one.severity][0]} {meter}{one.text('en')}",
            f"{_SEVERITY[one.severity][1]} {meter}{one.text('zh')}",
        )
    if all(one.severity == "ok" for one in found):
        out.line("nothing wrong was found", "未发现问题")


def _standing_object(how: Standing) -> dict[str, object]:
    spread = how.turnaround_ms
    return {
        "kind": "meter", "meter": how.meter, "asked": how.asked, "answered": how.answered, "silent": how.silent,
        "damaged": how.damaged, "wrong": how.wrong,
        "turnaround_ms": [round(delay, 1) for delay in spread] if spread else None,
    }  # fmt: skip


def verdict(found: Sequence[Finding], standings: Sequence[Standing]) -> Exit:
    """Nothing when no whole frame came from anybody, part when anything is worth a word."""
    if not any(how.answered or how.wrong for how in standings):
        return Exit.NOTHING
    return Exit.GOOD if all(one.severity == "ok" for one in found) else Exit.PART


@output.command("doctor")
@ports.port_option(required=False)
@click.option(
    "--protocol", type=click.Choice(ports.PROTOCOLS), help="Default: DL/T 645-2007 for 12 digits, else Modbus RTU."
)
@ports.serial_option()
@click.option(
    "--meter",
    "addresses",
    multiple=True,
    help="A meter to examine; may be given several times. Default: whoever scan finds.",
)
@ports.profile_option("The model of these meters (docs/profiles.md): its timing, and its energy.")
@site_option
@click.option("--bus", "name", help="A bus of the site file: its port, its settings, its meters.")
@click.option("--questions", type=click.IntRange(4, 1000), default=16, show_default=True,
              help="How many questions each meter is asked. More find what is rare.")  # fmt: skip
@click.option("--listen", "listen_s", type=click.FloatRange(0.3, 600), default=3.0, show_default=True,
              help="Seconds of listening before the first question.")  # fmt: skip
def command(
    out: Output,
    port: str | None,
    protocol: ProtocolName | None,
    serial: str | None,
    addresses: Sequence[str],
    profile: str | None,
    file: Path,
    name: str | None,
    questions: int,
    listen_s: float,
) -> Exit:
    """Diagnose a bus: who answers, how soon, what is damaged, and what readings could not be trusted.

    Nothing is written to any meter. Each is asked for an energy and two other items by turns, with long listening:
    late answers, a meter that is always one question behind, two meters with one address, echo, noise, another master,
    wrong settings of the line. Each finding says what to do next.

    Examples: meterwire doctor --port /dev/ttyUSB0 --meter 000000000001
    or, a whole bus of a site whose gateway is stopped: meterwire doctor -c site.toml --bus rs485-1

    Exit codes: 0 nothing wrong was found; 1 something was; 2 an option is wrong; 3 nobody answered, or the port is
    missing; 4 the port is in use by another program.
    """
    ports.quieten()
    if (port is None) == (name is None):
        out.mistakes([Mistake("options", "doctor", "--port, or -c and --bus", "both" if port else "neither")])
        return Exit.USAGE
    socket: Path | None = None
    try:
        if port is not None:
            bus, subjects = subjects_of_options(port, serial, protocol, addresses, profile)
        else:
            bus, subjects, socket = subjects_of_site(file, name or "", addresses)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    if ports.owned(bus.port, socket):
        return ports.refuse(out, bus.port)
    cut_off: list[Evidence] = []
    try:
        with Progress(out) as progress:
            if not subjects:
                out.error(f"{bus.port}: no --meter is named: it is scanned first", f"{bus.port}：未给 --meter，先扫描")
                subjects = asyncio.run(subjects_of_scan(bus, protocol, serial, profile, progress))
            usual_s, most_s = duration_s(subjects, questions=questions, listen_s=listen_s)
            count, seconds = len(subjects), (f"{usual_s:.0f}", f"{most_s:.0f}")
            place = ports.place(out, bus)
            out.error(
                f"{place}, meters: {count}; takes about {seconds[0]} s, at most {seconds[1]} s",
                f"{place}，电能表 {count} 块；约需 {seconds[0]} 秒，最多 {seconds[1]} 秒",
            )

            def tell(done: int, of: int) -> None:
                progress.tell(f"{done}/{of}")

            examining = examine(
                bus, subjects, questions=questions, listen_s=listen_s, progress=tell, interrupted=cut_off.append
            )
            evidence = asyncio.run(examining)
    except PortLost as error:
        return ports.lost(out, error)
    except KeyboardInterrupt:
        for seen in cut_off:
            _told(out, seen)
        raise
    return _told(out, evidence)


def _told(out: Output, evidence: Evidence) -> Exit:
    found, standings = findings(evidence), [standing(evidence, one) for one in evidence.subjects]
    show(out, evidence, found, standings)
    return verdict(found, standings)
