"""How a simulated DL/T 645 meter writes its registers: written from the standard, apart from the decoder of protocols.

Source: DL/T 645-2007, Annex A (lengths and formats); 1997 from implementations and live logs. Every number is BCD, low
byte first; a number below zero has the top bit of its last byte set; FF in every byte stands for what the meter lacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from protocols.dlt645.codes import Edition
from protocols.quantity import Kind, by_di, by_name
from simulators.load import Load, decimals, plain

IDENTITY: Mapping[str, tuple[str, int]] = {
    "04000401": ("address", 6), "04000402": ("meter.number", 6), "04000403": ("meter.asset", 32),
    "04000404": ("rated.voltage", 6), "04000405": ("rated.current", 6), "04000406": ("rated.current.max", 6),
    "04000407": ("accuracy.active", 4), "04000408": ("accuracy.reactive", 4), "0400040B": ("meter.model", 10),
    "0400040C": ("meter.made", 10), "0400040D": ("meter.protocol", 16), "C032": ("meter.number", 6),
    **{f"0400050{word}": (f"status.word_{word}", 2) for word in range(1, 8)},
}  # fmt: skip
"""Texts: identifier to name and bytes. Address and number are BCD, status words hex, the others ASCII."""

_WIDTHS = {"kWh": 4, "kvarh": 4, "kVAh": 4, "kW": 3, "kvar": 3, "kVA": 3, "A": 3, "V": 2, "deg": 2, "%": 2, "Hz": 2,
           "°C": 2}  # fmt: skip
_WIDTHS_OF = {"battery.run_time": 4, "demand.period": 1, "demand.slide": 1, "ratio.ct": 3, "ratio.pt": 3,
              "constant.active": 3, "constant.reactive": 3}  # fmt: skip
_CLOCKS = {"04000101": ("clock.date",), "04000102": ("clock.time",), "0400010C": ("clock.date", "clock.time"),
           "C010": ("clock.date",), "C011": ("clock.time",)}  # fmt: skip

_PHASES = ("a", "b", "c")
_BLOCKS_02 = {"0201": "voltage", "0202": "current", "0203": "power.active", "0204": "power.reactive",
              "0205": "power.apparent", "0206": "power_factor", "0207": "phase_angle", "0208": "thd.voltage",
              "0209": "thd.current"}  # fmt: skip
_WITH_TOTAL = frozenset({"0203", "0204", "0205", "0206"})

_ROWS_1997 = {"01": "active.import", "02": "active.export", "11": "reactive.import", "12": "reactive.export",
              "13": "reactive.q1", "14": "reactive.q4", "15": "reactive.q2", "16": "reactive.q3"}  # fmt: skip
"""Low half-byte of DI1 modulo 4, high half-byte of DI0."""
_B6_1997 = {"1": ("voltage", 2, 0), "2": ("current", 2, 2), "3": ("power.active", 3, 4), "4": ("power.reactive", 2, 2),
            "5": ("power_factor", 2, 3)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """An answer to a read: its payload without identifier, and what it says, by name of the quantity."""

    payload: bytes
    values: dict[str, str]


def number(counts: int, width: int) -> bytes:
    """Counts as BCD. Raises OverflowError when they do not fit."""
    text = f"{abs(counts):0{2 * width}d}"
    if len(text) > 2 * width:
        raise OverflowError(f"{counts} does not fit {width} bytes of BCD")
    data = bytes.fromhex(text)[::-1]
    return data if counts >= 0 else data[:-1] + bytes((data[-1] | 0x80,))


@lru_cache(maxsize=4096)
def when(iso: str, order: str) -> bytes:
    """ISO text as BCD, in an order of parts such as `YYMMDDhhmm`, read high byte first."""
    days, _, time = iso.rpartition("T") if "T" in iso else ((iso, "", "") if "-" in iso else ("", "", iso))
    parts = dict(zip(("hh", "mm", "ss"), time.split(":"), strict=False))
    if days:
        year, month, day = days.split("-")
        parts |= {"YY": year[2:], "MM": month, "DD": day}
    return bytes.fromhex("".join(parts[order[at : at + 2]] for at in range(0, len(order), 2)))[::-1]


@dataclass(frozen=True, slots=True)
class _Item:
    """One register in the answer: its name, its bytes, and the digits behind its point on the wire."""

    name: str
    width: int
    digits: int
    demand: bool = False
    """Three bytes of power, followed by five of the time when it was."""
    unsigned: bool = False
    """The format has no sign: 1997 meters show which way power flows elsewhere."""

    def write(self, load: Load, at_ms: int, values: dict[str, str]) -> bytes | None:
        """The bytes, or None for what this meter lacks; what it says goes to values."""
        counts = load.read(self.name, at_ms)
        if not isinstance(counts, int):
            return None
        if self.unsigned:
            counts = abs(counts)
        dropped = decimals(self.name) - self.digits
        if dropped:
            counts = round(counts / 10**dropped)
        values[self.name] = plain(counts, self.digits)
        data = number(counts, self.width)
        if self.demand:
            values[f"{self.name}.time"] = iso = str(load.read(f"{self.name}.time", at_ms))
            data += when(iso, "YYMMDDhhmm")
        return data


@lru_cache(maxsize=8192)
def items_2007(di: str, tariffs: int) -> tuple[_Item, ...]:
    """The registers behind an identifier or a block of 2007; none for what is not in scope."""
    family, kind, row, day = di[:2], di[:4], di[4:6], di[6:]
    if family in ("00", "01") and "FF" in (row, day) and not row == day == "FF":
        names = (
            [(f"{n:02X}", day) for n in range(tariffs + 1)] if row == "FF" else [(row, f"{n:02X}") for n in range(13)]
        )
        return tuple(item for r, d in names for item in items_2007(f"{kind}{r}{d}", tariffs))
    if kind in _BLOCKS_02 and row == "FF" and day == "00":
        first = 0 if kind in _WITH_TOTAL else 1
        return tuple(item for n in range(first, 4) for item in items_2007(f"{kind}{n:02X}00", tariffs))
    quantity = by_di(di)
    if quantity is None:
        return ()
    name = quantity.name
    width = 2 if name.startswith(("power_factor", "battery.")) else _WIDTHS.get(quantity.unit, 0)
    width = _WIDTHS_OF.get(name, width)
    return (_Item(name, width, decimals(name), demand=quantity.kind is Kind.DEMAND),) if width else ()


@lru_cache(maxsize=4096)
def items_1997(di: str, tariffs: int) -> tuple[_Item, ...]:
    """The same for 1997: 90xx, 91xx and their history, A0xx and A1xx (demand), B61x to B65x."""
    family, low, row, tariff = tuple(di)
    if di in ("C030", "C031"):
        return (_Item("constant.active" if di == "C030" else "constant.reactive", 3, 0),)
    if family == "B" and low == "6":
        stem, width, digits = _B6_1997.get(row, ("", 0, 0))
        first = 0 if row in "345" else 1
        if not stem or not (tariff == "F" or (tariff.isdecimal() and first <= int(tariff) <= 3)):
            return ()
        names = ["total", *_PHASES]
        wanted = names[first:] if tariff == "F" else [names[int(tariff)]]
        return tuple(_Item(f"{stem}.{phase}", width, digits, unsigned=True) for phase in wanted)
    if family not in "9A" or low not in "014589" or tariff not in "0123456789ABCDEF":
        return ()
    nature = _ROWS_1997.get(f"{int(low) % 4}{row}")
    if nature is None:
        return ()
    stem = f"{'energy' if family == '9' else 'demand'}.{nature}"
    last = ("", ".last_1", ".last_2")[int(low) // 4]
    wanted_tariffs = range(min(tariffs, 14) + 1) if tariff == "F" else (int(tariff, 16),)
    names = [f"{stem}.{f't{t}' if t else 'total'}{last}" for t in wanted_tariffs]
    return tuple(_Item(n, 4 if family == "9" else 3, 2 if family == "9" else 4) for n in names if _known(n))


def _known(name: str) -> bool:
    try:
        by_name(name)
    except KeyError:
        return False
    return True


def write(
    di: str, load: Load, at_ms: int, *, edition: Edition, identity: Mapping[str, str], fill_absent: bool
) -> Written | None:
    """The answer to a read, or None when the meter has no such item.

    identity: the meter's texts by name. fill_absent: phases that the meter lacks are FF (as a single-phase meter
    answers a block of three); without it a block ends at what there is.
    """
    values: dict[str, str] = {}
    if di in IDENTITY:
        return _identity(di, identity)
    if di in _CLOCKS:
        return _clock(di, load, at_ms)
    if edition is Edition.E1997 and di[0] == "B" and di[1] in "014589":
        return _demand_time_1997(di, load, at_ms)
    items = (items_2007 if edition is Edition.E2007 else items_1997)(di, load.tariffs)
    if edition is Edition.E2007 and di == "040005FF":
        words = [_identity(f"0400050{n}", identity) for n in range(1, 8)]
        if all(words):
            return Written(
                b"".join(w.payload for w in words if w), {k: v for w in words if w for k, v in w.values.items()}
            )
    parts = [(item, item.write(load, at_ms, values)) for item in items]
    if not values:
        return None
    fill = [(data or b"\xff" * (item.width + 5 * item.demand)) for item, data in parts if data or fill_absent]
    return Written(b"".join(fill), values)


def _identity(di: str, identity: Mapping[str, str]) -> Written | None:
    name, width = IDENTITY[di]
    text = identity.get(name)
    if text is None:
        return None
    if name in ("address", "meter.number") or name.startswith("status."):
        return Written(bytes.fromhex(text)[::-1], {name: text})
    return Written(text.encode("ascii").ljust(width, b"\0")[::-1], {name: text})


def _clock(di: str, load: Load, at_ms: int) -> Written:
    date, time = str(load.read("clock.date", at_ms)), str(load.read("clock.time", at_ms))
    weekday = int(load.read("clock.weekday", at_ms) or 0)
    match _CLOCKS[di]:
        case ("clock.date",):
            values = {"clock.date": date, "clock.weekday": str(weekday)}
            return Written(number(weekday, 1) + when(date, "YYMMDD"), values)
        case ("clock.time",):
            return Written(when(time, "hhmmss"), {"clock.time": time})
    values = {"clock": f"{date}T{time}", "clock.weekday": str(weekday)}
    return Written(when(time, "hhmmss") + number(weekday, 1) + when(date, "YYMMDD"), values)


def _demand_time_1997(di: str, load: Load, at_ms: int) -> Written | None:
    values: dict[str, str] = {}
    payload = b""
    for item in items_1997("A" + di[1:], load.tariffs):
        iso = load.read(f"{item.name}.time", at_ms)
        if isinstance(iso, str):
            payload += when(iso, "MMDDhhmm")
            values[f"{item.name}.time"] = f"-{iso[4:]}"
    return Written(payload, values) if values else None
