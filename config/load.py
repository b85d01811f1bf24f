"""The site file and its meter archive, read and checked whole: a Site, or every mistake at once.

What profiles offer and what a bus can carry is checked by `drivers.fit.check`, which knows the profiles.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.meters import load_meters
from config.mistake import ConfigError, Mistake
from config.model import BufferEntry, BusEntry, MeterEntry, Site, TaskEntry, UplinkEntry
from config.toml import REQUIRED, Key, load_toml, read_table, show, spelled, tables
from config.values import (
    broker_url,
    choice,
    duration,
    gateway_id,
    integer,
    name,
    names,
    path,
    period,
    port,
    serial,
    token,
    zone,
)

TOP = (Key("meters", path, "meters.csv", "The meter archive, a CSV file: one row a meter."),)
GATEWAY = (
    Key("id", gateway_id, REQUIRED, "The gateway's id: 1 to 32 of a-z, 0-9 and dash, unique in the fleet.", "gateway"),
    Key("zone", zone, "Asia/Shanghai", "The civil time of the site: slots and days are aligned to it."),
)
CLOCK = (
    Key("trust", choice("kernel", "chrony", "centre", "always"), "kernel",
        "When time counts as right: kernel (it says that its clock is synchronised), chrony (chronyd says so), centre "
        "(it told the time) or always.",
        "clock_trust"),
)  # fmt: skip
STORE = (
    Key("path", path, "/var/lib/meterwire", "The directory of the outbox, the evidence and what was learned.", "store"),
    Key("evidence_mb", integer(0, 65536), 64, "Space for raw frames, in MiB; the oldest are overwritten."),
)
KEYS = (
    Key("path", path, "/var/lib/meterwire/keys", "The directory of the keys, mode 0700.", "keys"),
    Key("suite", choice("aes", "sm"), "aes",
        "What batches are sealed with: aes (AES-256-GCM) or sm (SM4-GCM), which the centre must accept."),
    Key("token", token, None, "The gateway's key in a PKCS#11 token, as a URI, in place of the file gateway.key."),
)  # fmt: skip
BUFFER = (
    Key(
        "monthly_days",
        integer(1, 3660),
        731,
        "Days of running for which monthly records stay after the centre has them: billing tasks of former periods.",
    ),
    Key("daily_days", integer(1, 3660), 62, "The same for the other billing tasks: daily freezes."),
    Key("curve_days", integer(1, 3660), 62, "The same for curves."),
    Key("curve_days_min", integer(1, 3660), 10, "What a full disk leaves of the history of curves."),
    Key(
        "bulk_days", integer(1, 3660), 10, "The same as curve_days for bulk: reads on request, and tasks kept as such."
    ),
    Key(
        "events", integer(100, 1_000_000), 1000, "The newest events stay, however old; others as long as daily records."
    ),
    Key(
        "max_mb", integer(0, 1_048_576), 0, "What the store may take of the disk, in MiB, 16 or more; 0: what there is."
    ),
    Key(
        "ballast_mb",
        integer(0, 1024),
        8,
        "Space that is given back to a full disk so that it can be left again, in MiB.",
    ),
    Key("spare", path, None, "A directory on another disk, where the store goes on when the first disk fails."),
)
STATUS = (
    Key("socket", path, "/run/meterwire/meterwire.sock", "The local socket that `meterwire status` asks."),
)  # fmt: skip
UPLINK = (
    Key("url", broker_url, REQUIRED, "The broker: mqtts://host:port, or mqtt://host:port on this machine only."),
    Key("profile", choice("prompt", "metered"), "prompt",
        "How old data may grow before it is sent: prompt (2 s, wired links) or metered (60 min, paid by the byte)."),
    Key("batch_kib", integer(0, 64), 0,
        "The largest batch as it is sent, in KiB; 0: 8 on a prompt link, 16 on a metered one."),
    Key("ca", path, None, "Certificates of the authorities that sign the broker's certificate; needed for mqtts."),
    Key("certificate", path, None, "The gateway's own certificate, its name the gateway's id; needed for mqtts."),
    Key("key", path, None, "The private key of that certificate, mode 0600; needed for mqtts."),
)  # fmt: skip
BUS = (
    Key("name", name, REQUIRED, "The bus's name, unique on the site."),
    Key("port", port, REQUIRED, "A device path such as /dev/ttyS1, or tcp://host:port."),
    Key("serial", serial, "2400-8E1", "Baud rate, parity and stop bits of meters that name none of their own."),
    Key(
        "rs485",
        choice("auto", "rts", "rts-inverted"),
        "auto",
        "Who turns the pair to sending: auto (the adapter), or the driver by RTS, high while sending or inverted.",
    ),
    Key(
        "pipeline",
        integer(1, 64),
        1,
        "Questions that may be on their way at once, on a bus of modbus-tcp meters; 1: one after the other.",
    ),
)
TASK = (
    Key("name", name, REQUIRED, "The task's name, unique on the site."),
    Key("every", period, REQUIRED, "The time between two slots: 60s, 15m, 1h or 1d; it divides the day.", "every_s"),
    Key("items", names, REQUIRED, "The names of the quantities that are read."),
    Key("offset", duration, "0s", "How long after its slot the reading begins.", "offset_s"),
    Key("slot_tolerance_s", integer(0, 86400), 60,
        "A live reading later than this after its slot is stamped with its own time; it still fills its slot."),
    Key("lane", choice("event", "billing", "curve", "backfill"), "curve",
        "Which goes first when a bus is busy: event (also in the midst of a reading), billing, curve, backfill."),
    Key("keep", choice("auto", "monthly", "daily", "curve", "bulk"), "auto",
        "As what its records are kept, see [buffer]; auto: curve, and billing tasks daily or monthly."),
)  # fmt: skip
TABLES = {
    "gateway": GATEWAY, "clock": CLOCK, "store": STORE, "buffer": BUFFER, "keys": KEYS, "status": STATUS,
    "uplink": UPLINK,
}  # fmt: skip
NUMBERED = re.compile(r"/dev/tty(USB|ACM)\d+")
"""Names that the kernel gives to USB adapters in the order in which it finds them."""
USB = re.compile(NUMBERED.pattern + "|/dev/serial/")
"""Names of USB adapters."""
FORMER = {"store.history_days": "buffer.curve_days"}
"""Keys of earlier versions, and what took their place."""
SOCKET_BYTES_MAX = 107
"""Linux keeps the name of a Unix socket in 108 bytes, the last of them zero."""
STORE_MB_MIN = 16
"""With less a store of some meters would let go of what it has yet to send."""
BALLAST_MB_MIN = 8
"""Twice what the store's log grows to: as much again is needed to bring what is in it home."""
ARRAYS = {"bus": BUS, "task": TASK}


def load_site(site_file: Path) -> Site:
    """The site that the file and its meter archive describe. Raises ConfigError with every mistake in both."""
    site, mistakes = survey_site(site_file)
    if mistakes:
        raise ConfigError(mistakes)
    assert site is not None
    return site


def survey_site(site_file: Path) -> tuple[Site | None, list[Mistake]]:
    """Every mistake in both files, and what could be read of the site, so that further checks can name theirs too.

    While there are mistakes the site is only good for those checks: it has the buses, tasks and meters that are right
    in themselves, and defaults in place of a table that is not. None where the file is no TOML.
    """
    mistakes: list[Mistake] = []
    file, base = str(site_file), site_file.absolute().parent
    raw = load_toml(site_file, file, mistakes)
    if mistakes:
        return None, mistakes

    known = [*(key.name for key in TOP), *TABLES, *ARRAYS]
    expected = f"one of the keys {', '.join(known)}"
    mistakes += [Mistake(file, spelled(name), expected, "an unknown key") for name in raw if name not in known]
    top = {key.name: raw[key.name] for key in TOP if key.name in raw}
    values = read_table(top, TOP, file=file, where="", mistakes=mistakes) or {}
    meters_file = base / values.pop("meters", Path("meters.csv"))
    for table, keys in TABLES.items():
        read = read_table(raw.get(table, {}), keys, file=file, where=table, mistakes=mistakes)
        if read is None:
            read = _stand_in(keys)
        elif table == "uplink":
            _certificates(read, base, file, mistakes)
        elif table == "buffer":
            _bounds(read, file, mistakes)
        entry = {"uplink": UplinkEntry, "buffer": BufferEntry}.get(table)
        values |= {table: entry(**read)} if entry else read
    buses = [BusEntry(**v) for v in _array(raw, "bus", file, mistakes) if v is not None]
    tasks = [_task(v, where, file, mistakes) for where, v in _numbered(_array(raw, "task", file, mistakes), "task")]
    _unique((bus.name for bus in buses), "bus", "name", file, mistakes)
    _unique((bus.port for bus in buses), "bus", "port", file, mistakes)
    _unique((task.name for task in tasks), "task", "name", file, mistakes)
    meters = load_meters(
        meters_file,
        buses={bus.name: bus for bus in buses},
        tasks={task.name: task for task in tasks},
        complete=not mistakes,
        mistakes=mistakes,
    )
    mistakes += _pipelines(buses, meters, file)
    mistakes += _adapters(buses, meters, file)
    mistakes += [
        Mistake(file, f"bus {bus.name}, rs485", "auto, or a device path as the port", bus.port)
        for bus in buses
        if bus.rs485 != "auto" and bus.port.startswith("tcp://")
    ]
    for key in ("store", "keys", "socket"):
        values[key] = base / values[key]
    if values["buffer"].spare is not None:
        values["buffer"] = replace(values["buffer"], spare=base / values["buffer"].spare)
        if values["buffer"].spare == values["store"]:
            mistakes.append(Mistake(file, "buffer.spare", "another directory than store.path", str(values["store"])))
    length = len(os.fsencode(values["socket"]))
    if length > SOCKET_BYTES_MAX:
        expected = f"a path of at most {SOCKET_BYTES_MAX} bytes for a socket"
        mistakes.append(Mistake(file, "status.socket", expected, f"{length} bytes: {show(str(values['socket']))}"))
    mistakes = [
        replace(one, expected=f"{FORMER[one.where]}, which took its place") if one.where in FORMER else one
        for one in mistakes
    ]
    site = Site(
        **values, buses=tuple(buses), meters=tuple(meters), tasks=tuple(tasks), origin=site_file, archive=meters_file
    )
    return site, mistakes


def _pipelines(buses: Iterable[BusEntry], meters: Iterable[MeterEntry], file: str) -> Iterator[Mistake]:
    """Only answers that carry the number of their question can be told apart."""
    for bus in buses:
        protocols = {meter.protocol for meter in meters if meter.bus == bus.name} - {"modbus-tcp"}
        if bus.pipeline > 1 and (protocols or not bus.port.startswith("tcp://")):
            got = f"{bus.pipeline} with {' and '.join(sorted(protocols)) or bus.port}"
            yield Mistake(file, f"bus {bus.name}, pipeline", "1, or a bus of modbus-tcp meters alone", got)


def _adapters(buses: Sequence[BusEntry], meters: Iterable[MeterEntry], file: str) -> Iterator[Mistake]:
    """The kernel numbers USB adapters as it finds them. After a restart, or when they were pulled out, such a name may
    lead to the meters of another bus, and where those have the same Modbus addresses no answer shows it."""
    units: dict[str, set[str]] = {bus.name: set() for bus in buses}
    for meter in meters:
        if meter.protocol in ("modbus-rtu", "modbus-ascii") and meter.bus in units:
            units[meter.bus].add(meter.address)
    for bus in buses:
        if NUMBERED.fullmatch(bus.port) is None:
            continue
        alike = {other.name: units[bus.name] & units[other.name]
                 for other in buses if other is not bus and USB.match(other.port)}  # fmt: skip
        if name := next((name for name, same in alike.items() if same), None):
            stays, unit = "a name that stays with the adapter (ls -l /dev/serial/by-path)", min(alike[name], key=int)
            yield Mistake(file, f"bus {bus.name}, port", f"{stays}: bus {name} has a Modbus unit {unit} too", bus.port)


def _array(raw: dict[str, Any], table: str, file: str, mistakes: list[Mistake]) -> list[dict[str, Any] | None]:
    found = tables(raw, table, file=file, mistakes=mistakes)
    return [read_table(one, ARRAYS[table], file=file, where=where, mistakes=mistakes) for where, one in found]


def _numbered(found: Iterable[dict[str, Any] | None], table: str) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{table}[{n}]", values) for n, values in enumerate(found, 1) if values is not None]


def _task(values: dict[str, Any], where: str, file: str, mistakes: list[Mistake]) -> TaskEntry:
    task = TaskEntry(**values)
    if task.offset_s >= task.every_s:
        expected = f"less than the {task.every_s} s between two slots"
        mistakes.append(Mistake(file, f"{where}.offset", expected, f"{task.offset_s} s"))
    return task


def _bounds(values: dict[str, Any], file: str, mistakes: list[Mistake]) -> None:
    if values["curve_days_min"] > values["curve_days"]:
        expected = f"at most curve_days, {values['curve_days']}"
        mistakes.append(Mistake(file, "buffer.curve_days_min", expected, str(values["curve_days_min"])))
    for key, least in (("max_mb", STORE_MB_MIN), ("ballast_mb", BALLAST_MB_MIN)):
        if 0 < values[key] < least:
            mistakes.append(Mistake(file, f"buffer.{key}", f"0, or {least} or more", str(values[key])))


def _stand_in(keys: Iterable[Key]) -> dict[str, Any]:
    """The defaults of a table that could not be read: nothing runs with them, but the rest can be checked."""
    return {
        key.field or key.name: key.default if key.default in (REQUIRED, None) else key.read(key.default) for key in keys
    }


def _certificates(values: dict[str, Any], base: Path, file: str, mistakes: list[Mistake]) -> None:
    for key in ("ca", "certificate", "key"):
        if values[key] is not None:
            values[key] = base / values[key]
        elif values["url"].startswith("mqtts:"):
            mistakes.append(Mistake(file, f"uplink.{key}", "a file, because the url is mqtts", "nothing"))


def _unique(found: Iterable[str], table: str, key: str, file: str, mistakes: list[Mistake]) -> None:
    seen: set[str] = set()
    for value in found:
        if value in seen:
            mistakes.append(Mistake(file, f"{table}.{key}", "each one only once", f"{value!r} twice"))
        seen.add(value)
